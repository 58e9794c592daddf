"""Ships events from the outbox to the audit service, in order, at least once.

Appending is idempotent by event id, so a crash between the answer and the
deletion only repeats. A doorbell makes it prompt; a poll makes it certain.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import grpc
from winnow.audit.v1.audit_service_pb2 import AppendEventsRequest
from winnow.audit.v1.audit_service_pb2_grpc import AuditServiceStub

from orchestrator import store
from runtime.channels import call
from runtime.database import Database
from runtime.errors import from_rpc
from runtime.log import get_logger

_log = get_logger()

_AT_ONCE = 500
_POLL_SECONDS = 1.0
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
        self._round = asyncio.Condition()
        self._begun = 0
        self._ended = 0

    def ring(self) -> None:
        """Says that there may be something to ship."""
        self._bell.set()

    async def run(self) -> None:
        """Ships until cancelled."""
        while True:
            try:
                await asyncio.wait_for(self._bell.wait(), _POLL_SECONDS)
            except TimeoutError:
                pass
            self._bell.clear()
            self._begun += 1
            try:
                while await self._ship():
                    pass
            except grpc.aio.AioRpcError as error:
                reason = from_rpc(error, "audit service").reason
                _log.warning("outbox.waiting", status="retrying", reason=reason)
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            async with self._round:
                self._ended = self._begun
                self._round.notify_all()

    async def _ship(self) -> bool:
        pending = await self._database.run(store.pending_events, _AT_ONCE)
        if not pending:
            return False
        request = AppendEventsRequest(events=[event for _, event in pending])
        await self._audit.AppendEvents(request, **call())
        await self._database.run(store.drop_events, [seq for seq, _ in pending])
        return len(pending) == _AT_ONCE

    async def flushed(self, seconds: float) -> bool:
        """Waits until all that is committed now is in the audit log.

        Returns:
            Whether it is; False after `seconds`, the events then follow later.
        """
        # A round that has begun may have looked before our commit: the next counts.
        wanted = self._begun + 1
        until = time.monotonic() + seconds
        async with self._round:
            while self._ended < wanted:
                self.ring()
                left = until - time.monotonic()
                if left <= 0:
                    return False
                try:
                    await asyncio.wait_for(self._round.wait(), left)
                except TimeoutError:
                    return False
        return True
