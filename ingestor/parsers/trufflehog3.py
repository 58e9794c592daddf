"""trufflehog3, a Python tool beside TruffleHog: an array of issues (trufflehog3,
models.py of 3.x). Versions before 3 wrote `stringsFound` (`_trufflehog_legacy`).

In history its line counts within the diff, not within the file. The issue's id is
a name-based UUID (RFC 9562, version 3) of path and value, which a weak value does
not survive: it stays in the raw report only, as the author does.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from ingestor.dialect import Dialect, Exact
from ingestor.framing import Source
from ingestor.parsers import _trufflehog_legacy as legacy
from ingestor.parsers._base import Parser, each, signs, unescaped_keys
from ingestor.records import Record, state_of
from winnow.finding.v1 import finding_pb2 as pb
from winnow.ingest.v1.rejected_pb2 import Rejected

# Not the members behind the context: that may be as long as a file.
_KEYS = frozenset((b"rule", b"id", b"severity", b"path", b"line", b"secret", b"context"))

_SEVERITY = {
    "LOW": pb.SEVERITY_LOW,
    "MEDIUM": pb.SEVERITY_MEDIUM,
    "HIGH": pb.SEVERITY_HIGH,
}


class _Rule(Exact):
    id: str
    message: str | None = None
    severity: str | None = None
    pattern: Any = None


class _Issue(Exact):
    rule: _Rule
    path: str
    line: str | int | None = None
    secret: str | None = None
    context: dict[str, str] | None = None
    branch: str | None = None
    message: str | None = None
    commit: str | None = None
    date: str | None = None
    author: Any = None
    id: Any = None


_SIGNS = signs((b"rule", b"secret", b"context"))
_DIALECT = Dialect(_Issue, expected=("line", "secret"))


def _sniff(head: bytes, _name: str) -> float:
    keys = unescaped_keys(head)
    return 0.95 if keys >= _KEYS else legacy.confidence(keys, diff=False)


def _number(line: str | int | None) -> int:
    if isinstance(line, str):
        return int(line) if line.isascii() and line.isdecimal() and len(line) < 10 else 0
    return line or 0


def _record(found: _Issue, raw: bytes) -> Record:
    rule, secret = found.rule, found.secret or ""
    state = state_of(secret)
    return Record(
        raw=raw,
        tool="trufflehog3",
        rule_id=rule.id,
        rule_name=rule.message or "",
        path=found.path,
        line=_number(found.line),
        commit=found.commit or "",
        changed_at=found.date or "",
        severity=_SEVERITY.get((rule.severity or "").upper(), pb.SEVERITY_UNSPECIFIED),
        value_state=state,
        metadata={"branch": found.branch} if found.branch else {},
        value=secret if state == pb.VALUE_STATE_PRESENT else "",
        context="\n".join((found.context or {}).values()),
        message=found.message or "",
    )


def _parse(source: Source) -> Iterator[Record | Rejected]:
    if b"stringsFound" in unescaped_keys(source.head()):
        source.dialect = "trufflehog3 before 3"
        make = partial(legacy.record, tool="trufflehog3")
        return each(source, source.records(legacy.SIGNS), legacy.DIALECT, make)
    source.dialect = "trufflehog3 3"
    return each(source, source.records(_SIGNS), _DIALECT, _record)


PARSER = Parser(
    id="trufflehog3",
    version="1",
    title="trufflehog3",
    aliases=("truffle-hog3",),
    shapes=("array", "NDJSON", '{"findings": […]}'),
    sniff=_sniff,
    parse=_parse,
    versions="1 to 3",
    notes="Not TruffleHog 3, whose scanner type is trufflehog. Lines in history count within "
    "the diff.",
)
