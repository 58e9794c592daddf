"""Around every request: its log line, and defects that tell nothing."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from starlette.requests import ClientDisconnect
from structlog.testing import capture_logs

from gateway.access import Door
from gateway.admission import Admission
from gateway.middleware import Requests
from runtime import metrics
from runtime.errors import WinnowError
from tests.runtime.test_metrics import samples

SECRET = "s3cr3t-" + "value"


def through(app: Any) -> httpx.AsyncClient:
    door = Door(keys=False, hosts=None)
    transport = httpx.ASGITransport(
        Requests(app, tenant="t1", door=door, admission=Admission(None, None))
    )
    return httpx.AsyncClient(transport=transport, base_url="http://localhost")


async def test_one_line_for_each_request(client: httpx.AsyncClient) -> None:
    with capture_logs() as lines:
        answer = await client.post(f"/reports?{SECRET}=1", content=b"[]")
    assert answer.status_code == 400
    (line,) = [line for line in lines if line["event"] == "POST /reports"]
    assert line["status"] == 400
    assert line["duration_ms"] > 0
    assert SECRET not in repr(lines)


async def test_path_is_not_logged_but_its_route(client: httpx.AsyncClient) -> None:
    with capture_logs() as lines:
        await client.get(f"/{SECRET}")
        await client.get(f"/reports/{SECRET}")
    assert [line["event"] for line in lines] == ["GET unknown", "GET /reports/{report_id}"]
    assert SECRET not in repr(lines)


async def test_a_method_that_the_route_does_not_have_names_nothing(
    client: httpx.AsyncClient,
) -> None:
    with capture_logs() as lines:
        for method in ("PROPFIND", "MKCOL", "PURGE", "PATCH"):
            assert (await client.request(method, "/reports")).status_code == 405
            await client.request(method, "/nowhere")
    names = ["other /reports", "other unknown"]
    assert [line["event"] for line in lines] == [*names * 3, "other /reports", "PATCH unknown"]
    counted = {route for route, _ in samples(metrics.HTTP_REQUESTS, "_total")}
    assert "other /reports" in counted
    assert not any(route.startswith(("PROPFIND", "MKCOL", "PURGE", "PATCH")) for route in counted)


async def test_defect_becomes_500_with_an_id_that_the_log_has() -> None:
    async def defect(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError(SECRET)

    with capture_logs() as lines:
        answer = await through(defect).get("/")
    assert answer.status_code == 500
    problem = answer.json()
    assert problem["reason"] == "INTERNAL"
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert SECRET not in answer.text
    assert lines[0]["error_id"] == problem["error_id"]
    assert lines[1]["status"] == 500


async def test_answer_that_has_begun_is_left_cut_short() -> None:
    async def breaking(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{", "more_body": True})
        raise RuntimeError("wrapped") from WinnowError("DATABASE_UNAVAILABLE", "gone")

    with capture_logs() as lines, pytest.raises(AssertionError):
        # httpx's transport asserts that an answer is complete: this one is not.
        await through(breaking).get("/")
    assert lines[0]["reason"] == "DATABASE_UNAVAILABLE"


async def test_client_that_left_is_logged_as_such() -> None:
    async def gone(scope: Any, receive: Any, send: Any) -> None:
        raise ClientDisconnect

    with capture_logs() as lines, pytest.raises(AssertionError):
        await through(gone).get("/")
    assert lines[0]["status"] == 499
