"""Bandit: weaknesses of code, and hard-coded passwords."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fixtures.reports import load_report
from tests.ingestor.reading_reports import clear_strings, dump, evidence, golden, ingest
from winnow.finding.v1 import finding_pb2 as pb
from winnow.ingest.v1 import notice_pb2

VALUE, NEIGHBOUR = "made-up-value", "made-up-neighbour"


def issue(number: int = 4, **fields: Any) -> dict[str, Any]:
    return {
        "code": f'3 token = "{NEIGHBOUR}"\n4 password = "{VALUE}"\n5 \n',
        "col_offset": 11,
        "end_col_offset": 26,
        "filename": "./src/app.py",
        "issue_confidence": "MEDIUM",
        "issue_cwe": {"id": 259, "link": "https://example.test/259"},
        "issue_severity": "LOW",
        "issue_text": f"Possible hardcoded password: '{VALUE}'",
        "line_number": number,
        "line_range": [number, number + 1],
        "more_info": "https://example.test/b105",
        "test_id": "B105",
        "test_name": "hardcoded_password_string",
        **fields,
    }


def report(*results: Any, **members: Any) -> bytes:
    metrics = {"_totals": {"CONFIDENCE.HIGH": 1, "loc": 5}}
    return dump(
        {
            "errors": [],
            "generated_at": "2026-11-01T10:00:00Z",
            "metrics": metrics,
            "results": list(results),
            **members,
        }
    )


def test_a_password() -> None:
    outcome = ingest(report(issue()))
    [found] = outcome.findings
    assert golden(found) == {
        "kind": "FINDING_KIND_POSSIBLE_SECRET",
        "tool": "bandit",
        "ruleId": "B105",
        "ruleName": "hardcoded_password_string",
        "severity": "SEVERITY_LOW",
        "valueState": "VALUE_STATE_PRESENT",
        "valuePreview": "… (13 characters)",
        "aliases": ["CWE-259"],
        "rawMetadata": {"issue_confidence": "MEDIUM"},
        "code": {
            "location": {
                "path": "src/app.py",
                "line": 4,
                "endLine": 5,
                "column": 12,
                "endColumn": 27,
            }
        },
    }
    assert evidence(found).value == VALUE
    assert NEIGHBOUR in evidence(found).context
    assert not outcome.summary.notices


def test_neighbours_of_a_password_stand_in_no_clear_field() -> None:
    [found] = ingest(report(issue(filename=f"{NEIGHBOUR}/{VALUE}.py"))).findings
    assert not any(text in shown for text in (NEIGHBOUR, VALUE) for shown in clear_strings(found))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Possible hardcoded password: 'it's'", "it's"),
        ("Possible hardcoded password: ''", ""),
        ("Possible hardcoded password", ""),
    ],
)
def test_the_password_stands_between_the_outer_quotes(text: str, value: str) -> None:
    [found] = ingest(report(issue(issue_text=text))).findings
    assert evidence(found).value == value
    assert found.value_state == (pb.VALUE_STATE_PRESENT if value else pb.VALUE_STATE_ABSENT)


def test_other_tests_and_older_versions() -> None:
    older = issue(test_id="B110", issue_text="Try, Except, Pass detected.", issue_severity="HIGH")
    for name in ("issue_cwe", "col_offset", "end_col_offset"):
        del older[name]
    outcome = ingest(report(older))
    [found] = outcome.findings
    assert (found.kind, found.severity) == (pb.FINDING_KIND_CODE, pb.SEVERITY_HIGH)
    assert (found.value_state, found.code.location.column) == (pb.VALUE_STATE_UNSPECIFIED, 0)
    assert not outcome.summary.notices


def test_files_that_were_not_scanned_are_noticed() -> None:
    errors = [{"filename": "a.py", "reason": "syntax error while parsing AST from file"}]
    [notice] = ingest(report(issue(), errors=errors)).summary.notices
    assert (notice.kind, notice.field) == (notice_pb2.NOTICE_KIND_SCAN_INCOMPLETE, "errors")


def test_a_report_without_a_finding_is_bandits() -> None:
    metrics = {f"src/{n}.py": {"CONFIDENCE.HIGH": 0} for n in range(4000)}
    for data in (report(), report(metrics=metrics)):
        assert ingest(data).format.scanner_type == "bandit"


@pytest.mark.parametrize(
    ("name", "passwords"), [("bandit.json", 5), ("bandit.v1_7.json", 5), ("bandit.v1_6.json", 0)]
)
def test_what_bandit_itself_wrote(name: str, passwords: int) -> None:
    found = ingest(load_report(name))
    assert found.summary.rejected == 0
    assert not found.summary.notices
    kinds = [f.kind for f in found.findings]
    assert kinds.count(pb.FINDING_KIND_POSSIBLE_SECRET) == passwords
