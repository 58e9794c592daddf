"""Talisman: what failed, warned and was ignored, by file."""

from __future__ import annotations

from typing import Any

import pytest

from tests.ingestor.reading_reports import clear_strings, dump, evidence, golden, ingest, only
from winnow.finding.v1 import finding_pb2 as pb

LINE = 'aws_secret="made-up-value"'


def failure(**fields: Any) -> dict[str, Any]:
    return {
        "type": "filecontent",
        "message": f"Potential secret pattern : {LINE}",
        "commits": ["a" * 40, "b" * 40],
        "severity": "low",
        **fields,
    }


def report(*files: Any) -> dict[str, Any]:
    counts = {"filecontent": 1, "filesize": 0, "filename": 0, "warnings": 0, "ignores": 0}
    return {"summary": {"types": counts}, "results": list(files)}


def file(name: str, *failures: Any, **lists: Any) -> dict[str, Any]:
    return {
        "filename": name,
        "failure_list": list(failures),
        "warning_list": [],
        "ignore_list": [],
        **lists,
    }


def test_a_failure() -> None:
    found = only(report(file("src/keys", failure())))
    assert golden(found) == {
        "kind": "FINDING_KIND_POSSIBLE_SECRET",
        "tool": "talisman",
        "ruleId": "filecontent",
        "ruleName": "potential secret pattern",
        "severity": "SEVERITY_LOW",
        "valueState": "VALUE_STATE_PRESENT",
        "valuePreview": "… (13 characters)",
        "rawMetadata": {"list": "failure_list", "commits": "2"},
        "code": {"location": {"path": "src/keys"}, "commit": "a" * 40},
    }
    assert (evidence(found).value, evidence(found).match) == ("made-up-value", LINE)


@pytest.mark.parametrize(
    ("message", "name", "state", "value"),
    [
        ("Expected file to not to contain hex encoded texts such as: deadbeefcafe",
         "hex encoded texts", pb.VALUE_STATE_PRESENT, "deadbeefcafe"),
        ("Expected file to not to contain base64 encoded texts such as: deadbeefcafe...",
         "base64 encoded texts", pb.VALUE_STATE_REDACTED, ""),
        ("Potential secret pattern : a plain sentence",
         "potential secret pattern", pb.VALUE_STATE_ABSENT, ""),
        ("The file name matches a pattern", "", pb.VALUE_STATE_ABSENT, ""),
        (None, "", pb.VALUE_STATE_ABSENT, ""),
    ],
)  # fmt: skip
def test_what_messages_say(message: Any, name: str, state: Any, value: str) -> None:
    found = only(report(file("deadbeefcafe/x" if value else "x", failure(message=message))))
    assert (found.rule_name, found.value_state, evidence(found).value) == (name, state, value)
    assert not any("deadbeefcafe" in text for text in clear_strings(found))


def test_warnings_and_what_is_ignored_are_findings_too() -> None:
    lists = {"warning_list": [failure()], "ignore_list": [failure()]}
    found = ingest(dump(report(file("a", failure(), **lists), file("b", failure())))).findings
    assert [f.triage for f in found] == [
        pb.TRIAGE_UNSPECIFIED,
        pb.TRIAGE_UNSPECIFIED,
        pb.TRIAGE_ACCEPTED,
        pb.TRIAGE_UNSPECIFIED,
    ]
    assert [f.code.location.path for f in found] == ["a", "a", "a", "b"]


def test_reports_without_a_finding_and_odd_ones() -> None:
    assert ingest(dump(report())).format.scanner_type == "talisman"
    found = ingest(dump(report(file("a", 1, failure(type=None)), None, file("b", failure_list={}))))
    assert [reason for _, reason in found.reasons] == [
        "NOT_A_RECORD",
        "WRONG_TYPE",
        "NOT_A_RECORD",
        "WRONG_TYPE",
    ]
