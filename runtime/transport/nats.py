"""Events by a stream of NATS JetStream and a durable consumer for each group.

The stream keeps an event until every group has acknowledged it, and refuses new ones
when it is full. Dead letters are this side's business: the server's own limit would
end deliveries in silence when a consumer dies with the last one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import nats.errors
from nats.aio.client import Client
from nats.js import api
from nats.js.errors import APIError, BadRequestError, NotFoundError

from runtime.errors import WinnowError
from runtime.transport.delivery import Handle, Message, Policy, deliver, parse
from winnow.event.v1.envelope_pb2 import Envelope

_TIMEOUT_SECONDS = 5.0
_GATHER_SECONDS = 0.05
_DUPLICATES_SECONDS = 600
_DEAD_KEPT = 100_000
# JetStream's code for a stream at its limit.
_STREAM_FULL = 10077


class NatsTransport:
    """See `runtime.transport.Transport`.

    Args:
        url: nats://user:password@host:port, or tls://.
        groups: all groups of consumers.
    """

    def __init__(self, url: str, groups: Sequence[str], policy: Policy) -> None:
        self._url = url
        self._groups = groups
        self._policy = policy
        self._client: Client | None = None
        self._connecting = asyncio.Lock()

    async def publish(self, events: Sequence[Envelope]) -> None:
        async with self._connected() as client:
            stream = client.jetstream(timeout=_TIMEOUT_SECONDS)
            # One after the other: an event that fails has none of its successors before it.
            for event in events:
                await stream.publish(
                    f"{self._policy.prefix}.events.{event.event_type}",
                    event.SerializeToString(),
                    headers={api.Header.MSG_ID.value: event.event_id},
                )

    async def consume(self, group: str, handle: Handle) -> None:
        subscription = _Subscription(self._connected, group, self._policy)
        await deliver(subscription, handle, self._policy, self._policy.idle_seconds)

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[Client]:
        """A client that is connected, with stream and consumers in place; its errors as ours."""
        try:
            async with self._connecting:
                if self._client is None or self._client.is_closed:
                    self._client = await self._connect()
            yield self._client
        except APIError as error:
            if error.err_code == _STREAM_FULL:
                raise WinnowError(
                    "OVERLOADED",
                    "the event transport is full of events that a group has not taken",
                    retry_after=1.0,
                ) from None
            # Streams or consumers may be gone: the next connection makes them.
            await self.close()
            raise _unavailable() from None
        except (nats.errors.Error, OSError, TimeoutError):
            raise _unavailable() from None

    async def _connect(self) -> Client:
        # A connection that is lost is closed: whoever needs one makes the next, and
        # nothing is buffered meanwhile.
        client = Client()
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                await client.connect(
                    self._url,
                    name="winnow",
                    allow_reconnect=False,
                    max_reconnect_attempts=1,
                    reconnect_time_wait=0,
                    error_cb=_nothing,
                )
                await self._prepare(client.jetstream(timeout=_TIMEOUT_SECONDS))
        except BaseException:
            await client.close()
            raise
        return client

    async def _prepare(self, streams: Any) -> None:
        prefix = self._policy.prefix
        await _ensure_stream(
            streams,
            api.StreamConfig(
                name=f"{prefix}-events",
                subjects=[f"{prefix}.events.>"],
                retention=api.RetentionPolicy.INTEREST,
                discard=api.DiscardPolicy.NEW,
                max_msgs=self._policy.retained,
                storage=api.StorageType.FILE,
                duplicate_window=_DUPLICATES_SECONDS,
            ),
        )
        await _ensure_stream(
            streams,
            api.StreamConfig(
                name=f"{prefix}-dead",
                subjects=[f"{prefix}.dead.>"],
                max_msgs=_DEAD_KEPT,
                storage=api.StorageType.FILE,
                duplicate_window=_DUPLICATES_SECONDS,
            ),
        )
        for group in self._groups:
            await streams.add_consumer(
                f"{prefix}-events",
                api.ConsumerConfig(
                    durable_name=group,
                    ack_policy=api.AckPolicy.EXPLICIT,
                    ack_wait=self._policy.idle_seconds,
                    max_deliver=-1,
                    max_ack_pending=10 * self._policy.batch,
                ),
            )


class _Subscription:
    def __init__(self, connected: Any, group: str, policy: Policy) -> None:
        self._connected = connected
        self._group = group
        self._policy = policy
        self._client: Any = None
        self._pull: Any = None

    async def take(self) -> list[Message]:
        async with self._connected() as client:
            if client is not self._client:
                self._pull = await client.jetstream().pull_subscribe_bind(
                    durable=self._group, stream=f"{self._policy.prefix}-events"
                )
                self._client = client
            found = await self._fetch(1, self._policy.poll_seconds)
            if found and self._policy.batch > 1:
                found += await self._fetch(self._policy.batch - 1, _GATHER_SECONDS)
        return [
            Message(parse(message.data), message.metadata.num_delivered, message)
            for message in found
        ]

    async def _fetch(self, most: int, seconds: float) -> list[Any]:
        try:
            return list(await self._pull.fetch(most, timeout=seconds))
        except TimeoutError:
            return []

    async def keep(self, messages: Sequence[Message]) -> None:
        async with self._connected():
            for message in messages:
                await message.token.in_progress()

    async def done(self, messages: Sequence[Message]) -> None:
        async with self._connected():
            for message in messages:
                await message.token.ack()

    async def again(self, message: Message, error: WinnowError, seconds: float) -> None:
        async with self._connected():
            await message.token.nak(seconds)

    async def bury(self, message: Message, error: WinnowError) -> None:
        async with self._connected() as client:
            await client.jetstream(timeout=_TIMEOUT_SECONDS).publish(
                f"{self._policy.prefix}.dead.{self._group}",
                message.token.data,
                headers={
                    api.Header.MSG_ID.value: f"{self._group}/{message.token.metadata.sequence.stream}",
                    "Winnow-Deliveries": str(message.deliveries),
                    "Winnow-Reason": error.reason,
                    "Winnow-Message": error.message,
                },
            )
            await message.token.ack()


async def _ensure_stream(streams: Any, config: api.StreamConfig) -> None:
    """Makes a stream, unless the operator has one of this name: then it is as he wants it."""
    try:
        await streams.stream_info(config.name)
    except NotFoundError:
        with contextlib.suppress(BadRequestError):  # another process was faster
            await streams.add_stream(config)


def _unavailable() -> WinnowError:
    return WinnowError(
        "UPSTREAM_UNAVAILABLE",
        "the event transport (nats) does not answer",
        retry_after=1.0,
        service="event transport",
    )


async def _nothing(_error: Exception) -> None:
    """The client tells of failures here and to its caller, who is enough."""
