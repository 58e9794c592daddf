"""Microsoft Credential Scanner's CSV."""

from __future__ import annotations

from tests.ingestor.reading_reports import clear_strings, evidence, golden, ingest
from winnow.finding.v1 import finding_pb2 as pb

HEADER = (
    "TimeofDiscovery,Source,Searcher,Description,Line,IsSuppressed,HashKey,"
    "SuppressJustification,MatchingScore"
)
DIGEST = "ZmFrZSBkaWdlc3Qgb2Ygbm90aGluZyBhdCBhbGw="


def row(path: str = "src/App.config", suppressed: str = "NO", line: str = "10") -> str:
    return (
        f"2021-04-10T21:43:46.792Z,{path},CSCAN-GENERAL0060 General Password,details,"
        f'{line},{suppressed},{DIGEST},"a reason, quoted",95.9'
    )


def test_rows() -> None:
    data = "\r\n".join([HEADER, row(), row("b", "YES"), "too,short", row("c", line="x")])
    outcome = ingest(data.encode())
    first, second = outcome.findings
    assert golden(first) == {
        "kind": "FINDING_KIND_POSSIBLE_SECRET",
        "tool": "credscan",
        "ruleId": "CSCAN-GENERAL0060",
        "ruleName": "General Password",
        "valueState": "VALUE_STATE_ABSENT",
        "valuePreview": "(not in the report)",
        "rawMetadata": {"MatchingScore": "95.9"},
        "code": {"location": {"path": "src/App.config", "line": 10}},
    }
    assert evidence(first).extra["SuppressJustification"] == "a reason, quoted"
    assert second.triage == pb.TRIAGE_ACCEPTED
    assert outcome.reasons == [(2, "SYNTAX"), (3, "WRONG_TYPE")]


def test_digests_are_nowhere() -> None:
    [found] = ingest(f"{HEADER}\n{row(DIGEST)}\n".encode()).findings
    assert not any(DIGEST in text for text in clear_strings(found))
    assert DIGEST not in str(evidence(found))


def test_a_header_alone_is_an_empty_report() -> None:
    outcome = ingest(f"{HEADER}\n".encode())
    assert (outcome.format.scanner_type, outcome.counts) == ("credscan", (0, 0, 0, 0))
