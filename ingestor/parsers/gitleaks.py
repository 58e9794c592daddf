"""gitleaks: an array of findings (gitleaks, report/finding.go), or rows of CSV.

Author, e-mail and link are known and not read: they stay in the raw report only.
The records of versions before 8 are in `_gitleaks_legacy`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ingestor.dialect import Dialect, Exact
from ingestor.framing import Source
from ingestor.parsers import _gitleaks_legacy as legacy
from ingestor.parsers._base import Parser, each, signs, unescaped_keys
from ingestor.records import Record, state_of
from winnow.finding.v1 import finding_pb2 as pb
from winnow.ingest.v1.rejected_pb2 import Rejected

_KEYS = {
    b"RuleID",
    b"Description",
    b"StartLine",
    b"EndLine",
    b"StartColumn",
    b"EndColumn",
    b"Match",
    b"Secret",
    b"File",
    b"Entropy",
    b"Fingerprint",
}
_POSITION = {b"StartLine", b"EndLine", b"StartColumn", b"EndColumn", b"Match"}
# Members that only Betterleaks adds to these.
_BETTERLEAKS = {
    b"Attributes",
    b"CaptureGroups",
    b"MatchContext",
    b"RequiredSets",
    b"ComponentSets",
    b"ValidationStatus",
}
_COLUMNS = {"RuleID", "File", "Secret", "Match", "StartLine"}
_LONGEST_HEADER = 4 << 10  # bytes
_TAGS = re.compile(r"[\w.:,/#-]+(?: [\w.:,/#-]+)*")
# A spreadsheet would take a cell that begins so for a formula: newer versions
# put an apostrophe before it.
_FORMULA = ("'=", "'+", "'-", "'@", "'\t", "'\r")


class _Finding(Exact):
    RuleID: str
    File: str
    Description: str | None = None
    StartLine: int | None = None
    EndLine: int | None = None
    StartColumn: int | None = None
    EndColumn: int | None = None
    Match: str | None = None
    Secret: str | None = None
    SymlinkFile: str | None = None
    Commit: str | None = None
    Entropy: float | None = None
    Date: str | None = None
    Message: str | None = None
    Tags: list[str] | None = None
    Fingerprint: str | None = None
    Author: Any = None
    Email: Any = None
    Link: Any = None
    Fragment: Any = None


# Not "File" or "Description": other tools' log lines have these too.
_SIGNS = signs(_KEYS - {b"File", b"Description", b"Entropy"})
_DIALECT = Dialect(_Finding, expected=("StartLine", "Match", "Secret"))


def _delimiter(head: bytes) -> str:
    """What separates the cells of a report in CSV; empty if it is none."""
    first = head[:_LONGEST_HEADER].lstrip().split(b"\n", 1)[0].decode("utf-8", "replace")
    for delimiter in (",", ";", "\t"):
        names = {name.strip(' "\r') for name in first.split(delimiter)}
        if names >= _COLUMNS:
            return delimiter
    return ""


def _sniff(head: bytes, _name: str) -> float:
    keys = unescaped_keys(head)
    found = _KEYS & keys
    # What a finding cannot do without; other tools share one or two of these names.
    certain = found >= {b"RuleID", b"File"} and found & {b"Secret", b"Match", b"StartLine"}
    # A match may be as long as a file, and what stands behind it is not seen then.
    if certain or found >= _POSITION:
        return 0.3 if keys & _BETTERLEAKS else min(1.0, 0.5 + len(found) / 16)
    return legacy.confidence(head, keys) or (1.0 if _delimiter(head) else 0.0)


def _record(found: _Finding, raw: bytes) -> Record:
    secret = found.Secret or found.Match or ""
    state = state_of(secret)
    description, message = found.Description, found.Message
    record = Record(
        raw=raw,
        tool="gitleaks",
        rule_id=found.RuleID,
        path=found.File,
        line=found.StartLine or 0,
        end_line=found.EndLine or 0,
        column=found.StartColumn or 0,
        end_column=found.EndColumn or 0,
        commit=found.Commit or "",
        native_id=found.Fingerprint or "",
        changed_at=found.Date or "",
        value_state=state,
        value=secret if state == pb.VALUE_STATE_PRESENT else "",
        match=found.Match or "",
        message=f"{description}\n{message}"
        if description and message
        else description or message or "",
    )
    if state == pb.VALUE_STATE_REDACTED and secret.endswith("..."):
        record.secrets = (secret,)
    metadata = {}
    if found.Entropy:
        metadata["Entropy"] = f"{found.Entropy:.6g}"
    if found.Tags:
        metadata["Tags"] = ",".join(found.Tags)
    if found.SymlinkFile:
        metadata["SymlinkFile"] = found.SymlinkFile
    if metadata:
        record.metadata = metadata
    return record


def _rows(source: Source, delimiter: str) -> Iterator[Record | Rejected]:
    for row in source.rows(delimiter):
        if isinstance(row, Rejected):
            yield row
            continue
        # An empty cell is what JSON leaves out, but for what a finding always has.
        cells: dict[str, Any] = {
            name: cell[1:] if cell.startswith(_FORMULA) else cell
            for name, cell in row.items()
            if cell or name in ("RuleID", "File")
        }
        if tags := cells.get("Tags"):
            # What is no list of words is not taken apart: that would hide a value in it.
            cells["Tags"] = tags.split() if _TAGS.fullmatch(tags) else [tags]
        found = _DIALECT.convert(cells, source.notices)
        if isinstance(found, Rejected):
            found.at_byte = source.at_byte()
            yield found
        elif found is not None:
            yield _record(found, source.row_bytes)


def _parse(source: Source) -> Iterator[Record | Rejected]:
    head = source.head()
    keys = unescaped_keys(head)
    if delimiter := _delimiter(head):
        source.dialect = "gitleaks 8, CSV"
        return _rows(source, delimiter)
    if not keys & _KEYS:
        source.dialect = legacy.version(keys)
        return each(source, source.records(legacy.SIGNS), legacy.DIALECT, legacy.record)
    source.dialect = "gitleaks 8.10 or newer" if b"Fingerprint" in keys else "gitleaks 8"
    return each(source, source.records(_SIGNS), _DIALECT, _record)


PARSER = Parser(
    id="gitleaks",
    version="2",
    title="gitleaks",
    aliases=("gitleaks8", "gitleaks-v8", "gitleaks7", "gitleaks-v7"),
    shapes=("array", "NDJSON", '{"findings": […]}', "CSV"),
    sniff=_sniff,
    parse=_parse,
    versions="4 to 8",
    notes="JSON of all, CSV of 8. JUnit and templates of one's own are not read. Before 7 a "
    "report has no line numbers.",
)
