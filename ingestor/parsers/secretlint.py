"""secretlint: an array of files, each with its `messages[]` (secretlint, formatter json).

A file's `sourceContent` is the whole file: it is stepped over, never read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ingestor.dialect import Dialect, Exact
from ingestor.framing import Source
from ingestor.parsers._base import Parser, unescaped_keys
from ingestor.parsers._groups import Group, grouped, groups, text
from ingestor.parsers._words import severity
from ingestor.reading import Malformed
from ingestor.records import Record
from winnow.finding.v1 import finding_pb2 as pb
from winnow.ingest.v1.rejected_pb2 import Rejected


class _Position(Exact):
    line: int | None = None
    column: int | None = None


class _Span(Exact):
    start: _Position
    end: _Position


class _Message(Exact):
    ruleId: str
    message: str | None = None
    messageId: str | None = None
    ruleParentId: str | None = None
    loc: _Span | None = None
    severity: str | None = None
    data: dict[str, Any] | None = None
    range: Any = None
    type: Any = None
    docsUrl: Any = None
    fix: Any = None


_DIALECT = Dialect(_Message, expected=("message", "loc", "severity"))


def _sniff(head: bytes, _name: str) -> float:
    keys = unescaped_keys(head)
    if keys >= {b"filePath", b"sourceContent"}:
        return 1.0 if b"sourceContentType" in keys or b"messages" in keys else 0.8
    return 0.9 if keys >= {b"filePath", b"messages", b"ruleId", b"messageId", b"loc"} else 0.0


def _record(found: _Message, raw: bytes, file: Group) -> Record:
    path = text(file, "filePath")
    span = found.loc or _Span(_Position(), _Position())
    parts = {key: part for key, part in (found.data or {}).items() if isinstance(part, str)}
    values = [part for part in parts.values() if len(part) >= 4]
    # Masked by default; --no-maskSecrets writes the value itself.
    masked = all("***" in value for value in values)
    record = Record(
        raw=raw + b"\0" + path.encode(),
        tool="secretlint",
        rule_id=found.ruleId,
        rule_name=found.messageId or "",
        path=path,
        line=span.start.line or 0,
        end_line=span.end.line or 0,
        # Columns count from 0.
        column=span.start.column + 1 if span.start.column is not None else 0,
        end_column=span.end.column + 1 if span.end.column is not None else 0,
        severity=severity(found.severity),
        metadata={"ruleParentId": found.ruleParentId} if found.ruleParentId else {},
        value_state=pb.VALUE_STATE_ABSENT if not values else pb.VALUE_STATE_REDACTED,
        message=found.message or "",
        extra={f"data.{key}": part for key, part in parts.items()},
        secrets=tuple(values),
    )
    if values and not masked:
        record.value_state, record.value = pb.VALUE_STATE_PRESENT, max(values, key=len)
    return record


def _parse(source: Source) -> Iterator[Record | Rejected]:
    source.dialect, source.shape = "secretlint", "array"
    lists = {"messages": (_DIALECT, _record)}
    contents = ("sourceContent", "sourceContentType")
    while byte := source.peek():
        if byte == b"[":
            yield from groups(source, lists, {"filePath": True}, contents)
        elif byte == b"{":
            yield from grouped(source, lists, {"filePath": True}, contents)
        else:
            raise Malformed(source.offset())
        source.whole = True


PARSER = Parser(
    id="secretlint",
    version="1",
    title="secretlint",
    aliases=("secret-lint",),
    shapes=("array",),
    sniff=_sniff,
    parse=_parse,
    versions="1 to 11",
    notes="The files' contents that the report holds are never kept.",
)
