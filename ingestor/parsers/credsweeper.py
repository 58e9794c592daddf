"""CredSweeper: an array of candidates (credsweeper, credentials/candidate.py).

A candidate stands on one line or on several: a key from its first line to its
last, or the two parts of a pair.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ingestor.dialect import Dialect, Exact
from ingestor.framing import Source
from ingestor.parsers._base import Parser, each, signs, unescaped_keys
from ingestor.parsers._words import severity
from ingestor.records import Place, Record, state_of
from winnow.finding.v1 import finding_pb2 as pb
from winnow.ingest.v1.rejected_pb2 import Rejected


class _Line(Exact):
    path: str
    line: str | None = None
    line_num: int | None = None
    info: str | None = None
    variable: str | None = None
    variable_start: Any = None
    variable_end: Any = None
    value: str | None = None
    value_start: int | None = None
    value_end: int | None = None
    entropy: Any = None
    entropy_validation: Any = None
    # Written if the configuration asks for them.
    key: Any = None
    pattern: Any = None
    separator: Any = None
    separator_start: Any = None
    separator_end: Any = None
    value_leftquote: Any = None
    value_rightquote: Any = None


class _Candidate(Exact):
    rule: str
    line_data_list: list[_Line]
    severity: str | None = None
    confidence: str | None = None
    ml_probability: float | str | None = None
    ml_validation: str | None = None  # before ml_probability
    api_validation: str | None = None
    patterns: Any = None
    use_ml: Any = None


_SIGNS = signs((b"line_data_list",))
_DIALECT = Dialect(_Candidate, expected=("severity",))

_VALIDITY = {
    "VALIDATED_KEY": pb.VALIDITY_LIVE,
    "INVALID_KEY": pb.VALIDITY_DEAD,
    "UNDECIDED": pb.VALIDITY_UNKNOWN,
}
_SHA256 = re.compile(r"[0-9a-f]{64}")
# Steps of `info` that name a member of an archive; the others may hold keys of
# structures, even passwords.
_MEMBER = re.compile(r"\|(?:ZIP|TAR|RPM|HSQS|(?:CPIO|DEB):0x[0-9a-f]+):([^|]+)")


def _sniff(head: bytes, _name: str) -> float:
    found = unescaped_keys(head)
    return 1.0 if found >= {b"line_data_list", b"rule"} else 0.0


def _hashed(line: _Line) -> bool:
    """Whether `--hashed` replaced value and line by their SHA-256."""
    value = line.value or ""
    if not _SHA256.fullmatch(value) or (line.line and not _SHA256.fullmatch(line.line)):
        return False
    # A digest in the file itself is as long as its columns say.
    return line.line != value or (line.value_end or 0) - (line.value_start or 0) != len(value)


def _inside(line: _Line) -> tuple[str, str]:
    """What archives hold the file, and its path in the innermost one."""
    outer, *rest = line.path.split("|")
    members = _MEMBER.findall(line.info or "") or [step for step in rest if not step.isupper()]
    *containers, path = [outer, *members]
    return "|".join(containers), path


def _place(line: _Line, path: str) -> Place:
    number = max(line.line_num or 0, 0)  # -1: the file's name alone was matched
    start, end = line.value_start, line.value_end
    if start is None or end is None or start < 0 or end <= start:
        return path, number, number, 0, 0
    return path, number, number, start + 1, end + 1


def _metadata(found: _Candidate) -> dict[str, str]:
    metadata = {}
    if found.confidence:
        metadata["confidence"] = found.confidence
    if found.ml_probability is not None:
        ml = found.ml_probability
        metadata["ml_probability"] = ml if isinstance(ml, str) else f"{ml:.6g}"
    if found.ml_validation:
        metadata["ml_validation"] = found.ml_validation
    if found.api_validation:
        metadata["api_validation"] = found.api_validation
    return metadata


def _record(found: _Candidate, raw: bytes) -> Record:
    lines = found.line_data_list or [_Line(path="")]
    first, *more = lines
    container, path = _inside(first)
    _, line, end_line, column, end_column = _place(first, path)
    record = Record(
        raw=raw,
        tool="credsweeper",
        rule_id=found.rule,
        path=path,
        line=line,
        end_line=end_line,
        column=column,
        end_column=end_column,
        container=container,
        severity=severity(found.severity),
        validity=_VALIDITY.get(found.api_validation or "", pb.VALIDITY_UNSPECIFIED),
        metadata=_metadata(found),
    )
    if more:
        record.more_places = [_place(line, _inside(line)[1]) for line in more]
    value = first.value or ""
    if _hashed(first):
        record.value_state = pb.VALUE_STATE_REDACTED
        record.secrets = tuple(line.value for line in lines if line.value)
        return record
    record.match = "\n".join([line.line for line in lines if line.line])
    record.variable = first.variable or ""
    if first.info:
        record.extra = {"info": first.info}
    record.value_state = state_of(value)
    if more and value.lstrip().startswith("-----BEGIN"):
        # A key's lines are one value.
        value = "\n".join([(line.value or "").strip() for line in lines])
    elif more:
        # Of a pair the first part is what it is known by.
        others = {f"value {n}": line.value for n, line in enumerate(more, 2) if line.value}
        record.extra = record.extra | others
        record.secrets = tuple(others.values())
    if record.value_state == pb.VALUE_STATE_PRESENT:
        record.value = value
    elif value:
        record.secrets = (*record.secrets, value)
    return record


def _parse(source: Source) -> Iterator[Record | Rejected]:
    keys = unescaped_keys(source.head())
    before = b"ml_validation" in keys or b"api_validation" in keys
    source.dialect = "CredSweeper, early" if before else "CredSweeper 1"
    return each(source, source.records(_SIGNS), _DIALECT, _record)


PARSER = Parser(
    id="credsweeper",
    version="1",
    title="CredSweeper",
    aliases=("cred-sweeper",),
    shapes=("array", "NDJSON"),
    sniff=_sniff,
    parse=_parse,
    versions="1",
    notes="A candidate on several lines is one finding. Reports written with --hashed carry no "
    "values.",
)
