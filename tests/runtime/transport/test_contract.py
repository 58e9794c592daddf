"""What every transport promises, on real servers of every kind."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence

import pytest
from sqlalchemy import Connection, func, select

from orchestrator.activity import count
from orchestrator.tables import activity, inbox
from runtime.clock import uuid7
from runtime.consumers import Consumer
from runtime.errors import WinnowError
from runtime.transport import Transport
from runtime.transport.delivery import Handle
from tests.runtime.transport.conftest import LEASE_SECONDS, POLICY, Line
from winnow.event.v1.envelope_pb2 import Envelope

SECONDS = 60.0


def some(number: int, tenant: str = "t") -> list[Envelope]:
    """Events, numbered from 1."""
    made = []
    for ordinal in range(1, number + 1):
        event = Envelope(
            event_id=str(uuid7()),
            event_type="REPORT_CREATED",
            tenant_id=tenant,
            subject=f"reports/{uuid.uuid4()}",
            ordinal=ordinal,
        )
        event.occurred_at.GetCurrentTime()
        made.append(event)
    return made


class Seen:
    """A handler that writes down what it is given."""

    def __init__(self, before: Callable[[Sequence[Envelope]], None] = lambda _events: None) -> None:
        self.ordinals: list[int] = []
        self.batches: list[int] = []
        self._before = before

    async def handle(self, events: Sequence[Envelope]) -> None:
        self._before(events)
        await asyncio.sleep(0.01)
        self.batches.append(len(events))
        self.ordinals += [event.ordinal for event in events]

    async def all(self, number: int) -> None:
        await until(lambda: len(set(self.ordinals)) >= number)


async def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < end, "it does not come about"
        await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def consuming(
    transport: Transport, group: str, handle: Handle
) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(transport.consume(group, handle))
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_all_events_come_in_their_order_and_in_batches(line: Line) -> None:
    transport, seen, events = line.transport(), Seen(), some(150)
    await transport.publish(events[:70])
    async with consuming(line.transport(), line.groups[0], seen.handle):
        for start in range(70, 150, 20):
            await transport.publish(events[start : start + 20])
        await seen.all(150)
    assert seen.ordinals == list(range(1, 151))
    assert 1 < max(seen.batches) <= POLICY.batch


async def test_every_group_gets_every_event_and_its_consumers_share_them(line: Line) -> None:
    one, other, alone = Seen(), Seen(), Seen()
    first, second = line.groups
    # What is published before a group's first consumer starts waits for it.
    await line.transport().publish(some(120))
    async with (
        consuming(line.transport(batch=5), first, one.handle),
        consuming(line.transport(batch=5), first, other.handle),
        consuming(line.transport(), second, alone.handle),
    ):
        await until(lambda: len(one.ordinals) + len(other.ordinals) >= 120)
        await alone.all(120)
    assert sorted(one.ordinals + other.ordinals) == list(range(1, 121))
    assert one.ordinals
    assert other.ordinals
    assert alone.ordinals == list(range(1, 121))


async def test_what_a_dead_consumer_held_is_delivered_to_another(line: Line) -> None:
    held = asyncio.Event()

    async def hang(_events: Sequence[Envelope]) -> None:
        held.set()
        await asyncio.Event().wait()

    await line.transport().publish(some(5))
    async with consuming(line.transport(), line.groups[0], hang):
        await held.wait()
    died = time.monotonic()
    seen = Seen()
    async with consuming(line.transport(), line.groups[0], seen.handle):
        await seen.all(5)
    assert sorted(seen.ordinals) == [1, 2, 3, 4, 5]
    assert time.monotonic() - died < 3 * LEASE_SECONDS + 1


async def test_what_is_still_handled_is_not_delivered_to_another(line: Line) -> None:
    other = Seen()
    slow = Seen()

    async def dawdle(events: Sequence[Envelope]) -> None:
        await asyncio.sleep(2.5 * LEASE_SECONDS)
        await slow.handle(events)

    await line.transport().publish(some(3))
    async with consuming(line.transport(), line.groups[0], dawdle):
        await asyncio.sleep(0.3)
        async with consuming(line.transport(), line.groups[0], other.handle):
            await slow.all(3)
            await asyncio.sleep(0.3)
    assert slow.ordinals == [1, 2, 3]
    assert other.ordinals == []


async def test_what_always_fails_becomes_a_dead_letter_and_harms_no_other(line: Line) -> None:
    tries: Counter[int] = Counter()

    def refuse_the_fourth(events: Sequence[Envelope]) -> None:
        if any(event.ordinal == 4 for event in events):
            tries[len(events)] += 1
            raise RuntimeError("a defect of the consumer")

    seen = Seen(refuse_the_fourth)
    transport = line.transport()
    async with consuming(transport, line.groups[0], seen.handle):
        await transport.publish(some(10))
        await line.put_garbage()
        await line.put_garbage()
        await seen.all(9)
        end = time.monotonic() + SECONDS
        while len(await line.dead_letters()) < 3 and time.monotonic() < end:
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.5)
    assert sorted(seen.ordinals) == [1, 2, 3, 5, 6, 7, 8, 9, 10]
    assert sorted(await line.dead_letters()) == ["INTERNAL", "INVALID_ARGUMENT", "INVALID_ARGUMENT"]
    # Once among the others, then alone.
    assert tries[1] == POLICY.max_deliveries


async def test_what_kills_its_consumers_is_given_up(line: Line) -> None:
    transport = line.transport()
    await transport.publish(some(1))
    begun = 0

    async def die(_events: Sequence[Envelope]) -> None:
        nonlocal begun
        begun += 1
        await asyncio.Event().wait()

    end = time.monotonic() + SECONDS
    while not await line.dead_letters() and time.monotonic() < end:
        before = begun
        async with consuming(line.transport(), line.groups[0], die):
            while begun == before and not await line.dead_letters() and time.monotonic() < end:
                await asyncio.sleep(0.05)
    assert await line.dead_letters() == ["INTERNAL"]
    # With `postgres` a death counts for several failures.
    assert 1 < begun <= POLICY.max_deliveries


async def test_a_failure_that_may_pass_is_waited_out(line: Line) -> None:
    tries = 0

    def refuse_at_first(_events: Sequence[Envelope]) -> None:
        nonlocal tries
        tries += 1
        if tries <= POLICY.max_deliveries + 1:
            raise WinnowError("DATABASE_UNAVAILABLE", "the database does not answer")

    seen = Seen(refuse_at_first)
    transport = line.transport()
    async with consuming(transport, line.groups[0], seen.handle):
        await transport.publish(some(3))
        await seen.all(3)
    assert seen.ordinals == [1, 2, 3]
    assert await line.dead_letters() == []


async def test_a_consumer_stops_when_it_is_told_to(line: Line) -> None:
    publisher, events, seen = line.transport(), some(120), Seen()
    for start in range(0, 120, 2):
        await publisher.publish(events[start : start + 2])
        # At any moment: while it connects, waits, handles or acknowledges.
        async with asyncio.timeout(SECONDS):
            async with consuming(line.transport(max_deliveries=200), line.groups[0], seen.handle):
                await asyncio.sleep(random.uniform(0, 0.03))
    async with consuming(line.transport(max_deliveries=200), line.groups[0], seen.handle):
        await seen.all(120)


async def test_a_stream_that_is_full_refuses_and_loses_nothing(line: Line) -> None:
    if line.name == "postgres":
        pytest.skip("a table has no such bound")
    transport, events = line.transport(retained=50), some(80)
    one, other = Seen(), Seen()
    published = 0
    with pytest.raises(WinnowError) as refused:
        for event in events:
            await transport.publish([event])
            published += 1
    assert refused.value.reason == "OVERLOADED"
    assert published == 50
    async with (
        consuming(line.transport(), line.groups[0], one.handle),
        consuming(line.transport(), line.groups[1], other.handle),
    ):
        await one.all(50)
        await other.all(50)
        await asyncio.sleep(0.2)
        for event in events[50:]:
            await transport.publish([event])
        await one.all(80)
        await other.all(80)
    assert one.ordinals == other.ordinals == list(range(1, 81))


async def test_kills_of_the_server_lose_nothing_and_no_effect_happens_twice(
    line: Line,
) -> None:
    tenant = line.prefix
    events = some(300, tenant)
    effects = line.database
    consumer = Consumer(line.groups[0], effects, inbox, count)
    publisher = line.transport()
    refused = 0

    async def publish() -> None:
        nonlocal refused
        for start in range(0, 300, 10):
            while True:
                try:
                    await publisher.publish(events[start : start + 10])
                    break
                except WinnowError as error:
                    if not error.retryable:
                        raise
                    refused += 1
                    await asyncio.sleep(0.05)
            await asyncio.sleep(0.01)

    def counted(connection: Connection) -> int:
        query = select(func.sum(activity.c.events)).where(activity.c.tenant_id == tenant)
        return connection.execute(query).scalar() or 0

    # A consumer that starts while its server is away comes by itself.
    line.server.kill()
    async with (
        consuming(line.transport(), line.groups[0], consumer.handle),
        consuming(line.transport(), line.groups[0], consumer.handle),
    ):
        publishing = asyncio.create_task(publish())
        await asyncio.sleep(0.3)
        await asyncio.to_thread(line.server.start)
        for _ in range(2):
            await asyncio.sleep(0.15)
            line.server.kill()
            await asyncio.sleep(0.1)
            await asyncio.to_thread(line.server.start)
        await publishing
        # What was acknowledged and forgotten by the kill comes twice; so does this.
        await publisher.publish(events[:50])
        end = time.monotonic() + SECONDS
        while await effects.run(counted) < 300 and time.monotonic() < end:
            await asyncio.sleep(0.1)
        await asyncio.sleep(LEASE_SECONDS)
    assert refused > 0
    assert await effects.run(counted) == 300
    assert await line.dead_letters() == []
