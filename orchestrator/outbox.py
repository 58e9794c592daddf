"""Ships events from the outbox to the audit service, in order, at least once.

Appending is idempotent by event id, so a crash between the answer and the
deletion only repeats. A doorbell makes it prompt; a poll makes it certain.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import grpc

from orchestrator import store
from runtime.channels import call
from runtime.database import Database
from runtime.errors import from_rpc
from runtime.log import get_logger
from winnow.audit.v1.audit_service_pb2 import AppendEventsRequest
from winnow.audit.v1.audit_service_pb2_grpc import AuditServiceStub

_log = get_logger()

_AT_ONCE = 500
_POLL_SECONDS = 1.0
_GATHER_SECONDS = 0.05
_RETRY_SECONDS = 1.0


class Outbox:
    """The relay between the outbox table and the audit service.

    Args:
        database: where the outbox is.
        audit: stub of the audit service.
    """

    def __init__(self, database: Database, audit: AuditServiceStub) -> None:
        self._database = database
        self._audit: Any = audit
        self._bell = asyncio.Event()
        self._urgent = asyncio.Event()
        self._round = asyncio.Condition()
        self._taken: list[int] = []
        self._begun = 0
        self._shipped = 0

    def ring(self) -> int:
        """Says that there may be something to ship.

        Returns:
            The round that will have shipped all that is committed now.
        """
        self._bell.set()
        return self._begun + 1

    async def run(self) -> None:
        """Ships until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._bell.wait(), _POLL_SECONDS)
            # A report's events come in quick succession: they travel together,
            # and out of the way of the report itself, unless somebody waits.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._urgent.wait(), _GATHER_SECONDS)
            self._bell.clear()
            self._urgent.clear()
            self._begun += 1
            try:
                while await self._ship():
                    pass
            except grpc.aio.AioRpcError as error:
                reason = from_rpc(error, "audit service").reason
                _log.warning("outbox.waiting", status="retrying", reason=reason)
                await asyncio.sleep(_RETRY_SECONDS)

    async def _ship(self) -> bool:
        """Ships what is there, at most 500 events; returns whether there may be more."""
        round_ = self._begun
        # What the last round shipped goes in the same transaction that looks for more.
        pending = await self._database.run(store.next_events, self._taken, _AT_ONCE)
        self._taken = []
        if pending:
            request = AppendEventsRequest(events=[event for _, event in pending])
            await self._audit.AppendEvents(request, **call())
            self._taken = [seq for seq, _ in pending]
        if len(pending) < _AT_ONCE:
            async with self._round:
                self._shipped = round_
                self._round.notify_all()
        return len(pending) == _AT_ONCE

    async def shipped(self, round_: int, seconds: float) -> bool:
        """Waits until a round (as `ring` gave it) has shipped.

        Returns:
            Whether it has; False after `seconds`, the events then follow later.
        """
        self._urgent.set()
        try:
            async with asyncio.timeout(seconds), self._round:
                await self._round.wait_for(lambda: self._shipped >= round_)
        except TimeoutError:
            return False
        return True
