"""GitLab's security reports: secrets, code, components."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict

from runtime.errors import WinnowError
from tests.ingestor.reading_reports import clear_strings, dump, evidence, golden, ingest
from winnow.finding.v1 import finding_pb2 as pb
from winnow.ingest.v1 import notice_pb2

VALUE = "made-up-value"
DIGEST = hashlib.sha256(VALUE.encode()).hexdigest()


def secret(number: int = 1, **fields: Any) -> dict[str, Any]:
    """As versions from 15 write it."""
    return {
        "id": f"id-{number}",
        "name": "Some token",
        "description": "Some token detected.",
        "cve": f"src/app.py:{DIGEST}:some-token",
        "severity": "Critical",
        "raw_source_code_extract": VALUE,
        "location": {
            "file": "src/app.py",
            "commit": {"sha": "c" * 40, "date": "2026-11-01T10:00:00Z", "message": "add it"},
            "start_line": number,
            "end_line": number,
        },
        "identifiers": [
            {"type": "gitleaks_rule_id", "name": "Gitleaks rule ID x", "value": "some-token"}
        ],
        **fields,
    }


def secret_14(number: int = 1, **fields: Any) -> dict[str, Any]:
    return {
        **secret(number),
        "category": "secret_detection",
        "message": "Some token detected; please remove and revoke it.",
        "confidence": "Unknown",
        "scanner": {"id": "gitleaks", "name": "Gitleaks"},
        **fields,
    }


def code(**fields: Any) -> dict[str, Any]:
    return {
        "id": "id-9",
        "name": "Query built from 'made-up input'",
        "severity": "High",
        "confidence": "Medium",
        "location": {"file": "a.py", "start_line": 4, "end_line": 5, "class": "A", "method": "b"},
        "identifiers": [
            {"type": "cwe", "name": "CWE-89", "value": 89, "url": "https://cwe.example.test/89"},
            {"type": "bandit_test_id", "name": "Bandit Test ID B608", "value": "B608"},
        ],
        **fields,
    }


def report(*vulnerabilities: Any, kind: str = "secret_detection", **more: Any) -> dict[str, Any]:
    scan = {
        "analyzer": {"id": "secrets", "vendor": {"name": "GitLab"}},
        "scanner": {"id": "gitleaks", "name": "Gitleaks", "version": "v8"},
        "type": kind,
        "start_time": "2026-11-01T10:00:00",
        "end_time": "2026-11-01T10:01:00",
        "status": "success",
        **more.pop("scan", {}),
    }
    return {
        "version": "15.0.4",
        "vulnerabilities": list(vulnerabilities),
        "remediations": [],
        "scan": scan,
        **more,
    }


def notices(found: Any) -> list[tuple[str, str, int]]:
    return [
        (notice_pb2.NoticeKind.Name(n.kind).removeprefix("NOTICE_KIND_"), n.field, n.records)
        for n in found.summary.notices
    ]


def test_a_secret() -> None:
    found = ingest(dump(report(secret()), indent=2))
    assert found.format.scanner_type == "gitlab"
    assert found.format.dialect == "GitLab report 15 or newer"
    assert notices(found) == []
    assert golden(found.findings[0]) == {
        "kind": "FINDING_KIND_POSSIBLE_SECRET",
        "tool": "gitlab",
        "ruleId": "some-token",
        "ruleName": "Some token",
        "severity": "SEVERITY_CRITICAL",
        "valueState": "VALUE_STATE_PRESENT",
        "valuePreview": "… (13 characters)",
        "changedAt": "2026-11-01T10:00:00Z",
        "nativeId": "id-1",
        "code": {
            "location": {"path": "src/app.py", "line": 1, "endLine": 1},
            "commit": "c" * 40,
        },
    }
    assert MessageToDict(evidence(found.findings[0])) == {
        "value": VALUE,
        "message": "Some token detected.\nadd it",
    }


def test_version_14_says_the_same_and_more() -> None:
    found = ingest(dump(report(secret_14())))
    assert found.format.dialect == "GitLab report 14 or older"
    assert notices(found) == []
    [new] = ingest(dump(report(secret()))).findings
    assert golden(found.findings[0]) == {**golden(new), "rawMetadata": {"scanner": "gitleaks"}}
    assert "revoke" in evidence(found.findings[0]).message


def test_the_digest_in_cve_stands_nowhere() -> None:
    [found] = ingest(dump(report(secret_14()))).findings
    assert DIGEST not in "".join([*clear_strings(found), str(evidence(found))])


def test_without_a_repository_there_is_no_commit() -> None:
    at = {
        "file": "a",
        "commit": {"sha": "0000000", "date": "0001-01-01T00:00:00Z"},
        "start_line": 1,
    }
    [found] = ingest(dump(report(secret(location=at)))).findings
    assert found.code.commit == ""
    assert not found.HasField("changed_at")


def test_a_flag_is_a_decision() -> None:
    flag = {"type": "flagged-as-likely-false-positive", "origin": "o", "description": "d"}
    found = ingest(dump(report(secret(flags=[flag]), secret(2, flags=[{"type": "other"}]))))
    assert [f.triage for f in found.findings] == [pb.TRIAGE_FALSE_POSITIVE, pb.TRIAGE_UNSPECIFIED]


def test_redacted_extracts_are_no_identity() -> None:
    found = ingest(dump(report(secret(raw_source_code_extract="made-up...", id="made-up..."))))
    [finding] = found.findings
    assert (finding.value_state, finding.native_id) == (pb.VALUE_STATE_REDACTED, "[REDACTED]")
    assert notices(found) == [("VALUES_REDACTED", "", 1)]


def test_code_is_of_its_own_kind_and_its_texts_are_sealed() -> None:
    found = ingest(dump(report(code(raw_source_code_extract="made-up code"), kind="sast")))
    assert golden(found.findings[0]) == {
        "kind": "FINDING_KIND_CODE",
        "tool": "gitlab",
        "ruleId": "B608",
        "severity": "SEVERITY_HIGH",
        "nativeId": "id-9",
        "aliases": ["CWE-89"],
        "rawMetadata": {"confidence": "Medium"},
        "code": {"location": {"path": "a.py", "line": 4, "endLine": 5}},
    }
    assert MessageToDict(evidence(found.findings[0])) == {
        "message": "Query built from 'made-up input'",
        "context": "made-up code",
    }


def test_old_reports_of_code_hold_findings_of_secret_scanners() -> None:
    location = {"file": "a", "start_line": 1, "dependency": {"package": {}}}
    old = secret_14(category="sast", location=location)
    del old["raw_source_code_extract"], old["id"]
    report_2 = {
        "version": "2.3",
        "vulnerabilities": [old, code(category="sast")],
        "remediations": [],
    }
    found = ingest(dump(report_2))
    assert [f.kind for f in found.findings] == [
        pb.FINDING_KIND_POSSIBLE_SECRET,
        pb.FINDING_KIND_CODE,
    ]
    assert found.findings[0].value_state == pb.VALUE_STATE_ABSENT
    assert notices(found) == []


@pytest.mark.parametrize(
    ("identifiers", "rule", "aliases"),
    [
        ([{"type": "cwe", "name": "CWE-79", "value": "79"}], "CWE-79", ["CWE-79"]),
        ([{"type": "x", "name": "short", "value": "long " * 20}], "short", []),
        ([{"type": "x", "name": None, "value": "long " * 20}], "bandit", []),
        ([], "bandit", []),
        (None, "bandit", []),
    ],
)
def test_the_rule_is_the_first_identifier_that_is_one(
    identifiers: Any, rule: str, aliases: list[str]
) -> None:
    record = code(identifiers=identifiers, scanner={"id": "bandit", "name": "Bandit"})
    found = ingest(dump(report(record, kind="sast")), "gitlab").findings[0]
    assert (found.rule_id, list(found.aliases)) == (rule, aliases)


def test_components_of_images_are_packages() -> None:
    at = {"image": "app:1", "operating_system": "debian:12", "dependency": {"package": {"name": "zlib"}, "version": "1.2"}}  # fmt: skip
    cve = [{"type": "cve", "name": "CVE-2099-0001", "value": "CVE-2099-0001"}]
    record = code(location=at, identifiers=cve)
    [found] = ingest(dump(report(record, kind="container_scanning"))).findings
    assert found.kind == pb.FINDING_KIND_VULNERABILITY
    assert (found.package.component_ref, found.package.version) == ("zlib", "1.2")
    assert (found.rule_id, list(found.aliases)) == ("CVE-2099-0001", ["CVE-2099-0001"])
    assert found.raw_metadata["path"] == "app:1"


@pytest.mark.parametrize(
    "empty",
    [
        report(),
        report(kind="sast"),
        report(vulnerabilities=None),
        {"version": "2.3", "vulnerabilities": [], "remediations": []},
    ],
)
@pytest.mark.parametrize("indent", [None, 2])
def test_a_scan_that_found_nothing(empty: Any, indent: Any) -> None:
    found = ingest(dump(empty, indent=indent))
    assert found.format.scanner_type == "gitlab"
    assert found.counts == (0, 0, 0, 0)


@pytest.mark.parametrize(
    ("scan", "told"),
    [
        ({"status": "failure"}, [("SCAN_INCOMPLETE", "scan.status", 0)]),
        ({"messages": [{"level": "fatal", "value": "x"}]}, [("SCAN_INCOMPLETE", "scan.status", 0)]),
        ({"messages": [{"level": "info", "value": "x"}]}, []),
        ({"status": 5}, []),
    ],
)
def test_a_scan_that_failed_is_told(scan: Any, told: Any) -> None:
    assert notices(ingest(dump(report(secret(), scan=scan)))) == told


def test_order_of_members_does_not_matter() -> None:
    records = [secret(1), secret(2, severity="new")]
    for options in ({"sort_keys": True}, {"indent": 2}, {"separators": (",", ":")}):
        found = ingest(dump(report(*records), **options), size=17)
        assert found.counts == (2, 2, 0, 0)
        assert [f.kind for f in found.findings] == [pb.FINDING_KIND_POSSIBLE_SECRET] * 2
        assert found.findings[1].severity == pb.SEVERITY_UNSPECIFIED


def test_many_records_with_what_tells_their_kind_behind_them() -> None:
    whole = report(*[secret_14(n) for n in range(1, 1501)])
    assert list(whole)[-1] == "scan"
    found = ingest(dump(whole))
    assert found.counts == (1500, 1500, 0, 0)
    assert {f.kind for f in found.findings} == {pb.FINDING_KIND_POSSIBLE_SECRET}


def test_drift_and_broken_records() -> None:
    no_place = secret(2)
    del no_place["location"]
    found = ingest(dump(report(secret(1, novelty=1), no_place, "x", secret(3, identifiers=None), more=1)))  # fmt: skip
    assert found.reasons == [(1, "MISSING_FIELD"), (2, "NOT_A_RECORD")]
    assert notices(found) == [
        ("UNKNOWN_FIELD", "more", 1),
        ("UNKNOWN_FIELD", "novelty", 1),
        ("MISSING_FIELD", "identifiers", 1),
    ]


def test_reports_on_running_applications_are_refused() -> None:
    at = {"hostname": "https://app.example.test", "method": "GET", "param": "", "path": "/"}
    with pytest.raises(WinnowError) as raised:
        ingest(dump(report(code(location=at), kind="dast")))
    assert raised.value.reason == "FORMAT_UNKNOWN"


def test_secrets_as_semgrep_exports_them() -> None:
    """The lines in place of the value, the commit in another place, a schema by name."""
    record = secret(commit={"sha": "c" * 40, "date": "2026-11-01T10:00:00Z"})
    record["raw_source_code_extract"] = [f'password = "{VALUE}"\n']
    record["location"] = {"file": "src/app.py", "start_line": 2, "end_line": 2}
    record["scanner"] = {"id": "semgrep", "name": "Semgrep", "vendor": {"name": "Semgrep"}}
    record["category"] = "secret_detection"
    report = {
        "$schema": "https://example.test/schema.json",
        "version": "15.0.4",
        "vulnerabilities": [record],
        "scan": {"type": "sast", "status": "success"},
    }
    found = ingest(dump(report))
    [finding] = found.findings
    assert not found.summary.notices
    assert (finding.value_state, evidence(finding).value) == (pb.VALUE_STATE_PRESENT, VALUE)
    assert finding.code.commit == "c" * 40
    assert evidence(finding).match == f'password = "{VALUE}"\n'


def test_a_report_whose_scan_stands_too_far_behind_is_recognised() -> None:
    records = [secret(number) for number in range(300)]
    for record in records:
        del record["raw_source_code_extract"], record["cve"]
    report = {"version": "15.0.4", "vulnerabilities": records}
    assert ingest(dump(report)).format.parser == "gitlab/1"
