"""gosec: `Issues[]` of its JSON report (gosec, report/json and issue)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ingestor.dialect import Dialect, Exact
from ingestor.framing import Source
from ingestor.parsers._base import Parser, each, unescaped_keys
from ingestor.parsers._code import neighbours, only_value
from ingestor.parsers._words import elements, incomplete, severity
from ingestor.records import Record
from winnow.finding.v1 import finding_pb2 as pb
from winnow.ingest.v1.rejected_pb2 import Rejected

_CREDENTIALS = "G101"
_LINES = re.compile(r"(\d{1,9})(?:-(\d{1,9}))?")


class _Weakness(Exact):
    id: str | None = None
    url: Any = None


class _Suppression(Exact):
    kind: str | None = None
    justification: str | None = None


class _Issue(Exact):
    rule_id: str
    file: str
    details: str | None = None
    severity: str | None = None
    confidence: str | None = None
    cwe: _Weakness | None = None
    code: str | None = None
    line: str | None = None
    column: str | None = None
    nosec: bool | None = None
    suppressions: list[_Suppression] | None = None
    autofix: Any = None


_DIALECT = Dialect(_Issue, expected=("details", "severity", "line"))


def _sniff(head: bytes, _name: str) -> float:
    keys = unescaped_keys(head)
    if b"Issues" not in keys:
        return 0.0
    if keys >= {b"rule_id", b"details", b"confidence"}:
        return 1.0
    return 0.9 if b"GosecVersion" in keys or keys >= {b"Stats", b"nosec", b"found"} else 0.0


def _line(code: str, line: int) -> str:
    """The line itself: newer versions give its neighbours as well, each with its number."""
    numbered = re.search(rf"^{line}: ?(.*)$", code, re.MULTILINE)
    return numbered[1] if numbered else code


def _record(found: _Issue, raw: bytes) -> Record:
    code = found.code or ""
    span = _LINES.match(found.line or "")
    first = int(span[1]) if span else 0
    column = _LINES.match(found.column or "")
    secret = found.rule_id == _CREDENTIALS
    ignored = found.nosec or found.suppressions
    reasons = [s.justification for s in found.suppressions or () if s.justification]
    record = Record(
        raw=raw,
        tool="gosec",
        rule_id=found.rule_id,
        kind=pb.FINDING_KIND_POSSIBLE_SECRET if secret else pb.FINDING_KIND_CODE,
        path=found.file,
        line=first,
        end_line=int(span[2] or 0) if span else 0,
        column=int(column[1]) if column else 0,
        severity=severity(found.severity),
        triage=pb.TRIAGE_ACCEPTED if ignored else pb.TRIAGE_UNSPECIFIED,
        aliases=[f"CWE-{found.cwe.id}"] if found.cwe and found.cwe.id else [],
        metadata={"confidence": found.confidence} if found.confidence else {},
        message=found.details or "",
        context=code,
        extra={"suppression": "\n".join(reasons)} if reasons else {},
    )
    if secret:
        record.match = _line(code, first)
        record.value = only_value(record.match)
        record.value_state = pb.VALUE_STATE_PRESENT if record.value else pb.VALUE_STATE_ABSENT
        record.secrets = neighbours((record.match, code), record.value)
    return record


def _parse(source: Source) -> Iterator[Record | Rejected]:
    def issues() -> Iterator[Record | Rejected]:
        source.dialect = "gosec 2"
        return each(source, elements(source, "Issues"), _DIALECT, _record)

    handlers = {"Issues": issues, "Golang errors": lambda: incomplete(source, "GolangErrors")}
    return source.documents(lambda: source.walk(handlers, ("Stats", "GosecVersion")))


PARSER = Parser(
    id="gosec",
    version="1",
    title="gosec",
    aliases=("gosec-json",),
    shapes=('{"Issues": […]}',),
    sniff=_sniff,
    parse=_parse,
    versions="1 and 2",
    kinds=(pb.FINDING_KIND_CODE, pb.FINDING_KIND_POSSIBLE_SECRET),
    notes="G101 finds possible secrets, all other rules weaknesses of code.",
)
