"""Whether a report is accepted: with an audit record, if that is wanted, and unless there
is too much to do already."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import grpc
from sqlalchemy import Connection

from runtime import pressure
from runtime.channels import call
from runtime.database import Database
from runtime.errors import WinnowError, from_rpc
from runtime.log import get_logger
from winnow.audit.v1.audit_service_pb2 import GetCheckpointRequest

_log = get_logger()

_TIMEOUT_SECONDS = 2.0
# A burst of reports asks once.
_GOOD_FOR_SECONDS = 1.0


class AuditGate:
    """Asks the audit service whether it can append, before a report is accepted.

    Args:
        audit: stub of the audit service; None if reports are accepted without it,
            their events then wait in the outbox.
    """

    def __init__(self, audit: Any | None) -> None:
        self._audit = audit
        self._open_until = 0.0

    @property
    def required(self) -> bool:
        """Whether reports are accepted only with an audit record."""
        return self._audit is not None

    async def check(self) -> None:
        """Returns if a report may be accepted.

        Raises:
            WinnowError: AUDIT_UNAVAILABLE; AUDIT_INCONSISTENT if the log was altered.
        """
        if self._audit is None or time.monotonic() < self._open_until:
            return
        try:
            # It signs only what grows from what it has signed: an altered log is refused here.
            await self._audit.GetCheckpoint(GetCheckpointRequest(), **call(_TIMEOUT_SECONDS))
        except (grpc.aio.AioRpcError, WinnowError) as error:
            failure = error if isinstance(error, WinnowError) else from_rpc(error, "audit service")
            _log.error("audit.required", status="error", reason=failure.reason)
            if failure.reason == "AUDIT_INCONSISTENT":
                raise failure from None  # waiting does not mend it
            raise WinnowError(
                "AUDIT_UNAVAILABLE",
                "the audit log cannot be written, and without it no report is accepted",
                retry_after=5.0,
            ) from None
        self._open_until = time.monotonic() + _GOOD_FOR_SECONDS


class Crowd:
    """Refuses reports while too many wait, or memory is short.

    Args:
        database: where the queue is, of all tenants.
        count: how many there are, up to a number.
        most: that may be.
        max_memory: bytes that this process may have; 0 for any number.
    """

    def __init__(
        self,
        database: Database,
        count: Callable[[Connection, int], int],
        most: int,
        max_memory: int,
    ) -> None:
        self._database = database
        self._count = count
        self._most = most
        self._max_memory = max_memory
        self._there = 0
        self._good_until = 0.0

    async def check(self) -> None:
        """Returns if there is room for one more.

        Raises:
            WinnowError: OVERLOADED.
        """
        pressure.check_memory(self._max_memory)
        if time.monotonic() >= self._good_until:
            self._good_until = time.monotonic() + _GOOD_FOR_SECONDS
            self._there = await self._database.run(self._count, self._most)
        # Those that came since count too.
        self._there += 1
        if self._there > self._most:
            raise WinnowError(
                "OVERLOADED",
                "as many reports wait as may wait at a time",
                retry_after=5.0,
                backpressure="queue_depth",
            )
