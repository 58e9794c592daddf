"""POST /reports: bytes in, relayed as they come, never held."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException

from gateway import answers, docs
from gateway.backends import ORCHESTRATOR, backends, calling
from gateway.encoding import gunzip
from gateway.envelope import Body
from gateway.query import unknown
from gateway.translate import to_json
from runtime.channels import PeerStatus, call
from runtime.errors import WinnowError
from winnow.report.v1.report_service_pb2 import (
    ReportDeclaration,
    SubmitReportEnd,
    SubmitReportHeader,
    SubmitReportRequest,
)

router = APIRouter()

# The last is what curl --data-binary says unless told otherwise.
MEDIA_TYPES = (
    "application/json",
    "application/x-ndjson",
    "application/octet-stream",
    "application/sarif+json",
    "application/gzip",
    "text/csv",
    "application/x-www-form-urlencoded",
)
_OWN = ("scanner_type", "report_format")
_SOURCE = ("repository", "ref", "commit", "image")
PARAMETERS = (*_OWN, *_SOURCE, "label", "envelope")

# Messages of this size: fewer cost less, and each stays far below gRPC's 4 MiB.
_CHUNK = 1 << 18
_MAX_CHUNK = 1 << 20


@router.post("/reports", **docs.SUBMIT)
async def submit_report(request: Request) -> Response:
    limit = request.app.state.settings.max_report_bytes
    _check_headers(request, limit)
    declared = _declaration(request)
    wait = not _responds_async(request)
    body = Body(_bounded(request, limit), raw=_is_raw(request))
    timeout = request.app.state.settings.request_timeout
    started = time.monotonic()
    try:
        async with asyncio.timeout(timeout):
            await body.open()
    except TimeoutError:
        raise WinnowError(
            "DEADLINE_EXCEEDED", f"the body did not come within {timeout:g} seconds"
        ) from None
    timeout -= time.monotonic() - started
    upload = _Upload(body, declared, wait=wait)
    submission = backends(request).reports.SubmitReport(upload.messages(), **call(timeout))
    try:
        with calling(ORCHESTRATOR, PeerStatus(submission)):
            report = (await submission).report
    except asyncio.CancelledError:
        # A request stream that raises cancels its call; the reason is the upload's.
        if upload.failure is not None:
            raise upload.failure from None
        raise
    finally:
        submission.cancel()
    request.state.report_id = report.report_id
    location = f"/reports/{report.report_id}"
    values = to_json(report)
    if wait:
        answer = {
            "report_id": report.report_id,
            "status": values["status"],
            "scanner_type": report.scanner_type,
            "summary": to_json(report.summary),
            "records": to_json(report.records),
        }
        return answers.json(answer, 201, {"Location": location})
    answer = {
        "report_id": report.report_id,
        "status": values["status"],
        "events_url": f"{location}/events/stream",
    }
    headers = {"Location": location, "Preference-Applied": "respond-async"}
    return answers.json(answer, 202, headers)


class _Upload:
    """The request stream of one SubmitReport call.

    The end message is what makes an upload whole: whatever fails before it,
    the client's leaving above all, cancels the call instead.
    """

    def __init__(self, body: Body, declared: ReportDeclaration, *, wait: bool) -> None:
        self.failure: Exception | None = None
        self._body = body
        self._declared = declared
        self._wait = wait

    async def messages(self) -> AsyncIterator[SubmitReportRequest]:
        try:
            self._declared.MergeFrom(self._body.declaration)
            header = SubmitReportHeader(declaration=self._declared, wait=self._wait)
            yield SubmitReportRequest(header=header)
            size = 0
            async for chunk in _batched(self._body):
                size += len(chunk)
                yield SubmitReportRequest(chunk=chunk)
            end = SubmitReportEnd(declaration=self._body.declaration, size_bytes=size)
            yield SubmitReportRequest(end=end)
        except Exception as error:
            self.failure = error
            raise


async def _batched(pieces: AsyncIterator[bytes] | Body) -> AsyncIterator[bytes]:
    """The same bytes in pieces of about 256 KiB, none empty, none over 1 MiB."""
    held: list[bytes] = []
    size = 0
    async for piece in pieces:
        held.append(piece)
        size += len(piece)
        if size >= _CHUNK:
            joined = b"".join(held)
            for start in range(0, size, _MAX_CHUNK):
                yield joined[start : start + _MAX_CHUNK]
            held.clear()
            size = 0
    if size:
        yield b"".join(held)


async def _bounded(request: Request, limit: int) -> AsyncIterator[bytes]:
    """The body, expanded if it is compressed: the limit is one on what is read."""
    size = 0
    chunks: AsyncIterator[bytes] = request.stream()
    if request.headers.get("content-encoding", "").strip().lower() == "gzip":
        chunks = gunzip(chunks)
    async for chunk in chunks:
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        if chunk:
            yield chunk


def _too_large(limit: int) -> WinnowError:
    return WinnowError(
        "REPORT_TOO_LARGE",
        f"the body is larger than {limit} bytes, the most that this server takes "
        "(WINNOW_MAX_REPORT_BYTES)",
        limit_bytes=str(limit),
    )


def _check_headers(request: Request, limit: int) -> None:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type and media_type not in MEDIA_TYPES:
        raise HTTPException(415, f"Content-Type must be one of: {', '.join(MEDIA_TYPES)}")
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip"):
        raise HTTPException(415, "of content encodings only gzip is read")
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > limit:
        raise _too_large(limit)


def _declaration(request: Request) -> ReportDeclaration:
    declared = ReportDeclaration()
    for name, value in request.query_params.multi_items():
        if name in _OWN:
            setattr(declared, name, value)
        elif name in _SOURCE:
            setattr(declared.source, name, value)
        elif name == "label":
            key, equals, text = value.partition("=")
            if not (key and equals):
                raise WinnowError(
                    "INVALID_ARGUMENT",
                    "query parameter label must read name=value",
                    field="label",
                    rule="name=value",
                )
            declared.labels[key] = text
        elif name != "envelope":
            raise unknown(PARAMETERS)
    return declared


def _is_raw(request: Request) -> bool:
    """Whether the body is said to be the report itself."""
    said = request.query_params.get("envelope", "")
    if said not in ("", "false"):
        raise WinnowError(
            "INVALID_ARGUMENT",
            "query parameter envelope can only be false: whether there is one is seen otherwise",
            field="envelope",
            rule="false",
        )
    return bool(said) or "scanner_type" in request.query_params


def _responds_async(request: Request) -> bool:
    """RFC 7240 section 4.1."""
    preferences = ",".join(request.headers.getlist("prefer")).lower().split(",")
    return any(p.partition(";")[0].strip() == "respond-async" for p in preferences)
