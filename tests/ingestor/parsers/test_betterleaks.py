"""Betterleaks 1 and 2: where things stand, live checks, values of several parts."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.fixtures.reports import load_report
from tests.fixtures.values import planted_values
from tests.ingestor.reading_reports import (
    Outcome,
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

REPORTS = ("betterleaks.git.json", "betterleaks.git.jsonl")


def first(number: int = 0, **fields: Any) -> dict[str, Any]:
    """One record of Betterleaks 1; distinct for each number."""
    return gitleaks(
        number,
        **{
            "MatchContext": f'# shop\nkey = "made-up-{number:08d}"',
            "Attributes": {
                "path": f"lib/app_{number}.py",
                "resource": "git.patch_content",
                "git.sha": f"{number + 1:040x}",
                "git.date": "2024-05-06T10:00:00Z",
                "git.message": "use a key",
                "git.author_name": "Ada Marlow",
                "git.author_email": "ada@example.test",
                "git.remote_url": "https://example.test/shop",
            },
            "ValidationStatus": "valid",
            **fields,
        },
    )


def second(number: int = 0, **fields: Any) -> dict[str, Any]:
    """One finding of Betterleaks 2; distinct for each number."""
    return {
        "rule_id": "generic-api-key",
        "rule_hash": "0" * 64,
        "description": "Detected a key.",
        "confidence": "high",
        "match": {
            "full": f'key = "made-up-{number:08d}"',
            "value": f"made-up-{number:08d}",
            "context": f'# shop\nkey = "made-up-{number:08d}"',
            "fingerprint": "0" * 64,
        },
        "attributes": {
            "git.sha": f"{number:040x}",
            "git.date": "2024-05-06T10:00:00Z",
            "git.message": "use a key",
            "resource": "git.patch_content",
        },
        "location": {
            "path": f"lib/app_{number}.py",
            "start_line": number + 1,
            "end_line": number + 1,
            "start_column": 9,
            "end_column": 24,
        },
        **fields,
    }


def document(*findings: Any, state: str = "complete") -> dict[str, Any]:
    return {
        "schema_version": "1",
        "findings": findings,
        "scan": {"state": state, "betterleaks_version": "2.0.0-rc.4", "num_findings": 9},
    }


def lines(*findings: Any, state: str = "complete") -> bytes:
    version = {"schema_version": "1"}
    scan = {**version, "scan": document(state=state)["scan"]}
    return b"\n".join(map(dump, [*({**version, "finding": f} for f in findings), scan]))


def notices(found: Outcome) -> list[tuple[str, str, int]]:
    return [
        (notice_pb2.NoticeKind.Name(n.kind).removeprefix("NOTICE_KIND_"), n.field, n.records)
        for n in found.summary.notices
    ]


def test_attributes_come_before_deprecated_fields() -> None:
    found = ingest(dump([first(), first(2, Tags=["a"])]))
    assert (found.format.scanner_type, found.format.dialect) == ("betterleaks", "betterleaks 1")
    assert golden(found.findings[1]) == {
        "ordinal": "1",
        "kind": "FINDING_KIND_POSSIBLE_SECRET",
        "tool": "betterleaks",
        "ruleId": "generic-api-key",
        "validity": "VALIDITY_LIVE",
        "valueState": "VALUE_STATE_PRESENT",
        "valuePreview": "… (16 characters)",
        "changedAt": "2024-05-06T10:00:00Z",
        "nativeId": f"{2:040x}:src/app_2.py:generic-api-key:3",
        "rawMetadata": {
            "Entropy": "3.25",
            "Tags": "a",
            "ValidationStatus": "valid",
            "resource": "git.patch_content",
        },
        "code": {
            "location": {
                "path": "lib/app_2.py",
                "line": 3,
                "endLine": 3,
                "column": 9,
                "endColumn": 40,
            },
            "commit": f"{3:040x}",
        },
    }
    opened = evidence(found.findings[1])
    assert opened.context == '# shop\nkey = "made-up-00000002"'
    assert opened.message == "Detected a key.\nuse a key"
    assert opened.extra == {"git.remote_url": "https://example.test/shop"}
    assert notices(found) == []


def test_deprecated_fields_are_read_where_an_attribute_is_missing() -> None:
    found = only([first(Attributes={"fs.symlink": "ln"})])
    assert found.code.location.path == "src/app_0.py"
    assert found.code.commit == f"{0:040x}"
    assert found.changed_at.seconds == 1709287200
    assert found.raw_metadata["SymlinkFile"] == "ln"


def test_without_the_deprecated_fields_nothing_is_missing() -> None:
    record = first()
    for name in ("File", "SymlinkFile", "Commit", "Entropy", "Author", "Email", "Date", "Message"):
        del record[name]
    found = ingest(dump([record]))
    assert found.findings[0].code.location.path == "lib/app_0.py"
    assert notices(found) == []


def test_what_is_in_no_file_has_its_page() -> None:
    page = {"url": "https://example.test/issues/7?token=made-up#c2", "resource": "github.issue"}
    for record in (
        first(Attributes=page, File=""),
        second(attributes=page, location={"start_line": 1}),
    ):
        found = only([record])
        assert found.code.container == "https://example.test/issues/7"
        assert found.code.location.path == ""


STATUSES = [
    ("valid", pb.VALIDITY_LIVE),
    ("CONFIRMED", pb.VALIDITY_LIVE),
    ("invalid", pb.VALIDITY_DEAD),
    ("revoked", pb.VALIDITY_DEAD),
    ("needs_validation", pb.VALIDITY_UNVERIFIED),
    ("unknown", pb.VALIDITY_UNKNOWN),
    ("error", pb.VALIDITY_UNKNOWN),
    ("", pb.VALIDITY_UNSPECIFIED),
    ("brand new", pb.VALIDITY_UNSPECIFIED),
]


@pytest.mark.parametrize(("status", "validity"), STATUSES)
def test_live_checks(status: str, validity: Any) -> None:
    assert only([first(ValidationStatus=status)]).validity == validity
    assert only([second(analysis={"status": status})]).validity == validity


def test_what_a_check_said_is_sealed() -> None:
    meta = {"owner": "ada", "scopes": ["read", "made-up"]}
    record = first(ValidationReason="accepted made-up", ValidationMeta=meta)
    assert {k: v for k, v in evidence(only([record])).extra.items() if k != "git.remote_url"} == {
        "ValidationReason": "accepted made-up",
        "ValidationMeta.owner": "ada",
        "ValidationMeta.scopes": '["read", "made-up"]',
    }
    analysis = {"status": "valid", "severity": "high", "identity": {"email": "ada@example.test"}}
    found = only([second(analysis=analysis)])
    assert found.severity == pb.SEVERITY_HIGH
    assert evidence(found).extra == {"analysis.identity": '{"email": "ada@example.test"}'}
    assert "ada" not in " ".join(clear_strings(found))


PART = "other-part-1234"


def parts_of_first() -> dict[str, Any]:
    component = {
        "RuleID": "key-id",
        "StartLine": 7,
        "EndLine": 7,
        "StartColumn": 2,
        "EndColumn": 17,
        "Match": f"id = {PART}",
        "Secret": PART,
        "CaptureGroups": {"id": "group-part-1234"},
    }
    sets = [{"components": [component], "validationStatus": "valid", "validationReason": "ok"}] * 2
    return first(
        RequiredSets=sets,
        CaptureGroups={"host": "db", "password": "made-up-00000000"},
        Attributes={"path": f"{PART}/group-part-1234/db/made-up-00000000"},
    )


def parts_of_second() -> dict[str, Any]:
    component = {
        "rule_id": "key-id",
        "rule_hash": "0" * 64,
        "match": {"full": f"id = {PART}", "value": PART, "captures": {"id": "group-part-1234"}},
        "location": {
            "path": f"{PART}/group-part-1234/db/made-up-00000000",
            "start_line": 7,
            "end_line": 7,
            "start_column": 2,
            "end_column": 17,
        },
    }
    found = second(component_sets=[{"components": [component]}] * 2)
    found["match"]["captures"] = {"host": "db", "password": "made-up-00000000"}
    found["location"]["path"] = component["location"]["path"]
    return found


@pytest.mark.parametrize("make", [parts_of_first, parts_of_second])
def test_a_credential_of_several_parts_is_one_finding(make: Any) -> None:
    found = ingest(dump([make()]))
    [finding] = found.findings
    place = finding.code.location
    assert place.path == "[REDACTED]/[REDACTED]/db/[REDACTED]"
    [other] = finding.code.more_locations
    assert (other.path, other.line, other.column, other.end_column) == (place.path, 7, 2, 17)
    extra = evidence(finding).extra
    assert extra["components.key-id"] == PART
    assert extra["components.key-id.id"] == "group-part-1234"
    assert "made-up" not in " ".join(clear_strings(finding))
    assert notices(found) == []


def test_of_very_many_parts_the_first_places_are_kept_and_every_value_is_masked() -> None:
    record = parts_of_first()
    [part] = record["RequiredSets"][0]["components"]
    many = [{**part, "StartLine": i, "Secret": f"other-part-{i:04d}"} for i in range(1, 200)]
    record |= {"RequiredSets": [{"components": many}], "Attributes": {"path": "other-part-0199"}}
    found = only([record])
    assert [place.line for place in found.code.more_locations] == list(range(1, 65))
    assert found.code.location.path == "[REDACTED]"


def test_betterleaks_2() -> None:
    found = ingest(dump(document(second(), second(2, encodings=["base64"], tags=["a", "b"]))))
    assert (found.format.scanner_type, found.format.dialect) == ("betterleaks", "betterleaks 2")
    assert found.format.shape == "object"
    assert golden(found.findings[1]) == {
        "ordinal": "1",
        "kind": "FINDING_KIND_POSSIBLE_SECRET",
        "tool": "betterleaks",
        "ruleId": "generic-api-key",
        "valueState": "VALUE_STATE_PRESENT",
        "valuePreview": "… (16 characters)",
        "changedAt": "2024-05-06T10:00:00Z",
        "rawMetadata": {"confidence": "high", "resource": "git.patch_content", "tags": "a,b"},
        "code": {
            "location": {
                "path": "lib/app_2.py",
                "line": 3,
                "endLine": 3,
                "column": 9,
                "endColumn": 24,
            },
            "commit": f"{2:040x}",
        },
    }
    opened = evidence(found.findings[1])
    assert (opened.value, opened.decoder) == ("made-up-00000002", "base64")
    assert opened.match == 'key = "made-up-00000002"'
    assert opened.context == '# shop\nkey = "made-up-00000002"'
    assert opened.message == "Detected a key.\nuse a key"
    assert notices(found) == []


@pytest.mark.parametrize(
    "report",
    [
        dump(document(second(), second(1), second()), indent=1),
        lines(second(), second(1), second()),
        dump([second(), second(1), second()]),
        b"starting scan\n" + lines(second(), second(1), second()),
        dump(dict(reversed(document(second(), second(1), second()).items()))),
    ],
)
def test_every_shape_of_betterleaks_2_is_read(report: bytes) -> None:
    found = ingest(report)
    assert (found.format.scanner_type, found.counts) == ("betterleaks", (3, 2, 1, 0))
    assert found.findings[1].code.location.path == "lib/app_1.py"


@pytest.mark.parametrize("report", [dump(document()), dump(document(), indent=1), lines()])
def test_a_scan_that_found_nothing_is_an_empty_report(report: bytes) -> None:
    found = ingest(report)
    assert (found.format.scanner_type, found.counts) == ("betterleaks", (0, 0, 0, 0))
    assert notices(found) == []


@pytest.mark.parametrize("make", [lambda **o: dump(document(second(), **o)), lines])
def test_a_scan_that_did_not_finish_is_told(make: Any) -> None:
    assert notices(ingest(make(state="canceled"))) == [("SCAN_INCOMPLETE", "scan.state", 0)]


def test_damaged_records_are_rejected_alone() -> None:
    bad = second(1, match="made-up")
    for report in (dump(document(second(), bad, second(2))), lines(second(), bad, second(2))):
        found = ingest(report)
        assert found.counts == (3, 2, 0, 1)
        assert found.reasons == [(1, "WRONG_TYPE")]
        assert report[found.rejected[0].at_byte :].startswith(b"{")
    other = ingest(lines(second()) + b'\n{"schema_version":"1"}')
    assert other.reasons == [(1, "MISSING_FIELD")]


def test_changed_fields_are_told_by_name() -> None:
    odd = second(1, score=3)
    odd["match"]["kind"] = "text"
    assert notices(ingest(dump(document(second(), odd) | {"links": []}))) == [
        ("UNKNOWN_FIELD", "links", 1),
        ("UNKNOWN_FIELD", "match.kind", 1),
        ("UNKNOWN_FIELD", "score", 1),
    ]
    assert notices(ingest(dump([first(Score=1, Secret=None)]))) == [
        ("UNKNOWN_FIELD", "Score", 1),
        ("MISSING_FIELD", "Secret", 1),
    ]


@pytest.mark.parametrize("value", ["REDACTED", "made..."])
def test_a_redacted_value_is_no_identity(value: str) -> None:
    match = {"full": f"key = {value}", "value": value, "fingerprint": "0" * 64}
    for report in ([first(Secret=value)], [second(match=match)]):
        found = ingest(dump(report))
        [finding] = found.findings
        assert finding.value_state == pb.VALUE_STATE_REDACTED
        assert not finding.value_fingerprint
        assert notices(found) == [("VALUES_REDACTED", "", 1)]


def test_records_without_anything_of_betterleaks_are_gitleaks() -> None:
    assert ingest(dump([gitleaks()])).format.scanner_type == "gitleaks"
    wrapped = ingest(dump({"findings": [first()]}))
    assert (wrapped.format.scanner_type, wrapped.counts) == ("betterleaks", (1, 1, 0, 0))


@pytest.mark.parametrize("name", REPORTS)
def test_recorded_reports_show_no_value(name: str) -> None:
    found = ingest(load_report(name))
    assert notices(found) == []
    assert found.counts == (30, 30, 0, 0)
    shown = "\n".join(text for finding in found.findings for text in clear_strings(finding))
    assert not [value for value in planted_values() if value in shown]
    values = {evidence(finding).value for finding in found.findings}
    assert len(values) > 15


def test_the_unkeyed_digest_of_a_value_goes_nowhere() -> None:
    [recorded] = [json.loads(load_report(REPORTS[0]))["findings"][0]["match"]["fingerprint"]]
    finding = ingest(load_report(REPORTS[0])).findings[0]
    assert recorded not in " ".join(clear_strings(finding)) + str(evidence(finding))
