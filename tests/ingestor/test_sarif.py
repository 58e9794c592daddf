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
from winnow.ingest.v1 import notice_pb2


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
    prints = {"author": "Ada", "primary": "39fa2ee980eb94b0:1", "nested": {"x": "y"}}
    assert (
        only(sarif({"ruleId": "r", "partialFingerprints": prints})).native_id == prints["primary"]
    )
    guid = "3b0b7d43-6a4e-4a5e-9c3f-0a8a5d1f2b11"
    assert only(sarif({"ruleId": "r", "guid": guid})).native_id == guid


@pytest.mark.parametrize("member", ["fingerprints", "partialFingerprints"])
def test_what_a_tool_found_is_no_id(member: str) -> None:
    """Some put the value itself where an identity belongs."""
    told = {member: {"match/v1": "hunter-22"}, "guid": "hunter-22", "correlationGuid": "x"}
    result = {"ruleId": "r", "message": {"text": "found hunter-22"}, **told}
    assert only(sarif(result)).native_id == ""


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


def noticed(report: Any) -> list[tuple[Any, str]]:
    return [(n.kind, n.field) for n in ingest(dump(report)).summary.notices]


def test_members_of_the_standard_are_no_news() -> None:
    result = {
        "ruleId": "r",
        "message": {"text": "m", "markdown": "m", "properties": {}},
        "locations": [
            {
                "id": 1,
                "physicalLocation": {
                    "artifactLocation": {"uri": "a", "index": 0, "description": {"text": "d"}},
                    "region": {"startLine": 1, "charOffset": 3, "byteLength": 4, "message": {}},
                    "contextRegion": {"snippet": {"text": "t", "rendered": {"text": "t"}}},
                    "address": {"offset": 1},
                },
                "logicalLocations": [{"name": "f", "decoratedName": "f", "kind": "function"}],
                "annotations": [{"startLine": 1}],
                "relationships": [],
            }
        ],
        "codeFlows": [{"threadFlows": [{"locations": [{"location": {}}]}]}],
        "relatedLocations": [{"id": 2}],
        "stacks": [],
        "graphs": [],
        "graphTraversals": [],
        "fixes": [{"artifactChanges": []}],
        "rank": 12.5,
        "occurrenceCount": 3,
        "workItemUris": ["https://example.test/1"],
        "hostedViewerUri": "https://example.test/2",
        "provenance": {"invocationIndex": 0},
        "attachments": [],
        "suppressions": [{"kind": "inSource", "guid": "g", "location": {}, "properties": {}}],
        "properties": {"anything": {"goes": 1}},
    }
    report = sarif(
        result,
        artifacts=[{"location": {"uri": "a"}, "roles": ["analysisTarget"], "hashes": {"md5": "x"}}],
        invocations=[{"executionSuccessful": True, "exitCode": 1, "arguments": ["--x"]}],
        automationDetails={"id": "a/"},
        columnKind="utf16CodeUnits",
        taxonomies=[],
        properties={"x": 1},
    )
    report["runs"][0]["tool"]["driver"] |= {"rules": [{"id": "r", "help": {"text": "h"}}]}
    assert noticed(report) == []


def test_members_that_the_standard_does_not_have_are_noticed() -> None:
    report = sarif({"ruleId": "r", "novel": 1, "locations": [{"brand": 2}]}, newer=3)
    report["latest"] = 4
    unknown = notice_pb2.NOTICE_KIND_UNKNOWN_FIELD
    assert sorted(noticed(report)) == [
        (unknown, "latest"),
        (unknown, "locations[].brand"),
        (unknown, "novel"),
        (unknown, "runs[].newer"),
    ]


@pytest.mark.parametrize(
    ("invocation", "incomplete"),
    [
        ({"executionSuccessful": False}, True),
        ({"executionSuccessful": True}, False),
        ({"toolExecutionNotifications": [{"level": "error", "message": {"text": "x"}}]}, True),
        ({"toolConfigurationNotifications": [{"level": "warning"}]}, False),
    ],
)
def test_scans_that_did_not_succeed(invocation: Any, incomplete: bool) -> None:
    expected = [(notice_pb2.NOTICE_KIND_SCAN_INCOMPLETE, "runs[].invocations")]
    assert noticed(sarif(invocations=[invocation])) == (expected if incomplete else [])


@pytest.mark.parametrize(
    ("fields", "severity", "open_"),
    [
        ({"kind": "pass"}, pb.SEVERITY_INFO, False),
        ({"kind": "notApplicable"}, pb.SEVERITY_INFO, False),
        ({"kind": "informational"}, pb.SEVERITY_INFO, True),
        ({"kind": "review"}, pb.SEVERITY_CRITICAL, True),
        ({"kind": "fail"}, pb.SEVERITY_CRITICAL, True),
        ({"baselineState": "absent"}, pb.SEVERITY_CRITICAL, False),
        ({"baselineState": "unchanged"}, pb.SEVERITY_CRITICAL, True),
    ],
)
def test_results_that_are_not_open_are_kept(fields: Any, severity: Any, open_: bool) -> None:
    report = sarif({"ruleId": "second", **fields}, driver="CodeQL")
    report["runs"][0]["tool"]["driver"]["rules"] = RULES
    found = only(report)
    assert found.severity == severity
    assert fields.items() <= dict(found.raw_metadata).items()
    assert noticed(report) == ([] if open_ else [(notice_pb2.NOTICE_KIND_NOT_OPEN, "")])


def test_a_tools_own_redaction_is_no_value() -> None:
    result = {"ruleId": "r", "locations": [place("a", snippet={"text": "key = <gone>"})]}
    report = sarif(result, redactionTokens=["<gone>"])
    assert only(report).value_state == pb.VALUE_STATE_REDACTED
    assert only(sarif(result)).value_state == pb.VALUE_STATE_PRESENT


def test_logical_locations_by_index() -> None:
    result = {"ruleId": "r", "locations": [{"logicalLocations": [{"index": 1}]}]}
    listed = [{"name": "a"}, {"fullyQualifiedName": "a::b"}]
    assert only(sarif(result, logicalLocations=listed)).code.location.path == "a::b"
    assert only(sarif(result)).code.location.path == ""


def test_rules_by_guid() -> None:
    guid = "00000000-0000-4000-8000-000000000001"
    report = sarif({"rule": {"guid": guid}}, driver="x")
    report["runs"][0]["tool"]["driver"]["rules"] = [{"id": "named", "guid": guid}]
    assert only(report).rule_id == "named"


def test_results_beside_the_runs_and_in_other_files() -> None:
    report = sarif({"ruleId": "a"}, externalPropertyFileReferences={"results": [{"location": {}}]})
    inline = {"runGuid": "g", "driver": {"name": "other"}, "results": [{"ruleId": "b"}]}
    report["inlineExternalProperties"] = [inline]
    outcome = ingest(dump(report))
    assert [(f.rule_id, f.tool) for f in outcome.findings] == [("a", "gitleaks"), ("b", "other")]
    assert [(n.kind, n.field) for n in outcome.summary.notices] == [
        (notice_pb2.NOTICE_KIND_PART_SKIPPED, "runs[].externalPropertyFileReferences.results")
    ]


def test_what_stands_for_a_missing_login_is_no_identity() -> None:
    prints = {"matchBasedId/v1": "requires login"}
    found = only(sarif({"ruleId": "r", "fingerprints": prints}, driver="Semgrep OSS"))
    assert found.native_id == ""


@pytest.mark.parametrize(
    ("version", "dialect"),
    [("2.1.0", "SARIF 2.1.0"), ("2.1.0-rtm.5", "SARIF 2.1.0"), ("x", "SARIF 2.1.0"), (2, "SARIF 2.1.0"), ("2.0.0", "SARIF 2.0.0")],
)  # fmt: skip
def test_the_dialect_is_the_version(version: Any, dialect: str) -> None:
    report = {**sarif({"ruleId": "r"}), "version": version}
    assert ingest(dump(report)).format.dialect == dialect


def test_artifacts_are_not_kept_with_their_contents() -> None:
    artifacts = [{"location": {"uri": "a"}, "contents": {"text": "x"}}, 7, {"location": None}]
    result = {
        "ruleId": "r",
        "locations": [{"physicalLocation": {"artifactLocation": {"index": 0}}}],
    }
    assert only(sarif(result, artifacts=artifacts)).code.location.path == "a"
