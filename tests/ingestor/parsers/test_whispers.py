"""whispers: key-value pairs that look like secrets."""

from __future__ import annotations

from typing import Any

import pytest

from tests.ingestor.reading_reports import dump, evidence, golden, ingest, only
from winnow.finding.v1 import finding_pb2 as pb
from winnow.ingest.v1 import notice_pb2


def pair(**fields: Any) -> dict[str, Any]:
    return {
        "key": "db_password",
        "value": "made-up-value",
        "file": "src/config.yml",
        "line": 12,
        "rule_id": "password",
        "message": "Password",
        "severity": "CRITICAL",
        **fields,
    }


def test_a_pair() -> None:
    found = only([pair()])
    assert golden(found) == {
        "kind": "FINDING_KIND_POSSIBLE_SECRET",
        "tool": "whispers",
        "ruleId": "password",
        "severity": "SEVERITY_CRITICAL",
        "valueState": "VALUE_STATE_PRESENT",
        "valuePreview": "… (13 characters)",
        "code": {"location": {"path": "src/config.yml", "line": 12}},
    }
    opened = evidence(found)
    assert (opened.value, opened.variable) == ("made-up-value", "db_password")


@pytest.mark.parametrize(
    ("word", "severity"),
    [
        ("BLOCKER", pb.SEVERITY_CRITICAL),
        ("MAJOR", pb.SEVERITY_HIGH),
        ("MINOR", pb.SEVERITY_LOW),
        ("INFO", pb.SEVERITY_INFO),
        ("novel", pb.SEVERITY_UNSPECIFIED),
    ],
)
def test_severities(word: str, severity: Any) -> None:
    assert only([pair(severity=word)]).severity == severity


def test_lines_of_objects_and_odd_ones() -> None:
    found = ingest(b"\n".join([dump(pair()), dump(pair(line=13)), b'{"key": "k", "value": "v"}']))
    assert found.reasons == [(2, "MISSING_FIELD")]
    assert found.counts == (3, 2, 0, 1)


def test_a_new_field_is_noticed() -> None:
    [notice] = ingest(dump([pair(novel=1)])).summary.notices
    assert (notice.kind, notice.field) == (notice_pb2.NOTICE_KIND_UNKNOWN_FIELD, "novel")


def test_rules_of_version_1_have_a_message_only() -> None:
    record = pair()
    del record["rule_id"]
    found = ingest(dump([record]))
    assert found.format.dialect == "whispers 1"
    assert found.findings[0].rule_id == "Password"
