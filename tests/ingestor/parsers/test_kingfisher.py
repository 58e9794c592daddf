"""Kingfisher: envelopes, JSONL, and what its first versions wrote."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict

from runtime.errors import WinnowError
from tests.fixtures import expected, load_report, planted_values
from tests.ingestor.reading_reports import clear_strings, dump, evidence, golden, ingest
from winnow.finding.v1 import finding_pb2 as pb
from winnow.ingest.v1 import notice_pb2

VALUE = "made-up-value-01"
PART = "made-up-part-02"


def record(number: int = 0, **finding: Any) -> dict[str, Any]:
    """One record as 2.x writes it; distinct for each number."""
    return {
        "rule": {
            "title": "SOME-TOKEN => [BETTERLEAKS.SOME-TOKEN]",
            "name": "some-token",
            "id": "betterleaks.some-token",
            "description": "Found a token.",
        },
        "finding": {
            "snippet": VALUE,
            "fingerprint": str(4000 + number),
            "confidence": "high",
            "entropy": "3.25",
            "validation": {"outcome": "not_attempted", "status": "Not Attempted", "response": ""},
            "language": "Python",
            "line": number + 4,
            "column_start": 16,
            "column_end": 31,
            "path": "src/app.py",
            "git_metadata": {
                "repository_url": ".",
                "commit": {
                    "id": "c" * 40,
                    "url": "./commit/c",
                    "date": "2026-11-01",
                    "committer": {"name": "Ada", "email": "ada@example.test"},
                    "author": {"name": "Ada", "email": "ada@example.test"},
                },
                "file": {"path": "src/app.py", "url": "./blob/c", "git_command": "git show c"},
            },
            "validate_command": f"kingfisher validate --rule 'betterleaks.some-token' '{VALUE}'",
            **finding,
        },
    }


def early(**finding: Any) -> dict[str, Any]:
    """One record as 1.x wrote it."""
    return {
        "rule": {"name": "Some Token", "id": "kingfisher.some.1"},
        "finding": {
            "snippet": VALUE,
            "fingerprint": "12",
            "confidence": "medium",
            "entropy": "3.25",
            "validation": {"status": "Inactive Credential", "response": "401"},
            "language": "Unknown",
            "line": 1,
            "column_start": 0,
            "column_end": 15,
            "path": "a.txt",
            **finding,
        },
    }


def audit(**summary: int) -> dict[str, Any]:
    return {
        "schema": "kingfisher.repository-audit.v1",
        "run_id": "r",
        "summary": {"discovered": 1, "fetch_failed": 0, "scan_failed": 0, **summary},
        "repositories": [{"key": "local:."}],
    }


def envelope(*records: Any, **more: Any) -> dict[str, Any]:
    metadata = {"kingfisher_version": "2.14.0", "command_line_args": [VALUE], "summary": {}}
    return {"findings": list(records), "audit": audit(), "metadata": metadata, **more}


def lines(*values: Any) -> bytes:
    return b"".join(dump(value) + b"\n" for value in values)


def notices(found: Any) -> list[tuple[str, str, int]]:
    return [
        (notice_pb2.NoticeKind.Name(n.kind).removeprefix("NOTICE_KIND_"), n.field, n.records)
        for n in found.summary.notices
    ]


def test_a_record() -> None:
    found = ingest(lines(envelope(record())))
    assert (found.format.scanner_type, found.format.dialect) == ("kingfisher", "Kingfisher 2.14.0")
    assert notices(found) == []
    assert golden(found.findings[0]) == {
        "kind": "FINDING_KIND_POSSIBLE_SECRET",
        "tool": "kingfisher",
        "ruleId": "betterleaks.some-token",
        "ruleName": "some-token",
        "valueState": "VALUE_STATE_PRESENT",
        "valuePreview": "… (16 characters)",
        "changedAt": "2026-11-01T00:00:00Z",
        "nativeId": "4000",
        "rawMetadata": {
            "confidence": "high",
            "entropy": "3.25",
            "language": "Python",
            "validation.outcome": "not_attempted",
            "validation.status": "Not Attempted",
        },
        "code": {
            "location": {
                "path": "src/app.py",
                "line": 4,
                "endLine": 4,
                "column": 17,
                "endColumn": 33,
            },
            "commit": "c" * 40,
        },
    }
    assert MessageToDict(evidence(found.findings[0])) == {
        "value": VALUE,
        "message": "Found a token.",
        "extra": {
            "validate_command": f"kingfisher validate --rule 'betterleaks.some-token' '{VALUE}'"
        },
    }


def test_the_recorded_report_is_read_whole_and_shows_no_value() -> None:
    found = ingest(load_report("kingfisher.git.json"))
    assert found.summary.records_read == expected()["kingfisher.git.json"]["records"]
    assert (found.summary.rejected, notices(found)) == (0, [])
    clear = "\n".join(text for finding in found.findings for text in clear_strings(finding))
    assert [value for value in planted_values() if value in clear] == []


def test_a_key_over_several_lines_ends_where_its_last_line_does() -> None:
    key = "-----BEGIN MADE UP KEY-----\nAAAA\n-----END MADE UP KEY-----"
    [finding] = ingest(
        lines(envelope(record(snippet=key, line=3, column_start=0, column_end=24)))
    ).findings
    at = finding.code.location
    assert (at.line, at.end_line, at.column, at.end_column) == (3, 5, 1, 26)


@pytest.mark.parametrize(
    ("report", "shape"),
    [
        (lines(envelope(record(0)), envelope(record(1), record(2))), "object"),
        (dump([envelope(record(0), record(1)), envelope(record(2))]), "array"),
        (dump(envelope(record(0), record(1), record(2)), indent=2, sort_keys=True), "object"),
        (dump(envelope(record(0), record(1), record(2)), indent=2).replace(b"\n", b"\r\n"), "object"),
        (lines(record(0), record(1), record(2)), "ndjson"),
        (lines(record(0), record(1), record(2), {"access_map": []}, {"audit": audit()}), "ndjson"),
        (dump([record(0), record(1), record(2)]), "array"),
    ],
)  # fmt: skip
def test_every_shape_gives_the_same_findings(report: bytes, shape: str) -> None:
    found = ingest(report)
    assert found.counts == (3, 3, 0, 0)
    assert [f.native_id for f in found.findings] == ["4000", "4001", "4002"]
    assert found.format.shape == shape
    assert ingest(report, "kingfisher", size=7).counts == (3, 3, 0, 0)


@pytest.mark.parametrize(
    "report",
    [lines(envelope()), lines({"audit": audit()}), lines(envelope(), envelope())],
)
def test_a_scan_that_found_nothing(report: bytes) -> None:
    found = ingest(report)
    assert found.format.scanner_type == "kingfisher"
    assert found.counts == (0, 0, 0, 0)


def test_the_first_version_grouped_by_rule() -> None:
    groups = [
        {"id": "kingfisher.some.1", "matches": [early(), early(line=2)]},
        {"id": "kingfisher.other.1", "matches": [early(line=3)]},
        {"id": "kingfisher.odd.1", "matches": "none"},
    ]
    found = ingest(dump(groups))
    assert found.format.dialect == "Kingfisher 1, early"
    assert found.counts == (4, 3, 0, 1)
    assert found.reasons == [(3, "WRONG_TYPE")]
    assert [f.code.location.line for f in found.findings] == [1, 2, 3]


def test_an_access_map_behind_the_lines_is_passed_over() -> None:
    found = ingest(lines(record(), {"access_map": [{"provider": "aws"}]}, {"audit": audit()}))
    assert found.counts == (1, 1, 0, 0)
    assert notices(found) == [("PART_SKIPPED", "access_map", 0)]


def test_the_sarif_of_kingfisher_is_not_taken_for_its_json() -> None:
    assert ingest(load_report("kingfisher.git.sarif")).format.scanner_type == "sarif"


def test_version_one_had_statistics_and_no_outcome() -> None:
    report = {"findings": [early()], "access_map": [{"provider": "aws"}], "stats": {"total": 1}}
    found = ingest(dump(report))
    assert found.format.dialect == "Kingfisher 1"
    assert notices(found) == [("PART_SKIPPED", "access_map", 0)]
    assert found.findings[0].validity == pb.VALIDITY_DEAD


@pytest.mark.parametrize(
    ("validation", "validity"),
    [
        ({"outcome": "verified_active", "status": "Active Credential"}, pb.VALIDITY_LIVE),
        ({"outcome": "verified_inactive", "status": "Inactive Credential"}, pb.VALIDITY_DEAD),
        ({"outcome": "assumed"}, pb.VALIDITY_ASSUMED),
        ({"outcome": "locally_derived"}, pb.VALIDITY_ASSUMED),
        ({"outcome": "not_attempted"}, pb.VALIDITY_UNSPECIFIED),
        ({"outcome": "a new one"}, pb.VALIDITY_UNKNOWN),
        ({"status": "Active Credential"}, pb.VALIDITY_LIVE),
        ({"status": "Inactive Credential", "response": "401"}, pb.VALIDITY_DEAD),
        ({"status": "Inactive Credential", "response": "Validation skipped - x"}, pb.VALIDITY_UNSPECIFIED),
        (None, pb.VALIDITY_UNSPECIFIED),
    ],
)  # fmt: skip
def test_validity(validation: Any, validity: Any) -> None:
    assert ingest(lines(record(validation=validation))).findings[0].validity == validity


def test_what_commands_captures_and_answers_hold_is_sealed_and_masked() -> None:
    command = f"kingfisher blast-radius --rule 'betterleaks.some-token' --var K='{PART}' '{VALUE}'"
    finding = record(
        path=f"a/{PART}/b",
        blast_radius_command=command,
        dependent_captures={"KEY": "made-up-capture"},
        validation={"outcome": "verified_active", "response": f"{VALUE} is of made-up-account"},
        language="made-up-capture",
    )
    [found] = ingest(lines(finding)).findings
    assert found.code.location.path == "a/[REDACTED]/b"
    assert found.rule_id == "betterleaks.some-token"
    assert found.raw_metadata["language"] == "[REDACTED]"
    extra = evidence(found).extra
    assert extra["blast_radius_command"] == command
    assert extra["dependent_captures.KEY"] == "made-up-capture"
    assert "made-up-account" in extra["validation.response"]
    assert "made-up" not in "".join(clear_strings(found))


def test_redacted_values_are_no_identity() -> None:
    found = ingest(lines(envelope(record(snippet="[REDACTED:0123abcd]"))))
    [finding] = found.findings
    assert finding.value_state == pb.VALUE_STATE_REDACTED
    assert not finding.value_fingerprint
    assert finding.code.location.end_line == 0
    assert notices(found) == [("VALUES_REDACTED", "", 1)]


@pytest.mark.parametrize("wrap", [lambda a: lines(envelope(record(), audit=a)), lambda a: lines(record(), {"audit": a})])  # fmt: skip
def test_repositories_that_were_not_scanned_are_told(wrap: Any) -> None:
    assert notices(ingest(wrap(audit(fetch_failed=1)))) == [("SCAN_INCOMPLETE", "audit.summary", 0)]
    assert notices(ingest(wrap("odd"))) == []
    assert notices(ingest(wrap(None))) == []


@pytest.mark.parametrize(
    "wrap",
    [
        lambda records: lines(*records, {"audit": audit()}),
        lambda records: lines(envelope(*records[:9]), envelope(*records[9:])),
        dump,
    ],
)
def test_many_records(wrap: Any) -> None:
    found = ingest(wrap([record(n) for n in range(1500)]))
    assert found.counts == (1500, 1500, 0, 0)
    assert found.findings[-1].native_id == "5499"


def test_drift_is_told_by_name_and_costs_no_record() -> None:
    changed = record(severity="high", line="12")
    found = ingest(lines(envelope(record(1), changed, novelty={})))
    assert found.counts == (2, 2, 0, 0)
    assert found.findings[1].code.location.line == 12
    assert notices(found) == [
        ("UNKNOWN_FIELD", "finding.severity", 1),
        ("UNKNOWN_FIELD", "novelty", 1),
    ]


def test_envelopes_without_findings_in_them_and_damaged_ones() -> None:
    report = lines(envelope(record()), envelope(findings=None), envelope(audit=5, access_map=None))
    assert ingest(report).counts == (1, 1, 0, 0)
    for damaged in (report[:-30], dump([envelope(record()), 5]), report + b"]"):
        with pytest.raises(WinnowError) as raised:
            ingest(damaged)
        assert raised.value.reason == "REPORT_MALFORMED"


def test_a_broken_record_is_rejected_alone() -> None:
    broken = record(1)
    del broken["finding"]["path"]
    found = ingest(lines(envelope(record(0), broken, record(2))))
    assert found.reasons == [(1, "MISSING_FIELD")]
    assert found.rejected[0].field == "finding.path"
    assert found.rejected[0].at_byte == lines(envelope(record(0), broken)).index(b', {"rule"') + 2
    assert VALUE not in json.dumps([MessageToDict(r) for r in found.rejected])


def test_lines_say_no_more_than_from_which_version_on() -> None:
    assert ingest(load_report("kingfisher.v1.jsonl")).format.dialect == "Kingfisher 1.112 or newer"
