"""Kingfisher: envelopes, one for each repository and line, or records one on a line
(kingfisher, src/reporter/json_format.rs); 1.x began with an array of groups.

The commands that it offers for checking a credential hold that credential.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from ingestor.dialect import Dialect
from ingestor.framing import Source
from ingestor.parsers._base import Parser, each, signs, unescaped_keys
from ingestor.parsers._kingfisher_model import (
    Audit,
    Commit,
    Finding,
    Git,
    Group,
    Match,
    Tail,
    Validation,
)
from ingestor.parsers._part import part
from ingestor.parsers._words import elements
from ingestor.records import Record, state_of
from winnow.finding.v1 import finding_pb2 as pb
from winnow.ingest.v1.notice_pb2 import NoticeKind
from winnow.ingest.v1.rejected_pb2 import Rejected

_FINDING = Dialect(Finding)
_GROUP = Dialect(Group)
_AUDIT = msgspec.json.Decoder(Audit, strict=False)
_TAIL = msgspec.json.Decoder(Tail, strict=False)

_SIGNS = signs((b"rule", b"finding", b"snippet", b"matches"))
_ENVELOPE = re.compile(rb'(?:\[\s*)?\{\s*"(?:findings|access_map|audit|metadata|stats)"\s*:')
_BEGINS_TAIL = re.compile(rb'\{\s*"(?:access_map|audit)"\s*:')
_VERSION = re.compile(rb'(?<!\\)"kingfisher_version"\s*:\s*"(\d{1,4}(?:\.\d{1,4}){0,2})"')
_QUOTED = re.compile(r"'([^']{4,})'")

_VALIDITY = {
    "verified_active": pb.VALIDITY_LIVE,
    "verified_inactive": pb.VALIDITY_DEAD,
    "assumed": pb.VALIDITY_ASSUMED,
    "locally_derived": pb.VALIDITY_ASSUMED,
    "not_attempted": pb.VALIDITY_UNSPECIFIED,
    "invalid_material": pb.VALIDITY_UNVERIFIED,
    "Active Credential": pb.VALIDITY_LIVE,
    "Inactive Credential": pb.VALIDITY_DEAD,
    "Not Attempted": pb.VALIDITY_UNSPECIFIED,
    "Assumed Valid (Not Live-Validated)": pb.VALIDITY_ASSUMED,
}


def _sniff(head: bytes, _name: str) -> float:
    keys = unescaped_keys(head)
    if b"runs" in keys:  # its SARIF
        return 0.0
    if keys >= {b"rule", b"finding", b"snippet"} and keys & {b"fingerprint", b"validation"}:
        return 1.0
    # Envelopes and trailing lines of a scan that found nothing.
    if b"kingfisher_version" in keys:
        return 0.95
    return 0.95 if b'"kingfisher.repository-audit.' in head and b"audit" in keys else 0.0


def _validity(validation: Validation) -> pb.Validity.ValueType:
    response = validation.response or ""
    if validation.outcome is None and response.startswith("Validation skipped"):
        # Before `outcome` a check that could not be made read as one that failed.
        return pb.VALIDITY_UNSPECIFIED
    said = validation.outcome or validation.status
    return _VALIDITY.get(said, pb.VALIDITY_UNKNOWN) if said else pb.VALIDITY_UNSPECIFIED


def _secrets(match: Match, rule: str) -> tuple[str, ...]:
    """Values beside the snippet: those of captures, and what commands quote."""
    values = dict.fromkeys((match.dependent_captures or {}).values())
    for command in (match.validate_command, match.blast_radius_command, match.revoke_command):
        if command:
            values |= dict.fromkeys(_QUOTED.findall(command))
    return tuple(value for value in values if value and value not in (rule, match.snippet))


def _record(found: Finding, raw: bytes) -> Record:
    rule, match = found.rule, found.finding
    snippet = match.snippet or ""
    state = state_of(snippet)
    present = state == pb.VALUE_STATE_PRESENT
    validation = match.validation or Validation()
    commit = (match.git_metadata or Git()).commit or Commit()
    line = match.line or 0
    end_line = line + snippet.count("\n") if line and present else 0
    free_text = {
        "validation.response": validation.response,
        "validate_command": match.validate_command,
        "revoke_command": match.revoke_command,
        "blast_radius_command": match.blast_radius_command,
        **{f"dependent_captures.{k}": v for k, v in (match.dependent_captures or {}).items()},
    }
    clear = {
        "confidence": match.confidence,
        "entropy": match.entropy,
        "language": match.language,
        "validation.outcome": validation.outcome,
        "validation.status": validation.status,
    }
    return Record(
        raw=raw,
        tool="kingfisher",
        rule_id=rule.id,
        rule_name=rule.name or "",
        path=match.path,
        line=line,
        end_line=end_line,
        # Kingfisher's columns count from 0, and the last one belongs to the value.
        column=match.column_start + 1 if match.column_start is not None else 0,
        end_column=match.column_end + 2 if end_line and match.column_end is not None else 0,
        commit=commit.id or "",
        native_id=match.fingerprint or "",
        changed_at=commit.date or "",
        validity=_validity(validation),
        value_state=state,
        metadata={key: text for key, text in clear.items() if text},
        value=snippet if present else "",
        message=rule.description or "",
        decoder=match.encoding or "",
        extra={key: text for key, text in free_text.items() if text},
        secrets=_secrets(match, rule.id),
    )


def _note_audit(audit: Audit, source: Source) -> None:
    """Notes that repositories were not scanned, or not to their end."""
    summary = audit.summary
    if summary.fetch_failed + summary.scan_partial + summary.scan_failed + summary.pending > 0:
        source.notices.note(NoticeKind.NOTICE_KIND_SCAN_INCOMPLETE, "audit.summary", 0)


def _note_access_map(source: Source) -> None:
    source.notices.note(NoticeKind.NOTICE_KIND_PART_SKIPPED, "access_map", 0)


def _envelope(source: Source) -> Iterator[Record | Rejected]:
    def findings() -> Iterator[Record | Rejected]:
        return each(source, elements(source, "findings"), _FINDING, _record)

    def audit() -> Iterator[Record | Rejected]:
        if said := part(source.value(), _AUDIT):
            _note_audit(said, source)
        yield from ()

    def access_map() -> Iterator[Record | Rejected]:
        if source.peek() == b"[":
            _note_access_map(source)
        source.skip()
        yield from ()

    handlers = {"findings": findings, "audit": audit, "access_map": access_map}
    yield from source.walk(handlers, known=("metadata", "stats"))


def _records(source: Source) -> Iterator[bytes | Rejected]:
    """The records of JSONL or of an array."""
    for raw in source.records(_SIGNS):
        if not isinstance(raw, Rejected) and _BEGINS_TAIL.match(raw):
            source.whole = True
            tail = part(raw, _TAIL) or Tail()
            if tail.audit:
                _note_audit(tail.audit, source)
            if tail.access_map is not None:
                _note_access_map(source)
        else:
            yield raw


def _matches(source: Source) -> Iterator[bytes | Rejected]:
    """The records of an array of groups."""
    for raw in source.records(_SIGNS):
        group = raw if isinstance(raw, Rejected) else _GROUP.read(raw, source.notices)
        if isinstance(group, Rejected):
            yield group
        elif group is not None:
            yield from map(msgspec.json.encode, group.matches)


def _dialect(head: bytes) -> str:
    if version := _VERSION.search(head):
        return f"Kingfisher {version[1].decode()}"
    keys = unescaped_keys(head)
    if b"matches" in keys:
        return "Kingfisher 1, early"
    return "Kingfisher 1.112 or newer" if b"outcome" in keys else "Kingfisher 1"


def _parse(source: Source) -> Iterator[Record | Rejected]:
    source.peek()
    head = source.head()
    source.dialect = _dialect(head)
    if _ENVELOPE.match(head):
        return source.documents(lambda: _envelope(source))
    raws = _matches(source) if b"matches" in unescaped_keys(head) else _records(source)
    return each(source, raws, _FINDING, _record)


PARSER = Parser(
    id="kingfisher",
    version="1",
    title="Kingfisher",
    aliases=("kingfisher-scan",),
    shapes=("envelopes, one after another", "JSONL", "array"),
    sniff=_sniff,
    parse=_parse,
    versions="1 and 2",
    notes="The access map is passed over. Values that --redact replaced differ from run to run.",
)
