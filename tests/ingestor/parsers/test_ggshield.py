"""ggshield: incidents of scans, and of scans within them."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict

from ingestor.parsers import ggshield
from runtime.errors import WinnowError
from tests.ingestor.reading_reports import clear_strings, dump, evidence, golden, ingest
from winnow.finding.v1 import finding_pb2 as pb
from winnow.ingest.v1 import notice_pb2

VALUE = "made-up-value"
CENSORED = "mad*-**-*****ue"
IGNORE_SHA = "5" * 64
URL = "https://dashboard.example.test/workspace/1/incidents/7"


def occurrence(match: str = VALUE, line: int | None = 3, **fields: Any) -> dict[str, Any]:
    return {
        "match": match,
        "type": "apikey",
        "line_start": line,
        "line_end": line,
        "index_start": 7,
        "index_end": 20,
        **fields,
    }


def incident(*occurrences: Any, **fields: Any) -> dict[str, Any]:
    found = list(occurrences) or [occurrence()]
    return {
        "policy": "Secrets detection",
        "occurrences": found,
        "type": "Generic Key",
        "validity": "no_checker",
        "ignore_sha": IGNORE_SHA,
        "total_occurrences": len(found),
        "incident_url": "",
        "known_secret": False,
        **fields,
    }


def entity(*incidents: Any, path: str = "src/app.py", **fields: Any) -> dict[str, Any]:
    return {
        "mode": "FILE",
        "filename": path,
        "incidents": list(incidents) or [incident()],
        "total_incidents": 1,
        "total_occurrences": 1,
        **fields,
    }


def path_scan(*entities: Any, **more: Any) -> dict[str, Any]:
    return {
        "id": "scan",
        "type": "path_scan",
        "entities_with_incidents": list(entities) or [entity()],
        "errors": [],
        "total_incidents": 1,
        "total_occurrences": 1,
        "secrets_engine_version": "2.100.0",
        **more,
    }


def commit(sha: str, *entities: Any, **more: Any) -> dict[str, Any]:
    return {
        "id": sha,
        "type": "commit",
        "entities_with_incidents": list(entities) or [entity()],
        "extra_info": {"author": "Ada", "email": "a@example.test", "date": "Sat Mar 13 17:42:00 2021 +0530"},
        "total_incidents": 1,
        "total_occurrences": 1,
        **more,
    }  # fmt: skip


def commit_range(*scans: Any, **more: Any) -> dict[str, Any]:
    total = {"total_incidents": 1, "total_occurrences": 1}
    return {"id": "range", "type": "commit-range", "scans": list(scans), **total, **more}


def notices(found: Any) -> list[tuple[str, str, int]]:
    return [
        (notice_pb2.NoticeKind.Name(n.kind).removeprefix("NOTICE_KIND_"), n.field, n.records)
        for n in found.summary.notices
    ]


def finding_of(*occurrences: Any, **fields: Any) -> pb.Finding:
    [found] = ingest(dump(path_scan(entity(incident(*occurrences, **fields))))).findings
    return found


def test_an_incident_of_a_commit() -> None:
    found = ingest(dump(commit_range(commit("c" * 40)), indent=4))
    assert (found.format.scanner_type, found.format.dialect) == ("ggshield", "ggshield 1")
    assert notices(found) == []
    assert golden(found.findings[0]) == {
        "kind": "FINDING_KIND_POSSIBLE_SECRET",
        "tool": "ggshield",
        "ruleId": "Generic Key",
        "valueState": "VALUE_STATE_PRESENT",
        "valuePreview": "… (13 characters)",
        "changedAt": "2021-03-13T12:12:00Z",
        "rawMetadata": {"policy": "Secrets detection", "validity": "no_checker"},
        "code": {
            "location": {
                "path": "src/app.py",
                "line": 3,
                "endLine": 3,
                "column": 8,
                "endColumn": 21,
            },
            "commit": "c" * 40,
        },
    }
    assert MessageToDict(evidence(found.findings[0])) == {
        "value": VALUE,
        "extra": {"apikey 1": VALUE},
    }


def test_a_scan_of_paths_has_no_commit() -> None:
    found = ingest(dump(path_scan(entity(), entity(path="b.py"))))
    assert [(f.code.location.path, f.code.commit) for f in found.findings] == [
        ("src/app.py", ""),
        ("b.py", ""),
    ]
    assert notices(found) == []


@pytest.mark.parametrize("options", [{}, {"sort_keys": True}, {"indent": 2}])
def test_scans_within_scans_in_any_order_of_members(options: Any) -> None:
    inner = {"id": "docs", "type": "docset", "scans": [{"id": "d1", "type": "doc", "entities_with_incidents": [entity(path="d")]}]}  # fmt: skip
    report = commit_range(commit("a" * 40), commit("b" * 40, entity(), entity(path="x")), inner)
    for found in (ingest(dump(report, **options)), ingest(dump(report, **options), size=11)):
        assert found.counts == (4, 4, 0, 0)
        assert [(f.code.commit[:1], f.code.location.path) for f in found.findings] == [
            ("a", "src/app.py"),
            ("b", "src/app.py"),
            ("b", "x"),
            ("", "d"),
        ]
        assert found.findings[0].HasField("changed_at")


def test_the_first_shape_said_issues() -> None:
    early = entity(total_issues=1)
    early["issues"] = early.pop("incidents")
    scan = commit("a" * 40, total_issues=1)
    scan["entities_with_issues"] = [early]
    del scan["entities_with_incidents"]
    found = ingest(dump(commit_range(scan, total_issues=1)))
    assert found.format.dialect == "ggshield 1, early"
    assert found.counts == (1, 1, 0, 0)
    assert notices(found) == []


@pytest.mark.parametrize("scans", [[], [{"id": "a", "type": "commit", "total_incidents": 0}]])
def test_a_scan_that_found_nothing(scans: Any) -> None:
    found = ingest(dump(commit_range(*scans)))
    assert found.format.scanner_type == "ggshield"
    assert found.counts == (0, 0, 0, 0)


@pytest.mark.parametrize("match", [CENSORED, "********", "a**d", "**c", "----******** ***----"])
def test_censored_matches_are_no_identity(match: str) -> None:
    finding = finding_of(occurrence(match))
    assert finding.value_state == pb.VALUE_STATE_REDACTED
    assert not finding.value_fingerprint
    assert evidence(finding).extra["apikey 1"] == match


@pytest.mark.parametrize("match", ["a*b*c-made-up", "p**word1234567", "made-up-value*"])
def test_values_with_asterisks_are_values(match: str) -> None:
    assert finding_of(occurrence(match)).value_state == pb.VALUE_STATE_PRESENT


def test_an_incident_of_several_parts_and_places() -> None:
    parts = [
        occurrence("made-up-user", type="username"),
        occurrence("made-up-host", 4, type="host"),
        occurrence("made-up-password", 5, type="password"),
        occurrence("made-up-password", 9, type="password"),
        occurrence("made-up-other", 5, type="client_secret"),
    ]
    report = path_scan(entity(incident(*parts), path="a/made-up-other/made-up-host/b"))
    found = ingest(dump(report))
    assert found.counts == (1, 1, 0, 0)
    [finding] = found.findings
    opened = evidence(finding)
    assert opened.value == "made-up-password"
    assert {k: v for k, v in opened.extra.items() if k.startswith(("user", "client"))} == {
        "username 1": "made-up-user",
        "client_secret 4": "made-up-other",
    }
    # Hosts and users are no secrets; what else belongs to the credential is.
    assert finding.code.location.path == "a/[REDACTED]/made-up-host/b"
    assert [p.line for p in (finding.code.location, *finding.code.more_locations)] == [3, 4, 5, 9]


def test_the_unkeyed_digest_stands_nowhere() -> None:
    finding = finding_of(occurrence(CENSORED), incident_url=f"{URL}/{IGNORE_SHA}")
    assert finding.native_id == f"{URL}/[REDACTED]"
    assert IGNORE_SHA not in "".join([*clear_strings(finding), str(evidence(finding))])


@pytest.mark.parametrize(
    ("lines", "line", "column"),
    [
        ({"line_start": 3, "post_line_start": 4}, 3, 8),
        ({"line_start": None, "post_line_start": 4, "pre_line_start": 5}, 4, 0),
        ({"line_start": None, "pre_line_start": 5}, 5, 0),
        ({"line_start": None}, 0, 0),
    ],
)
def test_lines_of_patches(lines: Any, line: int, column: int) -> None:
    at = finding_of(occurrence(**lines)).code.location
    assert (at.line, at.column) == (line, column)


@pytest.mark.parametrize(
    ("validity", "is_read_as"),
    [
        ("valid", pb.VALIDITY_LIVE),
        ("invalid", pb.VALIDITY_DEAD),
        ("failed_to_check", pb.VALIDITY_UNKNOWN),
        ("unknown", pb.VALIDITY_UNKNOWN),
        ("no_checker", pb.VALIDITY_UNSPECIFIED),
    ],
)
def test_validity(validity: str, is_read_as: Any) -> None:
    assert finding_of(validity=validity).validity == is_read_as


@pytest.mark.parametrize(
    ("fields", "triage"),
    [
        ({"ignore_reason": {"kind": "ignored_match", "detail": "made-up note"}}, pb.TRIAGE_ACCEPTED),
        ({"ignore_reason": {"kind": "known_secret", "detail": None}}, pb.TRIAGE_UNSPECIFIED),
        ({"ignore_reason": None}, pb.TRIAGE_UNSPECIFIED),
        ({"incident_details": {"ignore_reason": "false_positive"}}, pb.TRIAGE_FALSE_POSITIVE),
        ({"incident_details": {"ignore_reason": "test_credential"}}, pb.TRIAGE_TEST_ONLY),
        ({"incident_details": {"ignore_reason": "low_risk"}}, pb.TRIAGE_ACCEPTED),
        ({"incident_details": {"secret_revoked": True}}, pb.TRIAGE_REVOKED),
        ({"incident_details": {"ignore_reason": None, "new": {}}}, pb.TRIAGE_UNSPECIFIED),
    ],
)  # fmt: skip
def test_decisions(fields: Any, triage: Any) -> None:
    finding = finding_of(**fields)
    assert finding.triage == triage
    assert "made-up note" not in "".join(clear_strings(finding))


def test_what_the_dashboard_knows() -> None:
    finding = finding_of(incident_url=URL, known_secret=True, secret_vaulted=True, incident_details={"severity": "high"})  # fmt: skip
    assert (finding.native_id, finding.severity) == (URL, pb.SEVERITY_HIGH)
    assert finding.raw_metadata["known_secret"] == finding.raw_metadata["secret_vaulted"] == "true"


def test_errors_of_the_scan_are_told() -> None:
    errors = [{"files": [{"mode": "FILE", "filename": "big"}], "description": "too large"}]
    assert notices(ingest(dump(path_scan(errors=errors)))) == [("SCAN_INCOMPLETE", "errors", 0)]
    within = commit("a" * 40, errors=errors)
    assert notices(ingest(dump(commit_range(within)))) == [("SCAN_INCOMPLETE", "errors", 0)]


def test_many_incidents_of_one_file_and_of_many() -> None:
    of_one = entity(*[incident(occurrence(line=n)) for n in range(1, 1501)])
    of_many = [commit(f"{n:040x}") for n in range(500)]
    found = ingest(dump(commit_range(*of_many, entities_with_incidents=[of_one])))
    assert found.counts == (2000, 2000, 0, 0)
    assert {f.code.commit for f in found.findings} >= {"", f"{499:040x}"}


def test_drift_and_broken_incidents() -> None:
    good = incident(occurrence(novelty=1), novelty=1)
    odd = entity(good, {"type": "x"}, 5, incident(validity=None), novelty=1)
    report = commit_range(commit("a" * 40, odd, novelty=1))
    found = ingest(dump(report))
    assert found.counts == (4, 2, 0, 2)
    assert found.reasons == [(1, "MISSING_FIELD"), (2, "NOT_A_RECORD")]
    assert found.rejected[0].at_byte == dump(report).index(b'{"type": "x"}')
    assert notices(found) == [
        ("UNKNOWN_FIELD", "entities_with_incidents[].novelty", 1),
        ("UNKNOWN_FIELD", "novelty", 1),
        ("UNKNOWN_FIELD", "occurrences[].novelty", 1),
        ("UNKNOWN_FIELD", "scans[].novelty", 1),
        ("MISSING_FIELD", "validity", 1),
    ]


def test_odd_members_do_no_harm() -> None:
    scan = commit("a" * 40, entity(path=None), id=7, extra_info="x", scans=None)  # type: ignore[arg-type]
    found = ingest(dump(commit_range(scan, errors=None)))
    assert found.counts == (1, 1, 0, 0)
    assert found.findings[0].code.commit == ""


def test_an_entity_that_is_none_ends_the_report() -> None:
    with pytest.raises(WinnowError) as raised:
        ingest(dump(path_scan(entity(), 5)))
    assert raised.value.reason == "REPORT_MALFORMED"


def test_an_incident_that_is_no_json_costs_no_other() -> None:
    report = dump(path_scan(entity(incident(policy="@@"), incident())))
    found = ingest(report.replace(b'"@@"', b"@@"))
    assert found.counts == (2, 1, 0, 1)
    assert found.reasons == [(0, "SYNTAX")]


def test_scans_nested_beyond_sense_are_rejected() -> None:
    report: dict[str, Any] = commit_range(commit("a" * 40))
    for _ in range(400):
        report = commit_range(report)
    assert ingest(dump(report)).reasons == [(0, "TOO_DEEP")]


def test_the_same_incident_in_two_commits_is_two_findings() -> None:
    again = commit("a" * 40)
    found = ingest(dump(commit_range(again, again, commit("b" * 40))))
    assert found.counts == (3, 2, 1, 0)


@pytest.mark.parametrize(("incidents", "path"), [(10, "src/app.py"), (1000, "")])
def test_no_more_incidents_wait_for_their_file_than_there_is_room_for(
    monkeypatch: pytest.MonkeyPatch, incidents: int, path: str
) -> None:
    monkeypatch.setattr(ggshield, "_MAX_HELD", 64 << 10)
    file = entity(*(incident(type=f"Key {number}") for number in range(incidents)))
    late = {name: file[name] for name in reversed(file)}
    findings = ingest(dump(path_scan(late))).findings
    assert (len(findings), findings[0].code.location.path) == (incidents, path)
    assert findings[-1].code.location.path == "src/app.py"


def test_no_more_incidents_wait_for_their_scan_than_there_is_room_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ggshield, "_MAX_HELD", 64 << 10)
    scan = commit("c" * 40, *(entity(path=f"{number}.py") for number in range(1000)))
    late = {name: scan[name] for name in reversed(scan)}
    findings = ingest(dump(commit_range(late))).findings
    assert [finding.code.location.path for finding in findings] == [f"{n}.py" for n in range(1000)]
    assert (findings[0].code.commit, findings[-1].code.commit) == ("", "c" * 40)
