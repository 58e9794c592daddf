"""What happened to a report: its audit trail, and its progress as it happens."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.responses import StreamingResponse

from gateway import answers, docs, problems
from gateway.backends import AUDIT, ORCHESTRATOR, backends, calling
from gateway.query import bind
from gateway.translate import to_json
from runtime.channels import call
from runtime.errors import WinnowError
from winnow.audit.v1.audit_service_pb2 import ListEventsRequest
from winnow.report.v1.report_service_pb2 import WatchReportRequest, WatchReportResponse

router = APIRouter()


@router.get("/reports/{report_id}/events", **docs.LIST_EVENTS)
async def list_events(request: Request) -> Response:
    report_id = answers.report_id(request)
    query = bind(ListEventsRequest, request.query_params.multi_items(), report_id=report_id)
    with calling(AUDIT):
        page = await backends(request).audit.ListEvents(query, **call())
    if not (page.events or query.page_token or query.event_type):
        # Every report begins with an event, so one without any does not exist.
        raise WinnowError("REPORT_NOT_FOUND", "no report has this id", report_id=report_id)
    return answers.json(to_json(page))


@router.get("/reports/{report_id}/events/stream", **docs.WATCH_REPORT)
async def watch_report(request: Request) -> Response:
    report_id = answers.report_id(request)
    watch = backends(request).reports.WatchReport(
        WatchReportRequest(report_id=report_id), **call(None)
    )
    snapshots = aiter(watch)
    try:
        # Read before the answer begins, while an error still has a status to go with.
        with calling(ORCHESTRATOR):
            first = await anext(snapshots, None)
    except BaseException:
        watch.cancel()
        raise
    return StreamingResponse(
        _progress(watch, snapshots, first),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _progress(
    watch: Any, snapshots: AsyncIterator[WatchReportResponse], last: WatchReportResponse | None
) -> AsyncIterator[bytes]:
    try:
        if last is not None:
            yield _event("progress", to_json(last.progress))
            with calling(ORCHESTRATOR):
                async for last in snapshots:
                    yield _event("progress", to_json(last.progress))
            yield _event("done", to_json(last.progress))
    except WinnowError as error:
        yield _event("error", problems.body(error))
    finally:
        watch.cancel()


def _event(name: str, data: dict[str, Any]) -> bytes:
    """One server-sent event (WHATWG HTML, section 9.2)."""
    return b"event: %s\ndata: %s\n\n" % (name.encode(), answers.encode(data))
