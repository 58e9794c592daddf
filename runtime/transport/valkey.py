"""Events by a stream of Valkey and its consumer groups.

Valkey knows for each group what was delivered to whom, when and how often; that is
all the state there is. A consumer takes back what it failed with after a back-off,
and what another has held in silence for too long. Nothing is trimmed from the stream
that a group has not done with.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any

from valkey.asyncio import Valkey
from valkey.exceptions import ResponseError, ValkeyError

from runtime.errors import WinnowError
from runtime.transport.delivery import Handle, Message, Policy, deliver, parse
from winnow.event.v1.envelope_pb2 import Envelope

_TIMEOUT_SECONDS = 5.0
_DEAD_KEPT = 100_000
_GONE_SECONDS = 86_400


class ValkeyTransport:
    """See `runtime.transport.Transport`.

    Args:
        url: valkey://user:password@host:port/number, valkeys:// for TLS, or unix://path.
        groups: all groups of consumers.
    """

    def __init__(self, url: str, groups: Sequence[str], policy: Policy) -> None:
        self._client: Any = Valkey.from_url(
            url,
            socket_connect_timeout=_TIMEOUT_SECONDS,
            socket_timeout=_TIMEOUT_SECONDS + policy.poll_seconds,
        )
        self._groups = groups
        self._policy = policy
        self._stream = f"{policy.prefix}.events"
        self._ready = False
        self._length = 0

    async def publish(self, events: Sequence[Envelope]) -> None:
        async with self._connected() as client:
            if self._length >= self._policy.retained:
                await self._trim(client)
            # All or none: what is published again after a failure keeps its order.
            batch = client.pipeline(transaction=True)
            for event in events:
                batch.xadd(
                    self._stream,
                    {
                        "id": event.event_id,
                        "type": event.event_type,
                        "event": event.SerializeToString(),
                    },
                )
            batch.xlen(self._stream)
            self._length = (await batch.execute())[-1]

    async def consume(self, group: str, handle: Handle) -> None:
        subscription = _Subscription(self._connected, self._stream, group, self._policy)
        await deliver(subscription, handle, self._policy, self._policy.idle_seconds)

    async def close(self) -> None:
        await self._client.aclose()

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[Any]:
        """The client, with stream and groups in place; its errors as ours."""
        try:
            if not self._ready:
                for group in self._groups:
                    await self._join(group)
                self._ready = True
            yield self._client
        except (ValkeyError, OSError):
            # It may come back empty.
            self._ready = False
            raise WinnowError(
                "UPSTREAM_UNAVAILABLE",
                "the event transport (valkey) does not answer",
                retry_after=1.0,
                service="event transport",
            ) from None

    async def _join(self, group: str) -> None:
        try:
            await self._client.xgroup_create(self._stream, group, id="0", mkstream=True)
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise
        for consumer in await self._client.xinfo_consumers(self._stream, group):
            if consumer["pending"] == 0 and consumer["idle"] > _GONE_SECONDS * 1000:
                await self._client.xgroup_delconsumer(self._stream, group, consumer["name"])

    async def _trim(self, client: Any) -> None:
        """Drops what all groups have done with."""
        floors = []
        for group in await client.xinfo_groups(self._stream):
            pending = await client.xpending(self._stream, group["name"])
            floors.append(_order(pending["min"] or group["last-delivered-id"]))
        if floors:
            floor = "{}-{}".format(*min(floors))
            await client.xtrim(self._stream, minid=floor, approximate=False)
        self._length = await client.xlen(self._stream)
        if self._length >= self._policy.retained:
            raise WinnowError(
                "OVERLOADED",
                f"the event transport holds {self._length} events that a group has not taken",
                retry_after=1.0,
            )


class _Subscription:
    def __init__(self, connected: Any, stream: str, group: str, policy: Policy) -> None:
        self._connected = connected
        self._stream = stream
        self._group = group
        self._policy = policy
        # What is pending under this name when more is asked for has failed here.
        self._name = uuid.uuid4().hex
        self._looked = 0.0

    async def take(self) -> list[Message]:
        async with self._connected() as client:
            return await self._overdue(client) or await self._new(client)

    async def _new(self, client: Any) -> list[Message]:
        found = await client.xreadgroup(
            self._group,
            self._name,
            {self._stream: ">"},
            count=self._policy.batch,
            block=int(self._policy.poll_seconds * 1000),
        )
        return [
            Message(_event(fields), 1, (entry, fields))
            for _, entries in found
            for entry, fields in entries
        ]

    async def _overdue(self, client: Any) -> list[Message]:
        """Messages that failed here, or whose consumer is gone, and whose time has come."""
        if time.monotonic() < self._looked + self._policy.backoff_seconds:
            return []
        self._looked = time.monotonic()
        shortest = int(self._policy.backoff_seconds * 1000)
        pending = await client.xpending_range(
            self._stream, self._group, "-", "+", self._policy.batch, idle=shortest
        )
        deliveries = {
            entry["message_id"]: entry["times_delivered"]
            for entry in pending
            if self._is_due(entry)
        }
        if not deliveries:
            return []
        # Of two consumers that saw them, one gets them: a claim makes them busy again.
        claimed = await client.xclaim(
            self._stream, self._group, self._name, shortest, list(deliveries)
        )
        return [
            Message(_event(fields), deliveries[entry] + 1, (entry, fields))
            for entry, fields in claimed
        ]

    def _is_due(self, entry: dict[str, Any]) -> bool:
        wait = self._policy.backoff(entry["times_delivered"])
        if entry["consumer"] != self._name.encode():
            wait = max(wait, self._policy.idle_seconds)
        return bool(entry["time_since_delivered"] >= wait * 1000)

    async def keep(self, messages: Sequence[Message]) -> None:
        ids = [message.token[0] for message in messages]
        async with self._connected() as client:
            await client.xclaim(self._stream, self._group, self._name, 0, ids, justid=True)

    async def done(self, messages: Sequence[Message]) -> None:
        ids = [message.token[0] for message in messages]
        async with self._connected() as client:
            await client.xack(self._stream, self._group, *ids)

    async def again(self, message: Message, error: WinnowError, seconds: float) -> None:
        """It stays pending under this consumer's name; `_overdue` finds it in time."""

    async def bury(self, message: Message, error: WinnowError) -> None:
        entry, fields = message.token
        letter = {
            **fields,
            "group": self._group,
            "deliveries": message.deliveries,
            "reason": error.reason,
            "message": error.message,
        }
        async with self._connected() as client:
            both = client.pipeline(transaction=True)
            both.xadd(f"{self._stream}.dead", letter, maxlen=_DEAD_KEPT)
            both.xack(self._stream, self._group, entry)
            await both.execute()


def _event(fields: dict[bytes, bytes]) -> Envelope | None:
    return parse(fields.get(b"event", b""))


def _order(entry: bytes) -> tuple[int, int]:
    """An entry's id as numbers, which sort as entries do."""
    first, _, second = entry.partition(b"-")
    return int(first), int(second)
