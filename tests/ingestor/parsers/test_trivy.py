"""Trivy: its kinds of finding, and the shapes of its reports over the years."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ingestor.parsers._purl import purl
from runtime.errors import WinnowError
from tests.ingestor.reading_reports import clear_strings, dump, evidence, golden, ingest, only
from winnow.finding.v1 import finding_pb2 as pb
from winnow.ingest.v1 import notice_pb2


def vulnerability(**fields: Any) -> dict[str, Any]:
    return {
        "VulnerabilityID": "CVE-2024-12345",
        "PkgID": "debug@3.0.1",
        "PkgName": "debug",
        "PkgIdentifier": {"PURL": "pkg:npm/debug@3.0.1", "UID": "45ac"},
        "InstalledVersion": "3.0.1",
        "FixedVersion": "3.1.0",
        "Status": "fixed",
        "SeveritySource": "ghsa",
        "Title": "debug: slow",
        "Description": "A long text.",
        "Severity": "HIGH",
        "CweIDs": ["CWE-400"],
        "VendorIDs": ["GHSA-gxpj-cx7g-858c"],
        "CVSS": {"nvd": {"V3Score": 7.5}},
        **fields,
    }


def secret(**fields: Any) -> dict[str, Any]:
    lines = ["#!/bin/sh", 'OTHER="made-up-neighbour"', "export KEY=********"]
    return {
        "RuleID": "aws-access-key-id",
        "Category": "AWS",
        "Severity": "CRITICAL",
        "Title": "AWS Access Key ID",
        "StartLine": 3,
        "EndLine": 3,
        "Code": {"Lines": [{"Number": n, "Content": text} for n, text in enumerate(lines, 1)]},
        "Match": "export KEY=********",
        "Offset": 36,
        **fields,
    }


def misconfiguration(**fields: Any) -> dict[str, Any]:
    return {
        "Type": "Dockerfile Security Check",
        "ID": "DS002",
        "AVDID": "AVD-DS-0002",
        "Title": "Image user should not be root",
        "Message": "Specify a USER",
        "Severity": "HIGH",
        "Status": "FAIL",
        "CauseMetadata": {"StartLine": 2, "EndLine": 4, "Resource": "web", "Code": {"Lines": None}},
        **fields,
    }


LICENSE = {"Severity": "HIGH", "Category": "restricted", "PkgName": "busybox", "Name": "GPL-2.0"}


def result(target: str = "package-lock.json", **lists: Any) -> dict[str, Any]:
    return {"Target": target, "Class": "lang-pkgs", "Type": "npm", **lists}


def report(*results: Any, **members: Any) -> dict[str, Any]:
    return {
        "SchemaVersion": 2,
        "ArtifactName": "web:1",
        "ArtifactType": "container_image",
        "Results": list(results),
        **members,
    }


def test_a_vulnerability() -> None:
    outcome = ingest(dump(report(result(Vulnerabilities=[vulnerability()]))))
    [found] = outcome.findings
    assert golden(found) == {
        "kind": "FINDING_KIND_VULNERABILITY",
        "tool": "trivy",
        "ruleId": "CVE-2024-12345",
        "ruleName": "debug: slow",
        "severity": "SEVERITY_HIGH",
        "nativeId": "debug@3.0.1",
        "aliases": ["GHSA-gxpj-cx7g-858c", "CWE-400"],
        "rawMetadata": {
            "path": "package-lock.json",
            "FixedVersion": "3.1.0",
            "Status": "fixed",
            "SeveritySource": "ghsa",
            "container": "web:1",
        },
        "package": {
            "purl": "pkg:npm/debug@3.0.1",
            "version": "3.0.1",
            "componentRef": "debug@3.0.1",
        },
    }
    assert evidence(found).message == "A long text."
    assert not outcome.summary.notices


def test_a_secret_with_its_neighbours_masked() -> None:
    record = secret(Layer={"DiffID": "sha256:66"})
    found = only(report(result("opt/made-up-neighbour/deploy.sh", Secrets=[record])))
    assert golden(found) == {
        "kind": "FINDING_KIND_POSSIBLE_SECRET",
        "tool": "trivy",
        "ruleId": "aws-access-key-id",
        "ruleName": "AWS Access Key ID",
        "severity": "SEVERITY_CRITICAL",
        "valueState": "VALUE_STATE_REDACTED",
        "valuePreview": "(redacted by the scanner)",
        "rawMetadata": {"Category": "AWS"},
        "code": {
            "location": {"path": "opt/[REDACTED]/deploy.sh", "line": 3, "endLine": 3},
            "container": "web:1 sha256:66",
        },
    }
    assert "made-up-neighbour" in evidence(found).context
    assert not any("made-up" in text for text in clear_strings(found))


def test_a_secret_that_is_not_masked_is_no_value() -> None:
    found = only(report(result("a.jar", Secrets=[secret(Match="BINARY FILE", Code=None)])))
    assert (found.value_state, evidence(found).value) == (pb.VALUE_STATE_ABSENT, "")


def test_a_misconfiguration_that_failed_and_one_that_passed() -> None:
    records = [misconfiguration(), misconfiguration(Status="PASS", ID="DS003")]
    outcome = ingest(dump(report(result("Dockerfile", Misconfigurations=records))))
    failed, passed = outcome.findings
    assert (failed.kind, failed.rule_id) == (pb.FINDING_KIND_MISCONFIGURATION, "DS002")
    assert (failed.severity, passed.severity) == (pb.SEVERITY_HIGH, pb.SEVERITY_INFO)
    assert dict(failed.raw_metadata) == {"Status": "FAIL", "Resource": "web"}
    assert list(failed.aliases) == ["AVD-DS-0002"]
    [notice] = outcome.summary.notices
    assert (notice.kind, notice.records) == (notice_pb2.NOTICE_KIND_NOT_OPEN, 1)


def test_a_licence_is_posture() -> None:
    found = only(report(result("OS Packages", Licenses=[LICENSE])))
    assert (found.kind, found.rule_id) == (pb.FINDING_KIND_POSTURE, "GPL-2.0")
    assert found.package.component_ref == "busybox"


@pytest.mark.parametrize(
    ("status", "triage"),
    [
        ("not_affected", pb.TRIAGE_FALSE_POSITIVE),
        ("ignored", pb.TRIAGE_ACCEPTED),
        ("affected", pb.TRIAGE_TRUE_POSITIVE),
        ("under_investigation", pb.TRIAGE_UNSPECIFIED),
    ],
)
def test_what_was_taken_out_is_kept_with_the_decision(status: str, triage: Any) -> None:
    modified = [
        {"Type": kind, "Status": status, "Statement": "a reason", "Source": "x", "Finding": finding}
        for kind, finding in (("vulnerability", vulnerability()), ("secret", secret()))
    ]
    found = ingest(dump(report(result(ExperimentalModifiedFindings=modified)))).findings
    assert [f.triage for f in found] == [triage, triage]
    assert [f.kind for f in found] == [
        pb.FINDING_KIND_VULNERABILITY,
        pb.FINDING_KIND_POSSIBLE_SECRET,
    ]
    assert evidence(found[0]).extra["Statement"] == "a reason"


def test_older_records_without_a_purl_get_one() -> None:
    record = vulnerability()
    del record["PkgIdentifier"], record["PkgID"]
    outcome = ingest(dump([{"Target": "a.lock", "Type": "npm", "Vulnerabilities": [record]}]))
    [found] = outcome.findings
    assert found.package.purl == "pkg:npm/debug@3.0.1"
    assert found.native_id == "debug@3.0.1"
    assert outcome.format.dialect == "trivy before 0.20"


@pytest.mark.parametrize("name", ["Resources", "Findings", "Vulnerabilities"])
def test_reports_on_clusters(name: str) -> None:
    resource = {
        "Namespace": "default",
        "Kind": "Deployment",
        "Name": "web",
        "Metadata": {},
        "Results": [result("Deployment/web", Misconfigurations=[misconfiguration()])],
    }
    other = {**resource, "Name": "api"}
    outcome = ingest(dump({"ClusterName": "c", name: [resource, other]}))
    assert [f.code.container for f in outcome.findings] == [
        "default/Deployment/web",
        "default/Deployment/api",
    ]
    assert not outcome.summary.notices


def test_odd_reports_on_clusters() -> None:
    failed = {"Kind": "Pod", "Name": "web", "Error": "no access", "Novel": 1, "Results": None}
    outcome = ingest(dump({"ClusterName": "c", "Resources": [failed, 3], "Findings": {}}))
    assert [reason for _, reason in outcome.reasons] == ["NOT_A_RECORD", "WRONG_TYPE"]
    assert [(n.kind, n.field) for n in outcome.summary.notices] == [
        (notice_pb2.NOTICE_KIND_UNKNOWN_FIELD, "Resources[].Novel"),
        (notice_pb2.NOTICE_KIND_SCAN_INCOMPLETE, "Error"),
    ]


def test_text_behind_a_report_is_damage() -> None:
    with pytest.raises(WinnowError) as raised:
        ingest(dump(report(result(Secrets=[secret()]))) + b" oops")
    assert raised.value.reason == "REPORT_MALFORMED"


def test_records_before_their_target_are_held_up_to_a_limit() -> None:
    big = "x" * (5 << 20)
    records = [vulnerability(PkgID=str(n), Description=big) for n in range(5)]
    turned = {"Vulnerabilities": [*records, 7], "Target": "a"}
    outcome = ingest(dump(report(turned, {"Target": {"un": "readable"}, "Secrets": [secret()]})))
    assert outcome.counts == (7, 6, 0, 1)
    # What stood before the limit was read without its target.
    assert not any("path" in f.raw_metadata for f in outcome.findings)


def custom_resource(kind: str, **lists: Any) -> dict[str, Any]:
    labels = {
        "trivy-operator.container.name": "nginx",
        "trivy-operator.resource.kind": "ReplicaSet",
        "trivy-operator.resource.name": "web-1",
    }
    return {
        "apiVersion": "aquasecurity.github.io/v1alpha1",
        "kind": kind,
        "metadata": {"namespace": "default", "name": "x", "labels": labels},
        "report": {"artifact": {}, "registry": {}, "scanner": {}, "summary": {}, **lists},
    }


def test_the_operators_resources() -> None:
    secrets = [
        {
            "category": "AWS",
            "match": 'key="********"',
            "ruleID": "aws-secret-access-key",
            "severity": "CRITICAL",
            "target": "root/secret.txt",
            "title": "AWS Secret Access Key",
        }
    ]
    checks = [{"checkID": "KSV001", "severity": "LOW", "success": False, "messages": ["m"]}]
    vulnerabilities = [
        {
            "vulnerabilityID": "CVE-2024-12345",
            "resource": "libssl",
            "installedVersion": "1.1",
            "fixedVersion": "1.2",
            "severity": "HIGH",
            "class": "os-pkgs",
            "target": "",
            "packagePURL": "pkg:deb/debian/libssl@1.1",
        }
    ]
    items = [
        custom_resource("ExposedSecretReport", secrets=secrets),
        custom_resource("ConfigAuditReport", checks=checks),
        custom_resource("VulnerabilityReport", vulnerabilities=vulnerabilities),
    ]
    outcome = ingest(dump({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": items}))
    first, second, third = outcome.findings
    assert (first.code.location.path, first.value_state) == (
        "root/secret.txt",
        pb.VALUE_STATE_REDACTED,
    )
    assert first.code.container == second.code.container == "default/ReplicaSet/web-1 nginx"
    assert second.kind == pb.FINDING_KIND_MISCONFIGURATION
    assert third.package.purl == "pkg:deb/debian/libssl@1.1"
    assert not [n for n in outcome.summary.notices if n.field]
    assert ingest(dump(items[0])).counts == (1, 1, 0, 0)


def test_members_in_any_order() -> None:
    results = [result("a", Vulnerabilities=[vulnerability()], Secrets=[secret()]), result("b")]
    ordered = ingest(dump(report(*results)))
    for data in (
        json.dumps(report(*results), sort_keys=True, indent=2).replace("\n", "\r\n").encode(),
        dump(dict(reversed(report(*(dict(reversed(r.items())) for r in results)).items()))),
    ):
        turned = ingest(data)
        assert turned.counts == ordered.counts
        places = {f.code.location.path or f.raw_metadata["path"] for f in turned.findings}
        assert places == {"a"}


def test_reports_without_a_finding_and_odd_ones() -> None:
    empty = {"SchemaVersion": 2, "ArtifactName": ".", "ArtifactType": "filesystem"}
    for data in (empty, report(), report(result(Vulnerabilities=None)), report(Results=None)):
        found = ingest(dump(data))
        assert (found.format.scanner_type, found.counts) == ("trivy", (0, 0, 0, 0))
    modified = [{"Type": "secret", "Finding": {"Title": "x"}}]
    odd = result(Vulnerabilities=[1, {"PkgName": 2}], ExperimentalModifiedFindings=modified)
    found = ingest(dump(report(odd, 7, result(Secrets={}))))
    assert [reason for _, reason in found.reasons] == [
        "NOT_A_RECORD",
        "WRONG_TYPE",
        "MISSING_FIELD",
        "NOT_A_RECORD",
        "WRONG_TYPE",
    ]


def test_drift_is_noticed() -> None:
    record = vulnerability(Novel=1, Severity=None)
    notices = ingest(dump(report(result(Vulnerabilities=[record]), Brand=1))).summary.notices
    assert [(n.kind, n.field) for n in notices] == [
        (notice_pb2.NOTICE_KIND_UNKNOWN_FIELD, "Brand"),
        (notice_pb2.NOTICE_KIND_UNKNOWN_FIELD, "Novel"),
        (notice_pb2.NOTICE_KIND_MISSING_FIELD, "Severity"),
    ]


@pytest.mark.parametrize(
    ("ecosystem", "name", "version", "url"),
    [
        ("npm", "@scope/name", "1.0.0", "pkg:npm/%40scope/name@1.0.0"),
        ("maven", "org.example:library", "1.0", "pkg:maven/org.example/library@1.0"),
        ("gomod", "example.test/a/b", "v1.2.3", "pkg:golang/example.test/a/b@v1.2.3"),
        ("pip", "Flask_Login", "0.6", "pkg:pypi/flask-login@0.6"),
        ("debian", "libssl1.1", "1.1.1+dfsg-1", "pkg:deb/debian/libssl1.1@1.1.1%2Bdfsg-1"),
        ("npm", "debug", "", "pkg:npm/debug"),
        ("novel", "x", "1", ""),
        (None, "x", "1", ""),
        ("npm", "", "1", ""),
    ],
)
def test_package_urls(ecosystem: str | None, name: str, version: str, url: str) -> None:
    assert purl(ecosystem, name, version) == url


def test_several_reports_in_an_array_are_not_taken_for_old_results() -> None:
    found = ingest(dump([report(result(Secrets=[secret()])), report(result(Secrets=[secret()]))]))
    assert found.counts == (2, 1, 1, 0)
    assert found.format.dialect == "trivy 0.20 or newer"
