"""trufflehog3: its own shape, and what it wrote before."""

from __future__ import annotations

from typing import Any

import pytest

from tests.ingestor.parsers.test_trufflehog import change, notices
from tests.ingestor.reading_reports import clear_strings, dump, evidence, golden, ingest, only
from winnow.finding.v1 import finding_pb2 as pb


def issue(number: int = 0, **fields: Any) -> dict[str, Any]:
    """One record of trufflehog3; distinct for each number."""
    return {
        "rule": {"id": "generic.key", "message": "Generic Key", "severity": "HIGH"},
        "path": f"src/app_{number}.py",
        "line": str(number + 2),
        "secret": f"made-up-{number:08d}",
        "context": {
            str(number + 1): "# shop",
            str(number + 2): f'key = "made-up-{number:08d}"',
        },
        "id": "00000000-0000-3000-8000-000000000000",
        "branch": "main",
        "message": "add the key",
        "author": "Ada Marlow <ada@example.test>",
        "commit": f"{number:040x}",
        "date": "2024-03-01T10:00:00",
        **fields,
    }


def legacy(number: int = 0, **fields: Any) -> dict[str, Any]:
    """One record of trufflehog3 before 3; distinct for each number."""
    found = change(number, **fields)
    del found["diff"], found["printDiff"]
    return found


def test_trufflehog3() -> None:
    found = ingest(dump([issue(), issue(3), issue()], indent=2))
    assert (found.format.scanner_type, found.format.dialect) == ("trufflehog3", "trufflehog3 3")
    assert found.counts == (3, 2, 1, 0)
    assert golden(found.findings[1]) == {
        "ordinal": "1",
        "kind": "FINDING_KIND_POSSIBLE_SECRET",
        "tool": "trufflehog3",
        "ruleId": "generic.key",
        "ruleName": "Generic Key",
        "severity": "SEVERITY_HIGH",
        "valueState": "VALUE_STATE_PRESENT",
        "valuePreview": "… (16 characters)",
        "changedAt": "2024-03-01T10:00:00Z",
        "rawMetadata": {"branch": "main"},
        "code": {"location": {"path": "src/app_3.py", "line": 5}, "commit": f"{3:040x}"},
    }
    opened = evidence(found.findings[1])
    assert (opened.value, opened.message) == ("made-up-00000003", "add the key")
    assert opened.context == '# shop\nkey = "made-up-00000003"'
    assert notices(found) == []


def test_an_issue_of_the_working_tree_has_no_commit() -> None:
    nothing = dict.fromkeys(("branch", "message", "author", "commit", "date"))
    rule = {"id": "r", "message": None, "severity": "low", "pattern": "made-up-[0-9]+"}
    found = ingest(dump([issue(**nothing, rule=rule)]))
    assert golden(found.findings[0])["severity"] == "SEVERITY_LOW"
    assert not found.findings[0].code.commit
    assert notices(found) == []


@pytest.mark.parametrize(("line", "number"), [("7", 7), (7, 7), ("", 0), ("x", 0), ("9" * 99, 0)])
def test_lines_are_texts_of_numbers(line: Any, number: int) -> None:
    assert only([issue(line=line)]).code.location.line == number


def test_a_context_as_long_as_a_file_does_not_hide_the_format() -> None:
    found = ingest(dump([issue(context={"2": "x" * 90_000})]))
    assert (found.format.scanner_type, found.counts) == ("trufflehog3", (1, 1, 0, 0))


def test_before_3() -> None:
    lines = ["+    key = 'made-up-one'", "-    key = 'made-up-other'"]
    found = ingest(dump([legacy(stringsFound=lines), legacy(1)]))
    assert found.format.dialect == "trufflehog3 before 3"
    assert found.format.scanner_type == "trufflehog3"
    assert golden(found.findings[0]) == {
        "kind": "FINDING_KIND_POSSIBLE_SECRET",
        "tool": "trufflehog3",
        "ruleId": "High Entropy",
        "valueState": "VALUE_STATE_PRESENT",
        "valuePreview": "… (13 characters)",
        "changedAt": "2021-01-30T19:50:09Z",
        "rawMetadata": {"branch": "origin/main"},
        "code": {"location": {"path": "src/app_0.py"}, "commit": f"{0:040x}"},
    }
    opened = evidence(found.findings[0])
    assert (opened.value, opened.match) == ("made-up-other", "key = 'made-up-other'")
    assert notices(found) == []


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"stringsFound": ["+x = 'made-up'"]}, "x = 'made-up'"),
        ({"stringsFound": ["+x = 'made-up'", "no sign"]}, "+x = 'made-up'"),
        ({"stringsFound": ["-----BEGIN OF MADE-UP"]}, "-----BEGIN OF MADE-UP"),
        ({"stringsFound": ["+x = 'made-up'"], "commitHash": None}, "+x = 'made-up'"),
    ],
)
def test_a_diffs_signs_are_no_part_of_a_match(fields: Any, match: str) -> None:
    assert evidence(only([legacy(**fields)])).match == match


def test_changed_fields_are_told_by_name() -> None:
    rule = {"id": "r", "message": "m", "severity": "LOW", "tags": []}
    assert notices(ingest(dump([issue(rule=rule, secret=None, owner="x")]))) == [
        ("UNKNOWN_FIELD", "owner", 1),
        ("UNKNOWN_FIELD", "rule.tags", 1),
        ("MISSING_FIELD", "secret", 1),
    ]


def test_damaged_records_are_rejected_alone() -> None:
    found = ingest(dump([issue(), issue(1, rule="made-up"), issue(2, path=7)]))
    assert found.reasons == [(1, "WRONG_TYPE"), (2, "WRONG_TYPE")]
    assert [rejected.field for rejected in found.rejected] == ["rule", "path"]


def test_no_value_stands_in_the_clear() -> None:
    value = "made-up-00000000"
    rule = {"id": value, "message": value, "severity": value}
    found = only([issue(path=f"a/{value}", branch=value, rule=rule)])
    assert "made-up" not in " ".join(clear_strings(found))
    assert found.severity == pb.SEVERITY_UNSPECIFIED
