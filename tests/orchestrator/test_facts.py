"""What waits is told as the tables have it; where they cannot be read, nothing is."""

from __future__ import annotations

import math

import pytest
from sqlalchemy import Connection, text

from orchestrator import facts, store_outbox, tables
from runtime import metrics
from runtime.database import Database
from runtime.jobs import Queue
from winnow.event.v1.envelope_pb2 import Envelope


def jobs(kind: str) -> dict[str, float]:
    (family,) = metrics.QUEUE_JOBS.collect()
    return {one.labels["state"]: one.value for one in family.samples if one.labels["kind"] == kind}


def gauge(metric: object) -> list[float]:
    (family,) = metric.collect()  # type: ignore[attr-defined]
    return [one.value for one in family.samples]


@pytest.fixture
def fresh(database: Database) -> metrics.Facts:
    told = facts.of(database, ("facts.none",))
    told._fresh_seconds = 0
    return told


async def test_the_queue_and_the_outbox(database: Database, fresh: metrics.Facts) -> None:
    await fresh.refresh()
    none = dict.fromkeys(metrics.JOB_STATES, 0.0)
    assert jobs("facts.none") == none
    outbox = gauge(metrics.OUTBOX_EVENTS)
    queue = Queue(tables.jobs, "facts")
    event = Envelope(event_id="facts", tenant_id="facts")

    def put(connection: Connection) -> None:
        queue.put(connection, "facts.some", "one")
        queue.put(connection, "facts.some", "two", claimed=True)
        store_outbox.put(connection, [event])
        connection.execute(
            text(
                "UPDATE orchestrator.outbox SET at = now() - interval '1 day' WHERE tenant_id = 'facts'"
            )
        )

    def gone(connection: Connection) -> None:
        connection.execute(text("DELETE FROM orchestrator.jobs WHERE kind = 'facts.some'"))
        connection.execute(text("DELETE FROM orchestrator.outbox WHERE tenant_id = 'facts'"))

    await database.run(put)
    try:
        await fresh.refresh()
        assert jobs("facts.some") == none | {"waiting": 1, "running": 1}
        assert gauge(metrics.OUTBOX_EVENTS) == [one + 1 for one in outbox]
        assert gauge(metrics.OUTBOX_AGE)[0] >= 86_400
    finally:
        await database.run(gone)
    await fresh.refresh()
    assert jobs("facts.some") == {}
    assert gauge(metrics.FACTS_FRESH) == [1]


async def test_an_old_figure_does_not_pass_for_a_new_one(
    fresh: metrics.Facts, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fresh.refresh()
    assert jobs("facts.none")

    def broken(connection: Connection) -> None:
        connection.execute(text("SELECT 1 FROM facts_are_nowhere"))

    monkeypatch.setattr(facts.store_queue, "depths", broken)
    await fresh.refresh()
    assert jobs("facts.none") == {}
    assert gauge(metrics.OUTBOX_EVENTS) == []
    assert math.isnan(gauge(metrics.OUTBOX_AGE)[0])
    assert gauge(metrics.FACTS_FRESH) == [0]
