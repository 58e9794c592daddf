"""Whether a report is accepted: with an audit record, if that is wanted, and unless there
is too much to do already."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import grpc
from sqlalchemy import Connection

from runtime import context, pressure
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
    """Refuses reports while too many wait, in all or of their tenant, or memory is short.

    Args:
        database: where the queue is, of all tenants.
        count: how many there are of each tenant, up to a number in all.
        most: that may be.
        share: of these that one tenant may have, 0 to 1.
        max_memory: bytes that this process may have; 0 for any number.
    """

    def __init__(
        self,
        database: Database,
        count: Callable[[Connection, int], dict[str, int]],
        most: int,
        share: float,
        max_memory: int,
    ) -> None:
        self._database = database
        self._count = count
        self._most = most
        self._most_of_one = max(int(most * share), 1)
        self._max_memory = max_memory
        self._there: Counter[str] = Counter()
        self._good_until = 0.0

    async def check(self) -> None:
        """Returns if there is room for one more of the calling context's tenant.

        Raises:
            WinnowError: OVERLOADED.
        """
        pressure.check_memory(self._max_memory)
        if time.monotonic() >= self._good_until:
            self._good_until = time.monotonic() + _GOOD_FOR_SECONDS
            self._there = Counter(await self._database.run(self._count, self._most))
        tenant = context.tenant.get()
        if self._there[tenant] >= self._most_of_one:
            raise _full("as many reports of this tenant wait", "tenant_queue_depth")
        if self._there.total() >= self._most:
            raise _full("as many reports wait", "queue_depth")
        # Those that came since count too.
        self._there[tenant] += 1


def _full(what: str, word: str) -> WinnowError:
    return WinnowError(
        "OVERLOADED", f"{what} as may wait at a time", retry_after=5.0, backpressure=word
    )
