"""gitleaks before 8: records with an offender and its line (gitleaks 7, report/leak.go).

4 to 6 write the same without `lineNumber`. Author, e-mail and the URLs are known
and not read: they stay in the raw report only.
"""

from __future__ import annotations

import re
from typing import Any

from ingestor.dialect import Dialect, Exact
from ingestor.parsers._base import signs
from ingestor.records import Record, state_of
from winnow.finding.v1 import finding_pb2 as pb

_KEYS = frozenset((b"offender", b"rule", b"file"))
_MORE = frozenset((b"line", b"commit", b"repo", b"commitMessage", b"tags", b"lineNumber"))
# A line may be as long as a file, and stand before everything else.
_LONG_LINE = re.compile(rb'\s*\[\s*\{\s*"line"\s*:\s*"')

SIGNS = signs((b"offender", b"commitMessage"))


class _Leak(Exact):
    rule: str
    file: str
    offender: str | None = None
    line: str | None = None
    lineNumber: int | None = None
    offenderEntropy: float | None = None
    commit: str | None = None
    commitMessage: str | None = None
    date: str | None = None
    tags: str | None = None
    repo: Any = None
    repoURL: Any = None
    leakURL: Any = None
    author: Any = None
    email: Any = None
    operation: Any = None


DIALECT = Dialect(_Leak, expected=("offender", "line"))


def confidence(head: bytes, keys: frozenset[bytes]) -> float:
    """That a report that begins so, with these members, is of this dialect, from 0 to 1."""
    if keys >= _KEYS:
        return min(1.0, 0.5 + len(keys & _MORE) / 8)
    return 0.6 if keys == {b"line"} and _LONG_LINE.match(head) else 0.0


def version(keys: frozenset[bytes]) -> str:
    """Which gitleaks wrote records with these members, for people."""
    if b"offender" not in keys:
        return "gitleaks 4 to 7"
    return "gitleaks 7" if b"lineNumber" in keys else "gitleaks 4 to 6"


def record(found: _Leak, raw: bytes) -> Record:
    """One leak as a record; its bytes are `raw`."""
    secret = found.offender or found.line or ""
    state = state_of(secret)
    metadata = {}
    if found.offenderEntropy is not None and found.offenderEntropy >= 0:  # -1: not measured
        metadata["offenderEntropy"] = f"{found.offenderEntropy:.6g}"
    if found.tags:
        metadata["tags"] = found.tags.replace(", ", ",")
    return Record(
        raw=raw,
        tool="gitleaks",
        rule_id=found.rule,
        path=found.file,
        line=found.lineNumber or 0,
        commit=found.commit or "",
        changed_at=found.date or "",
        value_state=state,
        metadata=metadata,
        value=secret if state == pb.VALUE_STATE_PRESENT else "",
        match=found.line or "",
        message=found.commitMessage or "",
    )
