"""Answers as JSON bytes, and ids from paths."""

from __future__ import annotations

import uuid
from typing import Any

import msgspec
from fastapi import Response
from starlette.requests import HTTPConnection

from runtime.errors import WinnowError

encode = msgspec.json.Encoder().encode


def json(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """An answer of plain values."""
    return Response(encode(content), status, headers, "application/json")


def report_id(request: HTTPConnection) -> str:
    """The report's id from the path, canonical; the request's log line carries it.

    Raises:
        WinnowError: REPORT_NOT_FOUND, also for what is no UUID: no report has such an id.
    """
    try:
        canonical = str(uuid.UUID(request.path_params["report_id"]))
    except ValueError:
        raise WinnowError(
            "REPORT_NOT_FOUND", "no report has this id; a report's id is a UUID"
        ) from None
    request.state.report_id = canonical
    return canonical
