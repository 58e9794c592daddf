"""The three transports on real servers, and what tests look at behind their backs."""

from __future__ import annotations

import base64
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import nats
import pytest
from sqlalchemy import Connection, select
from valkey.asyncio import Valkey

from orchestrator.tables import jobs
from runtime import transport as transports
from runtime.database import Database
from runtime.jobs import DEAD, Queue
from runtime.transport import Transport
from runtime.transport.delivery import Policy
from runtime.transport.postgres import kind
from tests.runtime.transport import servers

SERVERS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "postgres": servers.postgres_server,
    "valkey": servers.valkey_server,
    "nats": servers.nats_server,
}
LEASE_SECONDS = 1.0
POLICY = Policy(
    batch=20, max_deliveries=5, idle_seconds=LEASE_SECONDS, backoff_seconds=0.05, poll_seconds=0.2
)


class Line:
    """Transports of one kind, joined by streams and groups that no other test has."""

    def __init__(self, name: Any, server: Any, database_url: str) -> None:
        self.name = name
        self.server = server
        self.prefix = f"t{uuid.uuid4().hex[:12]}"
        self.groups = [f"{self.prefix}-one", f"{self.prefix}-other"]
        self.database = Database(server.url if name == "postgres" else database_url, connections=6)
        self._opened: list[Transport] = []

    def transport(self, **policy: Any) -> Transport:
        """One more, as another process would have it."""
        made = transports.make(
            self.name,
            self.server.url,
            self.groups,
            database=self.database,
            queue=Queue(jobs, uuid.uuid4().hex, LEASE_SECONDS),
            policy=POLICY._replace(prefix=self.prefix, **policy),
        )
        self._opened.append(made)
        return made

    async def put_garbage(self) -> None:
        """Something that is no event, where the first group's events are."""
        garbage = b"\xff no event"
        if self.name == "postgres":
            await self.database.run(
                Queue(jobs, "garbage").put,
                kind(self.groups[0]),
                uuid.uuid4().hex,
                payload={"event": base64.b64encode(garbage).decode()},
            )
        elif self.name == "valkey":
            async with Valkey.from_url(self.server.url) as client:
                await client.xadd(f"{self.prefix}.events", {"event": garbage})
        else:
            client = await nats.connect(self.server.url)
            await client.jetstream().publish(f"{self.prefix}.events.X", garbage)
            await client.close()

    async def dead_letters(self) -> list[str]:
        """Reasons of the first group's dead letters."""
        if self.name == "postgres":
            return await self.database.run(self._dead_jobs)
        if self.name == "valkey":
            async with Valkey.from_url(self.server.url) as client:
                letters = await client.xrange(f"{self.prefix}.events.dead")
            return [letter[b"reason"].decode() for _, letter in letters]
        client = await nats.connect(self.server.url)
        stream = client.jetstream()
        count = (await stream.stream_info(f"{self.prefix}-dead")).state.messages
        letters = [await stream.get_msg(f"{self.prefix}-dead", seq) for seq in range(1, count + 1)]
        await client.close()
        return [letter.headers["Winnow-Reason"] for letter in letters]

    def _dead_jobs(self, connection: Connection) -> list[str]:
        query = select(jobs.c.error_reason).where(
            jobs.c.kind == kind(self.groups[0]), jobs.c.state == DEAD
        )
        return list(connection.execute(query).scalars())

    async def close(self) -> None:
        for transport in self._opened:
            await transport.close()
        await self.database.close()


@pytest.fixture(scope="module", params=SERVERS)
def broker(request: pytest.FixtureRequest) -> Iterator[tuple[str, Any]]:
    with SERVERS[request.param]() as server:
        yield request.param, server


@pytest.fixture
async def line(broker: tuple[str, Any], database_url: str) -> AsyncIterator[Line]:
    made = Line(*broker, database_url)
    yield made
    await made.close()
