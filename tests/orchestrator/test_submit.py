"""Submitting: how long it waits, what a key stands for, what was there before."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from sqlalchemy import text

import orchestrator.app
import orchestrator.run
from runtime.channels import PeerStatus
from runtime.context import REPLAYED_KEY, REPORT_KEY, REUSED_KEY
from runtime.database import Database
from runtime.errors import from_rpc
from tests.fixtures import load_report
from tests.harness import serving, settings
from tests.orchestrator.conftest import Asker, House, upload
from winnow.audit.v1.audit_service_pb2 import ListEventsRequest
from winnow.report.v1 import report_service_pb2 as pb
from winnow.report.v1.decision_pb2 import DecisionOutcome
from winnow.report.v1.decision_service_pb2 import DecideFindingRequest, Ruling
from winnow.report.v1.report_pb2 import Report, ReportSource, ReportStatus
from winnow.report.v1.report_service_pb2_grpc import ReportServiceStub

GITLEAKS = load_report("gitleaks.git.json")
EMPTY = b"[]"
# Three chunks, of which two are stored before the end message.
LARGE = GITLEAKS + b" " * (5 << 19)
DONE = ReportStatus.REPORT_STATUS_DONE
REUSE = pb.DuplicateHandling.DUPLICATE_HANDLING_REUSE


class Sender:
    """Submits as one tenant, to one orchestrator."""

    def __init__(self, stub: Any, tenant: str) -> None:
        self._stub = stub
        self._metadata = (("x-winnow-tenant", tenant),)

    def call(
        self,
        report: bytes,
        key: str = "",
        scanner: str = "",
        *,
        wait: bool = True,
        at_most: float | None = None,
        duplicates: pb.DuplicateHandling.ValueType = pb.DUPLICATE_HANDLING_UNSPECIFIED,
        deadline: float | None = None,
        **said: Any,
    ) -> Any:
        async def requests() -> AsyncIterator[pb.SubmitReportRequest]:
            async for request in upload(report, scanner, wait=wait, **said):
                if request.HasField("header"):
                    request.header.request_id = key
                    request.header.duplicates = duplicates
                    if at_most is not None:
                        request.header.wait_at_most.FromMilliseconds(int(at_most * 1000))
                yield request

        return self._stub.SubmitReport(requests(), metadata=self._metadata, timeout=deadline)

    async def send(self, report: bytes, key: str = "", scanner: str = "", **more: Any) -> Any:
        return await self.call(report, key, scanner, **more)

    async def refused(self, report: bytes, key: str = "", scanner: str = "", **more: Any) -> Any:
        call = self.call(report, key, scanner, **more)
        status = PeerStatus(call)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        return from_rpc(status.of(caught.value), "orchestrator")

    async def ended(self, report_id: str) -> Report:
        for _ in range(600):
            request = pb.GetReportRequest(report_id=report_id)
            found = await self._stub.GetReport(request, metadata=self._metadata)
            if found.report.HasField("finished_at"):
                report: Report = found.report
                return report
            await asyncio.sleep(0.05)
        raise AssertionError("not ended within 30 seconds")

    async def cancel(self, report_id: str) -> None:
        request = pb.CancelReportRequest(report_id=report_id)
        await self._stub.CancelReport(request, metadata=self._metadata)


@pytest.fixture
def sender(alone: Asker, house: House) -> Sender:
    return Sender(house.reports, alone.tenant)


@asynccontextmanager
async def another(house: House, database_url: str, tenant: str, **more: Any) -> AsyncIterator[Any]:
    """One more orchestrator over the same database, as one tenant."""
    addresses = {**house.addresses, **more}
    given = settings(orchestrator.app.OrchestratorSettings, database_url, **addresses)
    async with serving(orchestrator.app.build(given)) as (_, channel):
        yield Sender(ReportServiceStub(channel), tenant)


@pytest.fixture
async def halted(database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Sender]:
    """An orchestrator that takes reports and has no place to run one."""
    tenant = f"t{uuid.uuid4().hex[:12]}"
    given = settings(orchestrator.app.OrchestratorSettings, database_url)
    with monkeypatch.context() as patched:
        patched.setattr(orchestrator.run, "AT_ONCE", 0)
        service = orchestrator.app.build(given)
    async with serving(service) as (_, channel):
        yield Sender(ReportServiceStub(channel), tenant)


async def count(database: Database, tenant: str, table: str = "reports") -> int:
    def query(connection: Any) -> int:
        counted = text(f"SELECT count(*) FROM orchestrator.{table} WHERE tenant_id = :tenant")
        return int(connection.execute(counted, {"tenant": tenant}).scalar_one())

    return await database.run(query)


async def chunks_of_nobody(database: Database, tenant: str) -> int:
    orphans = text(
        "SELECT count(*) FROM orchestrator.raw_chunks AS c WHERE tenant_id = :tenant AND NOT EXISTS"
        " (SELECT FROM orchestrator.reports AS r WHERE r.report_id = c.report_id)"
    )
    return await database.run(
        lambda connection: int(connection.execute(orphans, {"tenant": tenant}).scalar_one())
    )


# Waiting


async def test_who_does_not_wait_is_answered_at_once(halted: Sender) -> None:
    report = (await halted.send(GITLEAKS, wait=False, deadline=5)).report
    assert report.status == ReportStatus.REPORT_STATUS_CREATED
    await halted.cancel(report.report_id)


@pytest.mark.parametrize("bound", [{"at_most": 0.3}, {"at_most": 0.0}, {"deadline": 3.0}])
async def test_who_has_waited_enough_gets_the_report_as_it_stands(
    halted: Sender, bound: dict[str, float]
) -> None:
    began = asyncio.get_running_loop().time()
    report = (await halted.send(GITLEAKS, **bound)).report
    took = asyncio.get_running_loop().time() - began
    assert report.status == ReportStatus.REPORT_STATUS_CREATED
    assert bound.get("at_most", 0.3) <= took < bound.get("deadline", 3)
    await halted.cancel(report.report_id)


async def test_who_waits_is_told_the_id_of_a_report_that_is_durable(halted: Sender) -> None:
    waiting = halted.call(GITLEAKS, deadline=30)
    told = dict(await waiting.initial_metadata())
    await halted.cancel(told[REPORT_KEY])
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await waiting
    assert from_rpc(caught.value, "orchestrator").metadata["report_id"] == told[REPORT_KEY]
    refused = halted.call(GITLEAKS, size=5)
    assert REPORT_KEY not in dict(await refused.initial_metadata())
    with pytest.raises(grpc.aio.AioRpcError):
        await refused


async def test_who_waits_for_an_earlier_report_is_told_its_id_and_that_it_is_one(
    halted: Sender,
) -> None:
    report_id = (await halted.send(GITLEAKS, "k", wait=False)).report.report_id
    calls = [
        (halted.call(GITLEAKS, "k", deadline=30), {REPLAYED_KEY}),
        (halted.call(GITLEAKS, duplicates=REUSE, deadline=30), {REUSED_KEY}),
    ]
    for waiting, says in calls:
        told = dict(await waiting.initial_metadata())
        assert told.pop(REPORT_KEY) == report_id
        assert {key for key in told if key.startswith("x-winnow-")} == says
    await halted.cancel(report_id)
    for waiting, _ in calls:
        with pytest.raises(grpc.aio.AioRpcError):
            await waiting


async def test_a_wait_that_is_long_enough_is_not_noticed(sender: Sender) -> None:
    report = (await sender.send(GITLEAKS, at_most=60, deadline=30)).report
    assert report.status == DONE


async def test_who_waits_is_told_of_the_end_wherever_it_comes(
    halted: Sender, house: House, database: Database
) -> None:
    """One orchestrator takes the report, the house's own runs it."""
    answer = await halted.send(GITLEAKS, "moves", deadline=30)
    assert answer.report.status == DONE
    again = await halted.send(GITLEAKS, "moves", deadline=30)
    assert again.replayed
    assert again.report == answer.report


async def test_a_caller_who_leaves_after_the_end_changes_nothing(
    sender: Sender, alone: Asker, database: Database
) -> None:
    for number, delay in enumerate([0, 0.001, 0.003, 0.005, 0.01, 0.02, 0.05]):
        sent = asyncio.Event()

        async def requests(sent: asyncio.Event = sent) -> AsyncIterator[pb.SubmitReportRequest]:
            async for request in upload(LARGE, "gitleaks"):
                yield request
            sent.set()

        call = sender._stub.SubmitReport(requests(), metadata=sender._metadata)
        await asyncio.wait_for(sent.wait(), 10)
        # gRPC may not have sent its last message yet: then there is no report, and no chunk.
        await asyncio.sleep(delay)
        call.cancel()
        for _ in range(200):
            await asyncio.sleep(0.02)
            listed = await alone.ListReports(pb.ListReportsRequest())
            # Its last message may still be under way: then a report begins after this look.
            if all(report.status == DONE for report in listed.reports):
                break
        assert len(listed.reports) <= number + 1
        assert all(report.status == DONE for report in listed.reports)
        assert all(report.size_bytes == len(LARGE) for report in listed.reports)
    assert listed.reports, "at least the last one was there"
    assert await chunks_of_nobody(database, alone.tenant) == 0


async def test_a_caller_who_leaves_before_the_end_leaves_nothing(
    sender: Sender, alone: Asker, database: Database
) -> None:
    for delay in (0, 0.002, 0.005, 0.01):
        sent = asyncio.Event()

        async def requests(sent: asyncio.Event = sent) -> AsyncIterator[pb.SubmitReportRequest]:
            async for request in upload(LARGE, "gitleaks"):
                if request.HasField("end"):
                    sent.set()
                    await asyncio.sleep(60)
                yield request

        call = sender._stub.SubmitReport(requests(), metadata=sender._metadata)
        await asyncio.wait_for(sent.wait(), 10)
        await asyncio.sleep(delay)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    for _ in range(100):
        await asyncio.sleep(0.02)
        if await chunks_of_nobody(database, alone.tenant) == 0:
            break
    assert await chunks_of_nobody(database, alone.tenant) == 0
    assert await count(database, alone.tenant) == 0


# Keys


@pytest.mark.parametrize("report", [GITLEAKS, LARGE], ids=["small", "large"])
async def test_fifty_at_once_with_one_key_are_one_report(
    sender: Sender, alone: Asker, database: Database, report: bytes
) -> None:
    answers = await asyncio.gather(*(sender.send(report, "k", "gitleaks") for _ in range(50)))
    assert await count(database, alone.tenant) == 1
    assert [answer.replayed for answer in answers].count(False) == 1
    assert all(answer.report == answers[0].report for answer in answers)
    assert answers[0].report.status == DONE
    assert await chunks_of_nobody(database, alone.tenant) == 0


async def test_one_key_at_two_orchestrators_is_one_report(
    house: House, database_url: str, alone: Asker, sender: Sender, database: Database
) -> None:
    async with another(house, database_url, alone.tenant) as other:
        answers = await asyncio.gather(
            *(one.send(GITLEAKS, "k") for one in (sender, other) for _ in range(10))
        )
    assert await count(database, alone.tenant) == 1
    assert all(answer.report == answers[0].report for answer in answers)


async def test_a_key_outlives_the_process(
    house: House, database_url: str, database: Database
) -> None:
    tenant = f"t{uuid.uuid4().hex[:12]}"
    async with another(house, database_url, tenant, ingestor_address="unix:/no") as first:
        report = (await first.send(GITLEAKS, "k", wait=False)).report
    async with another(house, database_url, tenant) as second:
        answer = await second.send(GITLEAKS, "k")
    assert answer.replayed
    assert answer.report.report_id == report.report_id
    assert answer.report.status == DONE
    assert await count(database, tenant) == 1


async def test_a_key_with_another_report_is_refused(sender: Sender, alone: Asker) -> None:
    report = (await sender.send(GITLEAKS, "k", "gitleaks", labels={"team": "a"})).report
    same = await sender.send(GITLEAKS, "k", " GitLeaks", labels={"team": "a"})
    assert same.replayed
    for bytes_, scanner, said in (
        (EMPTY, "gitleaks", {"labels": {"team": "a"}}),
        (GITLEAKS, "", {"labels": {"team": "a"}}),
        (GITLEAKS, "gitleaks", {"labels": {"team": "b"}}),
        (LARGE, "gitleaks", {"labels": {"team": "a"}}),
    ):
        error = await sender.refused(bytes_, "k", scanner, **said)
        assert error.reason == "IDEMPOTENCY_KEY_REUSED"
        assert error.http_status == 422
        assert error.metadata["report_id"] == report.report_id
    assert len((await alone.ListReports(pb.ListReportsRequest())).reports) == 1


async def test_keys_of_tenants_are_apart(sender: Sender, house: House) -> None:
    other = Sender(house.reports, f"t{uuid.uuid4().hex[:12]}")
    mine, theirs = await sender.send(GITLEAKS, "k"), await other.send(EMPTY, "k", "gitleaks")
    assert not theirs.replayed
    assert mine.report.report_id != theirs.report.report_id


async def test_a_failure_is_answered_again_as_it_was(
    sender: Sender, alone: Asker, database: Database
) -> None:
    first = await sender.refused(b"no report at all", "k")
    at_once = await asyncio.gather(*(sender.refused(b"neither", "l") for _ in range(10)))
    for error in [await sender.refused(b"no report at all", "k"), first, *at_once]:
        assert (error.reason, error.retry_after) == ("FORMAT_UNKNOWN", None)
    assert len({error.metadata["report_id"] for error in at_once}) == 1
    again = await sender.refused(b"no report at all", "k")
    assert again.message == first.message
    assert again.metadata["report_id"] == first.metadata["report_id"]
    assert await count(database, alone.tenant) == 2


async def test_what_is_decided_later_does_not_change_the_answer(
    sender: Sender, alone: Asker
) -> None:
    before = await sender.send(GITLEAKS, "k")
    ruling = Ruling(outcome=DecisionOutcome.DECISION_OUTCOME_FALSE_POSITIVE, actor="a", reason="r")
    found = await alone.ListFindings(
        pb.ListFindingsRequest(report_id=before.report.report_id, risk=1)
    )
    await alone.DecideFinding(DecideFindingRequest(finding_id=found.findings[0].id, ruling=ruling))
    stands = await sender.ended(before.report.report_id)
    after = await sender.send(GITLEAKS, "k")
    assert stands.summary != before.report.summary
    assert after.report == before.report


async def test_who_does_not_wait_gets_the_same_report_again(sender: Sender) -> None:
    first = await sender.send(GITLEAKS, "k", wait=False)
    again = await sender.send(GITLEAKS, "k", wait=False)
    assert (first.replayed, again.replayed) == (False, True)
    assert again.report.report_id == first.report.report_id


async def test_a_key_is_kept_for_a_day(sender: Sender, alone: Asker, database: Database) -> None:
    first = await sender.send(EMPTY, "k", "gitleaks")

    async def age(hours: float) -> None:
        aged = text(
            "UPDATE orchestrator.idempotency SET created_at = now() - make_interval(mins => :m)"
            " WHERE tenant_id = :tenant"
        )
        values = {"m": round(hours * 60), "tenant": alone.tenant}
        await database.run(lambda connection: connection.execute(aged, values).rowcount)

    await age(23.9)
    assert (await sender.send(EMPTY, "k", "gitleaks")).replayed
    await age(24.1)
    fresh = await asyncio.gather(*(sender.send(GITLEAKS, "k") for _ in range(10)))
    assert [answer.replayed for answer in fresh].count(False) == 1
    assert len({answer.report.report_id for answer in fresh}) == 1
    assert fresh[0].report.report_id != first.report.report_id
    assert all(answer.report == fresh[0].report for answer in fresh)
    assert await count(database, alone.tenant, "idempotency") == 1


@pytest.mark.parametrize("key", ["a b", "a\n", "ä", "a\x7f", "k" * 256], ids=range(5))
async def test_a_key_that_is_none_is_refused_before_the_upload(sender: Sender, key: str) -> None:
    error = await sender.refused(LARGE, key)
    assert error.reason == "INVALID_ARGUMENT"
    assert error.metadata["field"] == "request_id"
    assert key not in error.message


async def test_other_nonsense_in_the_header_is_refused(sender: Sender) -> None:
    error = await sender.refused(EMPTY, at_most=-1.0)
    assert (error.reason, error.metadata["field"]) == ("INVALID_ARGUMENT", "wait_at_most")
    error = await sender.refused(EMPTY, duplicates=7)
    assert (error.reason, error.metadata["field"]) == ("INVALID_ARGUMENT", "duplicates")


async def test_an_upload_that_was_refused_is_not_what_its_key_stands_for(sender: Sender) -> None:
    refused = await sender.refused(EMPTY, "k", labels={"n": "v" * 300})
    assert refused.reason == "INVALID_ARGUMENT"
    assert not (await sender.send(EMPTY, "k", "gitleaks")).replayed


# Duplicates


SHOP = ReportSource(repository="https://example.com/acme/shop.git", ref="main")


async def test_the_same_bytes_are_linked_to_their_first_report(
    sender: Sender, alone: Asker
) -> None:
    first = (await sender.send(GITLEAKS, source=SHOP)).report
    spelt = ReportSource(repository="git@example.com:acme/shop", ref="next")
    second = (await sender.send(GITLEAKS, source=spelt, wait=False)).report
    third = (await sender.send(GITLEAKS, scanner="gitleaks", source=SHOP)).report
    assert first.duplicate_of == ""
    assert second.duplicate_of == third.duplicate_of == first.report_id
    assert (await sender.ended(second.report_id)).duplicate_of == first.report_id
    created = ListEventsRequest(report_id=third.report_id, event_type="REPORT_CREATED")
    async with asyncio.timeout(10):
        while not (shipped := (await alone.ListEvents(created)).events):
            await asyncio.sleep(0.05)
    event = shipped[0].event
    assert event.payload["duplicate_of"] == first.report_id
    for other in (
        {"source": ReportSource(repository="https://example.com/acme/other")},
        {},
    ):
        assert (await sender.send(GITLEAKS, **other)).report.duplicate_of == ""
    assert (await sender.send(EMPTY, scanner="gitleaks", source=SHOP)).report.duplicate_of == ""


async def test_the_same_bytes_of_another_scanner_are_another_report(sender: Sender) -> None:
    first = (await sender.send(EMPTY, scanner="gitleaks")).report
    other = (await sender.send(EMPTY, scanner="bandit", wait=False)).report
    assert other.duplicate_of == ""
    assert (await sender.send(EMPTY, scanner="gitleaks")).report.duplicate_of == first.report_id


async def test_a_report_that_failed_is_nobodys_first(sender: Sender) -> None:
    await sender.refused(b"no report", duplicates=REUSE)
    second = await sender.refused(b"no report", duplicates=REUSE)
    failed = await sender.ended(second.metadata["report_id"])
    assert failed.duplicate_of == ""


async def test_other_tenants_reports_are_not_seen(sender: Sender, house: House) -> None:
    await sender.send(GITLEAKS)
    other = Sender(house.reports, f"t{uuid.uuid4().hex[:12]}")
    assert (await other.send(GITLEAKS, duplicates=REUSE)).report.duplicate_of == ""


@pytest.mark.parametrize("wait", [True, False])
async def test_reuse_answers_with_the_first_report(
    sender: Sender, alone: Asker, database: Database, wait: bool
) -> None:
    first = await sender.send(LARGE, scanner="gitleaks", duplicates=REUSE)
    second = await sender.send(LARGE, scanner="gitleaks", duplicates=REUSE, wait=wait)
    assert (first.reused, second.reused) == (False, True)
    assert second.report == first.report
    assert await count(database, alone.tenant) == 1
    assert await chunks_of_nobody(database, alone.tenant) == 0


async def test_reuse_waits_for_a_report_that_still_runs(halted: Sender, house: House) -> None:
    first = await halted.send(GITLEAKS, wait=False)
    second = await halted.send(GITLEAKS, duplicates=REUSE, deadline=30)
    assert second.report.report_id == first.report.report_id
    assert second.report.status == DONE


async def test_many_at_once_that_ask_for_reuse_are_one_report(
    sender: Sender, alone: Asker, database: Database
) -> None:
    answers = await asyncio.gather(
        *(sender.send(GITLEAKS, f"k{n}", duplicates=REUSE) for n in range(20))
    )
    assert await count(database, alone.tenant) == 1
    assert [answer.reused for answer in answers].count(False) == 1
    assert all(answer.report == answers[0].report for answer in answers)
    assert not any(answer.replayed for answer in answers)


async def test_a_key_whose_report_was_reused_says_so_again(sender: Sender) -> None:
    await sender.send(GITLEAKS)
    first = await sender.send(GITLEAKS, "k", duplicates=REUSE)
    again = await sender.send(GITLEAKS, "k", duplicates=REUSE)
    assert (first.reused, first.replayed) == (True, False)
    assert (again.reused, again.replayed) == (True, True)
    assert again.report == first.report


async def test_a_key_of_a_report_that_was_reused_while_it_ran_says_so_again(
    halted: Sender, house: House
) -> None:
    await halted.send(GITLEAKS, "first", wait=False)
    answers = [await halted.send(GITLEAKS, "k", duplicates=REUSE, deadline=30) for _ in range(2)]
    assert [(a.reused, a.replayed) for a in answers] == [(True, False), (True, True)]
    assert answers[0].report == answers[1].report
