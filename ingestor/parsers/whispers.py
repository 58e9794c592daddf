"""whispers: an array of key-value pairs that look like secrets, or one object a line."""

from __future__ import annotations

from collections.abc import Iterator

from ingestor.dialect import Dialect, Exact
from ingestor.framing import Source
from ingestor.parsers._base import Parser, each, signs, unescaped_keys
from ingestor.parsers._words import severity
from ingestor.records import Record, state_of
from winnow.finding.v1 import finding_pb2 as pb
from winnow.ingest.v1.rejected_pb2 import Rejected


class _Finding(Exact):
    file: str
    key: str | None = None
    value: str | None = None
    line: int | None = None
    rule_id: str | None = None
    message: str | None = None
    severity: str | None = None


_KEYS = frozenset((b"key", b"value", b"file", b"line", b"rule_id", b"message", b"severity"))
_SIGNS = signs((b"key", b"value", b"rule_id"))
_DIALECT = Dialect(_Finding, expected=("key", "value", "line", "severity"))


def _sniff(head: bytes, _name: str) -> float:
    keys = unescaped_keys(head)
    if keys == _KEYS:
        return 0.9
    # Its names are everybody's: only next to nothing else do they mean it.
    return 0.6 if keys >= _KEYS - {b"rule_id"} and len(keys - _KEYS) <= 2 else 0.0


def _record(found: _Finding, raw: bytes) -> Record:
    value = found.value or ""
    state = state_of(value)
    return Record(
        raw=raw,
        tool="whispers",
        # Before 2 a rule has no other name than its message.
        rule_id=found.rule_id or found.message or "",
        path=found.file,
        line=found.line or 0,
        severity=severity(found.severity),
        value_state=state,
        value=value if state == pb.VALUE_STATE_PRESENT else "",
        variable=found.key or "",
        message=found.message or "",
        secrets=(value,) if state == pb.VALUE_STATE_REDACTED else (),
    )


def _parse(source: Source) -> Iterator[Record | Rejected]:
    newer = b"rule_id" in unescaped_keys(source.head())
    source.dialect = "whispers 2" if newer else "whispers 1"
    return each(source, source.records(_SIGNS), _DIALECT, _record)


PARSER = Parser(
    id="whispers",
    version="1",
    title="whispers",
    aliases=("whispers-json",),
    shapes=("array", "NDJSON"),
    sniff=_sniff,
    parse=_parse,
    versions="1 and 2",
)
