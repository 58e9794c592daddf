"""Reports and their findings."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from fastapi import APIRouter, Request, Response
from starlette.responses import StreamingResponse

from gateway import answers, body, docs
from gateway.backends import ORCHESTRATOR, Backends, backends, calling
from gateway.query import bind, unknown
from gateway.translate import Json, to_json
from runtime.channels import call
from runtime.errors import WinnowError
from winnow.report.v1.report_service_pb2 import (
    CancelReportRequest,
    GetFindingRequest,
    GetReportRequest,
    ListFindingsRequest,
    ListFindingsResponse,
    ListRejectedRequest,
    ListReportsRequest,
    RejudgeReportRequest,
)

router = APIRouter()

_PAGE = 2000
_MOST_ID = 64


@router.get("/reports", **docs.LIST_REPORTS)
async def list_reports(request: Request) -> Response:
    query = bind(ListReportsRequest, request.query_params.multi_items())
    with calling(ORCHESTRATOR):
        page = await backends(request).reports.ListReports(query, **call())
    return answers.json(to_json(page))


@router.get("/reports/{report_id}", **docs.GET_REPORT)
async def get_report(request: Request) -> Response:
    report_id = answers.report_id(request)
    with_findings = _wants_findings(request)
    services = backends(request)
    with calling(ORCHESTRATOR):
        found = await services.reports.GetReport(GetReportRequest(report_id=report_id), **call())
    report = to_json(found.report)
    if not with_findings:
        return answers.json(report)
    # The first page is read before the answer begins, while an error still has
    # a status to go with.
    first = await _page(services, report_id, "")
    return StreamingResponse(
        _whole_report(services, report, report_id, first), media_type="application/json"
    )


@router.get("/reports/{report_id}/findings", **docs.LIST_FINDINGS)
async def list_findings(request: Request) -> Response:
    report_id = answers.report_id(request)
    query = bind(ListFindingsRequest, request.query_params.multi_items(), report_id=report_id)
    with calling(ORCHESTRATOR):
        page = await backends(request).reports.ListFindings(query, **call())
    return answers.json(to_json(page))


@router.get("/findings/{finding_id}", **docs.GET_FINDING)
async def get_finding(request: Request) -> Response:
    query = bind(
        GetFindingRequest,
        request.query_params.multi_items(),
        finding_id=request.path_params["finding_id"][:_MOST_ID],
    )
    with calling(ORCHESTRATOR):
        found = await backends(request).reports.GetFinding(query, **call())
    return answers.json(to_json(found))


@router.get("/reports/{report_id}/rejected", **docs.LIST_REJECTED)
async def list_rejected(request: Request) -> Response:
    report_id = answers.report_id(request)
    query = bind(ListRejectedRequest, request.query_params.multi_items(), report_id=report_id)
    with calling(ORCHESTRATOR):
        page = await backends(request).reports.ListRejected(query, **call())
    return answers.json(to_json(page))


@router.post("/reports/{report_id}/rejudge", **docs.REJUDGE_REPORT)
async def rejudge_report(request: Request) -> Response:
    asked = RejudgeReportRequest(report_id=answers.report_id(request))
    await body.fill(request, asked, path=("report_id",), optional=True)
    timeout = request.app.state.settings.request_timeout
    with calling(ORCHESTRATOR):
        judged = await backends(request).reports.RejudgeReport(asked, **call(timeout))
    return answers.json(to_json(judged))


@router.post("/reports/{report_id}/cancel", **docs.CANCEL_REPORT)
async def cancel_report(request: Request) -> Response:
    query = CancelReportRequest(report_id=answers.report_id(request))
    with calling(ORCHESTRATOR):
        cancelled = await backends(request).reports.CancelReport(query, **call())
    return answers.json(to_json(cancelled.report))


async def _page(services: Backends, report_id: str, token: str) -> ListFindingsResponse:
    query = ListFindingsRequest(report_id=report_id, page_size=_PAGE, page_token=token)
    with calling(ORCHESTRATOR):
        return await services.reports.ListFindings(query, **call())


async def _whole_report(
    services: Backends, report: Json, report_id: str, page: ListFindingsResponse
) -> AsyncIterator[bytes]:
    """The report's object with its findings as last member, a page at a time."""
    yield answers.encode(report)[:-1] + b',"findings":['
    separator = b""
    following: asyncio.Task[ListFindingsResponse] | None = None
    try:
        while True:
            # The next page is on its way while this one is translated and sent.
            if page.next_page_token:
                following = asyncio.create_task(_page(services, report_id, page.next_page_token))
            if page.findings:
                yield separator + answers.encode(to_json(page)["findings"])[1:-1]
                separator = b","
            if following is None:
                break
            page, following = await following, None
    finally:
        if following is not None:
            following.cancel()
    yield b"]}"


def _wants_findings(request: Request) -> bool:
    wanted = True
    for name, value in request.query_params.multi_items():
        if name != "findings":
            raise unknown(["findings"])
        if value not in ("true", "false"):
            raise WinnowError(
                "INVALID_ARGUMENT",
                "query parameter findings must be true or false",
                field="findings",
                rule="boolean",
            )
        wanted = value == "true"
    return wanted
