"""What is sealed: the keys of it, raw reports, and their end."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.responses import StreamingResponse

from gateway import answers, body, docs
from gateway.backends import ORCHESTRATOR, backends, calling
from gateway.query import bind
from gateway.translate import to_json
from runtime.channels import PeerStatus, call
from runtime.errors import WinnowError
from winnow.report.v1.report_service_pb2 import (
    DeleteReportRequest,
    GetRawReportRequest,
    GetRawReportResponse,
    ShredReportRequest,
)
from winnow.seal.v1.seal_service_pb2 import GetSealingRequest, RotateSealingRequest

router = APIRouter()


@router.get("/reports/{report_id}/raw", **docs.GET_RAW_REPORT)
async def get_raw_report(request: Request) -> Response:
    report_id = answers.report_id(request)
    query = bind(GetRawReportRequest, request.query_params.multi_items(), report_id=report_id)
    stream: Any = backends(request).reports.GetRawReport(query, **call(None))
    status = PeerStatus(stream)
    parts = aiter(stream)
    # Read before the answer begins, while an error still has a status to go with.
    with calling(ORCHESTRATOR, status):
        first = await anext(parts, None)
    if first is None:
        raise WinnowError(
            "STREAM_CUT_SHORT", "the orchestrator ended without an answer", service=ORCHESTRATOR
        )
    # RFC 9530: of the representation, and, as it is not encoded, of the content.
    digest = f"sha-256=:{base64.b64encode(bytes.fromhex(first.sha256)).decode()}:"
    return StreamingResponse(
        _bytes(stream, first, parts, status),
        media_type="application/octet-stream",
        headers={
            "Content-Length": str(first.size_bytes),
            "Content-Disposition": f'attachment; filename="{report_id}.report"',
            "Repr-Digest": digest,
            "Content-Digest": digest,
        },
    )


async def _bytes(
    stream: Any,
    first: GetRawReportResponse,
    parts: AsyncIterator[GetRawReportResponse],
    status: PeerStatus,
) -> AsyncIterator[bytes]:
    try:
        yield first.chunk
        with calling(ORCHESTRATOR, status):
            async for part in parts:
                yield part.chunk
    finally:
        # Whoever leaves early ends the reading too.
        stream.cancel()


@router.post("/reports/{report_id}/shred", **docs.SHRED_REPORT)
async def shred_report(request: Request) -> Response:
    query = ShredReportRequest(report_id=answers.report_id(request))
    await body.fill(request, query, path=("report_id",), optional=True)
    with calling(ORCHESTRATOR):
        shredded = await backends(request).reports.ShredReport(query, **call())
    return answers.json(to_json(shredded.report))


@router.delete("/reports/{report_id}", **docs.DELETE_REPORT)
async def delete_report(request: Request) -> Response:
    report_id = answers.report_id(request)
    query = bind(DeleteReportRequest, request.query_params.multi_items(), report_id=report_id)
    with calling(ORCHESTRATOR):
        await backends(request).reports.DeleteReport(query, **call())
    return Response(status_code=204)


@router.get("/sealing", **docs.GET_SEALING)
async def get_sealing(request: Request) -> Response:
    query = bind(GetSealingRequest, request.query_params.multi_items())
    with calling(ORCHESTRATOR):
        found = await backends(request).sealing.GetSealing(query, **call())
    return answers.json(to_json(found))


@router.post("/sealing/rotate", **docs.ROTATE_SEALING)
async def rotate_sealing(request: Request) -> Response:
    query = RotateSealingRequest()
    await body.fill(request, query, optional=True)
    with calling(ORCHESTRATOR):
        begun = await backends(request).sealing.RotateSealing(query, **call())
    return answers.json(to_json(begun), 202)
