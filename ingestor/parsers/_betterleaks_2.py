"""Betterleaks 2: `{"findings": […], "scan": {…}}`, or one such finding a line.

`match.fingerprint` is an unkeyed SHA-256 of the value (checked against reports of
2.0.0-rc.4), which a weak value does not survive: it is not read.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import msgspec

from ingestor.dialect import Dialect, Exact
from ingestor.framing import Source
from ingestor.parsers import _betterleaks_common as common
from ingestor.parsers._base import each, signs
from ingestor.records import Place, Record, reject, state_of
from winnow.finding.v1 import finding_pb2 as pb
from winnow.ingest.v1.notice_pb2 import NoticeKind
from winnow.ingest.v1.rejected_pb2 import Rejected

_KEYS = frozenset((b"rule_id", b"match", b"full"))
_MORE = frozenset((b"rule_hash", b"schema_version", b"start_line"))
_SCAN = frozenset((b"schema_version", b"scan", b"betterleaks_version"))

_SIGNS = signs((b"rule_hash", b"rule_id", b"betterleaks_version"))

_SEVERITY = {
    "low": pb.SEVERITY_LOW,
    "medium": pb.SEVERITY_MEDIUM,
    "high": pb.SEVERITY_HIGH,
    "critical": pb.SEVERITY_CRITICAL,
}
# Of an analysis, what is a field of a record.
_CLEAR = frozenset(("status", "severity"))


class _Match(Exact):
    full: str | None = None
    value: str | None = None
    context: str | None = None
    captures: dict[str, str] | None = None
    line: Any = None
    fingerprint: Any = None


class _Location(Exact):
    path: str | None = None
    start_line: int | None = None
    end_line: int | None = None
    start_column: int | None = None
    end_column: int | None = None


class _Component(Exact):
    rule_id: str | None = None
    match: _Match | None = None
    location: _Location | None = None
    rule_hash: Any = None
    optional: Any = None
    encodings: Any = None
    decode_depth: Any = None


class _Set(Exact):
    components: list[_Component] | None = None
    analysis: dict[str, Any] | None = None


class _Finding(Exact):
    rule_id: str
    match: _Match
    location: _Location
    description: str | None = None
    confidence: str | None = None
    attributes: dict[str, str] | None = None
    analysis: dict[str, Any] | None = None
    component_sets: list[_Set] | None = None
    encodings: list[str] | None = None
    tags: list[str] | None = None
    decode_depth: Any = None
    component_sets_truncated: Any = None
    rule_hash: Any = None
    schema_version: Any = None


class _Line(Exact):
    schema_version: Any = None
    finding: _Finding | None = None
    scan: dict[str, Any] | None = None


_FINDING = Dialect(_Finding)
_LINE = Dialect(_Line)
_SCAN_DECODER = msgspec.json.Decoder(dict[str, Any])


def confidence(keys: frozenset[bytes]) -> float:
    """That these members are those of this dialect's reports, from 0 to 1."""
    return 1.0 if (keys >= _KEYS and keys & _MORE) or keys >= _SCAN else 0.0


def _place(location: _Location) -> Place:
    return (
        location.path or "",
        location.start_line or 0,
        location.end_line or 0,
        location.start_column or 0,
        location.end_column or 0,
    )


def _analysed(analysis: dict[str, Any] | None, name: str) -> dict[str, str]:
    """What a provider said of a credential: names of accounts, and free text."""
    return {
        f"{name}.{key}": common.shown(item)
        for key, item in (analysis or {}).items()
        if key not in _CLEAR and item
    }


def _text(found: object) -> str:
    return found if isinstance(found, str) else ""


def _record(found: _Finding, raw: bytes) -> Record:
    match, analysis = found.match, found.analysis or {}
    attributes = found.attributes or {}
    secret = match.value or match.full or ""
    state = state_of(secret)
    place = _place(found.location)
    value = secret if state == pb.VALUE_STATE_PRESENT else ""
    extra = common.free_text(attributes) | common.captured(match.captures, "captures")
    components: list[str | None] = [] if value else [secret]
    groups = list((match.captures or {}).values())
    places: dict[Place, None] = {}  # in order, each once
    for group in found.component_sets or ():
        for part in group.components or ():
            name = f"components.{part.rule_id or ''}"
            if part.match:
                extra[name] = part.match.value or part.match.full or ""
                extra |= common.captured(part.match.captures, name)
                components.append(part.match.value)
                groups += (part.match.captures or {}).values()
            if part.location:
                places[_place(part.location)] = None
        extra |= _analysed(group.analysis, "component_sets.analysis")
    extra |= _analysed(analysis, "analysis")
    status = _text(analysis.get("status"))
    clear = {
        "confidence": found.confidence,
        "resource": attributes.get("resource"),
        "symlink": attributes.get("fs.symlink"),
        "tags": ",".join(found.tags or ()),
        "status": status,
    }
    message = attributes.get("git.message")
    return Record(
        raw=raw,
        tool="betterleaks",
        rule_id=found.rule_id,
        path=place[0],
        line=place[1],
        end_line=place[2],
        column=place[3],
        end_column=place[4],
        more_places=list(places)[: common.MOST_PLACES],
        commit=attributes.get("git.sha", ""),
        container="" if place[0] else common.container(attributes),
        changed_at=attributes.get("git.date", ""),
        severity=_SEVERITY.get(_text(analysis.get("severity")), pb.SEVERITY_UNSPECIFIED),
        validity=common.validity(status),
        value_state=state,
        metadata={key: text for key, text in clear.items() if text},
        value=value,
        match=match.full or "",
        context=match.context or "",
        message="\n".join(filter(None, (found.description, message))),
        decoder=",".join(found.encodings or ()),
        extra=extra,
        secrets=common.secrets(value, components, groups),
    )


def _note_scan(source: Source, scan: dict[str, Any]) -> None:
    if scan.get("state") != "complete":
        source.notices.note(NoticeKind.NOTICE_KIND_SCAN_INCOMPLETE, "scan.state", 0)


def _document(source: Source) -> Iterator[Record | Rejected]:
    def findings() -> Iterator[Record | Rejected]:
        if source.peek() == b"[":
            return each(source, source.elements(), _FINDING, _record)
        source.skip()
        return iter(())

    def scan() -> Iterator[Record | Rejected]:
        raw = source.value()
        with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            if not isinstance(raw, Rejected):
                _note_scan(source, _SCAN_DECODER.decode(raw))
        return iter(())

    return source.walk({"findings": findings, "scan": scan}, known=("schema_version",))


def _lines(source: Source) -> Iterator[Record | Rejected]:
    for raw in source.records(_SIGNS):
        if isinstance(raw, Rejected):
            yield raw
            continue
        line = _LINE.read(raw, source.notices)
        if isinstance(line, _Line):
            if line.finding is not None:
                yield _record(line.finding, raw)
                continue
            if line.scan is not None:
                source.whole = True
                _note_scan(source, line.scan)
                continue
            line = reject("MISSING_FIELD", "the field finding is missing", "finding")
        if line is not None:
            line.at_byte = source.at_byte()
            yield line


def parse(source: Source, keys: frozenset[bytes]) -> Iterator[Record | Rejected]:
    """The report's records; `keys` are the names of members at its beginning."""
    source.dialect = "betterleaks 2"
    if b"findings" in keys:
        return source.documents(lambda: _document(source))
    if b"finding" in keys or b"rule_id" not in keys:
        return _lines(source)
    return each(source, source.records(_SIGNS), _FINDING, _record)
