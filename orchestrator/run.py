"""One report, from its stored bytes to its final state.

A report is a job (runtime.jobs): whoever has it on lease runs it, in this process
or another. What is stored says where to go on, so the same code serves a first
run, a retry and a restart: findings that are stored are not read again, verdicts
that are stored are not asked for again.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from datetime import UTC
from typing import Any, NamedTuple

import structlog
from google.protobuf.json_format import MessageToDict
from sqlalchemy import Connection

from orchestrator import (
    events,
    sealing,
    states,
    store,
    store_decisions,
    store_findings,
    store_idempotency,
)
from orchestrator.intake import RawReport, Upload
from orchestrator.outbox import Outbox
from orchestrator.rejudge import moderate_header
from orchestrator.relay import Legs, Reading, Relay, Source, Writer, stored_unjudged
from runtime import context, crash, metrics
from runtime.clock import now
from runtime.database import Database
from runtime.errors import WinnowError
from runtime.jobs import Job, Queue
from runtime.keyring import Keyring
from runtime.log import get_logger
from runtime.worker import Kind, Worker
from winnow.finding.v1.verdict_pb2 import VerdictBatch
from winnow.ingest.v1.ingest_service_pb2 import IngestHeader
from winnow.moderate.v1.moderate_service_pb2 import LlmUsage
from winnow.report.v1.report_pb2 import Report
from winnow.report.v1.report_progress_pb2 import ReportProgress
from winnow.seal.v1.data_key_pb2 import DataKey

_log = get_logger()

RUN = "report.run"
# At a time; the last place is for whoever has none, so that nobody's long reports keep
# all others waiting.
AT_ONCE = 5
KEPT = 1
# Payload of a run: whether its end is to be kept for the caller's idempotency key.
KEYED = "keyed"


class Fresh(NamedTuple):
    """A report that was just received: nothing of it needs to be read back.

    Args:
        reading: begun while the report was made durable; None where it is too large for that.
    """

    report: Report
    raw: RawReport
    data_key: DataKey
    reading: Reading | None


class Ended(NamedTuple):
    """A report as it ended, the outbox round that ships its last events, and why it failed."""

    report: Report
    round: int
    failure: WinnowError | None = None


class Runner:
    """Runs reports.

    Args:
        database: the orchestrator's.
        queue: where runs are jobs.
        legs: the calls to the ingestor and the moderator.
        keyring: opens the data keys of reports that are taken up again.
        outbox: rung after each commit that wrote events.
        ring: told of each report that has new events.
        max_records: that a report may have.
    """

    def __init__(
        self,
        database: Database,
        queue: Queue,
        legs: Legs,
        keyring: Keyring,
        outbox: Outbox,
        ring: Callable[[uuid.UUID], None],
        max_records: int,
    ) -> None:
        self._max_records = max_records
        self._database = database
        self._queue = queue
        self._legs = legs
        self._keyring = keyring
        self._outbox = outbox
        self._ring = ring
        self._fresh: dict[uuid.UUID, Fresh] = {}
        self._local: dict[uuid.UUID, asyncio.Future[Ended | None]] = {}
        self._failed: dict[uuid.UUID, Report] = {}
        self.kind = Kind(RUN, self._run, self._gave_up, AT_ONCE, KEPT)

    async def admit(
        self,
        worker: Worker,
        upload: Upload,
    ) -> tuple[Report | None, asyncio.Future[Ended | None] | None]:
        """Makes a report durable together with its run, and begins the run here if
        there is a place.

        Returns:
            The new report, if there is one after all, and how it ends, if it runs here: a future
            whose result is None if another worker goes on with it.
        """
        tenant = context.tenant.get()
        here = worker.reserve(RUN, tenant)
        # What it says can be read before it is durable; it is only written after.
        early = None
        if here and upload.raw.at_hand:
            source = Source(upload.ingest_header(), upload.raw.chunks())
            early = Reading(self._legs, source)
        begun: list[tuple[Report, Job]] = []

        def admit(connection: Connection) -> None:
            if report := upload.create(connection):
                payload = {KEYED: True} if upload.header.request_id else {}
                job = self._queue.put(
                    connection, RUN, report.report_id, payload=payload, claimed=here
                )
                assert job is not None, "a new id has no job"
                begun.append((report, job))
                crash.point("intake.admitting")

        try:
            await self._database.run(admit)
        finally:
            if not begun:
                if early is not None:
                    await early.close()
                if here:
                    worker.give_back(RUN, tenant)
        crash.point("intake.admitted", bool(begun))
        self._outbox.ring()
        if not begun:
            return None, None
        [(report, job)] = begun
        if not here:
            worker.ring()
            return report, None
        self._fresh[job.job_id] = Fresh(report, upload.raw, upload.data_key, early)
        ended: asyncio.Future[Ended | None] = asyncio.get_running_loop().create_future()
        self._local[job.job_id] = ended
        worker.begin(job).add_done_callback(lambda _: self._left(job))
        return report, ended

    async def cancel(self, worker: Worker, report_id: uuid.UUID, tenant: str) -> Report:
        """Ends a report as REPORT_CANCELLED, wherever it runs.

        Raises:
            WinnowError: REPORT_STATE if it has ended already.
        """
        cancelled = WinnowError("REPORT_CANCELLED", "the report was cancelled on request")

        def cancel(connection: Connection) -> Report:
            # Whoever runs it has lost its lease, and writes nothing more.
            self._queue.drop(connection, RUN, str(report_id))
            return self._fail(connection, report_id, tenant, cancelled)

        report = await self._database.run(cancel)
        worker.interrupt(RUN, str(report_id))
        metrics.REPORTS.labels("error").inc()
        self._outbox.ring()
        self._ring(report_id)
        return report

    def reopen(self, connection: Connection, job: Job) -> None:
        """Takes up a report whose run was given up."""
        report_id = uuid.UUID(job.key)
        store_decisions.lift(connection, report_id, job.tenant)
        progress = store_findings.progress(connection, report_id)
        event = events.run_event(events.REPORT_RETRIED, report_id, job.tenant, progress)
        store.reopen(connection, report_id, event)

    def ended(self, job: Job, error: WinnowError) -> None:
        """What waits for a run is told that it failed for good."""
        if job.kind != RUN:
            return
        metrics.REPORTS.labels("error").inc()
        self._ring(uuid.UUID(job.key))
        round_ = self._outbox.ring()
        waiting = self._local.get(job.job_id)
        report = self._failed.pop(job.job_id, None)
        if waiting is not None and not waiting.done() and report is not None:
            waiting.set_result(Ended(report, round_, error))

    def _left(self, job: Job) -> None:
        if (fresh := self._fresh.pop(job.job_id, None)) and fresh.reading:
            fresh.reading.cancel()
        waiting = self._local.pop(job.job_id, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    def _gave_up(self, connection: Connection, job: Job, error: WinnowError) -> None:
        report_id = uuid.UUID(job.key)
        report = self._fail(connection, report_id, job.tenant, error)
        if job.payload.get(KEYED):
            store_idempotency.keep_answer(connection, report, error)
        if job.job_id in self._local:
            self._failed[job.job_id] = report

    def _fail(
        self, connection: Connection, report_id: uuid.UUID, tenant: str, failure: WinnowError
    ) -> Report:
        at, _ = store_decisions.apply(connection, report_id, tenant)
        progress = store_findings.progress(connection, report_id, at)
        progress.status = states.ERROR
        event = events.run_event(
            events.REPORT_FAILED, report_id, tenant, progress, reason=failure.reason
        )
        reached = store_findings.account(progress)
        report = store.fail(connection, report_id, failure, [event], **reached)
        _log.info("report.failed", status="error", reason=failure.reason)
        return report

    async def _run(self, job: Job) -> None:
        structlog.contextvars.bind_contextvars(report_id=job.key)
        try:
            await self._pass(job, self._fresh.pop(job.job_id, None))
        except WinnowError as error:
            if error.reason != "PARSER_CHANGED":
                raise
            # What the older parser had read does not fit what this one reads.
            await self._database.run(self._discard, job)
            await self._pass(job, None)

    def _discard(self, connection: Connection, job: Job) -> None:
        self._queue.hold(connection, job)
        store_findings.discard(connection, uuid.UUID(job.key))

    async def _pass(self, job: Job, fresh: Fresh | None) -> None:
        report_id = uuid.UUID(job.key)
        start, progress = 0, ReportProgress(report_id=job.key, status=states.CREATED)
        if fresh is None or fresh.reading is None:
            self._legs.check()
        if fresh:
            report, data_key = fresh.report, fresh.data_key
        else:
            report, data_key, start, progress = await self._database.run(self._take_up, job)
        structlog.contextvars.bind_contextvars(asset_key=report.asset_key)
        writer = Writer(self._database, job, self._queue, progress, self._ring, self._max_records)
        relay = Relay(self._legs, writer)
        try:
            async with asyncio.TaskGroup() as group:
                writing = group.create_task(writer.run())
                judging = group.create_task(relay.judge(moderate_header(report, data_key)))
                if report.status == states.CREATED:
                    reading = fresh.reading if fresh else None
                    if reading is None:
                        source = await self._source(relay, report, data_key, fresh, start)
                        reading = Reading(self._legs, source)
                    await self._read(relay, writer, reading, job, progress)
                else:
                    writer.scanner = report.scanner_type
                    await relay.resume(stored_unjudged(self._database, report_id))
                    await relay.finish()
                last = await judging
                await self._end(writer, job, progress, last, relay.llm)
                writing.cancel()
        except BaseExceptionGroup as failures:
            raise _first(failures) from None

    def _take_up(
        self, connection: Connection, job: Job
    ) -> tuple[Report, DataKey, int, ReportProgress]:
        """The report, its data key, the first ordinal that is to be read, and how far it
        has come."""
        self._queue.hold(connection, job)
        report_id = uuid.UUID(job.key)
        report = store.get(connection, report_id, job.tenant)
        start = 0
        if report.status == states.CREATED:
            start = store_findings.resume_point(connection, report_id)
        data_key = sealing.data_key(connection, self._keyring, report)
        return report, data_key, start, store_findings.progress(connection, report_id)

    async def _source(
        self,
        relay: Relay,
        report: Report,
        data_key: DataKey,
        fresh: Fresh | None,
        start: int,
    ) -> Source:
        """Where to read from; first sends on what an earlier run left unjudged."""
        report_id = uuid.UUID(report.report_id)
        header = IngestHeader(
            report_id=report.report_id,
            scanner_type=report.scanner_type,
            report_format=report.report_format,
            data_key=data_key,
        )
        if fresh:
            return Source(header, fresh.raw.chunks())
        header.start_ordinal = start
        if start:
            header.parser = report.parser
            await relay.resume(stored_unjudged(self._database, report_id))
        key = self._keyring.open(report_id, data_key)
        return Source(header, RawReport(self._database, report_id, key).chunks())

    async def _read(
        self, relay: Relay, writer: Writer, reading: Reading, job: Job, progress: ReportProgress
    ) -> None:
        """Created to processing: every record read, every finding stored."""
        detected, read = await relay.read(reading)
        await relay.finish()

        def ingested(connection: Connection) -> None:
            progress.records.read = read.records_read
            progress.records.findings = read.findings
            progress.records.merged = read.merged
            progress.records.rejected = read.rejected
            report_id = uuid.UUID(job.key)
            happened = []
            for event_type, status, said in (
                (events.REPORT_INGESTED, states.INGESTED, {"findings_count": read.findings}),
                (events.REPORT_PROCESSING_STARTED, states.PROCESSING, {}),
            ):
                progress.status = status
                happened.append(
                    events.run_event(event_type, report_id, job.tenant, progress, **said)
                )
            store.advance(
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
                ingested_at=now(),
            )
            crash.point("run.ingesting")

        # Committed with the last findings; what comes back meanwhile is written behind it.
        await writer.put(ingested)

    async def _end(
        self,
        writer: Writer,
        job: Job,
        progress: ReportProgress,
        last: VerdictBatch | None,
        llm: LlmUsage | None,
    ) -> None:
        """Processing to done."""
        ended: list[Report] = []

        def end(connection: Connection) -> None:
            report_id = uuid.UUID(job.key)
            at, decided = store_decisions.apply(connection, report_id, job.tenant)
            if decided:
                progress.summary.CopyFrom(store_findings.risks(connection, report_id, at))
            counts = progress.summary
            summary = {"high": counts.high, "medium": counts.medium, "low": counts.low}
            # Who was asked and what it cost belongs to the record; for a resumed
            # run, of what was left.
            asked = {"llm": _usage(llm)} if llm else {}
            moderated = {**summary, **asked}
            happened = [
                events.run_event(
                    events.REPORT_MODERATED, report_id, job.tenant, progress, **moderated
                )
            ]
            progress.status = states.DONE
            happened.append(
                events.run_event(
                    events.REPORT_DONE, report_id, job.tenant, progress, summary=summary
                )
            )
            report = store.advance(
                connection,
                report_id,
                [states.PROCESSING, states.DONE],
                happened,
                risk_high=counts.high,
                risk_medium=counts.medium,
                risk_low=counts.low,
            )
            if job.payload.get(KEYED):
                store_idempotency.keep_answer(connection, report)
            self._queue.finish(connection, job)
            crash.point("run.ending")
            ended.append(report)

        await writer.done(*([last] if last else []), end)
        crash.point("run.ended")
        report = ended[-1]
        metrics.REPORTS.labels("done").inc()
        took = now() - report.created_at.ToDatetime(UTC)
        metrics.observe(metrics.REPORT_SECONDS, took.total_seconds())
        round_ = self._outbox.ring()
        if (waiting := self._local.get(job.job_id)) and not waiting.done():
            waiting.set_result(Ended(report, round_))
        _log.info(
            "report.done",
            status="done",
            findings=report.records.findings,
            high=report.summary.high,
            medium=report.summary.medium,
            low=report.summary.low,
        )


def _usage(llm: LlmUsage) -> dict[str, Any]:
    """What asking a language model took, without what is zero."""
    used = {field.name: value for field, value in llm.ListFields()}
    return {**used, "unanswered": dict(llm.unanswered)} if llm.unanswered else used


def _first(group: BaseExceptionGroup[Any]) -> BaseException:
    """What went wrong first; a group's own order is that of its tasks' ends."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
