"""Microsoft Credential Scanner: CSV, one row a match.

`HashKey` is an unkeyed digest of what was found, so it is not kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ingestor.dialect import Dialect, Exact
from ingestor.framing import Source
from ingestor.parsers._base import Parser
from ingestor.records import Record
from winnow.finding.v1 import finding_pb2 as pb
from winnow.ingest.v1.rejected_pb2 import Rejected


class _Row(Exact):
    Source: str
    Searcher: str
    Line: int | None = None
    Description: str | None = None
    IsSuppressed: str | None = None
    SuppressJustification: str | None = None
    MatchingScore: str | None = None
    TimeofDiscovery: Any = None
    HashKey: str | None = None


_DIALECT = Dialect(_Row, expected=("Line", "IsSuppressed"))


def _sniff(head: bytes, _name: str) -> float:
    header = head.split(b"\n", 1)[0]
    return 1.0 if all(name in header for name in (b"Searcher", b"HashKey", b"Source,")) else 0.0


def _record(found: _Row, raw: bytes) -> Record:
    rule_id, _, name = found.Searcher.partition(" ")
    if "-----" in rule_id:
        # The first line of a key, which must not be taken apart.
        rule_id, name = found.Searcher, ""
    suppressed = (found.IsSuppressed or "").strip().upper() in ("YES", "TRUE")
    reason = found.SuppressJustification
    return Record(
        raw=raw,
        tool="credscan",
        rule_id=rule_id,
        rule_name=name,
        path=found.Source,
        line=found.Line or 0,
        triage=pb.TRIAGE_ACCEPTED if suppressed else pb.TRIAGE_UNSPECIFIED,
        metadata={"MatchingScore": found.MatchingScore} if found.MatchingScore else {},
        value_state=pb.VALUE_STATE_ABSENT,
        message=found.Description or "",
        extra={"SuppressJustification": reason} if reason else {},
        secrets=(found.HashKey,) if found.HashKey else (),
    )


def _parse(source: Source) -> Iterator[Record | Rejected]:
    source.dialect = "credscan, CSV"
    for row in source.rows():
        found = row if isinstance(row, Rejected) else _DIALECT.convert(row, source.notices)
        if isinstance(found, Rejected):
            found.at_byte = source.at_byte()
            yield found
        elif found is not None:
            yield _record(found, source.row_bytes)


PARSER = Parser(
    id="credscan",
    version="1",
    title="Microsoft Credential Scanner",
    aliases=("cred-scan", "cred_scan", "credscan-csv"),
    shapes=("CSV",),
    sniff=_sniff,
    parse=_parse,
    versions="2",
    notes="The report carries no values, only unkeyed digests, which are not kept.",
)
