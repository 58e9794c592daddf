"""gosec: weaknesses of code, and hard-coded credentials."""

from __future__ import annotations

from typing import Any

from tests.ingestor.reading_reports import clear_strings, dump, evidence, golden, ingest, only
from winnow.finding.v1 import finding_pb2 as pb
from winnow.ingest.v1 import notice_pb2


def issue(**fields: Any) -> dict[str, Any]:
    return {
        "severity": "HIGH",
        "confidence": "LOW",
        "cwe": {"id": "798", "url": "https://example.test/798"},
        "rule_id": "G101",
        "details": "Potential hardcoded credentials",
        "file": "/src/app.go",
        "code": '11: \tother := "made-up-other"\n12: \tpassword := "made-up-value"\n13: \n',
        "line": "12",
        "column": "2",
        "nosec": False,
        "suppressions": None,
        **fields,
    }


def report(*issues: Any, **members: Any) -> dict[str, Any]:
    stats = {"files": 1, "lines": 9, "nosec": 0, "found": len(issues)}
    return {"Golang errors": {}, "Issues": list(issues), "Stats": stats, **members}


def test_credentials() -> None:
    outcome = ingest(dump(report(issue(), GosecVersion="2.18")))
    [found] = outcome.findings
    assert golden(found) == {
        "kind": "FINDING_KIND_POSSIBLE_SECRET",
        "tool": "gosec",
        "ruleId": "G101",
        "severity": "SEVERITY_HIGH",
        "valueState": "VALUE_STATE_PRESENT",
        "valuePreview": "… (13 characters)",
        "aliases": ["CWE-798"],
        "rawMetadata": {"confidence": "LOW"},
        "code": {"location": {"path": "/src/app.go", "line": 12, "column": 2}},
    }
    assert evidence(found).value == "made-up-value"
    assert not outcome.summary.notices


def test_neighbours_stand_in_no_clear_field() -> None:
    found = only(report(issue(file="made-up-other/made-up-value.go")))
    assert not any("made-up" in text for text in clear_strings(found))


def test_code_ranges_and_suppressions() -> None:
    suppressed = {"kind": "inSource", "justification": "a reason"}
    record = issue(rule_id="G104", line="7-9", suppressions=[suppressed], column=None, cwe=None)
    found = only(report(record))
    assert (found.kind, found.triage) == (pb.FINDING_KIND_CODE, pb.TRIAGE_ACCEPTED)
    assert (found.code.location.line, found.code.location.end_line) == (7, 9)
    assert evidence(found).extra["suppression"] == "a reason"


def test_packages_that_did_not_compile_and_empty_reports() -> None:
    outcome = ingest(dump(report(**{"Golang errors": {"a.go": [{"line": 1}]}})))
    assert (outcome.format.scanner_type, outcome.counts) == ("gosec", (0, 0, 0, 0))
    [notice] = outcome.summary.notices
    assert notice.kind == notice_pb2.NOTICE_KIND_SCAN_INCOMPLETE
    assert ingest(dump(report(issue(), 4, issue(file=None)))).counts == (3, 1, 0, 2)
