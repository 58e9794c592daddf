"""Bandit: `results[]` of its JSON formatter (bandit, formatters/json.py).

Its three tests for hard-coded passwords say the value in the issue's text; the
code around it has the neighbours' values as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ingestor.dialect import Dialect, Exact
from ingestor.framing import Source
from ingestor.parsers._base import Parser, each, unescaped_keys
from ingestor.parsers._code import neighbours
from ingestor.parsers._words import elements, incomplete, severity
from ingestor.records import Record, state_of
from winnow.finding.v1 import finding_pb2 as pb
from winnow.ingest.v1.rejected_pb2 import Rejected

_PASSWORDS = frozenset(("B105", "B106", "B107"))
_BESIDE = frozenset((b"generated_at", b"metrics", b"errors"))


class _Weakness(Exact):
    id: int | None = None
    link: Any = None


class _Issue(Exact):
    test_id: str
    filename: str
    test_name: str | None = None
    issue_text: str | None = None
    issue_severity: str | None = None
    issue_confidence: str | None = None
    issue_cwe: _Weakness | None = None
    line_number: int | None = None
    line_range: list[int] | None = None
    col_offset: int | None = None
    end_col_offset: int | None = None
    code: str | None = None
    more_info: Any = None
    candidates: Any = None  # of a comparison with a baseline


_DIALECT = Dialect(_Issue, expected=("issue_text", "issue_severity", "line_number"))


def _sniff(head: bytes, _name: str) -> float:
    keys = unescaped_keys(head)
    if not head.lstrip().startswith(b"{"):
        return 0.0
    if keys >= {b"test_id", b"issue_text", b"issue_severity"}:
        return 1.0
    return 0.9 if keys >= _BESIDE and keys & {b"CONFIDENCE.HIGH", b"results"} else 0.0


def _password(text: str) -> str:
    """What stands between the first and the last quote."""
    start, end = text.find("'"), text.rfind("'")
    return text[start + 1 : end] if 0 <= start < end else ""


def _record(found: _Issue, raw: bytes) -> Record:
    secret = found.test_id in _PASSWORDS
    code, text = found.code or "", found.issue_text or ""
    record = Record(
        raw=raw,
        tool="bandit",
        rule_id=found.test_id,
        kind=pb.FINDING_KIND_POSSIBLE_SECRET if secret else pb.FINDING_KIND_CODE,
        rule_name=found.test_name or "",
        path=found.filename,
        line=found.line_number or 0,
        end_line=max(found.line_range or (0,)),
        # Offsets count from 0; -1 is unknown.
        column=found.col_offset + 1 if found.col_offset is not None else 0,
        end_column=found.end_col_offset + 1 if found.end_col_offset is not None else 0,
        severity=severity(found.issue_severity),
        aliases=[f"CWE-{found.issue_cwe.id}"] if found.issue_cwe and found.issue_cwe.id else [],
        metadata={"issue_confidence": found.issue_confidence} if found.issue_confidence else {},
        message=text,
        context=code,
    )
    if secret:
        value = _password(text)
        record.value_state = state_of(value)
        if record.value_state == pb.VALUE_STATE_PRESENT:
            record.value = value
        record.secrets = neighbours((code, value), record.value)
    return record


def _parse(source: Source) -> Iterator[Record | Rejected]:
    def results() -> Iterator[Record | Rejected]:
        newer = b'"issue_cwe"' in source.head()
        source.dialect = "bandit 1.7.3 or newer" if newer else "bandit"
        return each(source, elements(source, "results"), _DIALECT, _record)

    handlers = {"results": results, "errors": lambda: incomplete(source, "errors")}
    return source.documents(
        lambda: source.walk(handlers, ("generated_at", "metrics", "stats", "baseline"))
    )


PARSER = Parser(
    id="bandit",
    version="1",
    title="Bandit",
    aliases=("bandit-json",),
    shapes=('{"results": […]}',),
    sniff=_sniff,
    parse=_parse,
    versions="1.x",
    kinds=(pb.FINDING_KIND_CODE, pb.FINDING_KIND_POSSIBLE_SECRET),
    notes="B105, B106 and B107 find possible secrets, all other tests weaknesses of code.",
)
