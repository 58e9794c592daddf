"""gitleaks 8: an array of findings (gitleaks, report/finding.go).

Author, e-mail and link are known and not read: they stay in the raw report only.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ingestor.dialect import Dialect, Exact
from ingestor.framing import Source
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


def _sniff(head: bytes, _name: str) -> float:
    found = _KEYS & unescaped_keys(head)
    # What a finding cannot do without; other tools share one or two of these names.
    certain = found >= {b"RuleID", b"File"} and found & {b"Secret", b"Match", b"StartLine"}
    return min(1.0, 0.5 + len(found) / 16) if certain else 0.0


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


def _parse(source: Source) -> Iterator[Record | Rejected]:
    source.dialect = "gitleaks 8"
    return each(source, source.records(_SIGNS), _DIALECT, _record)


PARSER = Parser(
    id="gitleaks",
    version="1",
    title="gitleaks 8",
    aliases=("gitleaks8", "gitleaks-v8"),
    shapes=("array", "NDJSON", '{"findings": […]}'),
    sniff=_sniff,
    parse=_parse,
)
