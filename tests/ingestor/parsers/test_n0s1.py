"""n0s1: findings in tickets and pages."""

from __future__ import annotations

from typing import Any

from tests.ingestor.reading_reports import clear_strings, dump, evidence, golden, ingest, only
from winnow.finding.v1 import finding_pb2 as pb

ID = "f" * 64


def finding(**fields: Any) -> dict[str, Any]:
    return {
        "id": ID,
        "url": "https://example.test/wiki/1",
        "secret": 'other = "made-up-other"\nkey = <REDACTED>\n',
        "details": {
            "matched_regex_config": {"id": "AWS", "description": "AWS Access Token", "regex": "x"},
            "platform": "Confluence",
            "ticket_field": "description",
        },
        **fields,
    }


def report(findings: Any) -> dict[str, Any]:
    return {
        "tool": {"name": "n0s1", "version": "1.0.30", "scan_arguments": {}},
        "scan_date": {"timestamp": 1.5},
        "regex_config": {"rules": []},
        "findings": findings,
    }


def test_a_finding() -> None:
    outcome = ingest(dump(report({ID: finding()})))
    [found] = outcome.findings
    assert golden(found) == {
        "kind": "FINDING_KIND_POSSIBLE_SECRET",
        "tool": "n0s1",
        "ruleId": "AWS",
        "ruleName": "AWS Access Token",
        "valueState": "VALUE_STATE_REDACTED",
        "valuePreview": "(redacted by the scanner)",
        "code": {
            "location": {},
            "container": "Confluence https://example.test/wiki/1 description",
        },
    }
    assert evidence(found).extra["id"] == ID
    assert not [n for n in outcome.summary.notices if n.field]


def test_what_stands_around_is_in_no_clear_field() -> None:
    found = only(report({ID: finding(url="https://example.test/made-up-other")}))
    assert not any("made-up-other" in text for text in clear_strings(found))
    shown = only(report({ID: finding(secret="made-up-value in a sentence")}))
    assert shown.value_state == pb.VALUE_STATE_ABSENT


def test_reports_without_a_finding_and_odd_ones() -> None:
    for nothing in ({}, None):
        found = ingest(dump(report(nothing)))
        assert (found.format.scanner_type, found.counts) == ("n0s1", (0, 0, 0, 0))
    assert ingest(dump(report({"a": 1, "b": {}}))).counts == (2, 0, 0, 2)
    assert ingest(dump(report([]))).reasons == [(0, "WRONG_TYPE")]
