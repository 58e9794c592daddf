"""Around every request: its id, who is let in, its log line, the answer's security
headers, and the last resort for defects.

Plain ASGI: the framework's own middleware base would put a task and a queue
between each chunk of a body and its reader.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable

from starlette.requests import ClientDisconnect
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway import problems
from gateway.access import Door
from gateway.admission import Admission, Admitted
from runtime import context, log, metrics, tracing
from runtime.clock import uuid7
from runtime.errors import WinnowError

_log = log.get_logger()

# What nginx logs when the client went away before the answer.
_CLIENT_GONE = 499
# A WebSocket's line has the code that the server closed it with (RFC 6455 section
# 7.4.1), or this if the client left first.
_ACCEPTED = 101
_SOCKET_DEFECT = 1011
# Closed in order, or since the server stops.
_SOCKET_GOING = 1001
# Of a request that comes to no route.
_METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "WS")
_QUIET = ("/healthz", "/readyz")
_BEGINNINGS = ("http.response.start", "websocket.http.response.start", "websocket.accept")

# No answer is a page, and none may be kept: they tell where secrets stand.
SECURITY_HEADERS = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)


def expect(routes: Iterable[BaseRoute]) -> None:
    """Makes the series of all routes, at zero."""
    for route in routes:
        path = getattr(route, "path", "")
        for method in getattr(route, "methods", ("WS",)):
            for outcome in metrics.OUTCOMES if path not in _QUIET else ():
                metrics.HTTP_REQUESTS.labels(f"{method} {path}", outcome)


class Requests:
    """Sets the request's context, answers its id back, logs one line.

    Args:
        app: what serves the request.
        tenant: whose requests these are that show no key.
        door: whom it lets in.
        admission: what of those is served.
    """

    def __init__(self, app: ASGIApp, tenant: str, door: Door, admission: Admission) -> None:
        self._app = app
        self._tenant = tenant
        self._door = door
        self._admission = admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"").decode("latin-1")
        request_id = context.sane_request_id(given)
        context.request_id.set(request_id)
        context.tenant.set(self._tenant)
        started = time.perf_counter()
        span = tracing.begin(
            name_of(scope),
            "SERVER",
            parent=headers.get(tracing.HEADER.encode(), b"").decode("latin-1"),
        )
        metrics.HTTP_IN_FLIGHT.inc()
        status = 0
        answered = 0.0
        fields: dict[str, str] = {}

        async def answer(message: Message) -> None:
            nonlocal status, answered
            answered = answered or time.perf_counter() - started
            match message["type"]:
                case "http.response.start" | "websocket.http.response.start":
                    status = message["status"]
                case "websocket.accept":
                    status = _ACCEPTED
                case "websocket.close":
                    status = message["code"]
            if message["type"] in _BEGINNINGS:
                given = message.get("headers", [])
                message["headers"] = [*given, (b"x-request-id", request_id.encode())]
            if message["type"].endswith("http.response.start"):
                named = {name for name, _ in message["headers"]}
                message["headers"] += [one for one in SECURITY_HEADERS if one[0] not in named]
                message["headers"] += [
                    (name.lower().encode(), value.encode()) for name, value in fields.items()
                ]
            await send(message)

        admitted: Admitted | None = None
        with log.bind(request_id=request_id, tenant=context.tenant.get()):
            try:
                refusal = self._door.refusal(scope)
                if refusal is None:
                    try:
                        admitted = await self._admission.admit(scope, receive)
                    except WinnowError as error:
                        refusal = problems.response(error)
                    else:
                        fields, receive = admitted.fields, admitted.receive
                await (refusal or self._app)(scope, receive, answer)
            except ClientDisconnect:
                status = _CLIENT_GONE
            except asyncio.CancelledError:
                if status or not scope["app"].state.draining.is_set():
                    raise
                # It was waited for as long as a stop may take.
                await problems.response(_stopping())(scope, receive, answer)
            except Exception as error:  # noqa: BLE001 -- nothing may reach the server's own log
                # An answer that has begun stays cut short: its reader sees that
                # it is not whole.
                await self._defect(error, scope, receive, answer, begun=bool(status))
            finally:
                _count(scope, status, answered, span)
                if admitted is not None:
                    await admitted.leave()
            _access(scope, status, started)

    async def _defect(
        self, error: Exception, scope: Scope, receive: Receive, send: Send, *, begun: bool
    ) -> None:
        error_id = str(uuid7())
        if begun and isinstance(error.__cause__, Exception):
            # The framework wraps what it could have answered had it not begun.
            error = error.__cause__
        reason = error.reason if isinstance(error, WinnowError) else "INTERNAL"
        _log.error("http.failed", status="error", error_id=error_id, reason=reason, exc_info=error)
        if scope["type"] == "websocket":
            with contextlib.suppress(ClientDisconnect, OSError):
                await send({"type": "websocket.close", "code": _SOCKET_DEFECT})
        elif not begun:
            failure = WinnowError(
                "INTERNAL", f"internal error {error_id}; the log has it", error_id=error_id
            )
            await problems.response(failure)(scope, receive, send)


def _stopping() -> WinnowError:
    return WinnowError(
        "UPSTREAM_UNAVAILABLE",
        "the server stops, and cannot wait for this request any longer; send it again",
        retry_after=1.0,
        service="gateway",
    )


def _count(scope: Scope, status: int, answered: float, span: tracing.Span) -> None:
    metrics.HTTP_IN_FLIGHT.dec()
    route = name_of(scope) if "route" in scope else "unknown"
    outcome = _outcome(status)
    if scope["path"] not in _QUIET:
        metrics.HTTP_REQUESTS.labels(route, outcome).inc()
        if answered:
            metrics.observe(metrics.HTTP_SECONDS.labels(route), answered)
    report_id = scope.get("state", {}).get("report_id", "")
    said = {"report_id": report_id} if report_id else {}
    span.end(outcome, route, status=status, **said)


def _outcome(status: int) -> str:
    """How a request ended, of an HTTP status or the code that a WebSocket was closed with."""
    if status in (0, _CLIENT_GONE):
        return "cancelled"
    if 500 <= status < 600 or status == _SOCKET_DEFECT:
        return "failed"
    return "refused" if 400 <= status < 500 or status > _SOCKET_GOING else "ok"


def name_of(scope: Scope) -> str:
    """Method and route, each as we know it. Not the path, nor any method: they are input."""
    method, route = scope.get("method", "WS"), scope.get("route")
    known = getattr(route, "methods", ("WS",)) if route else _METHODS
    return f"{method if method in known else 'other'} {getattr(route, 'path', 'unknown')}"


def _access(scope: Scope, status: int, started: float) -> None:
    write = _log.debug if scope["path"] in _QUIET else _log.info
    write(
        name_of(scope),
        status=status,
        report_id=scope.get("state", {}).get("report_id", ""),
        duration_ms=round((time.perf_counter() - started) * 1000, 2),
    )
