"""What happens to a report, for those who watch: history and live by the same read."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

from google.protobuf.json_format import MessageToDict, ParseDict
from sqlalchemy import Connection

from orchestrator import events, states, store, store_events
from runtime.database import Database
from runtime.feeds import Feeds, Poll, beyond_the_end
from winnow.event.v1.envelope_pb2 import Envelope
from winnow.report.v1.report_pb2 import Report, ReportStatus
from winnow.report.v1.report_progress_pb2 import ReportProgress
from winnow.report.v1.report_service_pb2 import WatchReportResponse

_FINAL = frozenset({events.REPORT_DONE, events.REPORT_FAILED})
Watched = AsyncGenerator[list[WatchReportResponse], None]


class Watches:
    """Reports that are watched: one query a tick for all of them.

    Args:
        database: where their events are, as their tenant sees them.
        background: the same of all tenants: who may watch has been looked up by then.
    """

    def __init__(self, database: Database, background: Database) -> None:
        self._database = database
        self._background = background
        self._poll = Poll(self._read, _is_final)
        self._feeds = Feeds(self._poll.items)

    def ring(self, report_id: uuid.UUID) -> None:
        """Says that a report has new events, committed by this process."""
        self._poll.ring(report_id)

    async def watch(self, report_id: uuid.UUID, tenant: str, after: int) -> Watched:
        """A tenant's report's events after ordinal `after`, in batches, to its end.

        Raises:
            WinnowError: REPORT_NOT_FOUND; INVALID_ARGUMENT if there is no event `after`.
        """
        ended = await self._database.run(_look, report_id, tenant, after)
        if ended is not None:
            if after == 0:
                yield [ended]
            return
        async with aclosing(self.follow(report_id, after)) as batches:
            async for batch in batches:
                yield batch

    def follow(self, report_id: uuid.UUID, after: int = 0) -> Watched:
        """A report's events after ordinal `after`, in batches, up to the final one that
        is the newest; for callers who know that the report is there."""
        return self._feeds.follow(report_id, after)

    async def _read(
        self, after: Mapping[uuid.UUID, int], limit: int
    ) -> dict[uuid.UUID, list[WatchReportResponse]]:
        return await self._background.run(_page, after, limit)


def _page(
    connection: Connection, after: Mapping[uuid.UUID, int], limit: int
) -> dict[uuid.UUID, list[WatchReportResponse]]:
    found = store_events.page(connection, after, limit)
    return {report_id: [_told(event) for event in run] for report_id, run in found.items()}


def _look(
    connection: Connection, report_id: uuid.UUID, tenant: str, after: int
) -> WatchReportResponse | None:
    """Checks that there is something to watch.

    Returns:
        The only event of a report that ended before events were kept by report.
    """
    report = store.get(connection, report_id, tenant)
    if store_events.page(connection, {report_id: max(after - 1, 0)}, 1):
        return None
    if after <= 1 and report.status in states.ENDED:
        return _told(_final(report, tenant))
    if after:
        raise beyond_the_end()
    return None


def _is_final(told: WatchReportResponse) -> bool:
    return told.event.event_type in _FINAL


def _told(event: Envelope) -> WatchReportResponse:
    """An event, and its account of the report's progress, typed."""
    payload = MessageToDict(event.payload)
    said = payload.get("progress", {})
    status = ReportStatus.Value(f"REPORT_STATUS_{said.pop('status', 'unspecified').upper()}")
    progress = ParseDict(said, ReportProgress(), ignore_unknown_fields=True)
    progress.report_id = payload["report_id"]
    progress.status = status
    progress.at.CopyFrom(event.occurred_at)
    if reason := payload.get("reason"):
        progress.error.reason = reason
    return WatchReportResponse(progress=progress, event=event)


def _final(report: Report, tenant: str) -> Envelope:
    """The end of a report of which no other event is kept."""
    summary = report.summary
    progress = ReportProgress(
        status=report.status,
        records=report.records,
        summary=summary,
        judged=summary.high + summary.medium + summary.low,
    )
    failed = report.status == states.ERROR
    event = events.run_event(
        events.REPORT_FAILED if failed else events.REPORT_DONE,
        uuid.UUID(report.report_id),
        tenant,
        progress,
        **({"reason": report.error.reason} if failed else {"summary": _counts(report)}),
    )
    event.ordinal = 1
    event.event_id = str(uuid.uuid5(uuid.UUID(report.report_id), event.event_type))
    event.request_id = ""
    event.occurred_at.CopyFrom(report.finished_at)
    return event


def _counts(report: Report) -> dict[str, int]:
    return {name: getattr(report.summary, name) for name in ("high", "medium", "low")}
