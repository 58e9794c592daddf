"""What is swept, what stays, and who sweeps."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any, cast

import pytest
from sqlalchemy import Connection, Table, insert, select

from orchestrator import housekeeping, tables
from orchestrator.retention import CLEAR, Retention
from orchestrator.tables import activity, idempotency, inbox, jobs, raw_chunks
from runtime.clock import now, uuid7
from runtime.database import Database
from runtime.jobs import Queue
from runtime.worker import Worker

HOUR = timedelta(hours=1)


@pytest.fixture
async def background(database_url: str) -> AsyncIterator[Database]:
    """A pool as the orchestrator sweeps with."""
    pool = Database(database_url, 2, role="winnow_background")
    yield pool
    await pool.close()


def test_every_schedule_has_its_kind_and_every_kind_its_schedule(database: Database) -> None:
    queue, unused = Queue(tables.jobs, "w"), cast(Any, None)
    ending = Retention(database, database, queue, unused, unused).kinds
    made = [kind for kind in ending if kind.name != CLEAR]
    made += housekeeping.kinds(database, queue)
    assert sorted(kind.name for kind in made) == sorted(
        schedule.kind for schedule in housekeeping.SCHEDULES
    )
    assert len({schedule.name for schedule in housekeeping.SCHEDULES}) == len(made)


def rows(tenant: str) -> dict[str, tuple[Table, dict[str, Any], dict[str, Any]]]:
    """For each sweep a table, a row that is to go, and one that is to stay."""
    at = now()
    hour = at.replace(minute=0, second=0, microsecond=0)
    key = {"tenant_id": tenant, "request_digest": b"d", "report_id": uuid7(), "answer": b""}
    chunk = {"tenant_id": tenant, "seq": 0, "sealed": b"x"}
    seen = {"consumer": tenant}
    count = {"tenant_id": tenant, "event_type": "X", "events": 1}
    return {
        "uploads.sweep": (
            raw_chunks,
            {**chunk, "report_id": uuid7(age_seconds=86_500)},
            {**chunk, "report_id": uuid7(age_seconds=86_300)},
        ),
        "idempotency.sweep": (
            idempotency,
            {**key, "key_digest": b"1", "created_at": at - 25 * HOUR},
            {**key, "key_digest": b"2", "created_at": at - 23 * HOUR},
        ),
        "inbox.sweep": (
            inbox,
            {**seen, "message_id": uuid7(), "at": at - 7 * 24 * HOUR - HOUR},
            {**seen, "message_id": uuid7(), "at": at - 7 * 24 * HOUR + HOUR},
        ),
        "activity.sweep": (
            activity,
            {**count, "hour": hour - 31 * 24 * HOUR - HOUR},
            {**count, "hour": hour - 31 * 24 * HOUR + HOUR},
        ),
    }


@pytest.mark.parametrize("name", list(rows("")))
async def test_a_sweep_takes_what_is_old_and_leaves_the_rest(
    database: Database, background: Database, name: str
) -> None:
    tenant = f"t{uuid.uuid4().hex[:12]}"
    table, old, young = rows(tenant)[name]
    owner = table.c.consumer if table is inbox else table.c.tenant_id
    queue = Queue(tables.jobs, "w")

    def put(connection: Connection) -> None:
        for row in (old, young):
            connection.execute(insert(table).values(**row))
        assert queue.put(connection, name, tenant) is not None

    def read(connection: Connection) -> list[dict[str, Any]]:
        found = connection.execute(select(table).where(owner == tenant))
        return [dict(row._mapping) for row in found]

    def left(connection: Connection) -> int:
        return len(connection.execute(select(jobs).where(jobs.c.key == tenant)).all())

    await database.run(put)
    worker = Worker(background, queue, housekeeping.kinds(background, queue))
    running = asyncio.create_task(worker.run())
    async with asyncio.timeout(20):
        while await database.run(left):
            await asyncio.sleep(0.05)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await worker.stop()
    [found] = await database.run(read)
    assert young.items() <= found.items()
