"""A report's bytes, given back as they were submitted."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator

from sqlalchemy import Connection

from orchestrator import events, sealing, store, store_outbox
from orchestrator.intake import RawReport
from orchestrator.outbox import Outbox
from runtime import crash
from runtime.database import Database
from runtime.errors import WinnowError
from runtime.keyring import Keyring
from winnow.report.v1.report_pb2 import Report
from winnow.report.v1.report_service_pb2 import GetRawReportResponse


class RawReports:
    """Reads raw reports, each time with an event.

    Args:
        database: the orchestrator's.
        keyring: opens their data keys.
        outbox: rung when an event is written.
    """

    def __init__(self, database: Database, keyring: Keyring, outbox: Outbox) -> None:
        self._database = database
        self._keyring = keyring
        self._outbox = outbox

    async def read(
        self, report_id: uuid.UUID, tenant: str
    ) -> AsyncGenerator[GetRawReportResponse, None]:
        """The bytes in order; the event is committed before the first of them is read.

        Raises:
            WinnowError: REPORT_NOT_FOUND, REPORT_SHREDDED, SEALING_KEY_UNKNOWN,
                SEAL_BROKEN, also if some bytes are missing.
        """
        report, key = await self._database.run(self._open, report_id, tenant)
        crash.point("raw.read")
        self._outbox.ring()
        part = GetRawReportResponse(size_bytes=report.size_bytes, sha256=report.sha256)
        sent = 0
        async for chunk in RawReport(self._database, report_id, key).chunks():
            part.chunk = chunk
            sent += len(chunk)
            yield part
            part = GetRawReportResponse()
        if sent != report.size_bytes:
            # They may just have been destroyed.
            store.readable(await self._database.run(store.get, report_id, tenant))
            raise WinnowError(
                "SEAL_BROKEN", "some of the report's bytes are missing", ordinal=str(sent)
            )
        if not sent:
            yield part

    def _open(
        self, connection: Connection, report_id: uuid.UUID, tenant: str
    ) -> tuple[Report, bytes]:
        report = store.get(connection, report_id, tenant)
        data_key = sealing.data_key(connection, self._keyring, report)
        key = self._keyring.open(report_id, data_key)
        event = events.report_event(events.REPORT_RAW_READ, report_id, tenant)
        store_outbox.put(connection, [event])
        return report, key
