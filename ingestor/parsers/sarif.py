"""SARIF 2.1.0 (OASIS standard): `runs[].results[]` of any tool.

A run's tool, artifacts and base URIs may stand behind its results, so results
are held until the run ends, up to a limit; beyond it they are read with what is
known by then. What a result means is in `_sarif_result`.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any, TypeVar

import msgspec

from ingestor.dialect import Dialect
from ingestor.framing import Source
from ingestor.parsers._base import Parser, unescaped_keys
from ingestor.parsers._sarif_model import (
    Artifact,
    BaseUri,
    Component,
    Invocation,
    LogicalLocation,
    Result,
    Tool,
    VersionControl,
)
from ingestor.parsers._sarif_result import Run, not_open
from ingestor.reading import Malformed
from ingestor.records import Record, reject
from winnow.finding.v1 import finding_pb2 as pb
from winnow.ingest.v1.notice_pb2 import NoticeKind
from winnow.ingest.v1.rejected_pb2 import Rejected

_MAX_HELD = 16 << 20  # bytes of results before their run's end
_HELD_ITEM = 256  # bytes that holding a result takes beside its own
_MAX_LISTED = 200_000  # artifacts, and logical locations, of a run
_VERSION = re.compile(r"\d\.\d\.\d")

# Members of the standard that explain no result (3.13, 3.14, 4.3).
_LOG = ("$schema", "version", "properties")
_RUN = frozenset(
    (
        "addresses",
        "automationDetails",
        "baselineGuid",
        "columnKind",
        "conversion",
        "defaultEncoding",
        "defaultSourceLanguage",
        "extensions",
        "externalizedProperties",
        "graphs",
        "guid",
        "language",
        "newlineSequences",
        "policies",
        "properties",
        "runAggregates",
        "runGuid",
        "schema",
        "specialLocations",
        "taxonomies",
        "threadFlowLocations",
        "translations",
        "version",
        "webRequests",
        "webResponses",
    )
)

_RESULT = Dialect(Result)
_TOOL = Dialect(Tool)
_ARTIFACT = Dialect(Artifact)
_LOGICAL = Dialect(LogicalLocation)
_COMPONENT = Dialect(Component)
_INVOCATIONS = msgspec.json.Decoder(list[Invocation])
_TEXTS = msgspec.json.Decoder(list[str])
_EXTERNAL = msgspec.json.Decoder(dict[str, Any])
_BASE_URIS = msgspec.json.Decoder(dict[str, BaseUri])
_VERSION_CONTROL = msgspec.json.Decoder(list[VersionControl])


def _sniff(head: bytes, name: str) -> float:
    keys = unescaped_keys(head)
    if not head.lstrip().startswith(b"{") or not keys & {b"runs", b"$schema"}:
        return 0.0
    named = b"sarif" in head[:4096].lower() or name == "sarif"
    if b"runs" in keys:
        return 1.0 if named or b"driver" in keys or b'"2.1.0"' in head else 0.6
    return 0.7 if named else 0.0


# Those that do, but for artifacts and logical locations.
_EXPLAINING = frozenset(
    (
        "tool",
        "driver",
        "originalUriBaseIds",
        "versionControlProvenance",
        "redactionTokens",
        "invocations",
        "externalPropertyFileReferences",
    )
)

T = TypeVar("T", bound=msgspec.Struct)


class _Reader:
    """Walks a report's SARIF documents."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._number = -1

    def documents(self) -> Iterator[Record | Rejected]:
        """The runs of the document, and of others behind it.

        Raises:
            Malformed: something else stands behind it.
        """
        self._source.shape = "object"
        yield from self._document()
        while self._source.peek():
            at_byte, number = self._source.offset(), self._number
            yield from self._document()
            if number == self._number:
                raise Malformed(at_byte)

    def _document(self) -> Iterator[Record | Rejected]:
        source = self._source
        if source.peek() != b"{":
            raise Malformed(source.offset())
        for name in source.members():
            # The properties of runs may stand beside them (3.13.5), results included.
            if name in ("runs", "inlineExternalProperties") and source.peek() == b"[":
                for _ in source.items():
                    if source.peek() == b"{":
                        yield from self._run()
                    else:
                        yield from self._other(name)
            elif name == "runs":
                yield from self._other(name)
            elif name == "version" and source.peek() == b'"':
                raw = source.value()
                text = "" if isinstance(raw, Rejected) else raw.decode("utf-8", "replace")
                found = _VERSION.search(text)
                source.dialect = f"SARIF {found[0]}" if found else source.dialect
            else:
                if name not in _LOG:
                    source.notices.unknown(name)
                source.skip()

    def _other(self, name: str) -> Iterator[Rejected]:
        """Steps over something else in the place of runs or results, where only
        `null` holds nothing.
        """
        source = self._source
        at_byte = source.offset()
        if source.peek() == b"n":
            source.skip()
            return
        source.skip()
        yield reject("WRONG_TYPE", f"{name} does not hold what SARIF says", name, at_byte)

    def _run(self) -> Iterator[Record | Rejected]:
        source = self._source
        self._number += 1
        run = Run(self._number)
        held: list[tuple[bytes | Rejected, int]] = []
        size = 0
        for name in source.members():
            if name == "results" and source.peek() == b"[":
                for raw in source.elements():
                    size += _HELD_ITEM + (0 if isinstance(raw, Rejected) else len(raw))
                    held.append((raw, source.at_byte()))
                    if size > _MAX_HELD:
                        yield from self._read(run, held)
                        held.clear()
            elif name == "results":
                yield from self._other(name)
            else:
                self._context(run, name)
        yield from self._read(run, held)

    def _context(self, run: Run, name: str) -> None:
        """What of a run explains its results. A part that cannot be read
        explains nothing, and costs no result.
        """
        source = self._source
        if name in ("artifacts", "logicalLocations") and source.peek() == b"[":
            for raw in source.elements():
                if name == "artifacts":
                    artifact = None if isinstance(raw, Rejected) else self._part(_ARTIFACT, raw)
                    # Not the artifact: it may hold a whole file.
                    _list(run.artifacts, artifact.location if artifact else None)
                else:
                    logical = None if isinstance(raw, Rejected) else self._part(_LOGICAL, raw)
                    _list(run.logical_locations, logical)
            return
        if name not in _EXPLAINING:
            if name not in _RUN:
                source.notices.unknown(f"runs[].{name}")
            source.skip()
            return
        raw = source.value()
        if isinstance(raw, Rejected):
            source.notices.note(NoticeKind.NOTICE_KIND_PART_SKIPPED, f"runs[].{name}", 0)
        else:
            with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                self._explain(run, name, raw)

    def _explain(self, run: Run, name: str, raw: bytes) -> None:
        source = self._source
        if name == "tool":
            if tool := self._part(_TOOL, raw):
                run.set_tool(tool)
                source.tool = source.tool or tool.driver.name or ""
        elif name == "driver":
            if driver := self._part(_COMPONENT, raw):
                run.set_tool(Tool(driver))
        elif name == "originalUriBaseIds":
            run.base_uris = _BASE_URIS.decode(raw)
        elif name == "versionControlProvenance":
            run.version_control = _VERSION_CONTROL.decode(raw)
        elif name == "redactionTokens":
            run.redaction_tokens = _TEXTS.decode(raw)
        elif name == "invocations":
            if any(map(_failed, _INVOCATIONS.decode(raw))):
                source.notices.note(NoticeKind.NOTICE_KIND_SCAN_INCOMPLETE, "runs[].invocations", 0)
        elif "results" in _EXTERNAL.decode(raw):
            # They stand in other files.
            source.notices.note(NoticeKind.NOTICE_KIND_PART_SKIPPED, f"runs[].{name}.results", 0)

    def _part(self, dialect: Dialect[T], raw: bytes) -> T | None:
        found = dialect.read(raw, self._source.notices)
        return None if isinstance(found, Rejected) else found

    def _read(
        self, run: Run, held: list[tuple[bytes | Rejected, int]]
    ) -> Iterator[Record | Rejected]:
        for raw, at_byte in held:
            if isinstance(raw, Rejected):
                yield raw
                continue
            found = _RESULT.read(raw, self._source.notices)
            if isinstance(found, Result):
                if not_open(found):
                    self._source.notices.note(NoticeKind.NOTICE_KIND_NOT_OPEN)
                yield run.record(found, bytes(raw))
            elif found is not None:
                found.at_byte = at_byte
                yield found


def _list(listed: list[T | None], item: T | None) -> None:
    if len(listed) < _MAX_LISTED:
        listed.append(item)


def _failed(invocation: Invocation) -> bool:
    told = (
        *(invocation.toolExecutionNotifications or ()),
        *(invocation.toolConfigurationNotifications or ()),
    )
    return invocation.executionSuccessful is False or any(n.level == "error" for n in told)


def _parse(source: Source) -> Iterator[Record | Rejected]:
    source.dialect = "SARIF 2.1.0"
    return _Reader(source).documents()


PARSER = Parser(
    id="sarif",
    version="3",
    title="SARIF 2.1.0",
    aliases=("sarif-2.1.0", "sarif2.1.0"),
    shapes=("object",),
    sniff=_sniff,
    parse=_parse,
    versions="2.1.0 of any tool",
    kinds=(
        pb.FINDING_KIND_POSSIBLE_SECRET,
        pb.FINDING_KIND_VULNERABILITY,
        pb.FINDING_KIND_MISCONFIGURATION,
        pb.FINDING_KIND_CODE,
    ),
    notes="A run's results are held until what explains them was read, up to 16 MiB. Results "
    "that passed, or are gone since the baseline, are kept, with a notice.",
)
