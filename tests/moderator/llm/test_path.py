"""A whole report through all services, with verdicts that come later than others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from cli.fake_llm import FakeLlm
from moderator.stages.llm import _WITHOUT
from runtime import metrics
from runtime.redaction import holds
from tests.fixtures import load_report
from tests.fixtures.values import values
from tests.moderator.llm.conftest import fake
from tests.orchestrator.conftest import House, house, upload  # noqa: F401 -- a fixture
from winnow.audit.v1.audit_service_pb2 import ListEventsRequest, ListEventsResponse
from winnow.finding.v1.verdict_pb2 import VERDICT_SOURCE_LLM
from winnow.report.v1 import report_service_pb2 as pb
from winnow.report.v1.report_pb2 import ReportStatus


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeLlm]:
    """A fake model that the house's moderator asks: first silent, then slow, then as it should."""
    async with fake("silent", "slow", "ok") as (url, app):
        monkeypatch.setenv("WINNOW_LLM_API_KEY", "a key of the tests")
        monkeypatch.setenv("WINNOW_LLM_BASE_URL", url)
        monkeypatch.setenv("WINNOW_LLM_TIMEOUT", "6")
        yield app


async def test_a_report_whose_verdicts_come_in_two_parts(server: FakeLlm, house: House) -> None:  # noqa: F811
    answer = await house.reports.SubmitReport(upload(load_report("gitleaks.git.json"), "gitleaks"))
    report = answer.report
    assert report.status == ReportStatus.REPORT_STATUS_DONE
    assert server.requests
    page = await house.reports.ListFindings(
        pb.ListFindingsRequest(
            report_id=report.report_id, page_size=1000, view=pb.FindingView.FINDING_VIEW_FULL
        )
    )
    assert len(page.findings) == report.records.findings
    assert all(one.risk and one.reason and one.source for one in page.findings)
    summary = report.summary
    assert summary.high + summary.medium + summary.low == report.records.findings
    rules = [seen.rule for one in page.findings for seen in one.detail.evidence]
    assert rules.count("llm.timeout") == 1
    judged = [one for one in page.findings if one.source == VERDICT_SOURCE_LLM]
    assert judged
    assert all(one.detail.inputs["answer"].startswith("sha256:") for one in judged)
    assert all(one.detail.decided_by.startswith("llm/") for one in judged)


async def test_a_replay_asks_nobody_and_comes_to_the_same(server: FakeLlm, house: House) -> None:  # noqa: F811
    answer = await house.reports.SubmitReport(upload(load_report("gitleaks.git.json"), "gitleaks"))
    report_id, asked = answer.report.report_id, len(server.requests)
    assert asked
    replayed = await house.reports.RejudgeReport(pb.RejudgeReportRequest(report_id=report_id))
    assert [change.after for change in replayed.changes] == [
        change.before for change in replayed.changes
    ]
    assert replayed.same == replayed.judged == answer.report.records.findings
    assert len(server.requests) == asked


async def moderated(house: House, report_id: str) -> ListEventsResponse:  # noqa: F811
    """The event, once it is in the log."""
    query = ListEventsRequest(report_id=report_id, event_type="REPORT_MODERATED")
    async with asyncio.timeout(10):
        while not (listed := await house.audit.ListEvents(query)).events:
            await asyncio.sleep(0.05)
    return listed


async def test_what_the_model_took_is_in_the_audit_trail(server: FakeLlm, house: House) -> None:  # noqa: F811
    answer = await house.reports.SubmitReport(upload(load_report("gitleaks.git.json"), "gitleaks"))
    listed = await moderated(house, answer.report.report_id)
    used = dict(listed.events[0].event.payload["llm"])
    assert used["calls"] == len(server.requests)
    assert used["failed"] >= 1
    assert used["input_tokens"] > 0
    assert used["cost_usd_micros"] > 0
    assert used["model"]


def test_every_reason_to_go_without_has_its_series() -> None:
    assert {f"llm.{reason}" for reason in metrics.LLM_UNANSWERED} == set(_WITHOUT)


@pytest.fixture
async def locked(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeLlm]:
    """A model that the house has a wrong key to."""
    async with fake("unauthorized") as (url, app):
        monkeypatch.setenv("WINNOW_LLM_API_KEY", "a key of the tests")
        monkeypatch.setenv("WINNOW_LLM_BASE_URL", url)
        yield app


@pytest.mark.usefixtures("locked")
async def test_a_wrong_key_is_in_the_audit_trail(house: House) -> None:  # noqa: F811
    answer = await house.reports.SubmitReport(upload(load_report("gitleaks.git.json"), "gitleaks"))
    assert answer.report.status == ReportStatus.REPORT_STATUS_DONE
    listed = await moderated(house, answer.report.report_id)
    unanswered = dict(listed.events[0].event.payload["llm"]["unanswered"])
    assert unanswered["misconfigured"] >= 1


async def test_no_planted_value_is_in_what_the_model_was_sent(
    server: FakeLlm,
    house: House,  # noqa: F811
) -> None:
    for name, scanner in (("gitleaks.dir.json", "gitleaks"), ("trufflehog.git.ndjson", "")):
        await house.reports.SubmitReport(upload(load_report(name), scanner))
    assert server.requests
    sent = b"\n".join(server.requests).decode()
    planted = [value.text for value in values().values() if len(value.text) >= 8]
    assert len(planted) > 10
    # Words such as "changeme" are planted as decoys, and are no secret.
    found = [text for text in planted if not text.isalpha() and holds(sent, text)]
    assert not found
