"""What the SARIF parser makes of results of many tools."""

from __future__ import annotations

from typing import Any

import pytest

from tests.ingestor.reading_reports import (
    dump,
    evidence,
    gitleaks,
    golden,
    ingest,
    only,
    sarif,
    trufflehog,
)
from winnow.finding.v1 import finding_pb2 as pb


def place(uri: str, line: int = 1, **region: Any) -> dict[str, Any]:
    return {
        "physicalLocation": {
            "artifactLocation": {"uri": uri},
            "region": {"startLine": line, **region},
        }
    }


def test_sarif_of_a_secret_scanner() -> None:
    result = {
        "ruleId": "aws",
        "message": {"text": "aws has detected a secret: made-up value"},
        "locations": [
            place("src/a%20b.py", 3, endLine=4, snippet={"text": "made-up value"}),
            place("other.py", 9),
        ],
        "partialFingerprints": {"commitSha": "abc123", "author": "Ada", "date": "2024-03-01T10:00:00Z"},
        "properties": {"tags": ["t"]},
    }  # fmt: skip
    found = only(sarif(result))
    assert golden(found) == {
        "kind": "FINDING_KIND_POSSIBLE_SECRET",
        "tool": "gitleaks",
        "ruleId": "aws",
        "severity": "SEVERITY_MEDIUM",
        "valueState": "VALUE_STATE_PRESENT",
        "valuePreview": "… (13 characters)",
        "changedAt": "2024-03-01T10:00:00Z",
        "rawMetadata": {"tags": "t"},
        "code": {
            "location": {"path": "src/a b.py", "line": 3, "endLine": 4},
            "commit": "abc123",
            "moreLocations": [{"path": "other.py", "line": 9}],
        },
    }
    assert evidence(found).value == "made-up value"
    assert "detected" in evidence(found).message


def test_one_credential_has_one_fingerprint_over_formats() -> None:
    value = "made-up-00000000"
    result = {"ruleId": "r", "locations": [place("src/app_0.py", snippet={"text": value})]}
    found = [only([gitleaks()]), only([trufflehog()]), only(sarif(result))]
    assert len({f.value_fingerprint for f in found}) == 1
    assert len({f.place_fingerprint for f in found}) == 1


RULES = [
    {"id": "first", "defaultConfiguration": {"level": "error"}},
    {"id": "second", "name": "SecondRule", "properties": {"security-severity": "9.1", "tags": ["external/cwe/cwe-079"]}},
    {"id": "words", "messageStrings": {"default": {"text": "{0} before {1}, {7}"}}},
]  # fmt: skip


@pytest.mark.parametrize(
    ("result", "rule", "severity"),
    [
        ({"ruleId": "first"}, "first", pb.SEVERITY_HIGH),
        ({"ruleId": "first", "level": "note"}, "first", pb.SEVERITY_LOW),
        ({"ruleIndex": 1, "level": "note"}, "second", pb.SEVERITY_CRITICAL),
        ({"rule": {"index": 0}}, "first", pb.SEVERITY_HIGH),
        ({"rule": {"id": "second/sub"}}, "second/sub", pb.SEVERITY_CRITICAL),
        ({"ruleId": "unknown"}, "unknown", pb.SEVERITY_MEDIUM),
        ({"ruleId": "unknown", "kind": "pass"}, "unknown", pb.SEVERITY_INFO),
        ({"ruleIndex": 99}, "", pb.SEVERITY_MEDIUM),
    ],
)
def test_sarif_rules_and_severities(result: Any, rule: str, severity: Any) -> None:
    report = sarif(result, driver="CodeQL")
    report["runs"][0]["tool"]["driver"]["rules"] = RULES
    found = only(report)
    assert (found.rule_id, found.severity) == (rule, severity)
    assert found.tool == "codeql"
    if rule.startswith("second"):
        assert (found.rule_name, list(found.aliases)) == ("SecondRule", ["CWE-79"])


def test_sarif_messages_by_id_and_arguments() -> None:
    result = {"ruleId": "words", "message": {"id": "default", "arguments": ["a", "b"]}}
    report = sarif(result, driver="x")
    report["runs"][0]["tool"]["driver"]["rules"] = RULES
    assert evidence(only(report)).message == "a before b, {7}"


@pytest.mark.parametrize(
    ("driver", "rule", "kind"),
    [
        ("Gitleaks", "any", pb.FINDING_KIND_POSSIBLE_SECRET),
        ("Semgrep OSS", "python.hardcoded-password", pb.FINDING_KIND_POSSIBLE_SECRET),
        ("CodeQL", "py/HardcodedCredentials", pb.FINDING_KIND_POSSIBLE_SECRET),
        ("Trivy", "CVE-2024-12345", pb.FINDING_KIND_VULNERABILITY),
        ("Trivy", "AVD-AWS-0086", pb.FINDING_KIND_MISCONFIGURATION),
        ("Snyk Container", "SNYK-1", pb.FINDING_KIND_VULNERABILITY),
        ("Checkov", "CKV_AWS_1", pb.FINDING_KIND_MISCONFIGURATION),
        ("KICS", "a1", pb.FINDING_KIND_MISCONFIGURATION),
        ("ESLint", "no-unused-vars", pb.FINDING_KIND_CODE),
    ],
)
def test_sarif_kinds(driver: str, rule: str, kind: Any) -> None:
    assert only(sarif({"ruleId": rule}, driver=driver)).kind == kind


def test_a_line_of_code_is_evidence_but_no_value() -> None:
    line = 'password = "made-up value"'
    result = {"ruleId": "hardcoded-password", "locations": [place("a.py", snippet={"text": line})]}
    found = only(sarif(result, driver="Semgrep OSS"))
    assert found.value_state == pb.VALUE_STATE_ABSENT
    assert evidence(found).match == line


@pytest.mark.parametrize(
    ("location", "path"),
    [
        ({"uri": "file:///C:/x/y.c"}, "C:/x/y.c"),
        ({"uri": "file:///home/a.c"}, "/home/a.c"),
        ({"uri": "src/a.c", "uriBaseId": "ROOT"}, "src/a.c"),
        ({"uri": "a.c", "uriBaseId": "LIB"}, "lib/a.c"),
        ({"uri": "a.c", "uriBaseId": "LOOP"}, "l/l/l/l/l/l/l/l/a.c"),
        ({"index": 1}, "from/artifacts.c"),
        ({"index": 9}, ""),
        ({}, ""),
    ],
)
def test_sarif_paths(location: Any, path: str) -> None:
    result = {"ruleId": "r", "locations": [{"physicalLocation": {"artifactLocation": location}}]}
    report = sarif(
        result,
        driver="x",
        artifacts=[{}, {"location": {"uri": "from/artifacts.c"}}],
        originalUriBaseIds={
            "ROOT": {"uri": "file:///build/"},
            "LIB": {"uri": "lib/", "uriBaseId": "ROOT"},
            "LOOP": {"uri": "l/", "uriBaseId": "LOOP"},
        },
    )
    assert only(report).code.location.path == path


@pytest.mark.parametrize(
    ("suppressions", "triage"),
    [
        ([{"kind": "inSource"}], pb.TRIAGE_ACCEPTED),
        ([{"kind": "external", "status": "accepted"}], pb.TRIAGE_ACCEPTED),
        ([{"kind": "external", "status": "rejected"}], pb.TRIAGE_UNSPECIFIED),
        ([], pb.TRIAGE_UNSPECIFIED),
        (None, pb.TRIAGE_UNSPECIFIED),
    ],
)
def test_sarif_suppressions(suppressions: Any, triage: Any) -> None:
    assert only(sarif({"ruleId": "r", "suppressions": suppressions})).triage == triage


@pytest.mark.parametrize(
    ("properties", "validity"),
    [
        ({"validation_outcome": "assumed"}, pb.VALIDITY_ASSUMED),
        ({"validation_status": "Active Credential"}, pb.VALIDITY_LIVE),
        ({"validationStatus": "revoked"}, pb.VALIDITY_DEAD),
        ({"validation_outcome": "not_attempted"}, pb.VALIDITY_UNSPECIFIED),
        ({"validity": 7}, pb.VALIDITY_UNSPECIFIED),
    ],
)
def test_sarif_validity(properties: Any, validity: Any) -> None:
    location = {**place("a"), "properties": properties}
    for result in (
        {"ruleId": "r", "properties": properties},
        {"ruleId": "r", "locations": [location]},
    ):
        assert only(sarif(result, driver="kingfisher")).validity == validity


def test_sarif_native_ids() -> None:
    prints = {"author": "Ada", "primary": "p", "nested": {"x": "y"}}
    assert only(sarif({"ruleId": "r", "partialFingerprints": prints})).native_id == "p"
    assert only(sarif({"ruleId": "r", "guid": "g"})).native_id == "g"


def test_a_tool_behind_its_results_is_known_all_the_same() -> None:
    report = sarif({"ruleIndex": 0}, driver="kingfisher")
    [run] = report["runs"]
    run["tool"]["driver"]["rules"] = RULES
    report["runs"] = [{"results": run["results"], "tool": run["tool"]}]
    found = ingest(dump(report), "kingfisher")
    assert (found.format.scanner_type, found.format.tool) == ("kingfisher", "kingfisher")
    assert found.findings[0].rule_id == "first"


def test_results_beyond_the_limit_are_read_with_what_is_known() -> None:
    big = {"ruleId": "r", "message": {"text": "x" * (5 << 20)}}
    report = {
        "$schema": "sarif",
        "runs": [{"results": [{**big, "guid": str(n)} for n in range(5)]}],
    }
    found = ingest(dump(report))
    assert found.counts == (5, 5, 0, 0)
    assert found.findings[0].tool == "sarif"


def test_several_runs_and_broken_results() -> None:
    one, two = sarif({"ruleId": "a"}, 17, {"ruleId": {}}), sarif({"ruleId": "a"}, driver="Trivy")
    runs = [*one["runs"], {"tool": {"driver": {"name": "x"}}, "results": None}, None, *two["runs"]]
    found = ingest(dump({"version": "2.1.0", "runs": runs, "properties": {"a": [1]}}))
    assert [f.tool for f in found.findings] == ["gitleaks", "trivy"]
    assert found.reasons == [(1, "NOT_A_RECORD"), (2, "WRONG_TYPE")]
    assert found.rejected[1].field == "ruleId"
    assert found.format.tool == "gitleaks"


def test_repeats_within_a_run_are_merged() -> None:
    result = {"ruleId": "a", "message": {"text": "m"}}
    assert ingest(dump(sarif(result, result))).counts == (2, 1, 1, 0)
