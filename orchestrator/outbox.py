"""Ships events from the outbox, in order, at least once: to the audit service and
to the event transport. Each goes its own pace; where one is away the other goes on.

Appending to the audit log is idempotent by event id, so a crash between the answer
and the mark only repeats. A doorbell makes it prompt; a poll makes it certain.

Any number of orchestrators may ship at once. The log keeps the order of a report's
events all the same: they are committed in the order of their rows, since each
changes the report's own row, and whoever ships one ships with it, or knows to be
shipped, all that are before it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from sqlalchemy import Connection

from orchestrator import store_outbox
from runtime import crash, metrics, tracing
from runtime.channels import call
from runtime.database import Database
from runtime.errors import WinnowError, from_rpc
from runtime.log import get_logger
from runtime.transport import Transport
from runtime.transport.delivery import cancelled
from runtime.transport.postgres import PostgresTransport
from winnow.audit.v1.audit_service_pb2 import AppendEventsRequest
from winnow.audit.v1.audit_service_pb2_grpc import AuditServiceStub
from winnow.event.v1.envelope_pb2 import Envelope

_log = get_logger()

_AT_ONCE = 500
_POLL_SECONDS = 1.0
_AUDIT_GATHER_SECONDS = 0.05
# Nobody waits for the transport.
_TRANSPORT_GATHER_SECONDS = 0.25
_RETRY_SECONDS = 1.0
# Most of those that rang which a round's span names.
_TRACED = 32


class Outbox:
    """The relay between the outbox table and those who take events.

    Args:
        database: where the outbox is.
        audit: stub of the audit service.
        transport: takes events to their consumers.
    """

    def __init__(self, database: Database, audit: AuditServiceStub, transport: Transport) -> None:
        self._database = database
        self._audit: Any = audit
        self._transport = transport
        self._audited: list[int] = []
        within = isinstance(transport, PostgresTransport)
        self._to_audit = _Leg("audit", self._append, _AUDIT_GATHER_SECONDS)
        self._to_transport = _Leg(
            "transport",
            self._publish_within if within else self._publish,
            _TRANSPORT_GATHER_SECONDS,
        )

    def ring(self) -> int:
        """Says that there may be something to ship.

        Returns:
            The round that will have shipped to the audit service all that is committed now.
        """
        self._to_transport.ring()
        return self._to_audit.ring()

    async def run(self) -> None:
        """Ships until cancelled."""
        async with asyncio.TaskGroup() as legs:
            legs.create_task(self._to_audit.run())
            legs.create_task(self._to_transport.run())

    async def shipped(self, round_: int, seconds: float) -> bool:
        """Waits until the audit service has the events of a round (as `ring` gave it).

        Returns:
            Whether it has; False after `seconds`, the events then follow later.
        """
        return await self._to_audit.done(round_, seconds)

    async def _append(self) -> bool:
        # What the last round shipped is marked in the transaction that looks for more.
        rows = await self._database.run(store_outbox.following, "audited", self._audited, _AT_ONCE)
        self._audited = []
        crash.point("outbox.read", bool(rows))
        if rows:
            request = AppendEventsRequest(events=[event for _, event in rows])
            try:
                await self._audit.AppendEvents(request, **call())
            except grpc.aio.AioRpcError as error:
                raise from_rpc(error, "audit service") from None
            crash.point("outbox.audited")
            self._audited = [seq for seq, _ in rows]
        return len(rows) == _AT_ONCE

    async def _publish(self) -> bool:
        rows = await self._database.run(store_outbox.following, "published", [], _AT_ONCE)
        crash.point("outbox.read", bool(rows))
        if rows:
            await self._transport.publish([event for _, event in rows])
            crash.point("outbox.published")
            # At once: until then another orchestrator would publish them too.
            await self._database.run(store_outbox.mark, "published", [seq for seq, _ in rows])
        return len(rows) == _AT_ONCE

    async def _publish_within(self) -> bool:
        """Where the transport is in the database, an event moves over in one transaction."""
        assert isinstance(self._transport, PostgresTransport)
        moved = await self._transport.publish_from(_unpublished)
        crash.point("outbox.published", moved > 0)
        return moved == _AT_ONCE


def _unpublished(connection: Connection) -> list[Envelope]:
    events = store_outbox.take(connection, "published", _AT_ONCE)
    crash.point("outbox.read", bool(events))
    return events


class _Leg:
    """One way out of the outbox.

    Args:
        name: for the log.
        ship: ships what is there, up to a bound; returns whether there may be more.
        gather_seconds: how long to let events come together, unless somebody waits.
    """

    def __init__(self, name: str, ship: Callable[[], Awaitable[bool]], gather_seconds: float):
        self._name = name
        self._ship = ship
        self._gather_seconds = gather_seconds
        self._bell = asyncio.Event()
        self._urgent = asyncio.Event()
        self._round = asyncio.Condition()
        self._begun = 0
        self._shipped = 0
        # Whose events wait, as their traces name them; the values mean nothing.
        self._rung: dict[str, None] = {}

    def ring(self) -> int:
        self._bell.set()
        if (now := tracing.traceparent()) and len(self._rung) < _TRACED:
            self._rung[now] = None
        return self._begun + 1

    async def run(self) -> None:
        while not cancelled():
            await _wait(self._bell, _POLL_SECONDS)
            # A report's events come in quick succession: they travel together,
            # and out of the way of the report itself, unless somebody waits.
            await _wait(self._urgent, self._gather_seconds)
            self._bell.clear()
            self._urgent.clear()
            self._begun += 1
            span = self._span()
            try:
                while await self._ship():
                    pass
            except WinnowError as error:
                metrics.OUTBOX_ROUNDS.labels(self._name, "failed").inc()
                span.end("failed", reason=error.reason)
                _log.warning(
                    "outbox.waiting", status="retrying", leg=self._name, reason=error.reason
                )
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            metrics.OUTBOX_ROUNDS.labels(self._name, "ok").inc()
            span.end()
            async with self._round:
                self._shipped = self._begun
                self._round.notify_all()

    def _span(self) -> tracing.Span:
        """A round in the trace of who rang first; the others are linked."""
        rung, self._rung = list(self._rung), {}
        if not rung:
            return tracing.NOTHING
        return tracing.begin(f"outbox.{self._name}", parent=rung[0], links=rung[1:])

    async def done(self, round_: int, seconds: float) -> bool:
        self._urgent.set()
        try:
            async with asyncio.timeout(seconds), self._round:
                await self._round.wait_for(lambda: self._shipped >= round_)
        except TimeoutError:
            return False
        return True


async def _wait(bell: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await bell.wait()
