"""Event transports: how events come to whoever reacts to them.

A transport carries each event at least once to every group of consumers; the
consumers of a group share the work. Events of one publisher arrive in its order,
except those that are delivered again. Nothing depends on a transport alone: events
wait in the outbox until it has them, and a consumer's inbox (runtime/consumers.py)
absorbs what comes twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol
from urllib.parse import urlsplit

from runtime.config import ConfigError
from runtime.database import Database
from runtime.jobs import Queue
from runtime.transport.delivery import Handle, Policy
from winnow.event.v1.envelope_pb2 import Envelope

Name = Literal["postgres", "valkey", "nats"]

_SCHEMES = {
    "valkey": ("valkey", "valkeys", "redis", "rediss", "unix"),
    "nats": ("nats", "tls", "ws", "wss"),
}


class Transport(Protocol):
    """What every transport can do."""

    async def publish(self, events: Sequence[Envelope]) -> None:
        """Hands events over; they are durable there when this returns.

        Raises:
            WinnowError: UPSTREAM_UNAVAILABLE, OVERLOADED, DATABASE_UNAVAILABLE. Some of
                the events may have been handed over all the same.
        """

    async def consume(self, group: str, handle: Handle) -> None:
        """Gives a group's events to `handle`, in batches, until cancelled.

        A batch is done when `handle` returns. What fails is handled alone, then
        delivered again after a while, and in the end becomes a dead letter; a failure
        that a retry can mend is waited out, and counts for nothing.
        """

    async def close(self) -> None:
        """Closes what is open."""


def make(
    name: Name,
    url: str,
    groups: Sequence[str],
    *,
    database: Database,
    queue: Queue,
    policy: Policy | None = None,
) -> Transport:
    """The transport of this name; it connects when first used.

    Args:
        url: where its broker is; "" for `postgres`.
        groups: all groups of consumers. What is published before a group's first
            consumer starts waits for it.
        database, queue: what `postgres` is made of.

    Raises:
        ConfigError: the URL is none of the broker's.
    """
    policy = policy or Policy()
    if name == "postgres":
        from runtime.transport.postgres import PostgresTransport

        return PostgresTransport(database, queue, groups, policy)
    _check(url, name)
    if name == "valkey":
        from runtime.transport.valkey import ValkeyTransport

        return ValkeyTransport(url, groups, policy)
    from runtime.transport.nats import NatsTransport

    return NatsTransport(url, groups, policy)


def _check(url: str, name: str) -> None:
    """Refuses what a client would refuse later, and with the password in its message."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in _SCHEMES[name] and (parts.hostname or parts.path)
        _ = parts.port
    except ValueError:
        good = False
    if not good:
        raise ConfigError(
            f"WINNOW_EVENT_TRANSPORT_URL: must be a URL of {name} "
            f"({', '.join(f'{scheme}://' for scheme in _SCHEMES[name])})"
        )
