"""An event that comes often has its effect once."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta

import pytest
from sqlalchemy import Connection, MetaData, Table, func, select, update
from sqlalchemy.schema import CreateSchema, DropSchema

from runtime.clock import uuid7
from runtime.consumers import Consumer, inbox_table, sweep
from runtime.database import Database
from runtime.errors import WinnowError
from winnow.event.v1.envelope_pb2 import Envelope


@pytest.fixture
async def inbox(database: Database) -> AsyncIterator[Table]:
    """An inbox of the test's own."""
    metadata = MetaData(schema=f"test_{uuid.uuid4().hex[:12]}")
    made = inbox_table(metadata)

    def create(connection: Connection) -> None:
        connection.execute(CreateSchema(str(metadata.schema)))
        metadata.create_all(connection)

    await database.run(create)
    yield made
    await database.run(lambda connection: connection.execute(DropSchema(made.schema, cascade=True)))


def some(number: int) -> list[Envelope]:
    return [Envelope(event_id=str(uuid7()), ordinal=ordinal) for ordinal in range(number)]


async def test_only_what_is_new_has_an_effect_and_in_its_order(
    database: Database, inbox: Table
) -> None:
    seen: list[int] = []

    def effect(_connection: Connection, events: Sequence[Envelope]) -> None:
        seen.extend(event.ordinal for event in events)

    consumer, events = Consumer("one", database, inbox, effect), some(6)
    await consumer.handle([events[2], events[0], events[2]])
    await consumer.handle(events[:4])
    await consumer.handle(events[:4])
    await consumer.handle(events)
    assert seen == [2, 0, 1, 3, 4, 5]
    await Consumer("other", database, inbox, effect).handle(events[:1])
    assert seen[6:] == [0]


async def test_an_effect_that_fails_leaves_its_events_new(database: Database, inbox: Table) -> None:
    failing = True
    seen: list[int] = []

    def effect(_connection: Connection, events: Sequence[Envelope]) -> None:
        if failing:
            raise WinnowError("DATABASE_UNAVAILABLE", "the database does not answer")
        seen.extend(event.ordinal for event in events)

    consumer, events = Consumer("one", database, inbox, effect), some(3)
    with pytest.raises(WinnowError):
        await consumer.handle(events)
    failing = False
    await consumer.handle(events)
    assert seen == [0, 1, 2]


async def test_consumers_that_get_the_same_at_once_do_it_once(
    database: Database, inbox: Table
) -> None:
    seen: list[int] = []

    def effect(_connection: Connection, events: Sequence[Envelope]) -> None:
        seen.extend(event.ordinal for event in events)

    consumer, events = Consumer("one", database, inbox, effect), some(200)
    await asyncio.gather(
        *(consumer.handle(events[::step]) for step in (1, -1, 2, -2, 3, -3, 1, -1))
    )
    assert sorted(seen) == list(range(200))


async def test_what_was_taken_long_ago_is_forgotten(database: Database, inbox: Table) -> None:
    consumer, events = Consumer("one", database, inbox, lambda *_: None), some(5)
    await consumer.handle(events)

    def age(connection: Connection) -> None:
        old = [uuid.UUID(event.event_id) for event in events[:3]]
        connection.execute(
            update(inbox)
            .where(inbox.c.message_id.in_(old))
            .values(at=func.now() - timedelta(days=8))
        )

    await database.run(age)
    assert await database.run(sweep, inbox, timedelta(days=7)) == 3
    left = await database.run(
        lambda connection: connection.execute(select(func.count()).select_from(inbox)).scalar()
    )
    assert left == 2
