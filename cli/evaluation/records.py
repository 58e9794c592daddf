"""Labelled records, and the findings that a scanner's report would make of them.

A labelled file is JSON Lines, plain or gzipped, one finding a line:

- `id`, `label` (true: a real credential; null: left out), `path`, `line`,
  `value`, `variable`, `reported_by` {scanner: [rules]};
- `repo` or `source`: what is kept together when data is split;
- optionally `value_alt` and `line_alt` (the same record with a value made of
  words), `identifier_category` (true where the label follows a rule for public
  identifiers), `weight`.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from moderator.stage import Subject
from winnow.finding.v1.finding_pb2 import (
    FINDING_KIND_POSSIBLE_SECRET,
    VALUE_STATE_DIGEST,
    VALUE_STATE_PRESENT,
    Finding,
)
from winnow.finding.v1.plain_evidence_pb2 import PlainEvidence
from winnow.moderate.v1.moderate_service_pb2 import ModerateHeader

Record = dict[str, Any]

HEADER = ModerateHeader(report_id="00000000-0000-4000-8000-000000000000")
# Whose report speaks first for a finding that several scanners made.
_ORDER = ("kingfisher", "gitleaks", "betterleaks", "credsweeper", "detect-secrets", "trufflehog")


def load(path: Path) -> Iterator[Record]:
    """The labelled records of one file.

    Raises:
        ValueError: a line is no JSON object; names its number, not its text.
    """
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                record = json.loads(line)
            except ValueError:
                record = None
            if not isinstance(record, dict):
                raise ValueError(f"{path.name}: line {number} is no JSON object")
            if record.get("label") is not None:
                yield record


def by_form(record: Record) -> bool:
    """Whether its label follows form alone: sets of that kind tell which of their
    labels stand for public identifiers."""
    return "identifier_category" in record


def reporters(record: Record) -> list[tuple[str, str]]:
    """(scanner, rule) of all that reported it, the one that speaks first in front.

    On records that are labelled by form CredSweeper has no word: its own model was
    trained on those very lines, and would give their labels away.
    """
    found = record.get("reported_by") or {}
    known = sorted(found, key=lambda tool: (_ORDER.index(tool) if tool in _ORDER else 9, tool))
    if by_form(record):
        known = [tool for tool in known if tool != "credsweeper"]
    return [(tool, rule) for tool in known for rule in found[tool]]


def subject(
    record: Record,
    seen_by: list[tuple[str, str]],
    *,
    correlated: bool = False,
    words: bool = False,
    value: bool = True,
    line: bool = True,
    variable: bool = True,
) -> Subject:
    """The finding of one record.

    Args:
        record: as described above.
        seen_by: its reporters, first the one whose report it stands in.
        correlated: whether the finding tells of all of them, as it can where the
            reports of several scanners were joined.
        words: take the version with a value made of words.
        value: whether the report holds the value.
        line: whether it holds the line.
        variable: whether it names the variable.
    """
    text = (record.get("value_alt") if words else None) or record.get("value") or ""
    shown = (record.get("line_alt") if words else None) or record.get("line") or ""
    tool, rule = seen_by[0] if seen_by else ("", "")
    finding = Finding(
        kind=FINDING_KIND_POSSIBLE_SECRET,
        tool=tool,
        rule_id=rule,
        value_state=VALUE_STATE_PRESENT if value and text else VALUE_STATE_DIGEST,
        aliases=[f"{other}/{name}" for other, name in seen_by] if correlated else [],
    )
    finding.code.location.path = record.get("path") or ""
    evidence = PlainEvidence(
        value=text if value else "",
        match=shown if line else text if value else "",
        variable=(record.get("variable") or "") if variable else "",
    )
    return Subject(finding, evidence, HEADER)
