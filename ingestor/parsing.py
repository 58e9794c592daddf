"""One report from bytes to findings: recognition, the run, conservation."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Iterator
from itertools import chain
from operator import itemgetter

from ingestor.framing import WRAPPER, Source
from ingestor.notices import Notices
from ingestor.parsers import PARSERS
from ingestor.parsers._base import Parser
from ingestor.parsers._sarif_kind import KNOWN_TOOLS
from ingestor.protect import IngestKeys, Protector
from ingestor.reading import HEAD, Malformed
from ingestor.records import Record
from ingestor.seen import Seen
from runtime.errors import WinnowError
from runtime.redaction import redact
from winnow.finding.v1.finding_pb2 import VALUE_STATE_REDACTED
from winnow.ingest.v1.format_pb2 import DetectedFormat
from winnow.ingest.v1.ingest_service_pb2 import IngestHeader, IngestResponse, IngestSummary
from winnow.ingest.v1.notice_pb2 import NoticeKind
from winnow.ingest.v1.rejected_pb2 import Rejected, RejectedBatch

__all__ = ["IngestKeys", "read_report"]

_REJECTED_AT_ONCE = 256
_LEAST_CONFIDENCE = 0.5
# Several empty arrays are empty pages, one within the other as well (`gh api --slurp`).
_EMPTY = re.compile(
    rb"\s*+(?:null|\[\s*\](?:\s*\[\s*\])*+|\[\s*(?:\[\s*\][\s,]*+)+\]"
    rb'|\{\s*"findings"\s*:\s*(?:\[\s*\]|null)\s*\})?+\s*\Z'
)

# What TruffleHog writes beside its findings, when both streams go into one file:
# its banner, log objects, log lines.
_ONLY_LOG_LINES = re.compile(
    rb'(?:\s*+(?:\{\s*"(?:level|ts|time|timestamp|msg)"|[^\n{\[]*TruffleHog\. Unearth your secrets'
    rb"|\d{4}-\d\d-\d\dT\S+\s+(?:info|warn|error|debug))[^\n]*(?:\n|\Z))+\s*\Z"
)

# What may hold a record that is longer than what is looked at first.
_JSON = re.compile(rb'\s*(?:\{\s*"|\[\s*[{\[])')

# Confidences closer than this do not tell two formats apart.
_TOO_CLOSE = 0.1

# What holds no report in the clear, by its first bytes (of the expanded report).
_PACKED: tuple[tuple[re.Pattern[bytes], str], ...] = (
    (re.compile(rb"PK\x03\x04"), "a zip archive"),
    (re.compile(rb"%PDF-"), "a PDF document"),
    (
        re.compile(rb"(?:BZh[1-9]|\xfd7zXZ|\x28\xb5\x2f\xfd)"),
        "compressed in a way that is not read",
    ),
)
# What is said of content in which no report was recognised.
_OTHER_CONTENT: tuple[tuple[re.Pattern[bytes], str], ...] = (
    (re.compile(rb"\s*<(?:!doctype\s+html|html)", re.IGNORECASE), "an HTML page"),
    (re.compile(rb"\s*<[?!a-zA-Z]"), "XML"),
    (re.compile(rb"version: 2\s+fingerprint_algorithm: kingfisher"), "a Kingfisher baseline"),
    (re.compile(rb"findings\[\d+\]|schema: kingfisher\.toon"), "TOON"),
)


class _Counted:
    """Chunks as they pass, and how many bytes they had."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = chunks
        self.bytes = 0

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            self.bytes += len(chunk)
            yield chunk


def read_report(
    chunks: Iterable[bytes], header: IngestHeader, keys: IngestKeys
) -> Iterator[IngestResponse]:
    """Reads one report, lazily.

    A report without a record (`[]`, `null`, nothing at all) is of the declared
    scanner; if none is declared its `scanner_type` and `parser` are empty.

    Args:
        chunks: the report's bytes in order, in pieces of any size.
        header: report id (UUID), declared scanner and serialisation, and from
            where on findings are wanted.
        keys: for sealing and fingerprints.

    Yields:
        `format` once, then `batch` and `rejected` in order of ordinal, then
        `summary`.

    Raises:
        WinnowError: SCANNER_UNKNOWN, FORMAT_UNKNOWN, SCANNER_MISMATCH,
            PARSER_CHANGED before the first message; REPORT_MALFORMED any time.
    """
    counted = _Counted(chunks)
    source = Source(counted)
    declared = header.scanner_type.strip().casefold()
    run = _Run(header, keys, source.notices)
    try:
        head = source.head()
        if packed := _named(head, _PACKED):
            raise _format_unknown(f"the content is {packed}")
        parser, confidence = _recognise(head, header.report_format.casefold(), declared)
        while parser is None and _JSON.match(head) and source.widen():
            head = source.head()
            parser, confidence = _recognise(head, header.report_format.casefold(), declared)
        if parser is None:
            detected = _without_parser(head, declared)
            if not head.strip():
                source.notices.note(NoticeKind.NOTICE_KIND_EMPTY, records=0)
            source.drain()
            yield IngestResponse(format=detected)
        else:
            records = parser.parse(source)
            # The first record tells which tool wrote the report.
            records = chain([first] if (first := next(records, None)) is not None else [], records)
            scanner = _agreed(declared, parser, source.tool, first is None)
            if first is None and not source.whole:
                # Its names were recognised, so it is no empty report.
                raise WinnowError(
                    "REPORT_MALFORMED",
                    f"the content looks like {parser.title}, but no record could be read from "
                    "it; send the report as the scanner wrote it",
                    report_id=header.report_id,
                    at_byte="0",
                    records_read="0",
                )
            if header.parser and header.start_ordinal and header.parser != parser.label:
                raise WinnowError(
                    "PARSER_CHANGED",
                    f"the report is now read by {parser.label}; begin again at ordinal 0",
                    parser_version=parser.label,
                )
            detected = DetectedFormat(
                scanner_type=scanner,
                parser=parser.label,
                confidence=confidence,
                shape=source.shape or _shape(head),
                tool=_shown(source.tool),
                dialect=source.dialect,
            )
            yield IngestResponse(format=detected)
            yield from run.responses(records)
    except Malformed as damage:
        what = (
            f"its gzip stream is cut or damaged behind byte {damage.at_byte} of its content"
            if damage.compressed
            else f"what begins at byte {damage.at_byte} does not end, or goes on as no JSON does"
        )
        raise WinnowError(
            "REPORT_MALFORMED",
            f"the report is damaged: {what} ({run.records_read} records were read before it); "
            "send the whole report as the scanner wrote it",
            report_id=header.report_id,
            at_byte=str(damage.at_byte),
            records_read=str(run.records_read),
        ) from None
    yield IngestResponse(summary=run.summary(counted.bytes))


class _Run:
    """Counts, merges and batches the records of one report."""

    def __init__(self, header: IngestHeader, keys: IngestKeys, notices: Notices) -> None:
        self._notices = notices
        self._start = header.start_ordinal
        self._protector = Protector(keys, uuid.UUID(header.report_id))
        self._seen = Seen()
        self.records_read = self._findings = self._merged = 0

    def responses(self, records: Iterable[Record | Rejected]) -> Iterator[IngestResponse]:
        protector, seen, start = self._protector, self._seen, self._start
        rejected: list[Rejected] = []
        waiting = False  # findings in the protector
        for record in records:
            ordinal = self.records_read
            self.records_read = ordinal + 1
            if isinstance(record, Record):
                if seen.repeats(bytes(record.raw)):
                    self._merged += 1
                    continue
                self._findings += 1
                self._notices.value(record.value)
                if record.value_state == VALUE_STATE_REDACTED:
                    self._notices.note(NoticeKind.NOTICE_KIND_VALUES_REDACTED)
                if ordinal < start:
                    continue
                if rejected:
                    yield _rejections(rejected)
                protector.add(record, ordinal)
                waiting = True
                if protector.full:
                    yield IngestResponse(batch=protector.take())
                    waiting = False
            elif ordinal >= start:
                if waiting:
                    yield IngestResponse(batch=protector.take())
                    waiting = False
                record.ordinal = ordinal
                rejected.append(record)
                if len(rejected) == _REJECTED_AT_ONCE:
                    yield _rejections(rejected)
        if waiting:
            yield IngestResponse(batch=protector.take())
        if rejected:
            yield _rejections(rejected)

    def summary(self, bytes_read: int) -> IngestSummary:
        return IngestSummary(
            records_read=self.records_read,
            findings=self._findings,
            merged=self._merged,
            rejected=self.records_read - self._findings - self._merged,
            bytes_read=bytes_read,
            notices=self._notices.messages(),
        )


def _rejections(rejected: list[Rejected]) -> IngestResponse:
    response = IngestResponse(rejected=RejectedBatch(rejected=rejected))
    rejected.clear()
    return response


def _supported() -> str:
    return ", ".join(PARSERS)


def _known(declared: str) -> Parser | None:
    for parser in PARSERS.values():
        if declared == parser.id or declared in parser.aliases:
            return parser
    return None


def _recognise(head: bytes, name: str, declared: str) -> tuple[Parser | None, float]:
    """The parser that is surest of the content, and how sure it is.

    Raises:
        WinnowError: FORMAT_AMBIGUOUS if several are equally sure and the
            declared scanner is none of them.
    """
    sure = sorted(
        ((parser.sniff(head, name), parser) for parser in PARSERS.values()),
        key=itemgetter(0),
        reverse=True,
    )
    best = sure[0][0]
    if best < _LEAST_CONFIDENCE:
        return None, 0.0
    close = [parser for confidence, parser in sure if confidence > best - _TOO_CLOSE]
    if len(close) == 1:
        return close[0], best
    if (said := _known(declared)) in close and said is not None:
        return said, best
    names = ", ".join(sorted(parser.id for parser in close))
    raise WinnowError(
        "FORMAT_AMBIGUOUS",
        f"the content fits several formats ({names}); declare one of them as scanner_type",
        candidates=names,
    )


def _named(head: bytes, known: tuple[tuple[re.Pattern[bytes], str], ...]) -> str:
    """What the content is, of what is known; empty if it is none of that."""
    return next((title for signs, title in known if signs.match(head)), "")


def _without_parser(head: bytes, declared: str) -> DetectedFormat:
    """What an empty report is; anything else that nobody recognises is an error."""
    parser = _known(declared)
    if declared and parser is None:
        raise _scanner_unknown()
    if len(head) >= HEAD or not (_EMPTY.match(head) or (parser and _ONLY_LOG_LINES.match(head))):
        what = _named(head, _OTHER_CONTENT)
        raise _format_unknown(f"the content is {what or 'no report that this build reads'}")
    return DetectedFormat(
        scanner_type=parser.id if parser else "",
        parser=parser.label if parser else "",
        confidence=1.0,
        shape="empty",
    )


def _agreed(declared: str, parser: Parser, tool: str, no_records: bool) -> str:
    """The scanner type, if the declared one and the content agree."""
    known = _known(declared)
    if not declared or known is parser:
        return parser.id
    if known and parser.id in known.writes:
        return known.id
    scanner = known.id if known else declared
    if parser.id == "sarif":
        # SARIF is written by many tools: declaring the tool is as good.
        if _bare(tool).startswith(_bare(scanner)) and _bare(scanner):
            return scanner
        if known and no_records and not tool:
            return scanner
    if known is None:
        raise _scanner_unknown()
    # A tool's name comes from the report: only those that are known are repeated.
    word = tool.casefold().split()[0] if tool.strip() else ""
    detected = f"{parser.id} ({word})" if word in KNOWN_TOOLS else parser.id
    raise WinnowError(
        "SCANNER_MISMATCH",
        f"the report was declared as {scanner}, but its content is {detected}; correct "
        "scanner_type or leave it out",
        declared=scanner,
        detected=detected,
    )


def _bare(name: str) -> str:
    return "".join(filter(str.isalnum, name.casefold()))


def _shown(tool: str) -> str:
    """A tool's name as it may be shown: it comes from the report."""
    return "".join(c for c in redact(tool)[:64] if c.isalnum() or c in " ._-[]")


def _shape(head: bytes) -> str:
    start = head.lstrip()
    if start.startswith(b"["):
        return "array"
    pretty = re.match(rb"\{\s*\n", start) is not None
    return "object" if pretty or WRAPPER.match(start) else "ndjson"


def _scanner_unknown() -> WinnowError:
    return WinnowError(
        "SCANNER_UNKNOWN",
        f"the declared scanner is not supported; supported are: {_supported()} (or leave "
        "scanner_type out: the format is then recognised by its content)",
        supported=_supported(),
    )


def _format_unknown(what: str) -> WinnowError:
    return WinnowError(
        "FORMAT_UNKNOWN", f"{what}; this build reads: {_supported()}", supported=_supported()
    )
