"""What happened to a report: its audit trail, and its progress as it happens."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing

from fastapi import APIRouter, Request, Response, WebSocket, WebSocketDisconnect
from starlette.requests import HTTPConnection
from starlette.responses import StreamingResponse
from starlette.types import Send

from gateway import answers, docs, problems
from gateway.access import SUBPROTOCOL, same_origin
from gateway.backends import AUDIT, ORCHESTRATOR, backends, calling
from gateway.query import bind, unknown
from gateway.translate import to_json
from gateway.watching import Event, Watches
from runtime import crash
from runtime.channels import call
from runtime.errors import WinnowError
from runtime.feeds import TAKEN_SECONDS, taken_within
from winnow.audit.v1.audit_service_pb2 import ListEventsRequest
from winnow.report.v1.report_service_pb2 import ListFindingsRequest

router = APIRouter()

_PARAMETERS = ("after", "format")
_FORMATS = {"winnow": False, "cloudevents": True}
# Events that go out in one piece: what a reader who stops reading leaves in memory.
_PIECE = 50
_RETRY_MS = 1000
# What a reader that was cut has left to come back in and be told so.
_FAREWELL_SECONDS = 30.0
_DIGITS = 19  # of what no longer fits in 63 bits

# RFC 6455 section 7.4.1, and the registry that it founds.
_NORMAL, _POLICY, _DEFECT, _LATER = 1000, 1008, 1011, 1013

_ON_ITS_WAY_SECONDS, _LOOK_SECONDS = 2.0, 0.02


@router.get("/reports/{report_id}/events", **docs.LIST_EVENTS)
async def list_events(request: Request) -> Response:
    report_id = answers.report_id(request)
    query = bind(ListEventsRequest, request.query_params.multi_items(), report_id=report_id)
    with calling(AUDIT):
        page = await backends(request).audit.ListEvents(query, **call())
    if not (page.events or query.page_token or query.event_type):
        # Every report begins with an event: if it exists, that is on its way to the log.
        with calling(ORCHESTRATOR):
            asked = ListFindingsRequest(report_id=report_id, page_size=1)
            await backends(request).reports.ListFindings(asked, **call())
        with calling(AUDIT), contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_ON_ITS_WAY_SECONDS):
                while not page.events:
                    await asyncio.sleep(_LOOK_SECONDS)
                    page = await backends(request).audit.ListEvents(query, **call())
    return answers.json(to_json(page))


@router.get("/reports/{report_id}/events/stream", **docs.WATCH_REPORT)
async def watch_report(request: Request) -> Response:
    after, cloud, batches = _followed(request)
    try:
        # Read before the answer begins, while an error still has a status to go with.
        first = await anext(batches, None)
    except BaseException:
        await batches.aclose()
        raise
    if first is None:
        # What makes a browser's EventSource stop asking.
        return Response(status_code=204)
    return _EventStream(first, batches, after, cloud, request.app.state.draining)


@router.websocket("/reports/{report_id}/stream")
async def watch_report_socket(socket: WebSocket) -> None:
    if not same_origin(socket.headers):
        # No browser may read here for a page of somebody else's.
        await socket.close(_POLICY)
        return
    offered = SUBPROTOCOL in socket.scope["subprotocols"]
    await socket.accept(SUBPROTOCOL if offered else None)
    sending = asyncio.create_task(_converse(socket))
    # Also what answers the client's own close.
    listening = asyncio.create_task(_listen(socket))
    listening.add_done_callback(lambda _: sending.cancel())
    try:
        code, reason = await sending
    except asyncio.CancelledError:
        if not listening.done():
            raise
        return
    finally:
        listening.cancel()
        sending.cancel()
    with contextlib.suppress(TimeoutError, WebSocketDisconnect):
        async with asyncio.timeout(_FAREWELL_SECONDS):
            await socket.close(code, reason)


async def _converse(socket: WebSocket) -> tuple[int, str]:
    """Sends a report's events; the code and reason to close with."""
    last = 0
    try:
        last, cloud, batches = _followed(socket)
        async with aclosing(batches):
            async for batch in batches:
                for event in batch:
                    async with taken_within(TAKEN_SECONDS, last):
                        await socket.send_text((event.cloud if cloud else event.plain).decode())
                    last = event.ordinal
    except WebSocketDisconnect:
        return _NORMAL, ""
    except WinnowError as error:
        if error.retryable:
            return _LATER, f"resume after {last}"
        return (_DEFECT if error.reason == "INTERNAL" else _POLICY), error.reason
    return _NORMAL, ""


async def _listen(socket: WebSocket) -> None:
    """Until the client has gone; what it says meanwhile is of no interest."""
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass


def _followed(
    request: HTTPConnection,
) -> tuple[int, bool, AsyncGenerator[list[Event], None]]:
    """What a request wants to follow: after which ordinal, whether as CloudEvents, and it."""
    report_id = answers.report_id(request)
    query = request.query_params
    if not set(query) <= set(_PARAMETERS):
        raise unknown(_PARAMETERS)
    name, after = "after", _ordinal("after", query.get("after", "0"))
    # A client that comes back asks with the URL that it had first: the header is newer.
    if last := request.headers.get("last-event-id"):
        name, after = "Last-Event-ID", _ordinal("Last-Event-ID", last)
    wanted = query.get("format", "winnow")
    if wanted not in _FORMATS:
        raise _invalid("format", f"must be one of: {', '.join(_FORMATS)}")
    watches: Watches = request.app.state.watches
    return after, _FORMATS[wanted], _named(watches.follow(report_id, after), name)


async def _named(
    batches: AsyncGenerator[list[Event], None], name: str
) -> AsyncGenerator[list[Event], None]:
    """The same batches; a place that the report does not have is called as it was sent."""
    try:
        async with aclosing(batches):
            async for batch in batches:
                yield batch
    except WinnowError as error:
        if error.metadata.get("field") != "after":
            raise
        raise _invalid(name, "must be the ordinal of an event that there is, or 0") from None


def _ordinal(name: str, value: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) < _DIGITS):
        raise _invalid(name, "must be the ordinal of an event, or 0")
    return int(value)


def _invalid(field: str, words: str) -> WinnowError:
    return WinnowError("INVALID_ARGUMENT", f"{field} {words}", field=field, rule=field.lower())


class _EventStream(StreamingResponse):
    """Server-sent events (WHATWG HTML, section 9.2).

    Args:
        first: the batch that was read before the answer began.
        batches: the others.
        after: the last ordinal that the client has.
        cloud: whether it wants CloudEvents.
        draining: ends the stream when it is set; the client comes back to another life.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        first: list[Event],
        batches: AsyncGenerator[list[Event], None],
        after: int,
        cloud: bool,
        draining: asyncio.Event,
    ) -> None:
        super().__init__((), headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self._first = first
        self._batches = batches
        self._after = after
        self._cloud = cloud
        self._draining = draining

    async def stream_response(self, send: Send) -> None:
        await send(
            {
                "type": "http.response.start",
                "status": self.status_code,
                "headers": self.raw_headers,
            }
        )
        end = b""
        try:
            async with aclosing(self._batches):
                await self._send(send, b"retry: %d\n\n" % _RETRY_MS)
                await self._send_batch(send, self._first)
                while (batch := await self._following()) is not None:
                    await self._send_batch(send, batch)
        except WinnowError as error:
            name = b"cut" if error.reason == "READER_TOO_SLOW" else b"error"
            end = b"event: %s\ndata: %s\n\n" % (name, answers.encode(problems.body(error)))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FAREWELL_SECONDS):
                await send({"type": "http.response.body", "body": end, "more_body": False})

    async def _following(self) -> list[Event] | None:
        """The next batch; None at the end, or when the server stops."""
        batch = asyncio.ensure_future(anext(self._batches, None))
        over = asyncio.ensure_future(self._draining.wait())
        try:
            await asyncio.wait({batch, over}, return_when=asyncio.FIRST_COMPLETED)
            return batch.result() if batch.done() else None
        finally:
            over.cancel()
            batch.cancel()
            await asyncio.wait({batch, over})

    async def _send_batch(self, send: Send, batch: list[Event]) -> None:
        if not batch:
            await self._send(send, b":\n\n")
        for piece in _pieces(batch):
            text = b"".join(event.server_sent(cloud=self._cloud) for event in piece)
            await self._send(send, text)
            crash.point("gateway.event")
            self._after = piece[-1].ordinal

    async def _send(self, send: Send, text: bytes) -> None:
        async with taken_within(TAKEN_SECONDS, self._after):
            await send({"type": "http.response.body", "body": text, "more_body": True})


def _pieces(batch: list[Event]) -> Iterator[list[Event]]:
    return (batch[start : start + _PIECE] for start in range(0, len(batch), _PIECE))
