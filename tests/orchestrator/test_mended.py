"""What a hostile reader found in durable work, so that it stays mended."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Callable

import grpc
import psycopg
import pytest
from sqlalchemy import Connection, text

from runtime.database import BulkInsert, Database
from runtime.errors import WinnowError, from_rpc
from tests.orchestrator.test_resume import ORDINALS, Rig, _stored
from tests.orchestrator.test_resume import rig as rig
from winnow.finding.v1.verdict_pb2 import Risk, VerdictBatch
from winnow.queue.v1.queue_service_pb2 import RetryJobRequest
from winnow.queue.v1.queue_service_pb2_grpc import QueueServiceStub
from winnow.report.v1.decision_pb2 import DecisionOutcome, DecisionScope
from winnow.report.v1.decision_service_pb2 import (
    DecideFindingRequest,
    Ruling,
    WithdrawDecisionRequest,
)
from winnow.report.v1.decision_service_pb2_grpc import DecisionServiceStub
from winnow.report.v1.report_pb2 import Report, ReportStatus
from winnow.report.v1.report_service_pb2 import GetReportRequest

DONE, ERROR = ReportStatus.REPORT_STATUS_DONE, ReportStatus.REPORT_STATUS_ERROR


async def until(rig: Rig, report_id: str, status: ReportStatus.ValueType) -> Report:
    async with asyncio.timeout(30):
        while True:
            answer = await rig.reports.GetReport(GetReportRequest(report_id=report_id))
            if answer.report.status == status:
                return answer.report
            await asyncio.sleep(0.05)


def inserted(connection: Connection) -> None:
    connection.execute(text("SET LOCAL lock_timeout = '50ms'"))
    rejections = {"report_id": "uuid", "ordinal": "int8", "tenant_id": "text", "message": "bytea"}
    BulkInsert("orchestrator.rejections", rejections).put(
        connection, [(uuid.uuid4(), 0, "nobody", b"")]
    )


def read_only(connection: Connection) -> None:
    """As a server that is being replaced."""
    connection.execute(text("SET TRANSACTION READ ONLY"))
    connection.execute(text("DELETE FROM orchestrator.jobs WHERE kind = 'none'"))


@pytest.mark.parametrize("work", [inserted, read_only])
async def test_what_may_pass_is_no_defect(
    database: Database, database_url: str, work: Callable[[Connection], None]
) -> None:
    with psycopg.connect(database_url) as other:
        other.execute("LOCK TABLE orchestrator.rejections IN EXCLUSIVE MODE")
        with pytest.raises(WinnowError) as caught:
            await database.run(work)
    assert (caught.value.reason, caught.value.retryable) == ("DATABASE_UNAVAILABLE", True)


async def test_a_report_goes_on_after_its_write_was_cut(
    rig: Rig, database: Database, database_url: str
) -> None:
    with (
        psycopg.connect(database_url) as other,
        psycopg.connect(database_url, autocommit=True) as killer,
    ):
        other.execute("LOCK TABLE orchestrator.findings IN EXCLUSIVE MODE")
        report = await rig.submit(wait=False)
        async with asyncio.timeout(20):
            while not killer.execute(
                "SELECT pg_cancel_backend(pid) FROM pg_stat_activity"
                " WHERE wait_event_type = 'Lock' AND query LIKE 'INSERT INTO orchestrator.findings%'"
            ).fetchall():
                await asyncio.sleep(0.05)
    await until(rig, report.report_id, DONE)
    assert (await _stored(database, report.report_id))[:2] == (ORDINALS, ORDINALS)


async def test_a_report_that_people_decided_on_is_judged_whole_when_it_is_retried(
    rig: Rig, database: Database
) -> None:
    rig.ingestor.fingerprint = os.urandom(32)
    rig.moderator.defect_after = 20
    report = await rig.submit(wait=False)
    await until(rig, report.report_id, ERROR)
    decisions, queue = DecisionServiceStub(rig.channel), QueueServiceStub(rig.channel)
    made = await decisions.DecideFinding(
        DecideFindingRequest(
            finding_id=f"{report.report_id}.{ORDINALS[0]}",
            ruling=Ruling(
                outcome=DecisionOutcome.DECISION_OUTCOME_FALSE_POSITIVE,
                scope=DecisionScope.DECISION_SCOPE_CREDENTIAL,
                reason="known",
                actor="somebody",
            ),
        )
    )
    rig.moderator.defect_after = None
    job = text("SELECT job_id FROM orchestrator.jobs WHERE key = :key")
    job_id = await database.run(
        lambda connection: connection.execute(job, {"key": report.report_id}).scalar_one()
    )
    await queue.RetryJob(RetryJobRequest(job_id=str(job_id)))
    await until(rig, report.report_id, DONE)
    await decisions.WithdrawDecision(
        WithdrawDecisionRequest(decision_id=made.decision.decision_id, actor="somebody")
    )
    after = await until(rig, report.report_id, DONE)
    # Without the decision the cascade's verdicts stand, on every finding.
    assert after.summary.low == len(ORDINALS)
    rows = text(
        "SELECT count(*) FILTER (WHERE decision_id IS NULL),"
        " count(*) FILTER (WHERE decision_id IS NOT NULL)"
        " FROM orchestrator.verdicts WHERE report_id = :id"
    )
    counted = await database.run(
        lambda connection: connection.execute(rows, {"id": uuid.UUID(report.report_id)}).one()
    )
    assert tuple(counted) == (len(ORDINALS), len(ORDINALS))


def foreign(verdicts: VerdictBatch) -> None:
    for verdict in verdicts.verdicts:
        verdict.ordinal += 1_000_000


def doubled(verdicts: VerdictBatch) -> None:
    verdicts.verdicts.add().CopyFrom(verdicts.verdicts[0])


def without_risk(verdicts: VerdictBatch) -> None:
    verdicts.verdicts[0].risk = Risk.RISK_UNSPECIFIED


@pytest.mark.parametrize("nonsense", [foreign, doubled, without_risk])
async def test_a_moderators_nonsense_is_not_taken_for_verdicts(
    rig: Rig, database: Database, nonsense: Callable[[VerdictBatch], None]
) -> None:
    rig.moderator.altered = nonsense
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await rig.submit()
    failure = from_rpc(caught.value, "orchestrator")
    assert failure.reason == "INTERNAL"
    assert (await _stored(database, failure.metadata["report_id"]))[1] == []


async def test_findings_that_a_moderator_leaves_out_are_asked_for_again(
    rig: Rig, database: Database
) -> None:
    def forgetful(verdicts: VerdictBatch) -> None:
        rig.moderator.altered = lambda _verdicts: None
        del verdicts.verdicts[1:]

    rig.moderator.altered = forgetful
    report = await rig.submit()
    assert report.status == DONE
    assert (await _stored(database, report.report_id))[1] == ORDINALS
