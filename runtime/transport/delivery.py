"""What all transports have in common: how a batch is handled, repeated and given up.

A transport says where messages come from (`Subscription`); this says what becomes of
them. Only a failure that no retry mends is counted against a message: while a
database is away, its consumer waits with the batch in hand.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from google.protobuf.message import DecodeError

from runtime import metrics
from runtime.errors import WinnowError
from runtime.log import get_logger
from winnow.event.v1.envelope_pb2 import Envelope

_log = get_logger()
_T = TypeVar("_T")

_BACKOFF_MOST_SECONDS = 15.0

Handle = Callable[[Sequence[Envelope]], Awaitable[None]]


class Policy(NamedTuple):
    """How a transport delivers.

    Args:
        batch: most events at a time.
        max_deliveries: after so many a message is a dead letter.
        idle_seconds: what a consumer holds and says nothing about for so long is
            delivered to another (`postgres`: the lease of its jobs).
        backoff_seconds: before the second delivery; doubles with each further one.
        poll_seconds: how long to wait for something new at a time.
        retained: most events that a broker keeps for groups that are behind; then
            publishing is refused, and events wait in the outbox.
        prefix: of the names of streams and subjects at a broker.
    """

    batch: int = 100
    max_deliveries: int = 10
    idle_seconds: float = 30.0
    backoff_seconds: float = 0.25
    poll_seconds: float = 1.0
    retained: int = 100_000
    prefix: str = "winnow"

    def backoff(self, failures: int) -> float:
        """Seconds to wait after the n-th failure, from 1."""
        return min(self.backoff_seconds * 2.0 ** (failures - 1), _BACKOFF_MOST_SECONDS)


class Message(NamedTuple):
    """One delivery of an event.

    Args:
        event: None if it cannot be read.
        deliveries: how often it was delivered, this time included.
        token: what the transport knows it by.
    """

    event: Envelope | None
    deliveries: int
    token: Any


class Subscription(Protocol):
    """A group's messages, as one consumer gets them. All methods raise WinnowError."""

    async def take(self) -> list[Message]:
        """Waits a while for messages; they are this consumer's then."""

    async def keep(self, messages: Sequence[Message]) -> None:
        """Says that they are still being handled."""

    async def done(self, messages: Sequence[Message]) -> None:
        """Acknowledges them."""

    async def again(self, message: Message, error: WinnowError, seconds: float) -> None:
        """Has it delivered again after some seconds."""

    async def bury(self, message: Message, error: WinnowError) -> None:
        """Makes it a dead letter."""


def parse(raw: bytes) -> Envelope | None:
    """The event that was published; None if these bytes are none."""
    try:
        event = Envelope.FromString(raw)
    except DecodeError:
        return None
    return event if event.event_id else None


async def deliver(
    subscription: Subscription, handle: Handle, policy: Policy, idle_seconds: float
) -> None:
    """Handles a subscription's messages until cancelled, whatever becomes of its broker."""
    failures = 0
    while not cancelled():
        try:
            messages = await subscription.take()
            if messages:
                await _settle(subscription, messages, handle, policy, idle_seconds)
            failures = 0
        except WinnowError as error:
            _log.warning("transport.waiting", status="retrying", reason=error.reason)
            failures += 1
            await asyncio.sleep(policy.backoff(failures))
    raise asyncio.CancelledError


def cancelled() -> bool:
    """Whether the current task has been told to stop.

    `asyncio.wait_for` of Python 3.11, which both brokers' clients use, may swallow
    that (python/cpython#86296).
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _settle(
    subscription: Subscription,
    messages: Sequence[Message],
    handle: Handle,
    policy: Policy,
    idle_seconds: float,
) -> None:
    outcomes = await _while_keeping(
        subscription, messages, idle_seconds / 4, _outcomes(messages, handle, policy)
    )
    results = list(zip(messages, outcomes, strict=True))
    if done := [message for message, error in results if error is None]:
        await subscription.done(done)
    for message, error in results:
        if error is None:
            continue
        if message.event is None or message.deliveries >= policy.max_deliveries:
            _log.warning("transport.dead", status="error", reason=error.reason)
            await subscription.bury(message, error)
            metrics.DEAD_LETTERS.inc()
        else:
            await subscription.again(message, error, policy.backoff(message.deliveries))


async def _outcomes(
    messages: Sequence[Message], handle: Handle, policy: Policy
) -> list[WinnowError | None]:
    """What became of each message: None, or why it failed."""
    hopeless = [_hopeless(message, policy) for message in messages]
    events = [
        message.event
        for message, why in zip(messages, hopeless, strict=True)
        if why is None and message.event is not None
    ]
    failure = await _attempt(handle, events, policy)
    if failure is None:
        return hopeless
    alone: Iterator[WinnowError | None] = iter([failure])
    if len(events) > 1:  # one of them is bad: alone, only that one fails
        alone = iter([await _attempt(handle, [event], policy) for event in events])
    return [next(alone) if why is None else why for why in hopeless]


def _hopeless(message: Message, policy: Policy) -> WinnowError | None:
    if message.event is None:
        return WinnowError(
            "INVALID_ARGUMENT", "no event can be read from it", field="event", rule="envelope"
        )
    if message.deliveries > policy.max_deliveries:
        return WinnowError(
            "INTERNAL", f"given up: its consumers died {message.deliveries - 1} times"
        )
    return None


async def _attempt(
    handle: Handle, events: Sequence[Envelope], policy: Policy
) -> WinnowError | None:
    """Why these events cannot be handled; what a retry mends is waited out."""
    failures = 0
    while events:
        try:
            await handle(events)
        except WinnowError as error:
            if not error.retryable:
                return error
            _log.warning("consumer.waiting", status="retrying", reason=error.reason)
            failures += 1
            await asyncio.sleep(policy.backoff(failures))
        except Exception as error:  # noqa: BLE001 -- a defect fails the event, not the consumer
            _log.error("consumer.defect", status="error", exc_info=error)
            return WinnowError("INTERNAL", "the consumer failed; the log says how")
        else:
            return None
    return None


async def _while_keeping(
    subscription: Subscription,
    messages: Sequence[Message],
    every_seconds: float,
    work: Coroutine[Any, Any, _T],
) -> _T:
    """The result of the work, while which the messages stay this consumer's."""
    task = asyncio.ensure_future(work)
    try:
        while not (await asyncio.wait([task], timeout=every_seconds))[0]:
            # If it fails, another consumer may get them too: its inbox knows them.
            with contextlib.suppress(WinnowError):
                await subscription.keep(messages)
        return task.result()
    finally:
        task.cancel()
        await asyncio.wait([task])
