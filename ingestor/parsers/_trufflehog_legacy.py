"""TruffleHog 2, TruffleHog 3's `--json-legacy`, and trufflehog3 before 3: what was
found in one change of one file, as `stringsFound`.

One record is one finding, however many strings it has. Its value is the longest
(of equally long ones the last in order of code points): tools list them in any
order, and so it is the same credential each time. The others are sealed, and
masked in the clear fields.
"""

from __future__ import annotations

from typing import Any

from ingestor.dialect import Dialect, Exact
from ingestor.parsers._base import signs
from ingestor.records import Record, state_of
from winnow.finding.v1 import finding_pb2 as pb

# Rusty Hogs write the same without a branch.
_KEYS = frozenset((b"stringsFound", b"reason", b"path", b"branch"))
_DIFF = frozenset((b"diff", b"printDiff"))
# What stands before a diff, which may be as long as a file.
_BEFORE = frozenset((b"branch", b"commit", b"commitHash", b"date", b"diff"))

SIGNS = signs((b"stringsFound", b"commitHash"))


class Change(Exact):
    """One record of these tools."""

    path: str
    reason: str
    stringsFound: list[str] | None = None
    branch: str | None = None
    commit: str | None = None  # its message
    commitHash: str | None = None
    date: str | None = None
    diff: str | None = None
    matchesFound: Any = None
    printDiff: Any = None  # the diff in colours


DIALECT = Dialect(Change, expected=("stringsFound",))


def confidence(keys: frozenset[bytes], diff: bool) -> float:
    """That these members are those of such records, from 0 to 1.

    Args:
        keys: names of members.
        diff: whether the tool's records hold the diff.
    """
    if diff and keys >= _BEFORE:
        return 0.95
    if not keys >= _KEYS:
        return 0.0
    return 0.95 if bool(keys & _DIFF) == diff else 0.3


def _unsigned(lines: list[str], found: Change) -> list[str]:
    """Strings that are whole lines of a diff, without its signs."""
    if not found.commitHash or any(line[:1] not in ("+", "-") for line in lines):
        return lines
    if any(line.startswith("-----") for line in lines):  # a key's own dashes
        return lines
    return [line[1:].strip() for line in lines]


def record(found: Change, raw: bytes, tool: str) -> Record:
    """One record; its bytes are `raw`."""
    strings = _unsigned([text for text in found.stringsFound or () if text], found)
    value = max(strings, key=lambda text: (len(text), text), default="")
    state = state_of(value)
    others = tuple(dict.fromkeys(text for text in strings if text != value))
    return Record(
        raw=raw,
        tool=tool,
        rule_id=found.reason,
        path=found.path,
        commit=found.commitHash or "",
        changed_at=found.date or "",
        value_state=state,
        metadata={"branch": found.branch} if found.branch else {},
        value=value if state == pb.VALUE_STATE_PRESENT else "",
        match=value,
        context=found.diff or "",
        message=found.commit or "",
        extra={f"stringsFound[{number}]": text for number, text in enumerate(others, 1)},
        secrets=others,
    )
