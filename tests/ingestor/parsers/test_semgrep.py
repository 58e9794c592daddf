"""Semgrep: results of the command line, and exports of its platform."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fixtures.reports import load_report
from tests.fixtures.tokens import Maker
from tests.ingestor.reading_reports import clear_strings, dump, evidence, golden, ingest
from winnow.finding.v1 import finding_pb2 as pb
from winnow.ingest.v1 import notice_pb2

VALUE = "made-up-value"
LINE = f'password = "{VALUE}"'


def match(number: int = 1, **extra: Any) -> dict[str, Any]:
    return {
        "check_id": "python.secrets.hardcoded-password",
        "path": "src/app.py",
        "start": {"line": number, "col": 1, "offset": 0},
        "end": {"line": number, "col": len(LINE) + 1, "offset": len(LINE)},
        "extra": {
            "message": f"A password, {VALUE}.",
            "severity": "ERROR",
            "metadata": {
                "cwe": ["CWE-798: Use of Hard-coded Credentials"],
                "confidence": "HIGH",
                "technology": ["python"],
            },
            "metavars": {"$X": {"abstract_content": f'"{VALUE}"', "start": {}, "end": {}}},
            "lines": LINE,
            "fingerprint": "f00d_0",
            "is_ignored": False,
            "engine_kind": "OSS",
            **extra,
        },
    }


def report(*results: Any, **members: Any) -> bytes:
    return dump({"version": "1.97.0", "results": list(results), "errors": [], **members})


def test_a_secret() -> None:
    [found] = ingest(report(match())).findings
    assert golden(found) == {
        "kind": "FINDING_KIND_POSSIBLE_SECRET",
        "tool": "semgrep",
        "ruleId": "python.secrets.hardcoded-password",
        "severity": "SEVERITY_HIGH",
        "valueState": "VALUE_STATE_PRESENT",
        "valuePreview": "… (13 characters)",
        "nativeId": "f00d_0",
        "aliases": ["CWE-798"],
        "rawMetadata": {"confidence": "HIGH"},
        "code": {
            "location": {
                "path": "src/app.py",
                "line": 1,
                "endLine": 1,
                "column": 1,
                "endColumn": 27,
            }
        },
    }
    assert (evidence(found).value, evidence(found).match) == (VALUE, LINE)


def test_code_that_is_withheld_is_neither_text_nor_identity() -> None:
    [found] = ingest(report(match(lines="requires login", fingerprint="requires login"))).findings
    assert (found.native_id, found.value_state) == ("", pb.VALUE_STATE_ABSENT)
    assert (evidence(found).match, evidence(found).value) == ("", "")


@pytest.mark.parametrize(
    ("lines", "span", "value"),
    [
        ('connect("ada", password="made-up-one", token="made-up-two")', (1, 60), ""),
        ("x made-up-token y", (3, 16), "made-up-token"),
        ("x made-up-to***** y", (3, 18), ""),
        ("x", (90, 99), ""),
    ],
)
def test_a_value_is_only_what_is_certain(lines: str, span: Any, value: str) -> None:
    record = match(lines=lines, metavars={})
    record["start"]["col"], record["end"]["col"] = span
    [found] = ingest(report(record)).findings
    assert evidence(found).value == value


def test_a_key_over_several_lines_is_the_value_as_a_whole() -> None:
    key = Maker(3).pkcs8_private_key(bits=256)
    lines = f'KEY = """{key}"""'
    record = match(lines=lines, metavars={"$1": "odd"})
    last = key.rsplit("\n", 1)[1]
    record["start"]["col"], record["end"] = 10, {"line": 1 + key.count("\n"), "col": len(last) + 1}
    [found] = ingest(report(record)).findings
    assert evidence(found).value == key


@pytest.mark.parametrize(
    ("state", "validity"),
    [
        ("CONFIRMED_VALID", pb.VALIDITY_LIVE),
        ("CONFIRMED_INVALID", pb.VALIDITY_DEAD),
        ("VALIDATION_ERROR", pb.VALIDITY_UNKNOWN),
        ("NO_VALIDATOR", pb.VALIDITY_UNSPECIFIED),
    ],
)
def test_live_checks(state: str, validity: Any) -> None:
    [found] = ingest(report(match(validation_state=state))).findings
    assert found.validity == validity


def test_ignored_code_in_history() -> None:
    history = {"git_commit": "c" * 40, "git_commit_timestamp": "2024-03-01T10:00:00Z"}
    record = match(is_ignored=True, historical_info=history)
    record["check_id"], record["extra"]["metadata"] = "python.eval", {"cwe": "CWE-95: Eval"}
    [found] = ingest(report(record)).findings
    assert (found.kind, found.triage) == (pb.FINDING_KIND_CODE, pb.TRIAGE_ACCEPTED)
    assert found.code.commit == "c" * 40
    assert found.changed_at.seconds == 1709287200
    assert list(found.aliases) == ["CWE-95"]


def test_a_vulnerable_dependency() -> None:
    package = {"package": "Left_Pad", "version": "1.0", "ecosystem": "pypi"}
    sca = {
        "reachable": True,
        "dependency_match": {"found_dependency": package, "lockfile": "poetry.lock"},
    }
    metadata = {"sca-vuln-database-identifier": "CVE-2024-12345"}
    [found] = ingest(report(match(sca_info=sca, metadata=metadata))).findings
    assert found.kind == pb.FINDING_KIND_VULNERABILITY
    assert found.package.purl == "pkg:pypi/left-pad@1.0"
    assert dict(found.raw_metadata) == {"path": "poetry.lock", "reachable": "true"}
    assert list(found.aliases) == ["CVE-2024-12345"]


def test_errors_and_unknown_members_are_noticed() -> None:
    found = ingest(report(match(brand_new=1), errors=[{"level": "warn"}], novel={}))
    assert [(n.kind, n.field) for n in found.summary.notices] == [
        (notice_pb2.NOTICE_KIND_UNKNOWN_FIELD, "extra.brand_new"),
        (notice_pb2.NOTICE_KIND_UNKNOWN_FIELD, "novel"),
        (notice_pb2.NOTICE_KIND_SCAN_INCOMPLETE, "errors"),
    ]


def test_values_stand_in_no_clear_field() -> None:
    record = match()
    record["path"] = f"src/{VALUE}/x"
    record["extra"]["metadata"]["confidence"] = VALUE
    [found] = ingest(report(record)).findings
    assert not any(VALUE in text for text in clear_strings(found))


def exported(**fields: Any) -> dict[str, Any]:
    return {
        "id": 7,
        "rule_name": "typescript.no-refs",
        "rule_message": "A ref.",
        "severity": "medium",
        "triage_state": "untriaged",
        "status": "open",
        "location": {"file_path": "a.tsx", "line": 3, "column": 2, "end_line": 4, "end_column": 9},
        "rule": {"cwe_names": ["CWE-319: Cleartext"]},
        **fields,
    }


@pytest.mark.parametrize(
    ("fields", "triage", "notices"),
    [
        ({}, pb.TRIAGE_UNSPECIFIED, 0),
        ({"triage_state": "ignored", "triage_reason": "acceptable_risk"}, pb.TRIAGE_ACCEPTED, 0),
        ({"triage_state": "ignored", "triage_reason": "false_positive"}, pb.TRIAGE_FALSE_POSITIVE, 0),
        ({"status": "fixed"}, pb.TRIAGE_UNSPECIFIED, 1),
    ],
)  # fmt: skip
def test_exported_findings(fields: Any, triage: Any, notices: int) -> None:
    outcome = ingest(dump({"findings": [exported(**fields)]}))
    [found] = outcome.findings
    assert (found.rule_id, found.native_id, found.triage) == ("typescript.no-refs", "7", triage)
    assert (found.code.location.path, found.code.location.line) == ("a.tsx", 3)
    assert len(outcome.summary.notices) == notices


def test_exported_supply_chain() -> None:
    record = {
        "title": "Crash",
        "advisory": {
            "ruleId": "ssc-1",
            "ecosystem": "gem",
            "severity": "HIGH",
            "references": {"cveIds": ["CVE-2023-1428"], "cweIds": ["CWE-617: Assertion"]},
        },
        "matchedDependency": {"name": "grpc", "versionSpecifier": "1.47.0"},
        "dependencyFileLocation": {"path": "Gemfile.lock"},
        "triage": {"status": "NEW"},
        "groupKey": "a::b",
    }
    [found] = ingest(dump({"vulns": [record], "hasMore": False, "cursor": ""})).findings
    assert found.package.purl == "pkg:gem/grpc@1.47.0"
    assert (found.rule_id, found.native_id) == ("ssc-1", "a::b")
    assert list(found.aliases) == ["CVE-2023-1428", "CWE-617"]


@pytest.mark.parametrize(
    "data",
    [
        report(),
        dump({"errors": [], "paths": {"scanned": ["x" * 70 for _ in range(2000)]}, "results": []}),
        dump({"results": None, "errors": [], "version": "1"}),
        dump({"results": [], "errors": []}),
    ],
)
def test_reports_without_a_finding(data: bytes) -> None:
    found = ingest(data)
    assert (found.format.scanner_type, found.counts) == ("semgrep", (0, 0, 0, 0))


def test_odd_records_are_rejected() -> None:
    found = ingest(report(match(), 7, {"check_id": "x"}, match(2), {**match(3), "path": []}))
    assert found.counts == (5, 2, 0, 3)
    assert found.reasons == [(1, "NOT_A_RECORD"), (2, "MISSING_FIELD"), (4, "WRONG_TYPE")]
    assert ingest(report(match(), results={})).reasons == [(0, "WRONG_TYPE")]


def test_what_semgrep_itself_wrote() -> None:
    found = ingest(load_report("semgrep.json"))
    assert found.counts == (6, 6, 0, 0)
    assert not found.summary.notices
    assert {f.native_id for f in found.findings} == {""}
