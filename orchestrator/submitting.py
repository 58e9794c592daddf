"""One submission, from its first byte to its answer."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing

import structlog
from sqlalchemy import Connection

from orchestrator import states, store, store_idempotency
from orchestrator.gate import AuditGate, Crowd
from orchestrator.intake import Intake, Upload
from orchestrator.outbox import Outbox
from orchestrator.run import Ended, Runner
from orchestrator.watching import Watches
from runtime import context
from runtime.database import Database
from runtime.errors import WinnowError
from runtime.log import get_logger
from runtime.worker import Worker
from winnow.report.v1.report_pb2 import Report
from winnow.report.v1.report_service_pb2 import (
    SubmitReportHeader,
    SubmitReportRequest,
    SubmitReportResponse,
)

_log = get_logger()

_AUDITED_WITHIN_SECONDS = 1.0
# Of what a call may last, for the answer of one that waited in vain.
_ANSWER_SECONDS = 1.0

Running = asyncio.Future[Ended | None]


class Submissions:
    """Takes reports and answers with what became of them.

    Args:
        database: where reports are.
        intake: receives their bytes.
        runner: begins their runs.
        worker: does them.
        outbox: has their events shipped before the answer.
        watches: tells of the end of what runs elsewhere.
        gate: says whether anything is accepted now.
        crowd: says whether there is too much already.
    """

    def __init__(
        self,
        database: Database,
        intake: Intake,
        runner: Runner,
        worker: Worker,
        outbox: Outbox,
        watches: Watches,
        gate: AuditGate,
        crowd: Crowd,
    ) -> None:
        self._database = database
        self._intake = intake
        self._runner = runner
        self._worker = worker
        self._outbox = outbox
        self._watches = watches
        self._gate = gate
        self._crowd = crowd

    async def take(
        self,
        requests: AsyncIterator[SubmitReportRequest],
        remaining: Callable[[], float | None],
        accepted: Callable[[SubmitReportResponse], Awaitable[None]],
    ) -> SubmitReportResponse:
        """Receives a report, makes it durable, and waits for its end if that is wanted.

        Args:
            requests: header, chunks, end.
            remaining: seconds that the call may still last; None: for ever.
            accepted: told what would be answered now, of a report whose end is waited for.

        Raises:
            WinnowError: what `AuditGate.check` and `Intake.receive` and `Upload.create` raise; why the report
                failed, with its `report_id`.
        """
        await self._crowd.check()
        await self._gate.check()
        upload = await self._intake.receive(requests)
        # What arrived whole goes on, whether or not the caller stays to see it.
        report, running = await asyncio.shield(asyncio.create_task(self._admit(upload)))
        structlog.contextvars.bind_contextvars(report_id=report.report_id)
        header, earlier = upload.header, upload.earlier
        response = SubmitReportResponse(
            report=report,
            replayed=earlier is not None and earlier.replayed,
            reused=earlier is not None and earlier.reused,
        )
        if header.wait:
            ended = earlier.ended if earlier else None
            if ended is None:
                await accepted(response)
                seconds = _patience(header, remaining())
                ended = await self._wait(report, header.request_id, running, seconds)
            if isinstance(ended, WinnowError):
                raise _named(ended, report)
            response.report.CopyFrom(ended)
        return response

    async def _admit(self, upload: Upload) -> tuple[Report, Running | None]:
        try:
            report, running = await self._runner.admit(self._worker, upload)
        except WinnowError as error:
            # When the database goes away at the commit, nobody knows if it was one: the
            # sweep of uploads finds out.
            if error.reason != "DATABASE_UNAVAILABLE":
                await upload.drop()
            raise
        if report is None:
            assert upload.earlier is not None
            report = upload.earlier.report
        return report, running

    async def _wait(
        self, report: Report, key: str, running: Running | None, seconds: float | None
    ) -> Report | WinnowError:
        """How a report ended, or, when the time is over, the report as it stands."""
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    return await self._ended(report, key, running)
            return await self._outcome(report, key)
        except WinnowError as error:
            # The report goes on, only its end cannot be seen from here.
            _log.warning("report.unwatched", status="retrying", reason=error.reason)
            return report

    async def _ended(
        self, report: Report, key: str, running: Running | None
    ) -> Report | WinnowError:
        if running is not None and (ended := await asyncio.shield(running)) is not None:
            await self._audited(ended.round)
            if not (key and ended.failure):
                return ended.failure or ended.report
            # Told as it was kept, and so as it will be told again.
        elif report.status not in states.ENDED:
            async with aclosing(self._watches.follow(uuid.UUID(report.report_id))) as batches:
                async for _ in batches:
                    pass
            await self._audited(self._outbox.ring())
        return await self._outcome(report, key)

    async def _audited(self, round_: int) -> None:
        """Where nothing is accepted without an audit record, the answer waits for its own."""
        if self._gate.required:
            await self._outbox.shipped(round_, _AUDITED_WITHIN_SECONDS)

    async def _outcome(self, report: Report, key: str) -> Report | WinnowError:
        return await self._database.run(_outcome, report.report_id, context.tenant.get(), key)


def _patience(header: SubmitReportHeader, remaining: float | None) -> float | None:
    """Seconds to wait for a report's end; None: for ever."""
    bounds = []
    if header.HasField("wait_at_most"):
        bounds.append(header.wait_at_most.seconds + header.wait_at_most.nanos / 1e9)
    if remaining is not None:
        bounds.append(remaining - min(_ANSWER_SECONDS, remaining / 4))
    return min(bounds, default=None)


def _outcome(connection: Connection, report_id: str, tenant: str, key: str) -> Report | WinnowError:
    """A report as it stands, or why it failed; as it was kept for the key, if it was."""
    known = store_idempotency.find(connection, tenant, key) if key else None
    if known is not None and known.ended is not None and str(known.report_id) == report_id:
        return known.ended
    report = store.get(connection, uuid.UUID(report_id), tenant)
    return store_idempotency.failure(report) or report


def _named(failure: WinnowError, report: Report) -> WinnowError:
    """A failure that says which report it was; that one has ended, so no retry helps it."""
    named = WinnowError(failure.reason, failure.message, report_id=report.report_id)
    named.metadata.update(failure.metadata)
    return named
