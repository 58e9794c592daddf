"""ReportService: unpack, call the core, pack."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import grpc

from orchestrator import events, store, store_findings
from orchestrator.ids import finding_id, no_finding
from orchestrator.outbox import Outbox
from orchestrator.raw import RawReports
from orchestrator.rejudge import Rejudger
from orchestrator.retention import Retention
from orchestrator.run import Runner
from orchestrator.submitting import Submissions
from orchestrator.watching import Watches
from runtime import context, paging
from runtime.channels import call
from runtime.database import Database
from runtime.errors import from_rpc
from runtime.feeds import TAKEN_SECONDS, taken_within
from runtime.worker import Worker
from winnow.ingest.v1.ingest_service_pb2 import ListFormatsRequest
from winnow.report.v1 import report_service_pb2 as pb
from winnow.report.v1 import report_service_pb2_grpc as rpc

if TYPE_CHECKING:
    from winnow.ingest.v1.ingest_service_pb2_grpc import IngestServiceAsyncStub

_REPORTS_PAGE = 50
_FINDINGS_PAGE = 100
_CHANGES = 100


class ReportService(rpc.ReportServiceServicer):
    """The gRPC face of the orchestrator."""

    def __init__(
        self,
        database: Database,
        submissions: Submissions,
        runner: Runner,
        worker: Worker,
        outbox: Outbox,
        watches: Watches,
        rejudger: Rejudger,
        raw: RawReports,
        retention: Retention,
        ingestor: IngestServiceAsyncStub,
    ) -> None:
        self._rejudger = rejudger
        self._raw = raw
        self._retention = retention
        self._ingestor = ingestor
        self._database = database
        self._submissions = submissions
        self._watches = watches
        self._runner = runner
        self._worker = worker
        self._outbox = outbox

    async def SubmitReport(
        self, request_iterator: AsyncIterator[pb.SubmitReportRequest], servicer_context: Any
    ) -> pb.SubmitReportResponse:
        async def accepted(response: pb.SubmitReportResponse) -> None:
            said = {
                context.REPORT_KEY: response.report.report_id,
                context.REPLAYED_KEY: "true" if response.replayed else "",
                context.REUSED_KEY: "true" if response.reused else "",
            }
            told = tuple((key, value) for key, value in said.items() if value)
            await servicer_context.send_initial_metadata(told)

        return await self._submissions.take(
            request_iterator, servicer_context.time_remaining, accepted
        )

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

    async def GetRawReport(
        self, request: pb.GetRawReportRequest, _context: Any
    ) -> AsyncIterator[pb.GetRawReportResponse]:
        read = self._raw.read(uuid.UUID(request.report_id), context.tenant.get())
        async with aclosing(read) as parts:
            async for part in parts:
                yield part

    async def ShredReport(
        self, request: pb.ShredReportRequest, _context: Any
    ) -> pb.ShredReportResponse:
        report_id = uuid.UUID(request.report_id)
        report = await self._retention.shred(report_id, context.tenant.get())
        return pb.ShredReportResponse(report=report)

    async def DeleteReport(
        self, request: pb.DeleteReportRequest, _context: Any
    ) -> pb.DeleteReportResponse:
        await self._retention.delete(uuid.UUID(request.report_id), context.tenant.get())
        return pb.DeleteReportResponse()

    async def WatchReport(  # type: ignore[override]  # the stub knows generators only
        self, request: pb.WatchReportRequest, servicer_context: Any
    ) -> None:
        report_id, tenant = uuid.UUID(request.report_id), context.tenant.get()
        # Written and not yielded: here it can be seen what is not taken in time.
        watched = self._watches.watch(report_id, tenant, request.after_ordinal)
        async with aclosing(watched) as batches:
            async for batch in batches:
                for told in batch:
                    # A write that is under way stays so: its message comes before the end.
                    async with taken_within(TAKEN_SECONDS, told.event.ordinal):
                        await servicer_context.write(told)
