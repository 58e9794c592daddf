"""Events by the table of jobs: one job for each event and group.

Needs no broker, and publishing can be part of the transaction that the events come
from. A dead letter is a dead job: `winnow jobs` shows it and gives it another chance.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Connection

from runtime.clock import uuid7
from runtime.database import Database
from runtime.errors import WinnowError
from runtime.jobs import Job, Queue
from runtime.transport.delivery import Handle, Message, Policy, deliver, parse
from winnow.event.v1.envelope_pb2 import Envelope


def kind(group: str) -> str:
    """The kind of a group's jobs."""
    return f"deliver.{group}"


class PostgresTransport:
    """See `runtime.transport.Transport`.

    Args:
        database, queue: the jobs.
        groups: all groups of consumers; only for them there is something to publish.
    """

    def __init__(
        self, database: Database, queue: Queue, groups: Sequence[str], policy: Policy
    ) -> None:
        self._database = database
        self._queue = queue
        self._groups = groups
        self._policy = policy
        self._newest = 0
        self._bells: set[asyncio.Event] = set()

    async def publish(self, events: Sequence[Envelope]) -> None:
        await self.publish_from(lambda _connection: events)

    async def publish_from(self, take: Callable[[Connection], Sequence[Envelope]]) -> int:
        """Publishes what `take` gives, in the transaction in which it takes it: once.

        Returns:
            How many events that were.
        """
        events = await self._database.run(self._put, take)
        for bell in self._bells if events else ():
            bell.set()
        return len(events)

    def _put(
        self, connection: Connection, take: Callable[[Connection], Sequence[Envelope]]
    ) -> Sequence[Envelope]:
        events = take(connection)
        for group in self._groups:
            self._queue.put_many(connection, kind(group), [self._row(event) for event in events])
        return events

    def _row(self, event: Envelope) -> dict[str, Any]:
        # Jobs that are due at once are claimed by their ids: these grow with their events.
        self._newest = max(uuid7().int, self._newest + 1)
        return {
            "job_id": uuid.UUID(int=self._newest),
            "key": event.event_id,
            "tenant_id": event.tenant_id,
            "request_id": event.request_id,
            "payload": {"event": base64.b64encode(event.SerializeToString()).decode()},
            "max_failures": self._policy.max_deliveries,
        }

    async def consume(self, group: str, handle: Handle) -> None:
        bell = asyncio.Event()
        self._bells.add(bell)
        try:
            await deliver(
                _Subscription(self._database, self._queue, group, bell, self._policy),
                handle,
                self._policy,
                self._queue.lease_seconds,
            )
        finally:
            self._bells.discard(bell)

    async def close(self) -> None:
        """The database is closed by who opened it."""


class _Subscription:
    def __init__(
        self, database: Database, queue: Queue, group: str, bell: asyncio.Event, policy: Policy
    ) -> None:
        self._database = database
        self._queue = queue
        self._wanted = {kind(group): policy.batch}
        self._bell = bell
        self._poll_seconds = policy.poll_seconds

    async def take(self) -> list[Message]:
        self._bell.clear()
        jobs = await self._database.run(self._queue.claim, self._wanted)
        if not jobs:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._poll_seconds):
                    await self._bell.wait()
        return [Message(_event(job), job.failures + 1, job) for job in jobs]

    async def keep(self, messages: Sequence[Message]) -> None:
        await self._database.run(self._queue.renew, [message.token for message in messages])

    async def done(self, messages: Sequence[Message]) -> None:
        # One whose lease was lost comes again; the inbox knows it.
        await self._database.run(self._queue.finish_all, [one.token for one in messages])

    async def again(self, message: Message, error: WinnowError, seconds: float) -> None:
        await self._database.run(self._queue.again, message.token, error, seconds)

    async def bury(self, message: Message, error: WinnowError) -> None:
        await self._database.run(self._queue.bury, message.token, error)


def _event(job: Job) -> Envelope | None:
    try:
        return parse(base64.b64decode(job.payload["event"], validate=True))
    except (KeyError, TypeError, binascii.Error):
        return None
