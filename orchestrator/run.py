"""One report, from its stored bytes to its final state.

What is stored says where to go on, so the same code serves a first run, a retry
and a restart: findings that are stored are not read again, verdicts that are
stored are not asked for again.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Callable
from typing import Any

import structlog
from winnow.ingest.v1.ingest_service_pb2 import IngestHeader
from winnow.ingest.v1.ingest_service_pb2_grpc import IngestServiceStub
from winnow.moderate.v1.moderate_service_pb2 import ModerateHeader
from winnow.moderate.v1.moderate_service_pb2_grpc import ModerateServiceStub
from winnow.report.v1.report_pb2 import Report
from winnow.report.v1.report_progress_pb2 import ReportProgress

from orchestrator import events, states, store, store_findings
from orchestrator.intake import RawReport
from orchestrator.relay import Relay, Source, Writer, stored_unjudged
from runtime import context
from runtime.database import Database
from runtime.errors import WinnowError
from runtime.log import get_logger

_log = get_logger()

AT_ONCE = 4
_ATTEMPTS = 5
_BACKOFF_SECONDS = 0.25
_SWEEP_SECONDS = 30.0


class Runner:
    """Runs reports, each once at a time.

    Args:
        database: the orchestrator's.
        ingestor, moderator: stubs.
        key: the sealing key, 32 bytes.
        ring: called after each commit that wrote events.
    """

    def __init__(
        self,
        database: Database,
        ingestor: IngestServiceStub,
        moderator: ModerateServiceStub,
        key: bytes,
        ring: Callable[[], None],
    ) -> None:
        self._database = database
        self._ingestor = ingestor
        self._moderator = moderator
        self._key = key
        self._ring = ring
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._tasks: dict[uuid.UUID, asyncio.Task[None]] = {}
        self._progress: dict[uuid.UUID, ReportProgress] = {}

    def start(self, report_id: uuid.UUID, tenant: str, request_id: str) -> asyncio.Task[None]:
        """The task that runs a report: a new one, or the one that runs it already."""
        task = self._tasks.get(report_id)
        if task is None:
            task = asyncio.create_task(self._guard(report_id, tenant, request_id))
            self._tasks[report_id] = task
            task.add_done_callback(lambda _: self._forget(report_id))
        return task

    def _forget(self, report_id: uuid.UUID) -> None:
        self._tasks.pop(report_id, None)
        self._progress.pop(report_id, None)

    def progress(self, report_id: uuid.UUID) -> ReportProgress | None:
        """The live progress of a report that runs here."""
        return self._progress.get(report_id)

    async def cancel(self, report_id: uuid.UUID, tenant: str) -> None:
        """Stops a report's run and ends it as REPORT_CANCELLED.

        Raises:
            WinnowError: REPORT_STATE if it has ended already.
        """
        if task := self._tasks.get(report_id):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        cancelled = WinnowError("REPORT_CANCELLED", "the report was cancelled on request")
        await self._fail(report_id, tenant, cancelled)

    async def sweep(self) -> None:
        """Takes up what an earlier life left, now and every 30 seconds."""
        while True:
            for report_id, tenant, request_id in await self._database.run(store.unfinished):
                self.start(report_id, tenant, request_id)
            await asyncio.sleep(_SWEEP_SECONDS)

    async def stop(self) -> None:
        """Stops all runs; what is stored lets the next life go on."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _guard(self, report_id: uuid.UUID, tenant: str, request_id: str) -> None:
        context.tenant.set(tenant)
        context.request_id.set(request_id)
        structlog.contextvars.bind_contextvars(
            report_id=str(report_id), tenant=tenant, request_id=request_id
        )
        async with self._slots:
            for attempt in range(1, _ATTEMPTS + 1):
                try:
                    await self._run(report_id, tenant)
                    return
                except WinnowError as error:
                    failure = error
                except Exception as error:  # noqa: BLE001 -- a defect fails the report, not the process
                    _log.error("report.defect", status="error", exc_info=error)
                    failure = WinnowError("INTERNAL", "the report could not be processed")
                if not failure.retryable or attempt == _ATTEMPTS:
                    break
                _log.warning("report.retry", status="processing", reason=failure.reason)
                await asyncio.sleep(_BACKOFF_SECONDS * 2**attempt)
        try:
            await self._fail(report_id, tenant, failure)
        except WinnowError as error:
            # Cancelled meanwhile, or no database: the sweep comes back to it.
            _log.warning("report.unended", status="error", reason=error.reason)

    async def _fail(self, report_id: uuid.UUID, tenant: str, failure: WinnowError) -> None:
        event = events.report_event(
            events.REPORT_FAILED, report_id, tenant, reason=failure.reason
        )
        await self._database.run(
            store.advance,
            report_id,
            [states.ERROR],
            [event],
            error_reason=failure.reason,
            error_message=failure.message,
        )
        self._ring()
        _log.info("report.failed", status="error", reason=failure.reason)

    async def _run(self, report_id: uuid.UUID, tenant: str) -> None:
        report = await self._database.run(store.get, report_id, tenant)
        if report.status in states.ENDED:
            return
        structlog.contextvars.bind_contextvars(asset_key=report.asset_key)
        progress = ReportProgress(report_id=str(report_id), status=report.status)
        self._progress[report_id] = progress
        writer = Writer(self._database, report_id, tenant)
        relay = Relay(self._ingestor, self._moderator, writer, progress)
        try:
            async with asyncio.TaskGroup() as group:
                writing = group.create_task(writer.run())
                await self._drive(group, relay, writer, report, progress)
                writing.cancel()
        except BaseExceptionGroup as failures:
            raise _first(failures) from None

    async def _drive(
        self,
        group: asyncio.TaskGroup,
        relay: Relay,
        writer: Writer,
        report: Report,
        progress: ReportProgress,
    ) -> None:
        report_id, tenant = uuid.UUID(report.report_id), report.tenant_id
        header = ModerateHeader(
            report_id=report.report_id,
            scanner_type=report.scanner_type,
            asset_key=report.asset_key,
        )
        judging = group.create_task(relay.judge(header))
        if report.status == states.CREATED:
            next_ordinal = await self._database.run(store_findings.resume_point, report_id)
            if next_ordinal:
                await relay.resume(stored_unjudged(self._database, report_id))
            source = Source(
                IngestHeader(
                    report_id=report.report_id,
                    scanner_type=report.scanner_type,
                    report_format=report.report_format,
                    start_ordinal=next_ordinal,
                    parser=report.parser if next_ordinal else "",
                ),
                RawReport(self._database, self._key, report_id).chunks(),
            )
            detected, read = await relay.read(source)
            await relay.finish()
            await writer.flush()
            await self._advance(
                report_id,
                tenant,
                progress,
                [states.INGESTED, states.PROCESSING],
                [
                    (events.REPORT_INGESTED, {"findings_count": read.findings}),
                    (events.REPORT_PROCESSING_STARTED, {}),
                ],
                scanner_type=detected.scanner_type,
                parser=detected.parser,
                records_read=read.records_read,
                records_findings=read.findings,
                records_merged=read.merged,
                records_rejected=read.rejected,
            )
        else:
            await relay.resume(stored_unjudged(self._database, report_id))
            await relay.finish()
        await judging
        await writer.flush()
        counts = await self._database.run(store_findings.risks, report_id)
        summary = {"high": counts.high, "medium": counts.medium, "low": counts.low}
        steps = [states.DONE]
        if report.status == states.INGESTED:
            steps.insert(0, states.PROCESSING)
        await self._advance(
            report_id,
            tenant,
            progress,
            steps,
            [(events.REPORT_MODERATED, summary), (events.REPORT_DONE, {"summary": summary})],
            risk_high=counts.high,
            risk_medium=counts.medium,
            risk_low=counts.low,
        )
        _log.info("report.done", status="done", **summary)

    async def _advance(
        self,
        report_id: uuid.UUID,
        tenant: str,
        progress: ReportProgress,
        steps: list[Any],
        happened: list[tuple[str, dict[str, Any]]],
        **values: Any,
    ) -> None:
        written = [
            events.report_event(event_type, report_id, tenant, **payload)
            for event_type, payload in happened
        ]
        await self._database.run(store.advance, report_id, steps, written, **values)
        progress.status = steps[-1]
        self._ring()


def _first(group: BaseExceptionGroup[Any]) -> BaseException:
    """What went wrong first; a group's own order is that of its tasks' ends."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
