"""Events leave the outbox both ways, whatever is away, and each counts once."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
import pytest
from sqlalchemy import Connection, select

from orchestrator import activity, store_outbox, tables
from orchestrator.events import report_event
from orchestrator.outbox import Outbox
from runtime.consumers import Consumer
from runtime.database import Database
from runtime.errors import WinnowError
from runtime.jobs import Queue
from runtime.transport import Transport
from runtime.transport.delivery import Handle, Policy
from runtime.transport.postgres import PostgresTransport, kind
from tests.fixtures.reports import load_report
from tests.orchestrator.conftest import Asker
from winnow.audit.v1.audit_service_pb2 import AppendEventsRequest, ListEventsRequest
from winnow.event.v1.envelope_pb2 import Envelope

SECONDS = 60.0


class Log:
    """An audit service and a transport that keep what they are given; away on demand."""

    def __init__(self) -> None:
        self.away = False
        self.appended: dict[str, Envelope] = {}
        self.published: list[Envelope] = []

    async def AppendEvents(self, request: AppendEventsRequest, **_call: Any) -> None:
        await asyncio.sleep(0)
        if self.away:
            raise grpc.aio.AioRpcError(
                grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata()
            )
        for event in request.events:
            self.appended.setdefault(event.event_id, event)

    async def publish(self, events: Sequence[Envelope]) -> None:
        await asyncio.sleep(0)
        if self.away:
            raise WinnowError("UPSTREAM_UNAVAILABLE", "the event transport does not answer")
        self.published += events

    async def consume(self, group: str, handle: Handle) -> None:
        raise NotImplementedError

    async def close(self) -> None:
        """Nothing is open."""


class Tenant:
    """A tenant of its own, and its rows."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.name = f"t{uuid.uuid4().hex[:12]}"
        self.transport = PostgresTransport(
            database, Queue(tables.jobs, uuid.uuid4().hex), [self.name], Policy()
        )

    async def events(self, reports: int, each: int) -> dict[str, list[str]]:
        """Writes events of several reports; returns their ids by subject."""
        written: dict[str, list[str]] = {}
        ids = [uuid.uuid4() for _ in range(reports)]
        for nth in range(each):
            for report_id in ids:
                event = report_event("REPORT_VIEWED", report_id, self.name, nth=nth)
                written.setdefault(event.subject, []).append(event.event_id)
                await self._database.run(store_outbox.put, [event])
        return written

    async def rows(self) -> list[tuple[bool, bool]]:
        """Whether each row is audited and published."""
        table = tables.outbox
        return await self._select(
            select(table.c.audited, table.c.published).where(table.c.tenant_id == self.name)
        )

    async def jobs(self) -> list[str]:
        """Keys of the deliveries to the group of this tenant's name."""
        table = tables.jobs
        rows = await self._select(
            select(table.c.key)
            .where(table.c.kind == kind(self.name), table.c.tenant_id == self.name)
            .order_by(table.c.job_id)
        )
        return [key for (key,) in rows]

    async def counts(self) -> dict[str, int]:
        """Events counted by type."""
        table = tables.activity
        rows = await self._select(
            select(table.c.event_type, table.c.events).where(table.c.tenant_id == self.name)
        )
        counted: Counter[str] = Counter()
        for event_type, events in rows:
            counted[event_type] += events
        return dict(counted)

    async def _select(self, query: Any) -> list[Any]:
        def run(connection: Connection) -> list[Any]:
            return [tuple(row) for row in connection.execute(query)]

        return await self._database.run(run)


@pytest.fixture
def tenant(database: Database) -> Tenant:
    return Tenant(database)


@contextlib.asynccontextmanager
async def shipping(database: Database, log: Any, transport: Transport) -> AsyncIterator[Outbox]:
    outbox = Outbox(database, log, transport)
    task = asyncio.create_task(outbox.run())
    try:
        yield outbox
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait_for(task, SECONDS)


async def until(true: Any) -> None:
    end = time.monotonic() + SECONDS
    while not await true():
        assert time.monotonic() < end, "it does not come about"
        await asyncio.sleep(0.05)


async def test_one_way_that_is_closed_does_not_close_the_other(
    database: Database, tenant: Tenant
) -> None:
    audit, transport = Log(), Log()
    async with shipping(database, audit, transport) as outbox:
        for closed in (audit, transport):
            closed.away = True
            written = await tenant.events(reports=1, each=3)
            (ids,) = written.values()
            outbox.ring()
            state = (closed is transport, closed is audit)

            async def gone_one_way(state: tuple[bool, bool] = state) -> bool:
                return await tenant.rows() == [state] * 3

            await until(gone_one_way)
            closed.away = False

            async def gone() -> bool:
                return not await tenant.rows()

            await until(gone)
            assert [one for one in audit.appended if one in ids] == ids
            assert [one.event_id for one in transport.published if one.event_id in ids] == ids


async def test_many_relays_keep_the_order_of_each_report_and_deliver_once(
    database: Database, tenant: Tenant
) -> None:
    audit = Log()
    consumer = Consumer(tenant.name, database, tables.inbox, activity.count)
    async with contextlib.AsyncExitStack() as stack:
        outboxes = [
            await stack.enter_async_context(shipping(database, audit, tenant.transport))
            for _ in range(3)
        ]
        consuming = asyncio.create_task(tenant.transport.consume(tenant.name, consumer.handle))

        async def ring() -> None:
            while True:
                for outbox in outboxes:
                    outbox.ring()
                await asyncio.sleep(0.01)

        ringing = asyncio.create_task(ring())
        written = await tenant.events(reports=20, each=15)

        async def all_counted() -> bool:
            return await tenant.counts() == {"REPORT_VIEWED": 300} and not await tenant.rows()

        await until(all_counted)
        for task in (ringing, consuming):
            task.cancel()
        await asyncio.wait([ringing, consuming])
    ours = [event for event in audit.appended.values() if event.tenant_id == tenant.name]
    for subject, ids in written.items():
        assert [event.event_id for event in ours if event.subject == subject] == ids
    assert len(ours) == 300
    assert await tenant.counts() == {"REPORT_VIEWED": 300}


async def test_publishing_in_the_database_is_all_or_nothing(
    database: Database, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    (ids,) = (await tenant.events(reports=1, each=4)).values()

    def refuse(*_args: Any) -> int:
        raise WinnowError("DATABASE_UNAVAILABLE", "the database does not answer")

    put_many = Queue.put_many
    monkeypatch.setattr(Queue, "put_many", refuse)
    async with shipping(database, Log(), tenant.transport) as outbox:
        outbox.ring()
        await asyncio.sleep(0.6)
        assert [published for _, published in await tenant.rows()] == [False] * 4
        assert await tenant.jobs() == []
        monkeypatch.setattr(Queue, "put_many", put_many)

        async def gone() -> bool:
            return not await tenant.rows()

        await until(gone)
    assert await tenant.jobs() == ids


async def test_a_round_is_over_when_the_audit_service_has_it(
    database: Database, tenant: Tenant
) -> None:
    audit = Log()
    async with shipping(database, audit, Log()) as outbox:
        (ids,) = (await tenant.events(reports=1, each=2)).values()
        assert await outbox.shipped(outbox.ring(), seconds=SECONDS)
        assert set(ids) <= set(audit.appended)
        audit.away = True
        await tenant.events(reports=1, each=1)
        assert not await outbox.shipped(outbox.ring(), seconds=0.3)


async def test_what_is_counted_is_what_the_audit_log_holds(
    alone: Asker, database: Database
) -> None:
    for _ in range(3):
        await alone.submit(load_report("gitleaks.git.json"))
    tenant = Tenant(database)
    tenant.name = alone.tenant

    async def settled() -> bool:
        listed = await alone.ListEvents(ListEventsRequest(page_size=100))  # type: ignore[attr-defined]
        logged = Counter(event.event.event_type for event in listed.events)
        return logged["REPORT_DONE"] == 3 and await tenant.counts() == dict(logged)

    await until(settled)
