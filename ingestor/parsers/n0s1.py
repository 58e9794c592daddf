"""n0s1: `findings` in tickets and pages, by their id, which is an unkeyed digest
and therefore sealed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ingestor.dialect import Dialect, Exact
from ingestor.framing import Source
from ingestor.parsers._base import Parser, each, unescaped_keys
from ingestor.parsers._code import neighbours
from ingestor.records import Record, reject
from winnow.finding.v1 import finding_pb2 as pb
from winnow.ingest.v1.rejected_pb2 import Rejected

_REDACTED = "<REDACTED>"


class _Rule(Exact):
    id: str | None = None
    description: str | None = None
    regex: Any = None
    tags: Any = None
    keywords: Any = None
    path: Any = None
    entropy: Any = None
    secretGroup: Any = None


class _Details(Exact):
    matched_regex_config: _Rule | None = None
    platform: str | None = None
    ticket_field: str | None = None


class _Finding(Exact):
    url: str
    secret: str | None = None
    id: str | None = None
    details: _Details | None = None


_DIALECT = Dialect(_Finding, expected=("secret", "details"))


def _sniff(head: bytes, _name: str) -> float:
    keys = unescaped_keys(head)
    if not keys >= {b"tool", b"scan_date"} or not keys & {b"regex_config", b"findings"}:
        return 0.0
    return 1.0 if b'"n0s1"' in head else 0.6


def _record(found: _Finding, raw: bytes) -> Record:
    details = found.details or _Details()
    rule = details.matched_regex_config or _Rule()
    # What was found with what stands around it, and by default not the value.
    text = found.secret or ""
    redacted = _REDACTED in text
    return Record(
        raw=raw,
        tool="n0s1",
        rule_id=rule.id or "",
        rule_name=rule.description or "",
        container=" ".join(filter(None, (details.platform, found.url, details.ticket_field))),
        value_state=pb.VALUE_STATE_REDACTED if redacted else pb.VALUE_STATE_ABSENT,
        match=text,
        extra={"id": found.id} if found.id else {},
        secrets=neighbours((text, *text.split(_REDACTED))),
    )


def _parse(source: Source) -> Iterator[Record | Rejected]:
    def values() -> Iterator[bytes | Rejected]:
        for _ in source.members():
            yield source.value()

    def findings() -> Iterator[Record | Rejected]:
        source.dialect = "n0s1 1"
        byte, at_byte = source.peek(), source.offset()
        if byte == b"{":
            yield from each(source, values(), _DIALECT, _record)
            return
        source.skip()
        if byte != b"n":
            yield reject("WRONG_TYPE", "findings is not an object", "findings", at_byte)

    return source.documents(
        lambda: source.walk({"findings": findings}, ("tool", "scan_date", "regex_config"))
    )


PARSER = Parser(
    id="n0s1",
    version="1",
    title="n0s1",
    aliases=("n0s1-json",),
    shapes=('{"findings": {…}}',),
    sniff=_sniff,
    parse=_parse,
    versions="1.x",
    notes="Findings stand in tickets, pages and messages: their place is a URL.",
)
