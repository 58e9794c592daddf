"""POST /reports: bytes in, relayed as they come, never held."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException

from gateway import answers, docs
from gateway.admission import too_large
from gateway.backends import ORCHESTRATOR, backends, calling
from gateway.encoding import gunzip
from gateway.envelope import Body
from gateway.query import enum_numbers, unknown
from gateway.translate import to_json
from runtime import context, crash
from runtime.channels import PeerStatus, call
from runtime.errors import WinnowError
from winnow.report.v1.report_pb2 import Report, ReportStatus
from winnow.report.v1.report_service_pb2 import (
    DuplicateHandling,
    ReportDeclaration,
    SubmitReportEnd,
    SubmitReportHeader,
    SubmitReportRequest,
    SubmitReportResponse,
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
PARAMETERS = (*_OWN, *_SOURCE, "label", "envelope", "duplicates")
_DUPLICATES = enum_numbers(DuplicateHandling.DESCRIPTOR)

# Messages of this size: fewer cost less, and each stays far below gRPC's 4 MiB.
_CHUNK = 1 << 18
_MOST_SECONDS = 999_999_999
# As many as the orchestrator takes.
_KEY = re.compile(r"[!-~]{1,255}\Z")
# Up to the next comma that stands in no quoted string (RFC 9110 section 5.6.4).
_PREFERENCE = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*")+')
_MAX_CHUNK = 1 << 20


@router.post("/reports", **docs.SUBMIT)
async def submit_report(request: Request) -> Response:
    limit = request.app.state.settings.max_report_bytes
    _check_headers(request)
    preferred = _Preferences.of(request)
    header = SubmitReportHeader(
        declaration=_declaration(request),
        wait=preferred.waits,
        request_id=_idempotency_key(request),
        duplicates=_duplicates(request),
    )
    if preferred.wait is not None:
        header.wait_at_most.FromSeconds(preferred.wait)
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
    upload = _Upload(body, header)
    submission = backends(request).reports.SubmitReport(upload.messages(), **call(timeout))
    try:
        with calling(ORCHESTRATOR, PeerStatus(submission)):
            submitted = await submission
        crash.point("gateway.accepted")
    except asyncio.CancelledError:
        # A request stream that raises cancels its call; the reason is the upload's.
        if upload.failure is not None:
            raise upload.failure from None
        known = await _accepted(submission)
        if known is None or not request.app.state.draining.is_set():
            raise
        submitted = known
    except WinnowError as error:
        known = await _accepted(submission)
        # Why a report failed names it; anything else says nothing of it.
        if known is None or not error.retryable or "report_id" in error.metadata:
            raise
        submitted = known
    finally:
        submission.cancel()
    request.state.report_id = submitted.report.report_id
    return _answer(submitted, preferred)


async def _accepted(submission: Any) -> SubmitReportResponse | None:
    """What is known of a call that was cut: that its report goes on, if the report is durable."""
    told = dict(await submission.initial_metadata())
    report_id = told.get(context.REPORT_KEY)
    if report_id is None:
        return None
    report = Report(report_id=report_id, status=ReportStatus.REPORT_STATUS_CREATED)
    return SubmitReportResponse(
        report=report,
        replayed=context.REPLAYED_KEY in told,
        reused=context.REUSED_KEY in told,
    )


class _Preferences(NamedTuple):
    """What the caller prefers (RFC 7240), as far as it is known and well formed.

    Args:
        at_once: `respond-async`: an answer as soon as the report is durable.
        wait: `wait`: seconds after which an answer is wanted, ended or not.
    """

    at_once: bool
    wait: int | None

    @classmethod
    def of(cls, request: Request) -> _Preferences:
        found: dict[str, str] = {}
        for preference in _PREFERENCE.findall(",".join(request.headers.getlist("prefer"))):
            name, _, value = preference.partition(";")[0].partition("=")
            # Of a preference that is given twice the first counts.
            found.setdefault(name.strip().lower(), value.strip().strip('"'))
        seconds = found.get("wait", "")
        waits = seconds.isascii() and seconds.isdigit()
        # More than a call may last is as good as any time.
        wait = min(int(seconds.lstrip("0")[:10] or "0"), _MOST_SECONDS) if waits else None
        return cls("respond-async" in found, wait)

    @property
    def waits(self) -> bool:
        """Whether the report's end is waited for, be it for a while."""
        return bool(self.wait) if self.at_once else self.wait != 0

    def applied(self, *, ended: bool) -> dict[str, str]:
        """The header that tells which of them were honoured."""
        honoured = ["respond-async"] if self.at_once and not ended else []
        honoured += [] if self.wait is None else [f"wait={self.wait}"]
        return {"Preference-Applied": ", ".join(honoured)} if honoured else {}


def _answer(submitted: SubmitReportResponse, preferred: _Preferences) -> Response:
    report = submitted.report
    location = f"/reports/{report.report_id}"
    values = to_json(report)
    done = report.status == ReportStatus.REPORT_STATUS_DONE
    # Who did not wait hears again what was said first, however far the report is now.
    ended = done and (preferred.waits or submitted.reused)
    answer: dict[str, Any] = {"report_id": report.report_id, "status": values["status"]}
    if ended:
        answer |= {name: values[name] for name in ("scanner_type", "summary", "records")}
    else:
        answer["events_url"] = f"{location}/events/stream"
        if not (preferred.waits or submitted.reused):
            answer["status"] = "created"
    if report.duplicate_of:
        answer["duplicate_of"] = report.duplicate_of
    if submitted.reused:
        answer["reused"] = True
    headers = {"Location": location, **preferred.applied(ended=ended)}
    if submitted.replayed:
        headers["Idempotent-Replayed"] = "true"
    status = 202 if not ended else 200 if submitted.reused else 201
    return answers.json(answer, status, headers)


class _Upload:
    """The request stream of one SubmitReport call.

    The end message is what makes an upload whole: whatever fails before it,
    the client's leaving above all, cancels the call instead.
    """

    def __init__(self, body: Body, header: SubmitReportHeader) -> None:
        self.failure: Exception | None = None
        self._body = body
        self._header = header

    async def messages(self) -> AsyncIterator[SubmitReportRequest]:
        try:
            self._header.declaration.MergeFrom(self._body.declaration)
            yield SubmitReportRequest(header=self._header)
            size = 0
            async for chunk in _batched(self._body):
                size += len(chunk)
                yield SubmitReportRequest(chunk=chunk)
                crash.point("gateway.body")
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
            raise too_large(limit)
        if chunk:
            yield chunk


def _check_headers(request: Request) -> None:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type and media_type not in MEDIA_TYPES:
        raise HTTPException(415, f"Content-Type must be one of: {', '.join(MEDIA_TYPES)}")
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip"):
        raise HTTPException(415, "of content encodings only gzip is read")


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
        elif name not in PARAMETERS:
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


def _idempotency_key(request: Request) -> str:
    given = request.headers.getlist("idempotency-key")
    if given and (len(given) > 1 or not _KEY.match(given[0])):
        raise WinnowError(
            "INVALID_ARGUMENT",
            "Idempotency-Key must be given once, with 1 to 255 visible ASCII characters",
            field="Idempotency-Key",
            rule="key",
        )
    return given[0] if given else ""


def _duplicates(request: Request) -> DuplicateHandling.ValueType:
    said = request.query_params.get("duplicates", "process")
    if said not in _DUPLICATES:
        raise WinnowError(
            "INVALID_ARGUMENT",
            f"query parameter duplicates must be one of: {', '.join(_DUPLICATES)}",
            field="duplicates",
            rule="enum",
        )
    return DuplicateHandling.ValueType(_DUPLICATES[said])
