"""What stands and what is counted agree, whatever ends, is cut or comes in between."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from orchestrator import store_decisions
from orchestrator.rejudge import Rejudger
from runtime.database import Database
from runtime.errors import WinnowError
from tests.ingestor.reading_reports import dump, gitleaks
from tests.orchestrator.conftest import Asker
from tests.orchestrator.test_decisions import (
    ACCEPTED,
    CREDENTIAL,
    FALSE,
    FINDING,
    HUMAN,
    SHARED,
    TRUE,
    decide,
    findings,
    report,
    ruling,
    summary,
)
from tests.orchestrator.test_rejudge import APPLY, older, rejudge
from winnow.finding.v1.verdict_pb2 import Risk
from winnow.report.v1.decision_pb2 import DecisionScope
from winnow.report.v1.decision_service_pb2 import DecideFindingsRequest, ListDecisionsRequest
from winnow.report.v1.report_service_pb2 import (
    CancelReportRequest,
    GetReportRequest,
    ListFindingsRequest,
    ListReportsRequest,
)

PLACE = DecisionScope.DECISION_SCOPE_PLACE


async def settle(database_url: str, tenant: str) -> None:
    database = Database(database_url)
    try:
        await database.run(store_decisions.expired, tenant)
    finally:
        await database.close()


async def first_two(alone: Asker, report_id: str) -> list:
    query = ListFindingsRequest(report_id=report_id, page_size=2)
    return list((await alone.ListFindings(query)).findings)


async def test_a_decision_between_an_expiry_and_its_settling(
    alone: Asker, database_url: str
) -> None:
    stored = await alone.submit(report(1))
    [finding] = await findings(alone, stored.report_id)
    await decide(alone, finding.id, ruling(FALSE, seconds=0.3))
    await asyncio.sleep(0.5)
    await decide(alone, finding.id, ruling(TRUE))
    await settle(database_url, alone.tenant)
    assert await summary(alone, stored.report_id) == (1, 0, 0)


async def test_a_remoderation_between_an_expiry_and_its_settling(
    alone: Asker, database_url: str
) -> None:
    stored = await alone.submit(report(1, 2))
    older(database_url, stored.report_id, 0, Risk.RISK_MEDIUM)
    [finding, _] = await findings(alone, stored.report_id)
    await decide(alone, finding.id, ruling(FALSE, seconds=0.3))
    await asyncio.sleep(0.5)
    assert (await rejudge(alone, stored.report_id, APPLY)).changed == 1
    await settle(database_url, alone.tenant)
    await summary(alone, stored.report_id)


async def test_two_decisions_that_end_in_the_same_moment(alone: Asker, database_url: str) -> None:
    stored = await alone.submit(report(1, 2))
    [finding, _] = await findings(alone, stored.report_id)
    wide = ruling(ACCEPTED, seconds=0.8, scope=CREDENTIAL)
    await decide(alone, finding.id, wide)
    narrow = ruling(FALSE, scope=PLACE)
    narrow.expires_at.CopyFrom(wide.expires_at)
    await decide(alone, finding.id, narrow)
    await asyncio.sleep(1)
    await settle(database_url, alone.tenant)
    await summary(alone, stored.report_id)


async def test_a_wider_decision_ends_the_narrower_ones_it_covers(alone: Asker) -> None:
    stored = await alone.submit(report(1, 2, File="tests/a.py"))
    one, two = await findings(alone, stored.report_id)
    await decide(alone, two.id, ruling(TRUE, scope=FINDING))
    wide = (await decide(alone, one.id, ruling(FALSE, scope=PLACE))).decision
    active = (await alone.ListDecisions(ListDecisionsRequest(active=True))).decisions
    assert [decision.decision_id for decision in active] == [wide.decision_id]


def many(first: str) -> bytes:
    """A report that takes a while, with one value of ours in front."""
    others = [gitleaks(n, Secret=f"made-up-{n:06d}-Zx7R2mK9") for n in range(1, 12_000)]
    return dump([gitleaks(0, Secret=first), *others])


async def test_a_decision_on_a_finding_of_a_running_report_stands(alone: Asker) -> None:
    running = asyncio.create_task(alone.submit(many(SHARED)))
    while not (reports := (await alone.ListReports(ListReportsRequest())).reports):
        await asyncio.sleep(0.005)
    while not (found := await first_two(alone, reports[0].report_id)):
        await asyncio.sleep(0.005)
    await decide(alone, found[0].id, ruling(TRUE, scope=FINDING))
    await running
    after = await first_two(alone, reports[0].report_id)
    assert [one.source == HUMAN for one in after] == [True, False]


async def test_a_cancelled_report_gets_the_decisions_that_hold(alone: Asker) -> None:
    stored = await alone.submit(report(1))
    [finding] = await findings(alone, stored.report_id)
    await decide(alone, finding.id, ruling(FALSE))
    cut = await alone.submit(many(SHARED), wait=False)
    while not await first_two(alone, cut.report_id):
        await asyncio.sleep(0.005)
    await alone.CancelReport(CancelReportRequest(report_id=cut.report_id))
    [first, *_] = await first_two(alone, cut.report_id)
    assert first.source == HUMAN


async def test_a_remoderation_that_is_cut_leaves_a_true_summary(
    alone: Asker, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = await alone.submit(report(*range(300)))
    older(database_url, stored.report_id, 0, Risk.RISK_HIGH)
    judge, calls = Rejudger._judge, []

    async def cut(self: Rejudger, header: Any, page: Any) -> Any:
        calls.append(len(page))
        if len(calls) == 2:
            raise WinnowError("UPSTREAM_UNAVAILABLE", "gone", service="moderator")
        return await judge(self, header, page)

    monkeypatch.setattr(Rejudger, "_judge", cut)
    with pytest.raises(grpc.aio.AioRpcError):
        await rejudge(alone, stored.report_id, APPLY)
    summary_now = (await alone.GetReport(GetReportRequest(report_id=stored.report_id))).report
    query = ListFindingsRequest(report_id=stored.report_id, page_size=2000)
    risks = [one.risk for one in (await alone.ListFindings(query)).findings]
    counted = summary_now.summary
    assert [risks.count(1), risks.count(2), risks.count(3)] == [
        counted.high,
        counted.medium,
        counted.low,
    ]


async def test_thousands_of_decisions_at_once(alone: Asker) -> None:
    stored = await alone.submit(many(SHARED))
    wanted = DecideFindingsRequest(
        report_id=stored.report_id, path="src/app_1", ruling=ruling(FALSE, scope=PLACE)
    )
    decided = await alone.DecideFindings(wanted)
    assert decided.matched == decided.decisions == decided.findings > 3_000
