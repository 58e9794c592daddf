"""ReportService: unpack, call the core, pack."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import grpc
import structlog

from orchestrator import events, states, store, store_findings
from orchestrator.ids import finding_id, no_finding
from orchestrator.intake import Intake
from orchestrator.outbox import Outbox
from orchestrator.rejudge import Rejudger
from orchestrator.run import Ended, Runner
from runtime import context, paging
from runtime.channels import call
from runtime.database import Database
from runtime.errors import MAPPINGS, WinnowError, from_rpc
from runtime.worker import Worker
from winnow.ingest.v1.ingest_service_pb2 import ListFormatsRequest
from winnow.report.v1 import report_service_pb2 as pb
from winnow.report.v1 import report_service_pb2_grpc as rpc
from winnow.report.v1.report_pb2 import Report
from winnow.report.v1.report_progress_pb2 import ReportProgress

if TYPE_CHECKING:
    from winnow.ingest.v1.ingest_service_pb2_grpc import IngestServiceAsyncStub
    from winnow.moderate.v1.moderate_service_pb2_grpc import ModerateServiceAsyncStub

_REPORTS_PAGE = 50
_FINDINGS_PAGE = 100
_CHANGES = 100
_TICK_SECONDS = 0.1
_STORE_TICK_SECONDS = 1.0
_AUDITED_WITHIN_SECONDS = 1.0


class ReportService(rpc.ReportServiceServicer):
    """The gRPC face of the orchestrator."""

    def __init__(
        self,
        database: Database,
        intake: Intake,
        runner: Runner,
        worker: Worker,
        outbox: Outbox,
        ingestor: IngestServiceAsyncStub,
        moderator: ModerateServiceAsyncStub,
    ) -> None:
        self._rejudger = Rejudger(database, moderator)
        self._ingestor = ingestor
        self._database = database
        self._intake = intake
        self._runner = runner
        self._worker = worker
        self._outbox = outbox

    async def SubmitReport(
        self, request_iterator: AsyncIterator[pb.SubmitReportRequest], _context: Any
    ) -> pb.SubmitReportResponse:
        upload = await self._intake.receive(request_iterator)
        try:
            report, running = await self._runner.admit(self._worker, upload.create, upload.raw)
        except BaseException:
            await asyncio.shield(upload.drop())
            raise
        assert report is not None
        structlog.contextvars.bind_contextvars(report_id=report.report_id)
        if not upload.header.wait:
            return pb.SubmitReportResponse(report=report)
        # The report finishes whether or not the caller stays to see it.
        ended = await asyncio.shield(running) if running else None
        if ended is None:
            ended = await self._elsewhere(report)
        await self._outbox.shipped(ended.round, _AUDITED_WITHIN_SECONDS)
        if ended.report.status == states.ERROR:
            raise _failure(ended)
        return pb.SubmitReportResponse(report=ended.report)

    async def _elsewhere(self, report: Report) -> Ended:
        """How a report ends that another worker goes on with."""
        report_id, tenant = uuid.UUID(report.report_id), context.tenant.get()
        while report.status not in states.ENDED:
            await asyncio.sleep(_STORE_TICK_SECONDS)
            report = await self._database.run(store.get, report_id, tenant)
        return Ended(report, self._outbox.ring())

    async def GetReport(self, request: pb.GetReportRequest, _context: Any) -> pb.GetReportResponse:
        report_id, tenant = uuid.UUID(request.report_id), context.tenant.get()
        viewed = events.report_event(events.REPORT_VIEWED, report_id, tenant)
        report = await self._database.run(store.view, report_id, tenant, viewed)
        self._outbox.ring()
        return pb.GetReportResponse(report=report)

    async def ListReports(
        self, request: pb.ListReportsRequest, _context: Any
    ) -> pb.ListReportsResponse:
        tenant = context.tenant.get()
        query = (tenant, request.status, request.scanner_type)
        before = paging.after_id(request.page_token, *query)
        size = request.page_size or _REPORTS_PAGE
        found = await self._database.run(
            store.newest,
            tenant,
            request.status,
            request.scanner_type,
            before,
            size + 1,
        )
        page, more = paging.cut(found, size)
        token = paging.encode(page[-1].report_id, *query) if more else ""
        return pb.ListReportsResponse(reports=page, next_page_token=token)

    async def ListFindings(
        self, request: pb.ListFindingsRequest, _context: Any
    ) -> pb.ListFindingsResponse:
        report_id, tenant = uuid.UUID(request.report_id), context.tenant.get()
        filters = store_findings.Filters(
            request.risk, request.rule, request.path, request.source, request.kind
        )
        query = (tenant, request.report_id, *filters)
        after = paging.after_number(request.page_token, *query)
        if after < 0:
            await self._database.run(store.get, report_id, tenant)
        found, last = await self._database.run(
            store_findings.page,
            report_id,
            tenant,
            filters,
            after,
            request.page_size or _FINDINGS_PAGE,
            request.view == pb.FINDING_VIEW_FULL,
        )
        return pb.ListFindingsResponse(
            findings=found,
            next_page_token="" if last is None else paging.encode(str(last), *query),
        )

    async def GetFinding(
        self, request: pb.GetFindingRequest, _context: Any
    ) -> pb.GetFindingResponse:
        report_id, ordinal = finding_id(request.finding_id)
        found = await self._database.run(
            store_findings.one, report_id, context.tenant.get(), ordinal
        )
        if found is None:
            raise no_finding(request.finding_id)
        finding, verdicts = found
        return pb.GetFindingResponse(finding=finding, verdicts=verdicts)

    async def ListRejected(
        self, request: pb.ListRejectedRequest, _context: Any
    ) -> pb.ListRejectedResponse:
        report_id, tenant = uuid.UUID(request.report_id), context.tenant.get()
        query = (tenant, request.report_id, "rejected")
        after = paging.after_number(request.page_token, *query)
        await self._database.run(store.get, report_id, tenant)
        size = request.page_size or _FINDINGS_PAGE
        found = await self._database.run(
            store_findings.rejected_page, report_id, tenant, after, size + 1
        )
        page, more = paging.cut(found, size)
        token = paging.encode(str(page[-1].ordinal), *query) if more else ""
        return pb.ListRejectedResponse(rejected=page, next_page_token=token)

    async def ListFormats(
        self, _request: pb.ListFormatsRequest, _context: Any
    ) -> pb.ListFormatsResponse:
        try:
            known = await self._ingestor.ListFormats(ListFormatsRequest(), **call())
        except grpc.aio.AioRpcError as error:
            raise from_rpc(error, "ingestor") from None
        return pb.ListFormatsResponse(formats=known.formats)

    async def RejudgeReport(
        self, request: pb.RejudgeReportRequest, _context: Any
    ) -> pb.RejudgeReportResponse:
        answer = await self._rejudger.run(
            uuid.UUID(request.report_id),
            context.tenant.get(),
            request.mode,
            request.max_changes or _CHANGES,
        )
        self._outbox.ring()
        return answer

    async def CancelReport(
        self, request: pb.CancelReportRequest, _context: Any
    ) -> pb.CancelReportResponse:
        report_id, tenant = uuid.UUID(request.report_id), context.tenant.get()
        await self._database.run(store.get, report_id, tenant)
        report = await self._runner.cancel(self._worker, report_id, tenant)
        return pb.CancelReportResponse(report=report)

    async def WatchReport(
        self, request: pb.WatchReportRequest, _context: Any
    ) -> AsyncIterator[pb.WatchReportResponse]:
        report_id, tenant = uuid.UUID(request.report_id), context.tenant.get()
        # Also the check that the report is the caller's.
        report = await self._database.run(store.get, report_id, tenant)
        last = b""
        while True:
            live = None
            if live is None:
                report = await self._database.run(store.get, report_id, tenant)
                snapshot = _snapshot(report)
            else:
                snapshot = live
            state = snapshot.SerializeToString(deterministic=True)
            if state != last:
                last = state
                shown = ReportProgress.FromString(state)
                shown.at.GetCurrentTime()
                yield pb.WatchReportResponse(progress=shown)
            if snapshot.status in states.ENDED and live is None:
                return
            await asyncio.sleep(_STORE_TICK_SECONDS if live is None else _TICK_SECONDS)


def _failure(ended: Ended) -> WinnowError:
    """What the caller who waited is told: the failure itself, and which report it was."""
    report = ended.report
    if ended.failure is None:  # it had failed before: the row keeps reason and message
        reason = report.error.reason if report.error.reason in MAPPINGS else "INTERNAL"
        return WinnowError(reason, report.error.message, report_id=report.report_id)
    metadata = {**ended.failure.metadata, "report_id": report.report_id}
    return WinnowError(
        ended.failure.reason,
        ended.failure.message,
        retry_after=ended.failure.retry_after,
        **metadata,
    )


def _snapshot(report: Report) -> ReportProgress:
    judged = report.summary.high + report.summary.medium + report.summary.low
    return ReportProgress(
        report_id=report.report_id,
        status=report.status,
        records=report.records,
        summary=report.summary,
        judged=judged,
        error=report.error if report.HasField("error") else None,
    )
