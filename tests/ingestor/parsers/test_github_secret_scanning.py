"""GitHub secret scanning: alerts as the API lists them, page by page."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict

from runtime.errors import WinnowError
from tests.ingestor.reading_reports import clear_strings, dump, evidence, golden, ingest
from winnow.finding.v1 import finding_pb2 as pb
from winnow.ingest.v1 import notice_pb2

VALUE = "made-up-value"
ALERT = "https://github.example.test/owner/name/security/secret-scanning"


def alert(number: int = 1, **fields: Any) -> dict[str, Any]:
    return {
        "number": number,
        "created_at": "2025-11-06T18:48:51Z",
        "url": "https://api.example.test/alerts/1",
        "html_url": f"{ALERT}/{number}",
        "locations_url": "https://api.example.test/alerts/1/locations",
        "state": "open",
        "resolution": None,
        "resolved_at": None,
        "resolved_by": None,
        "secret_type": "some_token",
        "secret_type_display_name": "Some Token",
        "secret": VALUE,
        "repository": {"id": 1, "full_name": "owner/name", "owner": {"login": "owner"}},
        "push_protection_bypassed": False,
        "validity": "unknown",
        "publicly_leaked": False,
        "multi_repo": True,
        "is_base64_encoded": False,
        "first_location_detected": {
            "path": "src/app.py",
            "start_line": 3,
            "end_line": 3,
            "start_column": 5,
            "end_column": 18,
            "blob_sha": "b" * 40,
            "blob_url": "https://api.example.test/blob",
            "commit_sha": "c" * 40,
            "commit_url": "https://api.example.test/commit",
        },
        "has_more_locations": True,
        **fields,
    }


def notices(found: Any) -> list[tuple[str, str, int]]:
    return [
        (notice_pb2.NoticeKind.Name(n.kind).removeprefix("NOTICE_KIND_"), n.field, n.records)
        for n in found.summary.notices
    ]


def test_an_alert() -> None:
    found = ingest(dump([alert()]))
    assert found.format.scanner_type == "github-secret-scanning"
    assert found.format.dialect == "GitHub alerts with locations"
    assert notices(found) == []
    assert golden(found.findings[0]) == {
        "kind": "FINDING_KIND_POSSIBLE_SECRET",
        "tool": "github-secret-scanning",
        "ruleId": "some_token",
        "ruleName": "Some Token",
        "validity": "VALIDITY_UNKNOWN",
        "valueState": "VALUE_STATE_PRESENT",
        "valuePreview": "… (13 characters)",
        "nativeId": f"{ALERT}/1",
        "rawMetadata": {
            "has_more_locations": "true",
            "multi_repo": "true",
            "repository": "owner/name",
            "state": "open",
        },
        "code": {
            "location": {
                "path": "src/app.py",
                "line": 3,
                "endLine": 3,
                "column": 5,
                "endColumn": 18,
            },
            "commit": "c" * 40,
        },
    }
    assert MessageToDict(evidence(found.findings[0])) == {"value": VALUE}


A, B, C = alert(1), alert(2), alert(3)


@pytest.mark.parametrize(
    "report",
    [
        dump([A, B, C]),
        dump([A, B, C], indent=2, sort_keys=True).replace(b"\n", b"\r\n"),
        dump([A, B]) + dump([C]),
        dump([A, B]) + b"\n" + dump([C]) + b"\n" + dump([]),
        dump([[A, B], [C]]),
        dump([[A, B], [], [C]], indent=2),
        b"\n".join([dump(A), dump(B), dump(C)]),
    ],
)
def test_pages_in_every_shape(report: bytes) -> None:
    for found in (ingest(report), ingest(report, "github-secret-scanning", size=13)):
        assert found.counts == (3, 3, 0, 0)
        assert [f.native_id for f in found.findings] == [f"{ALERT}/{n}" for n in (1, 2, 3)]


@pytest.mark.parametrize(
    ("resolution", "triage"),
    [
        ("false_positive", pb.TRIAGE_FALSE_POSITIVE),
        ("wont_fix", pb.TRIAGE_ACCEPTED),
        ("revoked", pb.TRIAGE_REVOKED),
        ("used_in_tests", pb.TRIAGE_TEST_ONLY),
        ("pattern_deleted", pb.TRIAGE_UNSPECIFIED),
        (None, pb.TRIAGE_UNSPECIFIED),
    ],
)
def test_a_resolution_is_a_decision(resolution: Any, triage: Any) -> None:
    fields = {"resolution": resolution, "state": "resolved" if resolution else "open"}
    found = ingest(dump([alert(**fields)]))
    assert found.findings[0].triage == triage
    assert notices(found) == ([("NOT_OPEN", "state", 1)] if resolution else [])


@pytest.mark.parametrize(
    ("validity", "is_read_as"),
    [
        ("active", pb.VALIDITY_LIVE),
        ("inactive", pb.VALIDITY_DEAD),
        ("unknown", pb.VALIDITY_UNKNOWN),
        (None, pb.VALIDITY_UNSPECIFIED),
    ],
)
def test_validity(validity: Any, is_read_as: Any) -> None:
    assert ingest(dump([alert(validity=validity)])).findings[0].validity == is_read_as


def test_early_exports_have_no_location() -> None:
    early = {
        name: alert()[name]
        for name in ("number", "created_at", "url", "html_url", "state", "resolution", "secret_type", "secret")
    }  # fmt: skip
    found = ingest(dump([early]))
    assert found.format.dialect == "GitHub alerts without locations"
    assert found.findings[0].code.location.path == ""
    assert evidence(found.findings[0]).value == VALUE
    assert notices(found) == []


def test_secrets_outside_of_files_stand_in_a_container() -> None:
    at = {"issue_body_url": "https://api.example.test/repos/owner/name/issues/1"}
    [found] = ingest(dump([alert(first_location_detected=at)])).findings
    assert found.code.container == at["issue_body_url"]
    assert found.code.location.path == ""


@pytest.mark.parametrize("hidden", [{"secret": None}, {"secret": ""}, {}])
def test_hidden_secrets_are_redacted(hidden: Any) -> None:
    shown = alert()
    del shown["secret"]
    found = ingest(dump([{**shown, **hidden}]))
    assert found.findings[0].value_state == pb.VALUE_STATE_REDACTED
    assert not found.findings[0].value_fingerprint
    assert ("VALUES_REDACTED", "", 1) in notices(found)


def test_comments_are_sealed_and_the_value_masked_in_the_clear() -> None:
    fields = {
        "resolution_comment": f"it was {VALUE}",
        "push_protection_bypass_request_comment": "made-up-comment",
        "html_url": f"{ALERT}/{VALUE}",
    }
    [found] = ingest(dump([alert(**fields)])).findings
    assert found.native_id == f"{ALERT}/[REDACTED]"
    assert "made-up" not in "".join(clear_strings(found))
    assert dict(evidence(found).extra) == {
        "resolution_comment": f"it was {VALUE}",
        "push_protection_bypass_request_comment": "made-up-comment",
    }


@pytest.mark.parametrize("pages", [1, 30])
def test_many_alerts(pages: int) -> None:
    each = 1500 // pages
    slurped = [[alert(page * each + n) for n in range(each)] for page in range(pages)]
    report = slurped[0] if pages == 1 else slurped
    found = ingest(dump(report))
    assert found.counts == (1500, 1500, 0, 0)
    assert found.findings[-1].native_id == f"{ALERT}/1499"


def test_drift_and_broken_alerts() -> None:
    no_type = alert(2)
    del no_type["secret_type"]
    report = [alert(1, novelty=1), no_type, alert("x"), 5, alert(6, state=None)]  # type: ignore[arg-type]
    found = ingest(dump(report))
    assert found.counts == (5, 2, 0, 3)
    assert found.reasons == [(1, "MISSING_FIELD"), (2, "WRONG_TYPE"), (3, "NOT_A_RECORD")]
    assert notices(found) == [("UNKNOWN_FIELD", "novelty", 1), ("MISSING_FIELD", "state", 1)]


def test_an_alert_that_is_odd_json_costs_no_other_of_its_page() -> None:
    page = dump([A, B, C])
    odd = page.replace(b'"number": 2', b'"number": NaN').replace(
        b"owner/name", b"own\xffer/name", 1
    )
    report = b"[" + odd + b", " + dump([alert(4)]) + b"]"
    found = ingest(report)
    assert found.counts == (4, 3, 0, 1)
    assert found.reasons == [(1, "WRONG_TYPE")]


def test_an_alert_that_is_no_json_is_rejected() -> None:
    report = b"[" + dump([A, B]).replace(b'"number": 2', b'"number": 2x') + b"," + dump([C]) + b"]"
    found = ingest(report)
    assert found.findings[-1].native_id == f"{ALERT}/3"
    assert {reason for _, reason in found.reasons} == {"SYNTAX"}


def test_an_error_of_the_api_is_no_report() -> None:
    with pytest.raises(WinnowError) as raised:
        ingest(dump({"message": "Not Found", "documentation_url": "https://docs.example.test"}))
    assert raised.value.reason == "FORMAT_UNKNOWN"
