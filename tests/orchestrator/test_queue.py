"""QueueService over real sockets and the real tables."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any, NamedTuple

import grpc
import pytest
from sqlalchemy import Connection, delete, insert, select, update

from orchestrator import tables
from orchestrator.run import RUN, Runner
from orchestrator.service_queue import QueueService
from runtime.clock import now, uuid7
from runtime.database import Database
from runtime.errors import WinnowError, from_rpc
from runtime.jobs import DEAD, MAX_FAILURES, RUNNING, WAITING, Job, Queue
from runtime.server import Service
from tests.harness import serving
from tests.orchestrator.test_resume import ORDINALS, Rig
from tests.orchestrator.test_resume import impatient as impatient
from tests.orchestrator.test_resume import rig as rig
from winnow.queue.v1 import queue_service_pb2 as pb
from winnow.queue.v1.queue_service_pb2_grpc import (
    QueueServiceStub,
    add_QueueServiceServicer_to_server,
)
from winnow.report.v1.report_pb2 import ReportStatus
from winnow.report.v1.report_service_pb2 import WatchReportRequest

MINUTE = timedelta(minutes=1)


class Desk(NamedTuple):
    """The service, called as a tenant of its own, and what it called."""

    stub: Any
    tenant: str
    database: Database
    # Job ids of reports reopened, and of rings.
    reopened: list[str]
    rung: list[str]
    # What reopening raises, if anything.
    refusal: list[WinnowError]

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return (("x-winnow-tenant", self.tenant),)

    async def health(self) -> pb.GetQueueHealthResponse:
        answer: pb.GetQueueHealthResponse = await self.stub.GetQueueHealth(
            pb.GetQueueHealthRequest(), metadata=self.metadata
        )
        return answer

    async def jobs(self, **asked: Any) -> pb.ListJobsResponse:
        answer: pb.ListJobsResponse = await self.stub.ListJobs(
            pb.ListJobsRequest(**asked), metadata=self.metadata
        )
        return answer

    async def retry(self, job_id: object) -> Any:
        request = pb.RetryJobRequest(job_id=str(job_id))
        return (await self.stub.RetryJob(request, metadata=self.metadata)).job

    async def put(self, kind: str, key: str, **values: Any) -> uuid.UUID:
        """A job of the tenant, in whatever state."""

        def put(connection: Connection) -> uuid.UUID:
            job = Queue(tables.jobs, "w").put(connection, kind, key, tenant=self.tenant)
            assert job is not None
            if values:
                jobs = tables.jobs
                connection.execute(update(jobs).where(jobs.c.job_id == job.job_id).values(**values))
            return job.job_id

        return await self.database.run(put)


@pytest.fixture
async def desk(database: Database) -> AsyncIterator[Desk]:
    reopened: list[str] = []
    rung: list[str] = []
    refusal: list[WinnowError] = []

    def reopen(_connection: Connection, job: Job) -> None:
        reopened.append(str(job.job_id))
        if refusal:
            raise refusal[0]

    servicer = QueueService(
        database, Queue(tables.jobs, "w"), reopen, lambda job: rung.append(job.job_id)
    )
    service = Service(
        "127.0.0.1:0",
        [pb.DESCRIPTOR.services_by_name["QueueService"]],
        lambda server: add_QueueServiceServicer_to_server(servicer, server),
    )
    tenant = f"t{uuid.uuid4().hex[:12]}"
    async with serving(service) as (_, channel):
        yield Desk(QueueServiceStub(channel), tenant, database, reopened, rung, refusal)
    await database.run(
        lambda connection: connection.execute(
            delete(tables.jobs).where(tables.jobs.c.tenant_id == tenant)
        )
    )


def a_kind() -> str:
    """A kind of work that no worker knows."""
    return f"test.{uuid.uuid4().hex[:8]}"


async def refused(call: Any) -> WinnowError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return from_rpc(caught.value, "orchestrator")


async def test_health_counts_jobs_by_what_they_wait_for(desk: Desk) -> None:
    kind, other = a_kind(), a_kind()
    at = now()
    await desk.put(kind, "waits", due_at=at - 5 * MINUTE)
    await desk.put(kind, "waits shorter", due_at=at - MINUTE)
    await desk.put(kind, "is for later", due_at=at + MINUTE)
    running = {"state": RUNNING, "due_at": at + MINUTE}
    await desk.put(kind, "runs", **running, attempt=1)
    # Once begun before, by a process that stopped in an orderly way.
    await desk.put(kind, "runs again", **running, attempt=2)
    # Its worker is silent: somebody else may take it.
    await desk.put(kind, "lapsed", state=RUNNING, attempt=1, due_at=at - MINUTE)
    await desk.put(kind, "dead", state=DEAD, due_at=at - 60 * MINUTE)
    await desk.put(other, "dead", state=DEAD)
    found = {depth.kind: depth for depth in (await desk.health()).kinds}
    depth = found[kind]
    assert (depth.waiting, depth.delayed, depth.running, depth.retried, depth.dead) == (
        3,
        1,
        2,
        0,
        1,
    )
    assert 300 <= depth.oldest_age.ToTimedelta().total_seconds() < 360
    assert (found[other].waiting, found[other].dead) == (0, 1)
    assert found[other].oldest_age.ToTimedelta() == timedelta()


async def test_health_shows_jobs_that_fail_wherever_they_are(desk: Desk) -> None:
    kind = a_kind()
    at = now()
    old = {"created_at": at - 7 * MINUTE, "attempt": 4, "failures": 3}
    await desk.put(kind, "comes back", due_at=at + MINUTE, **old)
    await desk.put(kind, "is due again", due_at=at - MINUTE, **old)
    await desk.put(kind, "runs again", state=RUNNING, due_at=at + MINUTE, **old)
    # Neither says that anything fails now.
    await desk.put(kind, "dead", state=DEAD, **{**old, "created_at": at - 90 * MINUTE})
    await desk.put(kind, "for later", due_at=at + MINUTE, created_at=at - 90 * MINUTE)
    [depth] = [depth for depth in (await desk.health()).kinds if depth.kind == kind]
    assert (depth.waiting, depth.delayed, depth.running, depth.retried) == (1, 2, 1, 3)
    assert 7 * MINUTE <= depth.oldest_age.ToTimedelta() < 8 * MINUTE


async def test_a_job_put_for_a_later_time_is_no_older_than_that(desk: Desk) -> None:
    kind = a_kind()
    await desk.put(kind, "is due", due_at=now() - MINUTE, created_at=now() - 90 * MINUTE)
    [depth] = [depth for depth in (await desk.health()).kinds if depth.kind == kind]
    assert MINUTE <= depth.oldest_age.ToTimedelta() < 2 * MINUTE


async def test_health_tells_what_waits_to_be_shipped(desk: Desk) -> None:
    before = await desk.health()
    mark = desk.tenant

    def ship(connection: Connection) -> None:
        states = ((False, False), (False, False), (True, False), (False, True))
        for audited, published in states:
            connection.execute(
                insert(tables.outbox).values(
                    tenant_id=mark,
                    event=b"",
                    at=now() - 400 * MINUTE,
                    audited=audited,
                    published=published,
                )
            )

    await desk.database.run(ship)
    try:
        after = await desk.health()
    finally:
        await desk.database.run(
            lambda connection: connection.execute(
                delete(tables.outbox).where(tables.outbox.c.tenant_id == mark)
            )
        )
    assert after.outbox_audit - before.outbox_audit == 3
    assert after.outbox_transport - before.outbox_transport == 3
    assert after.outbox_oldest_age.ToTimedelta() >= 400 * MINUTE


async def test_health_lists_schedules_and_the_tenants_own_events(desk: Desk) -> None:
    name = a_kind()
    hour = now().replace(minute=0, second=0, microsecond=0)

    def write(connection: Connection) -> None:
        connection.execute(
            insert(tables.schedules).values(
                name=name,
                kind="k",
                cron="0 3 * * *",
                zone="Europe/Berlin",
                catch_up=1,
                next_at=now() - MINUTE,
            )
        )
        rows = [
            (desk.tenant, hour, "REPORT_DONE", 3),
            (desk.tenant, hour - 60 * MINUTE, "REPORT_DONE", 4),
            (desk.tenant, hour - 30 * 60 * MINUTE, "REPORT_DONE", 90),
            (desk.tenant, hour, "REPORT_FAILED", 1),
            (f"{desk.tenant}x", hour, "REPORT_DONE", 900),
        ]
        for tenant, of, event_type, events in rows:
            connection.execute(
                insert(tables.activity).values(
                    tenant_id=tenant, hour=of, event_type=event_type, events=events
                )
            )

    await desk.database.run(write)
    try:
        answer = await desk.health()
    finally:
        await desk.database.run(
            lambda connection: connection.execute(
                delete(tables.schedules).where(tables.schedules.c.name == name)
            )
        )
    [state] = [state for state in answer.schedules if state.name == name]
    assert (state.cron, state.zone) == ("0 3 * * *", "Europe/Berlin")
    assert -120 < state.due_in.ToTimedelta().total_seconds() < -59
    assert dict(answer.events_of_a_day) == {"REPORT_DONE": 7, "REPORT_FAILED": 1}


async def test_jobs_are_listed_by_page_state_and_kind(desk: Desk) -> None:
    kind = a_kind()
    for number in range(5):
        await desk.put(kind, str(number))
    dead = await desk.put(a_kind(), "x", state=DEAD, error_reason="INTERNAL", failures=20)
    first = await desk.jobs(kind=kind, page_size=3)
    assert [job.key for job in first.jobs] == ["4", "3", "2"]
    rest = await desk.jobs(kind=kind, page_size=3, page_token=first.next_page_token)
    assert [job.key for job in rest.jobs] == ["1", "0"]
    assert rest.next_page_token == ""
    [job] = (await desk.jobs(state=DEAD)).jobs
    assert (job.job_id, job.error_reason, job.failures) == (str(dead), "INTERNAL", 20)
    assert len((await desk.jobs()).jobs) == 6
    other = await refused(desk.jobs(kind=kind, state=WAITING, page_token=first.next_page_token))
    assert other.reason == "PAGE_TOKEN_INVALID"
    stranger = desk._replace(tenant=f"{desk.tenant}x")
    assert list((await stranger.jobs()).jobs) == []


async def test_a_dead_job_is_given_another_chance(desk: Desk) -> None:
    job_id = await desk.put(
        a_kind(), "x", state=DEAD, failures=20, attempt=21, error_reason="INTERNAL"
    )
    job = await desk.retry(job_id)
    assert (job.state, job.failures, job.attempt) == (WAITING, 0, 21)
    assert desk.rung == [str(job_id)]
    assert desk.reopened == []
    again = await refused(desk.retry(job_id))
    assert (again.reason, again.metadata["job_state"]) == ("JOB_STATE", "waiting")


async def test_unknown_jobs_and_other_tenants_jobs_are_not_found(desk: Desk) -> None:
    job_id = await desk.put(a_kind(), "x", state=DEAD)
    stranger = desk._replace(tenant=f"{desk.tenant}x")
    for call in (desk.retry(uuid7()), stranger.retry(job_id)):
        assert (await refused(call)).reason == "JOB_NOT_FOUND"
    assert (await refused(desk.retry("x"))).reason == "INVALID_ARGUMENT"
    assert desk.rung == []


async def test_the_report_of_a_dead_run_goes_on_with_it(desk: Desk) -> None:
    job_id = await desk.put(RUN, str(uuid7()), state=DEAD)
    await desk.retry(job_id)
    assert desk.reopened == [str(job_id)]


async def test_a_run_whose_report_has_not_ended_is_just_run(desk: Desk) -> None:
    desk.refusal.append(WinnowError("REPORT_STATE", "it has not failed"))
    job = await desk.retry(await desk.put(RUN, str(uuid7()), state=DEAD))
    assert job.state == WAITING


async def test_a_report_that_cannot_be_reopened_leaves_its_run_dead(desk: Desk) -> None:
    desk.refusal.append(WinnowError("REPORT_NOT_FOUND", "gone"))
    job_id = await desk.put(RUN, str(uuid7()), state=DEAD)
    assert (await refused(desk.retry(job_id))).reason == "REPORT_NOT_FOUND"

    def state(connection: Connection) -> Any:
        jobs = tables.jobs
        return connection.scalar(select(jobs.c.state).where(jobs.c.job_id == job_id))

    assert await desk.database.run(state) == DEAD
    assert desk.rung == []


@pytest.mark.usefixtures("impatient")
async def test_a_report_that_was_given_up_is_done_after_all(rig: Rig, database: Database) -> None:
    """Its moderator was broken for longer than anybody tries, and is mended."""
    queue = Queue(tables.jobs, "w")
    unused: Any = None
    reopen = Runner(database, queue, unused, unused, unused, unused, unused).reopen
    servicer = QueueService(database, queue, reopen, lambda _job: None)
    rig.moderator.break_after = [3, *[0] * (MAX_FAILURES - 1)]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await rig.submit()
    assert from_rpc(caught.value, "orchestrator").retryable
    listed = await servicer.ListJobs(pb.ListJobsRequest(state=DEAD, kind=RUN), None)
    dead = listed.jobs[0]
    assert (dead.failures, dead.error_reason) == (MAX_FAILURES, "UPSTREAM_UNAVAILABLE")
    answer = await servicer.RetryJob(pb.RetryJobRequest(job_id=dead.job_id), None)
    assert answer.job.failures == 0
    watched = [
        answer.progress
        async for answer in rig.reports.WatchReport(WatchReportRequest(report_id=dead.key))
    ]
    assert watched[-1].status == ReportStatus.REPORT_STATUS_DONE
    assert watched[-1].judged == len(ORDINALS)
    assert sorted(set(rig.moderator.judged)) == ORDINALS
    listed = await servicer.ListJobs(pb.ListJobsRequest(kind=RUN), None)
    assert dead.job_id not in {job.job_id for job in listed.jobs}


async def test_many_jobs_are_put_and_counted_at_once(desk: Desk) -> None:
    kind = a_kind()
    rows = [{"key": str(n), "tenant_id": desk.tenant, "payload": {}} for n in range(20_000)]
    queue = Queue(tables.jobs, "w")
    assert await desk.database.run(queue.put_many, kind, rows) == len(rows)
    found = {depth.kind: depth for depth in (await desk.health()).kinds}
    assert found[kind].waiting == len(rows)
