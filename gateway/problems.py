"""Errors as problem details (RFC 9457), in one place.

`type` is `urn:winnow:error:<REASON>` with the reason of winnow.error.v1, or
`about:blank` for what only HTTP knows (405, 415). Details are composed from
fixed texts; input is never echoed, which the framework's own answers would do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match

from runtime import context, metrics
from runtime.errors import WinnowError

# What there is too much of; OVERLOADED says so itself.
_TOO_MUCH = {
    "REPORT_TOO_LARGE": "body_size",
    "TOO_MANY_RECORDS": "records",
    "UPLOAD_TOO_SLOW": "upload_rate",
}
MEDIA_TYPE = "application/problem+json"


def body(error: WinnowError) -> dict[str, Any]:
    """The members of the problem for an error."""
    # The reason's metadata become members; none may hide a standard one.
    return {
        **error.metadata,
        "type": f"urn:winnow:error:{error.reason}",
        "title": error.title,
        "status": error.http_status,
        "detail": error.message,
        "reason": error.reason,
        "request_id": context.request_id.get(),
    }


def response(error: WinnowError) -> Response:
    """The whole answer for an error, which is counted."""
    metrics.refused(error.reason)
    headers = dict(error.headers)
    if error.retry_after is not None:
        headers["Retry-After"] = str(math.ceil(error.retry_after))
    if error.http_status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if reason := error.metadata.get("backpressure") or _TOO_MUCH.get(error.reason):
        headers["X-Backpressure-Reason"] = reason
    return _answer(error.http_status, body(error), headers)


def plain(status: int, detail: str | None, headers: Mapping[str, str] | None = None) -> Response:
    """The whole answer for what only HTTP knows."""
    members = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "request_id": context.request_id.get(),
    }
    return _answer(status, members, headers)


def install(app: FastAPI, routes: Sequence[BaseRoute]) -> None:
    """Makes every error of an application a problem.

    Args:
        routes: all that it serves.
    """

    async def winnow(_request: Request, error: Exception) -> Response:
        assert isinstance(error, WinnowError)
        return response(error)

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code != HTTPStatus.METHOD_NOT_ALLOWED:
            return plain(error.status_code, error.detail, error.headers)
        # Routes of one path stand apart, and the framework names the first one's methods.
        allow = {"Allow": ", ".join(_methods(routes, request))}
        if request.method == "OPTIONS":
            return Response(status_code=HTTPStatus.NO_CONTENT, headers=allow)
        return plain(error.status_code, error.detail, allow)

    async def validation(_request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        # The framework's own answer quotes the offending input.
        return response(
            WinnowError(
                "INVALID_ARGUMENT", "a parameter of the request is not valid", field="request"
            )
        )

    app.add_exception_handler(WinnowError, winnow)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, validation)


def _methods(routes: Sequence[BaseRoute], request: Request) -> list[str]:
    """What may be asked of a request's path (RFC 9110 section 10.2.1)."""
    found = {"OPTIONS"}
    for route in routes:
        if route.matches(request.scope)[0] is not Match.NONE:
            found |= getattr(route, "methods", None) or set()
    return sorted(found)


def _answer(status: int, members: dict[str, Any], headers: Mapping[str, str] | None) -> Response:
    return Response(msgspec.json.encode(members), status, headers, MEDIA_TYPE)
