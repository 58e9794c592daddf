"""The end of reports: shredded, deleted, on request or when they are old.

A report that is shredded loses its data key and its raw bytes, and keeps what was
found. One that is deleted is gone at once for every reader; the rows that grow with
it are cleared away behind, in steps, by a job.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import timedelta

from sqlalchemy import Connection

from orchestrator import events, states, store, store_outbox, store_sealing
from orchestrator.outbox import Outbox
from orchestrator.run import RUN
from runtime import crash
from runtime.database import Database
from runtime.errors import WinnowError
from runtime.jobs import Job, Queue
from runtime.log import get_logger
from runtime.worker import Kind
from winnow.report.v1.report_pb2 import Report

_log = get_logger()

CLEAR = "report.clear"
RETENTION = "retention.sweep"
# Items of a report that one transaction clears away, and reports that one ends.
_ITEMS_AT_ONCE = 10_000
_REPORTS_AT_ONCE = 50

REQUEST, RAW_TTL, REPORT_TTL = "request", "raw_ttl", "report_ttl"


class Retention:
    """Ends reports.

    Args:
        database: for one tenant: what is asked, what is cleared away.
        background: for all: what is old.
        queue: where the clearing away is a job.
        outbox: rung after each commit that wrote events.
        ring: told when there is a new job.
        raw_ttl: how long after its end a report stays readable; None: for ever.
        report_ttl: how long after its end a report stays; None: for ever.
    """

    def __init__(
        self,
        database: Database,
        background: Database,
        queue: Queue,
        outbox: Outbox,
        ring: Callable[[], object],
        raw_ttl: timedelta | None = None,
        report_ttl: timedelta | None = None,
    ) -> None:
        self._database = database
        self._background = background
        self._queue = queue
        self._outbox = outbox
        self._ring = ring
        self._raw_ttl = raw_ttl
        self._report_ttl = report_ttl
        self.kinds = (Kind(CLEAR, self._clear), Kind(RETENTION, self._sweep))

    async def shred(self, report_id: uuid.UUID, tenant: str) -> Report:
        """Makes a report's bytes and values unreadable for good; once is enough.

        Raises:
            WinnowError: REPORT_NOT_FOUND, REPORT_STATE.
        """
        report = await self._database.run(_shred, report_id, tenant, REQUEST)
        self._outbox.ring()
        return report

    async def delete(self, report_id: uuid.UUID, tenant: str) -> None:
        """Removes a report.

        Raises:
            WinnowError: REPORT_NOT_FOUND, REPORT_STATE.
        """
        await self._database.run(self._delete, report_id, tenant, REQUEST)
        self._outbox.ring()
        self._ring()

    def _delete(
        self, connection: Connection, report_id: uuid.UUID, tenant: str, cause: str
    ) -> None:
        report = _ended(connection, report_id, tenant)
        event = events.report_event(events.REPORT_DELETED, report_id, tenant, cause=cause)
        store_outbox.put(connection, [event])
        store_sealing.forget(connection, report_id, tenant, bytes.fromhex(report.sha256))
        # A run that was given up, and may not begin again.
        self._queue.drop(connection, RUN, str(report_id))
        self._queue.put(connection, CLEAR, str(report_id), tenant=tenant)
        crash.point("report.deleting")

    async def _clear(self, job: Job) -> None:
        """Removes what a deleted report has left."""
        while await self._database.run(self._clear_some, job):
            crash.point("report.clearing")

    def _clear_some(self, connection: Connection, job: Job) -> int:
        self._queue.hold(connection, job)
        gone = store_sealing.clear(connection, uuid.UUID(job.key), _ITEMS_AT_ONCE)
        if not gone:
            self._queue.finish(connection, job)
        return gone

    async def _sweep(self, job: Job) -> None:
        """Shreds and deletes what is old enough, and says how many."""
        shredded = await self._each(job, self._raw_ttl, self._shred_old)
        deleted = await self._each(job, self._report_ttl, self._delete_old)
        await self._background.run(self._queue.finish, job)
        if deleted:
            self._ring()
        _log.info("retention.swept", status="ok", shredded=shredded, deleted=deleted)

    async def _each(
        self,
        job: Job,
        ttl: timedelta | None,
        end_some: Callable[[Connection, Job, timedelta], int],
    ) -> int:
        total = 0
        while ttl is not None and (ended := await self._background.run(end_some, job, ttl)):
            total += ended
            self._outbox.ring()
        return total

    def _shred_old(self, connection: Connection, job: Job, ttl: timedelta) -> int:
        self._queue.hold(connection, job)
        old = store_sealing.older(connection, ttl, _REPORTS_AT_ONCE, shredding=True)
        for report_id, tenant in old:
            _shred(connection, report_id, tenant, RAW_TTL)
        return len(old)

    def _delete_old(self, connection: Connection, job: Job, ttl: timedelta) -> int:
        self._queue.hold(connection, job)
        old = store_sealing.older(connection, ttl, _REPORTS_AT_ONCE, shredding=False)
        for report_id, tenant in old:
            self._delete(connection, report_id, tenant, REPORT_TTL)
        return len(old)


def _shred(connection: Connection, report_id: uuid.UUID, tenant: str, cause: str) -> Report:
    report = _ended(connection, report_id, tenant)
    if report.HasField("shredded_at"):
        return report
    store_sealing.shred(connection, report_id)
    event = events.report_event(events.REPORT_SHREDDED, report_id, tenant, cause=cause)
    store_outbox.put(connection, [event])
    crash.point("report.shredding")
    return store.get(connection, report_id, tenant)


def _ended(connection: Connection, report_id: uuid.UUID, tenant: str) -> Report:
    """A report that has ended, locked.

    Raises:
        WinnowError: REPORT_NOT_FOUND, REPORT_STATE.
    """
    store_sealing.lock(connection, report_id, tenant)
    report = store.get(connection, report_id, tenant)
    if report.status not in states.ENDED:
        raise WinnowError(
            "REPORT_STATE",
            "the report has not ended yet; cancel it first, or wait",
            report_status=states.name(report.status),
        )
    return report
