"""The data keys of stored reports: read, and wrapped anew when keys are rotated."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

from sqlalchemy import Connection

from orchestrator import events, store, store_access, store_outbox, store_sealing
from orchestrator.outbox import Outbox
from runtime import crash
from runtime.context import DEFAULT_TENANT
from runtime.database import Database
from runtime.errors import WinnowError
from runtime.jobs import Job, Queue
from runtime.keyring import Keyring, unknown
from runtime.log import get_logger
from runtime.sealing import RAW_REPORT, Sealer
from runtime.worker import Kind
from winnow.report.v1.report_pb2 import Report
from winnow.seal.v1.data_key_pb2 import DataKey

_log = get_logger()

REWRAP = "sealing.rewrap"
# There is one such job at a time.
THE_KEY = "sealing"
# In the job's payload: how many data keys were under which key.
_WRAPPED = "wrapped"
_AT_ONCE = 500
_ADOPTED_AT_ONCE = 50


def data_key(connection: Connection, keyring: Keyring, report: Report) -> DataKey:
    """A stored report's data key, wrapped.

    Raises:
        WinnowError: REPORT_SHREDDED; SEALING_KEY_UNKNOWN for a report of an older
            version that no held key opens.
    """
    store.readable(report)
    report_id = uuid.UUID(report.report_id)
    found = store_sealing.get(connection, report_id)
    return found or _adopt(connection, keyring, report_id, report.tenant_id)


def _adopt(connection: Connection, keyring: Keyring, report_id: uuid.UUID, tenant: str) -> DataKey:
    """Gives a report of an older version its data key: the key-encryption key that it was
    sealed with. Its first bytes tell which that is."""
    if not store_sealing.hold(connection, report_id, tenant):
        # Shredded or removed a moment ago.
        store.readable(store.get(connection, report_id, tenant))
    sealed = store.chunk(connection, report_id, 0)
    for key in keyring.held.values():
        if sealed is None or _opens(key, report_id, sealed):
            made = keyring.wrap(report_id, key)
            store_sealing.put(connection, report_id, tenant, made)
            return made
    raise WinnowError(
        "SEALING_KEY_UNKNOWN",
        "the report was sealed by an older version, with a key that this service does not "
        "hold; put that key into sealing_keys_accepted",
        report_id=str(report_id),
    )


def _opens(key: bytes, report_id: uuid.UUID, sealed: bytes) -> bool:
    try:
        Sealer(key, report_id, RAW_REPORT).open(sealed, 0)
    except WinnowError:
        return False
    return True


class Rewrapping:
    """Wraps every data key that is not under the current key-encryption key again.

    Args:
        database: the orchestrator's.
        queue: where it is a job.
        keyring: read anew as it goes.
        outbox: rung when it is done.
    """

    def __init__(self, database: Database, queue: Queue, keyring: Keyring, outbox: Outbox) -> None:
        self._database = database
        self._queue = queue
        self._keyring = keyring
        self._outbox = outbox
        self.kind = Kind(REWRAP, self._run)

    async def _run(self, job: Job) -> None:
        # Another process may have been asked, which knew of a new key before this one.
        await asyncio.to_thread(self._keyring.refresh, 0)
        after: uuid.UUID | None = uuid.UUID(int=0)
        while after is not None:
            after = await self._database.run(self._adopt_some, job, after)
        await self._database.run(self._wrap_signing_keys, job)
        # What is done is kept with the job: whoever takes it up counts on.
        done: dict[str, int] = dict(job.payload.get(_WRAPPED, {}))
        while await self._database.run(self._wrap_some, job, done):
            crash.point("sealing.rewrapped")
        await self._database.run(self._end, job, done)
        self._outbox.ring()

    def _adopt_some(self, connection: Connection, job: Job, after: uuid.UUID) -> uuid.UUID | None:
        """Gives some reports of older versions their data keys; where to go on after."""
        self._queue.hold(connection, job)
        found = store_sealing.without_key(connection, after, _ADOPTED_AT_ONCE)
        for report_id, tenant in found:
            try:
                _adopt(connection, self._keyring, report_id, tenant)
            except WinnowError as error:
                # It cannot be read as it is; the others can.
                _log.warning(
                    "sealing.skipped", status="error", report_id=str(report_id), reason=error.reason
                )
        return found[-1][0] if found else None

    def _wrap_signing_keys(self, connection: Connection, job: Job) -> None:
        self._queue.hold(connection, job)
        store_access.rewrap(connection, self._keyring)

    def _wrap_some(self, connection: Connection, job: Job, done: dict[str, int]) -> int:
        """Wraps some data keys again; how many."""
        self._queue.hold(connection, job)
        self._keyring.refresh()
        current = self._keyring.current
        others = [name for name in self._keyring.held if name != current]
        found = store_sealing.under(connection, others, _AT_ONCE)
        made = [
            (report_id, self._keyring.wrap(report_id, self._keyring.open(report_id, wrapped)))
            for report_id, wrapped in found
        ]
        for name in {wrapped.key_id for _, wrapped in made}:
            same = [one for one in made if one[1].key_id == name]
            store_sealing.replace(connection, name, same)
        if found:
            for _, wrapped in found:
                done[wrapped.key_id] = done.get(wrapped.key_id, 0) + 1
            self._queue.keep(connection, job, {**job.payload, _WRAPPED: done})
        crash.point("sealing.rewrapping", bool(found))
        return len(found)

    def _end(self, connection: Connection, job: Job, done: dict[str, int]) -> None:
        """Tells what was done, unless some are left that cannot be opened.

        Raises:
            WinnowError: SEALING_KEY_UNKNOWN.
        """
        self._queue.hold(connection, job)
        check_held(connection, self._keyring)
        rotated: dict[str, Any] = {
            "from": sorted(done),
            "to": self._keyring.current,
            "count": sum(done.values()),
        }
        event = events.house_event(events.SEALING_ROTATED, "sealing", DEFAULT_TENANT, **rotated)
        store_outbox.put(connection, [event])
        self._queue.finish(connection, job)
        _log.info("sealing.rotated", status="ok", to=rotated["to"], rows=rotated["count"])


def check_held(connection: Connection, keyring: Keyring) -> None:
    """Refuses to go on while a data key is wrapped with a key that is not held.

    Raises:
        WinnowError: SEALING_KEY_UNKNOWN.
    """
    for name in sorted(store_sealing.counts(connection).keys() - keyring.held.keys()):
        raise unknown(name)
