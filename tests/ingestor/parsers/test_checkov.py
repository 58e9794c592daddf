"""Checkov: checks that failed or were skipped, and secrets as digests."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from tests.fixtures.reports import load_report
from tests.ingestor.reading_reports import (
    clear_strings,
    dump,
    evidence,
    gitleaks,
    golden,
    ingest,
    only,
)
from winnow.finding.v1 import finding_pb2 as pb
from winnow.ingest.v1 import notice_pb2

VALUE = "made-up-00000000"
DIGEST = hashlib.sha1(VALUE.encode(), usedforsecurity=False).hexdigest()


def check(**fields: Any) -> dict[str, Any]:
    return {
        "check_id": "CKV_AWS_161",
        "bc_check_id": "BC_AWS_1",
        "check_name": "Ensure RDS has IAM authentication",
        "check_result": {"result": "FAILED", "evaluated_keys": ["x"]},
        "code_block": [[1, 'resource "aws_db_instance" {\n'], [2, "}\n"]],
        "file_path": "/aws/db.tf",
        "file_line_range": [1, 2],
        "resource": "aws_db_instance.default",
        "severity": None,
        **fields,
    }


def secret(**fields: Any) -> dict[str, Any]:
    return check(
        **{
            "check_id": "CKV_SECRET_6",
            "bc_check_id": None,
            "check_name": "Base64 High Entropy String",
            "code_block": [[5, 'password = "made-**********"\n']],
            "file_path": "/src/app_0.py",
            "file_line_range": [5, 5],
            "resource": DIGEST,
            **fields,
        }
    )


def report(*failed: Any, **results: Any) -> dict[str, Any]:
    lists = {"failed_checks": list(failed), "passed_checks": [check()], "skipped_checks": []}
    return {
        "check_type": "terraform",
        "results": {**lists, "parsing_errors": [], **results},
        "summary": {"failed": len(failed), "checkov_version": "3.3.30"},
        "url": "Add an api key",
    }


def test_a_misconfiguration() -> None:
    outcome = ingest(dump(report(check())))
    [found] = outcome.findings
    assert golden(found) == {
        "kind": "FINDING_KIND_MISCONFIGURATION",
        "tool": "checkov",
        "ruleId": "CKV_AWS_161",
        "ruleName": "Ensure RDS has IAM authentication",
        "aliases": ["BC_AWS_1"],
        "rawMetadata": {"resource": "aws_db_instance.default"},
        "code": {"location": {"path": "aws/db.tf", "line": 1, "endLine": 2}},
    }
    assert not outcome.summary.notices


def test_a_secrets_digest_meets_other_tools_and_is_shown_nowhere() -> None:
    found = only(report(secret(guideline=DIGEST, file_path=f"/{DIGEST}/x")))
    assert found.value_state == pb.VALUE_STATE_DIGEST
    assert found.value_fingerprint == only([gitleaks()]).value_fingerprint
    assert not any(DIGEST in text for text in clear_strings(found))
    assert DIGEST not in str(evidence(found))


def test_a_secret_of_history() -> None:
    commit = "c" * 40
    record = secret(
        resource=f"{commit}:{DIGEST}", added_commit_hash=commit, validation_status="Valid"
    )
    found = only(report(record))
    assert (found.code.commit, found.validity) == (commit, pb.VALIDITY_LIVE)
    assert found.value_fingerprint == only(report(secret())).value_fingerprint


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ({"check_id": "CKV_SECRET_13"}, pb.VALUE_STATE_ABSENT),
        ({"resource": "no digest"}, pb.VALUE_STATE_REDACTED),
        ({"resource": None}, pb.VALUE_STATE_REDACTED),
    ],
)
def test_what_is_no_digest_of_the_value(fields: Any, state: Any) -> None:
    found = only(report(secret(**fields)))
    assert (found.value_state, found.value_fingerprint) == (state, b"")


def test_a_vulnerable_package_and_a_licence() -> None:
    details = {"id": "CVE-2024-12345", "package_name": "flask", "package_version": "0.6"}
    vulnerable = check(
        check_id="CKV_CVE_2024_12345", vulnerability_details=details, severity="HIGH"
    )
    licence = check(check_id="BC_LIC_1", bc_check_id=None)
    first, second = ingest(dump(report(vulnerable, licence))).findings
    assert (first.kind, first.severity) == (pb.FINDING_KIND_VULNERABILITY, pb.SEVERITY_HIGH)
    assert first.package.component_ref == "flask@0.6"
    assert list(first.aliases) == ["CVE-2024-12345"]
    assert second.kind == pb.FINDING_KIND_POSTURE


def test_skipped_checks_are_accepted_and_parsing_errors_noticed() -> None:
    skipped = check(check_result={"result": "SKIPPED", "suppress_comment": "a reason"})
    outcome = ingest(
        dump([report(check(), skipped_checks=[skipped]), report(parsing_errors=["a.tf"])])
    )
    assert [f.triage for f in outcome.findings] == [pb.TRIAGE_UNSPECIFIED, pb.TRIAGE_ACCEPTED]
    assert evidence(outcome.findings[1]).extra["suppress_comment"] == "a reason"
    [notice] = outcome.summary.notices
    assert notice.kind == notice_pb2.NOTICE_KIND_SCAN_INCOMPLETE
    assert notice.field == "results.parsing_errors"


def test_reports_without_a_finding() -> None:
    empty = {"passed": 0, "failed": 0, "skipped": 0, "parsing_errors": 0, "checkov_version": "3"}
    for data in (empty, [empty], report()):
        found = ingest(dump(data))
        assert (found.format.scanner_type, found.counts) == ("checkov", (0, 0, 0, 0))
        assert not found.summary.notices


def test_odd_shapes() -> None:
    found = ingest(dump([report(check(), 3), 4, {"check_type": "x", "results": []}]))
    assert found.counts == (3, 1, 0, 2)
    assert found.reasons == [(1, "NOT_A_RECORD"), (2, "NOT_A_RECORD")]


def test_what_checkov_itself_wrote() -> None:
    found = ingest(load_report("checkov.json"))
    assert found.counts == (6, 6, 0, 0)
    assert not [n for n in found.summary.notices if n.field]
    states = [f.value_state for f in found.findings]
    assert states.count(pb.VALUE_STATE_DIGEST) == 4
