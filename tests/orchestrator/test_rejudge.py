"""Judging a report once more: the same verdicts, or what other rules would change."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import time
import uuid
from typing import Any

import grpc
import psycopg
import pytest

from runtime.errors import from_rpc
from tests.fixtures import load_report
from tests.ingestor.reading_reports import dump, gitleaks
from tests.orchestrator.conftest import Asker
from tests.orchestrator.test_decisions import ruling
from winnow.audit.v1.audit_service_pb2 import ListEventsRequest
from winnow.finding.v1.finding_pb2 import Finding
from winnow.finding.v1.verdict_pb2 import Risk, Verdict
from winnow.report.v1.decision_service_pb2 import DecideFindingRequest
from winnow.report.v1.report_service_pb2 import (
    GetFindingRequest,
    GetReportRequest,
    ListFindingsRequest,
    RejudgeMode,
    RejudgeReportRequest,
)

PREVIEW = RejudgeMode.REJUDGE_MODE_PREVIEW
APPLY = RejudgeMode.REJUDGE_MODE_APPLY


async def rejudge(alone: Asker, report_id: str, mode: Any = 0, most: int = 0) -> Any:
    return await alone.RejudgeReport(
        RejudgeReportRequest(report_id=report_id, mode=mode, max_changes=most)
    )


def older(database_url: str, report_id: str, ordinal: int, risk: Any) -> None:
    """Makes a stored verdict one that other rules had made."""
    with psycopg.connect(database_url) as connection:
        where = [uuid.UUID(report_id), ordinal]
        [message] = connection.execute(
            "SELECT message FROM orchestrator.verdicts WHERE report_id = %s AND ordinal = %s",
            where,
        ).fetchone() or [b""]
        verdict = Verdict.FromString(message)
        verdict.risk = risk
        verdict.reason = "As it was once."
        connection.execute(
            "UPDATE orchestrator.verdicts SET message = %s, risk = %s, reason = %s,"
            " inputs = jsonb_set(inputs, '{rules}', '\"sha256:0\"')"
            " WHERE report_id = %s AND ordinal = %s",
            [verdict.SerializeToString(), risk, verdict.reason, *where],
        )
        connection.execute(
            "UPDATE orchestrator.reports SET risk_high = (SELECT count(*) FROM"
            " orchestrator.verdicts WHERE report_id = %(id)s AND risk = 1), risk_medium = (SELECT"
            " count(*) FROM orchestrator.verdicts WHERE report_id = %(id)s AND risk = 2),"
            " risk_low = (SELECT count(*) FROM orchestrator.verdicts WHERE report_id = %(id)s AND"
            " risk = 3) WHERE report_id = %(id)s",
            {"id": uuid.UUID(report_id)},
        )


@pytest.mark.parametrize(
    "name", ["gitleaks.git.json", "trufflehog.git.ndjson", "gitleaks.redacted.json"]
)
async def test_a_replay_comes_to_the_same_verdicts(alone: Asker, name: str) -> None:
    report = await alone.submit(load_report(name))
    answer = await rejudge(alone, report.report_id)
    assert answer.judged == answer.same == report.records.findings
    assert (answer.changed, answer.other_inputs) == (0, 0)
    assert answer.inputs["rules"].startswith("sha256:")
    assert answer.summary == report.summary


async def test_a_finding_whose_sealed_evidence_is_gone_is_an_error(
    alone: Asker, database_url: str
) -> None:
    report_id = (await alone.submit(load_report("gitleaks.git.json"))).report_id
    where = uuid.UUID(report_id), 0
    with psycopg.connect(database_url) as connection:
        [message] = connection.execute(
            "SELECT message FROM orchestrator.findings WHERE report_id = %s AND ordinal = %s", where
        ).fetchone() or [b""]
        finding = Finding.FromString(message)
        finding.ClearField("sealed_evidence")
        connection.execute(
            "UPDATE orchestrator.findings SET message = %s WHERE report_id = %s AND ordinal = %s",
            [finding.SerializeToString(), *where],
        )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await rejudge(alone, report_id)
    assert from_rpc(caught.value, "orchestrator").reason == "SEAL_BROKEN"


async def test_more_findings_than_a_batch_are_replayed(alone: Asker) -> None:
    report = await alone.submit(dump([gitleaks(n) for n in range(600)]))
    answer = await rejudge(alone, report.report_id)
    assert (answer.judged, answer.same) == (600, 600)


async def test_other_rules_are_shown_before_they_are_applied(
    alone: Asker, database_url: str
) -> None:
    report = await alone.submit(dump([gitleaks(n) for n in range(5)]))
    report_id = report.report_id
    older(database_url, report_id, 1, Risk.RISK_HIGH)
    older(database_url, report_id, 3, Risk.RISK_HIGH)
    was = (await alone.GetReport(GetReportRequest(report_id=report_id))).report.summary
    assert was.high == 2
    for mode in (0, PREVIEW):
        answer = await rejudge(alone, report_id, mode, 1)
        assert (answer.judged, answer.same, answer.changed) == (5, 3, 2)
        assert answer.other_inputs == 2
        [change] = answer.changes
        assert change.finding_id == f"{report_id}.1"
        assert change.before.reason == "As it was once."
        assert change.after.reason != change.before.reason
        assert answer.summary == was
    applied = await rejudge(alone, report_id, APPLY)
    assert applied.changed == 2
    assert applied.summary == report.summary
    assert (await alone.GetReport(GetReportRequest(report_id=report_id))).report.summary == (
        report.summary
    )
    again = await rejudge(alone, report_id, APPLY)
    assert (again.same, again.changed, again.other_inputs) == (5, 0, 0)
    full = await alone.GetFinding(GetFindingRequest(finding_id=f"{report_id}.1"))
    assert [v.reason == "As it was once." for v in full.verdicts] == [False, True]
    assert full.finding.reason == full.verdicts[0].reason
    for _ in range(100):
        listed = await alone.ListEvents(
            ListEventsRequest(report_id=report_id, event_type="REPORT_REMODERATED")
        )
        if listed.events:
            break
        await asyncio.sleep(0.05)
    [entry] = listed.events
    assert entry.event.payload["changed"] == 2


async def test_what_people_decided_stands(alone: Asker, database_url: str) -> None:
    report = await alone.submit(dump([gitleaks(n) for n in range(2)]))
    finding_id = f"{report.report_id}.0"
    older(database_url, report.report_id, 0, Risk.RISK_MEDIUM)
    await alone.DecideFinding(DecideFindingRequest(finding_id=finding_id, ruling=ruling(1)))
    applied = await rejudge(alone, report.report_id, APPLY)
    assert applied.changed == 1
    assert applied.summary.high == 1
    query = ListFindingsRequest(report_id=report.report_id)
    [one, _] = (await alone.ListFindings(query)).findings
    assert one.reason == "Confirmed as real by ada."


def token(expires: float) -> str:
    """A JSON Web Token (RFC 7519) with an expiry; its signature is made up."""

    def part(value: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    claims = {"sub": "svc-4821", "iss": "https://id.example.test", "exp": int(expires)}
    signature = base64.urlsafe_b64encode(hashlib.sha256(b"made up").digest()).decode()
    return f"{part({'alg': 'HS256', 'typ': 'JWT'})}.{part(claims)}.{signature.rstrip('=')}"


async def test_a_token_that_expired_since_is_replayed_as_of_then(alone: Asker) -> None:
    expires = time.time() + 2
    report = await alone.submit(
        dump(
            [gitleaks(1, RuleID="jwt", Secret=token(expires), Match=f'token = "{token(expires)}"')]
        )
    )
    await asyncio.sleep(expires - time.time() + 1)
    assert (await rejudge(alone, report.report_id)).same == 1
    now = await rejudge(alone, report.report_id, PREVIEW)
    assert now.changed == 1
    assert "expired" in now.changes[0].after.reason
