"""One report, from its stored bytes to its final state.

What is stored says where to go on, so the same code serves a first run, a retry
and a restart: findings that are stored are not read again, verdicts that are
stored are not asked for again.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from typing import Any, NamedTuple

import structlog
from google.protobuf.json_format import MessageToDict
from sqlalchemy import Connection

from orchestrator import events, states, store, store_decisions, store_findings
from orchestrator.intake import RawReport
from orchestrator.outbox import Outbox
from orchestrator.rejudge import moderate_header
from orchestrator.relay import Legs, Relay, Source, Writer, stored_unjudged
from runtime import context
from runtime.database import Database
from runtime.errors import WinnowError
from runtime.log import get_logger
from winnow.finding.v1.verdict_pb2 import VerdictBatch
from winnow.ingest.v1.ingest_service_pb2 import IngestHeader
from winnow.moderate.v1.moderate_service_pb2 import LlmUsage
from winnow.report.v1.report_pb2 import Report
from winnow.report.v1.report_progress_pb2 import ReportProgress

_log = get_logger()

AT_ONCE = 4
# A service that died is back within seconds, on a busy machine within ten: about
# three quarters of a minute of trying before a report is given up.
_ATTEMPTS = 12
_BACKOFF_SECONDS = 0.25
_BACKOFF_MOST_SECONDS = 5.0
_SWEEP_SECONDS = 30.0


class Fresh(NamedTuple):
    """A report that was just received: nothing of it needs to be read back."""

    report: Report
    raw: RawReport


class Ended(NamedTuple):
    """A report as it ended, the outbox round that ships its last events, and why it failed."""

    report: Report
    round: int
    failure: WinnowError | None = None


class Runner:
    """Runs reports, each once at a time.

    Args:
        database: the orchestrator's.
        legs: the calls to the ingestor and the moderator.
        key: the sealing key, 32 bytes.
        outbox: rung after each commit that wrote events.
    """

    def __init__(
        self,
        database: Database,
        legs: Legs,
        key: bytes,
        outbox: Outbox,
    ) -> None:
        self._database = database
        self._legs = legs
        self._key = key
        self._outbox = outbox
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._tasks: dict[uuid.UUID, asyncio.Task[Ended | None]] = {}
        self._progress: dict[uuid.UUID, ReportProgress] = {}

    def start(
        self, report_id: uuid.UUID, tenant: str, request_id: str, fresh: Fresh | None = None
    ) -> asyncio.Task[Ended | None]:
        """The task that runs a report: a new one, or the one that runs it already.

        Args:
            fresh: the report and its bytes, if they are at hand.

        Returns:
            A task whose result is how it ended; None if it could not be ended
            (no database): the sweep comes back to it.
        """
        task = self._tasks.get(report_id)
        if task is None:
            task = asyncio.create_task(self._guard(report_id, tenant, request_id, fresh))
            self._tasks[report_id] = task
            task.add_done_callback(lambda _: self._forget(report_id))
        return task

    def _forget(self, report_id: uuid.UUID) -> None:
        self._tasks.pop(report_id, None)
        self._progress.pop(report_id, None)

    def progress(self, report_id: uuid.UUID) -> ReportProgress | None:
        """The live progress of a report that runs here."""
        return self._progress.get(report_id)

    async def cancel(self, report_id: uuid.UUID, tenant: str) -> Report:
        """Stops a report's run and ends it as REPORT_CANCELLED.

        Raises:
            WinnowError: REPORT_STATE if it has ended already.
        """
        if task := self._tasks.get(report_id):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        cancelled = WinnowError("REPORT_CANCELLED", "the report was cancelled on request")
        report = await self._fail(report_id, tenant, cancelled)
        self._outbox.ring()
        return report

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

    async def _guard(
        self, report_id: uuid.UUID, tenant: str, request_id: str, fresh: Fresh | None
    ) -> Ended | None:
        context.tenant.set(tenant)
        context.request_id.set(request_id)
        structlog.contextvars.bind_contextvars(
            report_id=str(report_id), tenant=tenant, request_id=request_id
        )
        async with self._slots:
            for attempt in range(1, _ATTEMPTS + 1):
                try:
                    report = await self._run(report_id, tenant, fresh if attempt == 1 else None)
                    return Ended(report, self._outbox.ring())
                except WinnowError as error:
                    failure = error
                except Exception as error:  # noqa: BLE001 -- a defect fails the report, not the process
                    _log.error("report.defect", status="error", exc_info=error)
                    failure = WinnowError("INTERNAL", "the report could not be processed")
                if failure.reason == "PARSER_CHANGED":
                    # What the older parser had read does not fit what this one reads.
                    await self._database.run(store_findings.discard, report_id)
                elif not failure.retryable:
                    break
                if attempt == _ATTEMPTS:
                    break
                _log.warning("report.retry", status="processing", reason=failure.reason)
                await asyncio.sleep(min(_BACKOFF_SECONDS * 2**attempt, _BACKOFF_MOST_SECONDS))
        try:
            report = await self._fail(report_id, tenant, failure)
            return Ended(report, self._outbox.ring(), failure)
        except WinnowError as error:
            # Cancelled meanwhile, or no database: the sweep comes back to it.
            _log.warning("report.unended", status="error", reason=error.reason)
            return None

    async def _fail(self, report_id: uuid.UUID, tenant: str, failure: WinnowError) -> Report:
        event = events.report_event(events.REPORT_FAILED, report_id, tenant, reason=failure.reason)

        def fail(connection: Connection) -> Report:
            at = store_decisions.apply(connection, report_id, tenant)
            reached = store_findings.account(connection, report_id, at)
            return store.fail(connection, report_id, failure, [event], **reached)

        report = await self._database.run(fail)
        _log.info("report.failed", status="error", reason=failure.reason)
        return report

    async def _run(self, report_id: uuid.UUID, tenant: str, fresh: Fresh | None) -> Report:
        report = fresh.report if fresh else await self._database.run(store.get, report_id, tenant)
        if report.status in states.ENDED:
            return report
        structlog.contextvars.bind_contextvars(asset_key=report.asset_key)
        progress = ReportProgress(report_id=str(report_id), status=report.status)
        self._progress[report_id] = progress
        writer = Writer(self._database, report_id, tenant)
        relay = Relay(self._legs, writer, progress)
        try:
            async with asyncio.TaskGroup() as group:
                writing = group.create_task(writer.run())
                judging = group.create_task(relay.judge(moderate_header(report)))
                if report.status == states.CREATED:
                    source = await self._source(relay, report, fresh)
                    await self._read(relay, writer, source, progress)
                else:
                    await relay.resume(stored_unjudged(self._database, report_id))
                    await relay.finish()
                last = await judging
                report = await self._end(writer, report_id, tenant, progress, last, relay.llm)
                writing.cancel()
        except BaseExceptionGroup as failures:
            raise _first(failures) from None
        return report

    async def _source(self, relay: Relay, report: Report, fresh: Fresh | None) -> Source:
        """Where to read from; first sends on what an earlier run left unjudged."""
        report_id = uuid.UUID(report.report_id)
        header = IngestHeader(
            report_id=report.report_id,
            scanner_type=report.scanner_type,
            report_format=report.report_format,
        )
        if fresh:
            return Source(header, fresh.raw.chunks())
        header.start_ordinal = await self._database.run(store_findings.resume_point, report_id)
        if header.start_ordinal:
            header.parser = report.parser
            await relay.resume(stored_unjudged(self._database, report_id))
        return Source(header, RawReport(self._database, self._key, report_id).chunks())

    async def _read(
        self, relay: Relay, writer: Writer, source: Source, progress: ReportProgress
    ) -> None:
        """Created to processing: every record read, every finding stored."""
        report_id = uuid.UUID(source.header.report_id)
        detected, read = await relay.read(source)
        await relay.finish()
        progress.records.read = read.records_read
        progress.records.findings = read.findings
        progress.records.merged = read.merged
        progress.records.rejected = read.rejected
        tenant = context.tenant.get()
        happened = [
            events.report_event(
                events.REPORT_INGESTED, report_id, tenant, findings_count=read.findings
            ),
            events.report_event(events.REPORT_PROCESSING_STARTED, report_id, tenant),
        ]
        # Committed with the last findings; what comes back meanwhile is written behind it.
        await writer.put(
            lambda connection: store.advance(
                connection,
                report_id,
                [states.CREATED, states.INGESTED, states.PROCESSING],
                happened,
                scanner_type=detected.scanner_type,
                parser=detected.parser,
                dialect=detected.dialect,
                notices=[MessageToDict(notice) for notice in read.notices],
                records_read=read.records_read,
                records_findings=read.findings,
                records_merged=read.merged,
                records_rejected=read.rejected,
            )
        )
        progress.status = states.PROCESSING

    async def _end(
        self,
        writer: Writer,
        report_id: uuid.UUID,
        tenant: str,
        progress: ReportProgress,
        last: VerdictBatch | None,
        llm: LlmUsage | None,
    ) -> Report:
        """Processing to done: counted in the database, so that a resumed run counts all."""
        ended: list[Report] = []

        def end(connection: Connection) -> None:
            at = store_decisions.apply(connection, report_id, tenant)
            counts = store_findings.risks(connection, report_id, at)
            summary = {"high": counts.high, "medium": counts.medium, "low": counts.low}
            # Who was asked and what it cost belongs to the record; for a resumed
            # run, of what was left.
            asked = {"llm": {field.name: value for field, value in llm.ListFields()}} if llm else {}
            moderated = {**summary, **asked}
            happened = [
                events.report_event(events.REPORT_MODERATED, report_id, tenant, **moderated),
                events.report_event(events.REPORT_DONE, report_id, tenant, summary=summary),
            ]
            ended.append(
                store.advance(
                    connection,
                    report_id,
                    [states.PROCESSING, states.DONE],
                    happened,
                    risk_high=counts.high,
                    risk_medium=counts.medium,
                    risk_low=counts.low,
                )
            )

        await writer.done(*([last] if last else []), end)
        progress.status = states.DONE
        report = ended[0]
        _log.info(
            "report.done",
            status="done",
            findings=report.records.findings,
            high=report.summary.high,
            medium=report.summary.medium,
            low=report.summary.low,
        )
        return report


def _first(group: BaseExceptionGroup[Any]) -> BaseException:
    """What went wrong first; a group's own order is that of its tasks' ends."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
