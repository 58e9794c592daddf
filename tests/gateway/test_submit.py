"""POST /reports over a real socket."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import uvicorn

from gateway.app import GatewaySettings, build
from runtime.config import load
from winnow.report.v1 import report_pb2

RAW = b'[{"RuleID": "r"}]'
SECRET = "s3cr3t-" + "value"


@pytest.fixture
def told(reports: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What SubmitReport answers beside the report; for this test only."""
    more: dict[str, Any] = {}
    monkeypatch.setattr(reports, "told", more)
    return more


@pytest.fixture
def unended(reports: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports do not end; for this test only."""
    add = reports.add

    def processing(findings: int, **fields: Any) -> Any:
        report = add(findings, **fields)
        report.status = report_pb2.REPORT_STATUS_PROCESSING
        return report

    monkeypatch.setattr(reports, "add", processing)


async def test_answer_has_exactly_the_promised_members(
    client: httpx.AsyncClient, reports: Any
) -> None:
    answer = await client.post("/reports", content=RAW)
    assert answer.status_code == 201
    body = answer.json()
    assert body == {
        "report_id": body["report_id"],
        "status": "done",
        "scanner_type": "gitleaks",
        "summary": {"high": 2, "medium": 0, "low": 0},
        "records": {"read": 2, "findings": 2, "merged": 0, "rejected": 0},
    }
    assert answer.headers["location"] == f"/reports/{body['report_id']}"
    upload = reports.uploads[-1]
    assert upload.data == RAW
    assert upload.header.wait
    assert upload.end.size_bytes == len(RAW)
    assert upload.metadata["x-request-id"] == answer.headers["x-request-id"]


async def test_envelope_with_members_behind_the_report(
    client: httpx.AsyncClient, reports: Any
) -> None:
    body = (
        b'{"labels": {"team": "a"}, "report": [ 1e2 ],'
        b' "scanner_type": "gitleaks", "source": {"ref": "main"}}'
    )
    assert (await client.post("/reports?commit=c0ffee", content=body)).status_code == 201
    upload = reports.uploads[-1]
    assert upload.data == b"[ 1e2 ]"
    assert dict(upload.header.declaration.labels) == {"team": "a"}
    assert upload.header.declaration.source.commit == "c0ffee"
    assert upload.header.declaration.scanner_type == ""
    assert upload.end.declaration.scanner_type == "gitleaks"
    assert upload.end.declaration.source.ref == "main"


async def test_query_names_the_scanner_and_the_source(
    client: httpx.AsyncClient, reports: Any
) -> None:
    body = b'{"report": 1}'
    answer = await client.post(
        "/reports?scanner_type=sarif&report_format=json&repository=r&ref=f&commit=c&image=i"
        "&label=a=b&label=c=d%3De",
        content=body,
    )
    assert answer.status_code == 201
    upload = reports.uploads[-1]
    declared = upload.header.declaration
    assert upload.data == body
    assert (declared.scanner_type, declared.report_format) == ("sarif", "json")
    assert declared.source.repository + declared.source.ref == "rf"
    assert declared.source.commit + declared.source.image == "ci"
    assert dict(declared.labels) == {"a": "b", "c": "d=e"}


@pytest.mark.parametrize(
    "media_type",
    [
        "application/json; charset=utf-8",
        "application/x-ndjson",
        "application/octet-stream",
        "application/x-www-form-urlencoded",
    ],
)
async def test_media_types_that_are_read(client: httpx.AsyncClient, media_type: str) -> None:
    answer = await client.post("/reports", content=RAW, headers={"content-type": media_type})
    assert answer.status_code == 201


async def test_compressed_bodies_are_expanded(client: httpx.AsyncClient, reports: Any) -> None:
    headers = {"content-encoding": "gzip"}
    packed = gzip.compress(b'{"report": [1], "labels":') + gzip.compress(b' {"a": "b"}}')
    assert (await client.post("/reports", content=packed, headers=headers)).status_code == 201
    assert reports.uploads[-1].data == b"[1]"
    assert dict(reports.uploads[-1].end.declaration.labels) == {"a": "b"}
    for damaged in (packed[:-9], RAW, packed[:30] + b"\0" * 30):
        answer = await client.post("/reports", content=damaged, headers=headers)
        assert answer.status_code == 400
        assert answer.json()["field"] == "Content-Encoding"


async def test_a_compressed_body_is_bounded_by_what_it_expands_to(
    client: httpx.AsyncClient,
) -> None:
    bomb = gzip.compress(b"[" + b" " * (64 << 20) + b"]")
    assert len(bomb) < 100_000
    answer = await client.post("/reports", content=bomb, headers={"content-encoding": "gzip"})
    assert answer.status_code == 413


@pytest.mark.parametrize(
    "headers",
    [{"content-type": "multipart/form-data"}, {"content-encoding": "br"}],
)
async def test_other_media_types_and_encodings_are_refused(
    client: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    answer = await client.post("/reports", content=RAW, headers=headers)
    assert answer.status_code == 415
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == "about:blank"


async def test_respond_async(client: httpx.AsyncClient, reports: Any) -> None:
    headers = {"prefer": "foo, Respond-Async; wait=1"}
    answer = await client.post("/reports", content=RAW, headers=headers)
    assert answer.status_code == 202
    body = answer.json()
    assert body == {
        "report_id": body["report_id"],
        "status": "created",
        "events_url": f"/reports/{body['report_id']}/events/stream",
    }
    assert answer.headers["location"] == f"/reports/{body['report_id']}"
    assert answer.headers["preference-applied"] == "respond-async"
    assert not reports.uploads[-1].header.wait


@pytest.mark.parametrize(
    ("prefer", "wait", "at_most", "applied"),
    [
        ("wait=7", True, 7, "wait=7"),
        ("respond-async, wait=7", True, 7, "wait=7"),
        ('WAIT = "7" , handling=strict', True, 7, "wait=7"),
        ("wait=7, wait=9", True, 7, "wait=7"),
        ("wait=99999999999999999999", True, 999_999_999, "wait=999999999"),
        ("wait=0", False, 0, "wait=0"),
        ("respond-async, wait=0", False, 0, "respond-async, wait=0"),
        ("respond-async;q=1", False, None, "respond-async"),
        # What cannot be understood is passed over (RFC 7240, section 2).
        ("wait=soon", True, None, None),
        ("wait=-1", True, None, None),
        ("wait=\u0667", True, None, None),
        ("wait", True, None, None),
        ("return=minimal", True, None, None),
    ],
)
async def test_preferences(
    client: httpx.AsyncClient,
    reports: Any,
    prefer: str,
    wait: bool,
    at_most: int | None,
    applied: str | None,
) -> None:
    answer = await client.post("/reports", content=RAW, headers={"prefer": prefer.encode()})
    assert answer.status_code == (201 if wait else 202)
    header = reports.uploads[-1].header
    assert header.wait == wait
    assert header.HasField("wait_at_most") == (at_most is not None)
    assert header.wait_at_most.seconds == (at_most or 0)
    assert answer.headers.get("preference-applied") == applied


@pytest.mark.parametrize("headers", [{}, {"prefer": "wait=1"}, {"prefer": "respond-async, wait=1"}])
async def test_a_wait_that_was_not_long_enough_is_no_failure(
    client: httpx.AsyncClient, unended: None, headers: dict[str, str]
) -> None:
    answer = await client.post("/reports", content=RAW, headers=headers)
    assert answer.status_code == 202
    body = answer.json()
    assert body["status"] == "processing"
    assert body["events_url"] == f"/reports/{body['report_id']}/events/stream"
    applied = headers.get("prefer")
    assert answer.headers.get("preference-applied") == applied


async def test_idempotency_key_is_handed_on(client: httpx.AsyncClient, reports: Any) -> None:
    answer = await client.post("/reports", content=RAW, headers={"idempotency-key": "a/b!~"})
    assert answer.status_code == 201
    assert "idempotent-replayed" not in answer.headers
    assert reports.uploads[-1].header.request_id == "a/b!~"
    await client.post("/reports", content=RAW)
    assert reports.uploads[-1].header.request_id == ""


@pytest.mark.parametrize(
    "headers",
    [
        [("idempotency-key", "")],
        [("idempotency-key", "a"), ("idempotency-key", "b")],
        [("idempotency-key", "a b")],
        [("idempotency-key", "a" * 256)],
    ],
)
async def test_a_key_that_is_none_is_refused(
    client: httpx.AsyncClient, reports: Any, headers: list[tuple[str, str]]
) -> None:
    before = len(reports.uploads)
    answer = await client.post("/reports", content=RAW, headers=headers)
    assert answer.status_code == 400
    assert answer.json()["field"] == "Idempotency-Key"
    assert len(reports.uploads) == before


@pytest.mark.parametrize(("prefer", "status"), [("", 201), ("respond-async", 202)])
async def test_an_answer_given_again_says_so(
    client: httpx.AsyncClient, told: dict[str, Any], prefer: str, status: int
) -> None:
    told["replayed"] = True
    headers = {"idempotency-key": "k", "prefer": prefer}
    answer = await client.post("/reports", content=RAW, headers=headers)
    assert answer.status_code == status
    assert answer.headers["idempotent-replayed"] == "true"
    # The first answer to who does not wait was this one, however far the report is now.
    assert answer.json()["status"] == ("done" if status == 201 else "created")


async def test_duplicates(
    client: httpx.AsyncClient,
    reports: Any,
    told: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = "0198c5a0-0000-7000-8000-000000000000"
    add = reports.add
    monkeypatch.setattr(reports, "add", lambda n, **more: add(n, duplicate_of=first, **more))
    linked = await client.post("/reports?duplicates=process", content=RAW)
    assert linked.status_code == 201
    assert linked.json()["duplicate_of"] == first
    assert "reused" not in linked.json()
    assert reports.uploads[-1].header.duplicates == 1
    monkeypatch.setattr(reports, "add", add)
    told["reused"] = True
    reused = await client.post("/reports?duplicates=reuse", content=RAW)
    assert reused.status_code == 200
    assert reports.uploads[-1].header.duplicates == 2
    body = reused.json()
    assert (body["reused"], body["status"]) == (True, "done")
    assert "duplicate_of" not in body
    assert set(body) >= {"summary", "records", "scanner_type"}
    wrong = await client.post(f"/reports?duplicates={SECRET}", content=RAW)
    assert wrong.status_code == 400
    assert wrong.json()["field"] == "duplicates"
    assert SECRET not in wrong.text


@pytest.mark.parametrize("prefer", ["", "respond-async"])
async def test_a_reused_report_that_still_runs_is_followed_like_any_other(
    client: httpx.AsyncClient, told: dict[str, Any], unended: None, prefer: str
) -> None:
    told["reused"] = True
    answer = await client.post("/reports?duplicates=reuse", content=RAW, headers={"prefer": prefer})
    assert answer.status_code == 202
    assert answer.json()["reused"]
    assert "events_url" in answer.json()


async def test_large_report_travels_in_bounded_chunks(
    client: httpx.AsyncClient, reports: Any
) -> None:
    body = b"[" + b'{"a":"b"},' * 200_000 + b"0]"

    async def dripping() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 50_000):
            yield body[start : start + 50_000]

    assert (await client.post("/reports", content=dripping())).status_code == 201
    upload = reports.uploads[-1]
    assert upload.data == body
    assert max(upload.sizes) <= 1 << 20
    assert len(upload.sizes) < 12
    enveloped = b'{"report":' + body + b"}"
    assert (await client.post("/reports", content=enveloped)).status_code == 201
    assert reports.uploads[-1].data == body


async def test_too_large_by_its_header(client: httpx.AsyncClient, reports: Any) -> None:
    before = len(reports.uploads)
    answer = await client.post("/reports", content=b"0" * (3 << 20) + b"0")
    assert answer.status_code == 413
    assert answer.json()["reason"] == "REPORT_TOO_LARGE"
    assert answer.json()["limit_bytes"] == str(3 << 20)
    assert len(reports.uploads) == before


async def test_too_large_while_it_streams(client: httpx.AsyncClient, reports: Any) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield b"[" * (1 << 16)

    answer = await client.post("/reports", content=endless())
    assert answer.status_code == 413
    upload = reports.uploads[-1]
    await asyncio.wait_for(upload.over.wait(), 5)
    assert upload.end is None


@pytest.mark.parametrize("body", [b'[{"a": "' + b"x" * 400_000, b'{"report": [' + b"1," * 700_000])
async def test_client_that_leaves_cancels_the_call(stack: Any, body: bytes) -> None:
    host, port = stack.url.removeprefix("http://").split(":")
    stack.reports.uploads.clear()
    _, writer = await asyncio.open_connection(host, int(port))
    head = b"POST /reports HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2000000\r\n\r\n"
    writer.write(head + body)
    await writer.drain()
    async with asyncio.timeout(5):
        while not (stack.reports.uploads and stack.reports.uploads[0].data):
            await asyncio.sleep(0.01)
        writer.close()
        await stack.reports.uploads[0].over.wait()
    assert stack.reports.uploads[0].end is None
    assert len(stack.reports.uploads) == 1


async def test_a_report_that_is_durable_is_told_although_its_call_was_cut(
    client: httpx.AsyncClient, reports: Any
) -> None:
    told = await client.post("/reports", content=b"cut when durable")
    report_id = list(reports.reports)[-1]
    assert told.status_code == 202
    assert told.json() == {
        "report_id": report_id,
        "status": "created",
        "events_url": f"/reports/{report_id}/events/stream",
    }
    assert told.headers["location"] == f"/reports/{report_id}"
    refused = await client.post("/reports", content=b"cut before")
    assert refused.status_code == 503
    assert refused.json()["reason"] == "UPSTREAM_UNAVAILABLE"


async def test_an_earlier_report_is_told_as_one_although_its_call_was_cut(
    client: httpx.AsyncClient, reports: Any, told: dict[str, Any]
) -> None:
    told |= {"replayed": True, "reused": True}
    answer = await client.post("/reports", content=b"cut when durable")
    assert answer.status_code == 202
    assert answer.json()["report_id"] == list(reports.reports)[-1]
    assert answer.json()["reused"]
    assert answer.headers["idempotent-replayed"] == "true"


async def test_a_stop_tells_those_for_whom_it_does_not_wait(stack: Any, reports: Any) -> None:
    address = f"127.0.0.1:{stack.orchestrator.port}"
    app = build(load(GatewaySettings, orchestrator_address=address, audit_address="127.0.0.1:1"))
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve([listener]))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/reports"
    async with httpx.AsyncClient(timeout=30) as client:
        posts = [
            asyncio.create_task(client.post(url, content=content))
            for content in (b"endless and durable", b"endless")
        ]
        for _ in posts:
            await asyncio.wait_for(reports.waiting.acquire(), 10)
        app.state.draining.set()
        server.should_exit = True
        told, refused = await asyncio.gather(*posts)
    await serving
    assert told.status_code == 202
    assert told.json()["report_id"] in reports.reports
    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "1"
    problem = refused.json()
    assert (problem["reason"], problem["service"]) == ("UPSTREAM_UNAVAILABLE", "gateway")


async def test_wrong_envelope_is_a_problem_without_an_echo(
    client: httpx.AsyncClient, reports: Any
) -> None:
    answer = await client.post("/reports", json={"report": {}, SECRET: 1, "source": SECRET})
    assert answer.status_code == 422
    problem = answer.json()
    assert problem["type"] == "urn:winnow:error:ENVELOPE_INVALID"
    assert problem["title"] == "Envelope invalid"
    assert problem["status"] == 422
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert SECRET not in answer.text
    upload = reports.uploads[-1]
    await asyncio.wait_for(upload.over.wait(), 5)
    assert upload.end is None


async def test_services_errors_keep_reason_and_metadata(client: httpx.AsyncClient) -> None:
    bad = await client.post("/reports", content=b"bad")
    assert bad.status_code == 422
    assert bad.json()["reason"] == "REPORT_MALFORMED"
    assert set(bad.json()) >= {"report_id", "at_byte", "detail", "title"}
    busy = await client.post("/reports", content=b"busy")
    assert busy.status_code == 503
    assert busy.headers["retry-after"] == "3"
    defect = await client.post("/reports?scanner_type=defect", content=b"[]")
    assert defect.status_code == 500
    assert "quotes" not in defect.text


@pytest.mark.parametrize(
    "query", [f"label={SECRET}", f"{SECRET}=1", f"scanner_typo={SECRET}", f"label=={SECRET}"]
)
async def test_wrong_query_is_refused_without_an_echo(
    client: httpx.AsyncClient, query: str
) -> None:
    answer = await client.post(f"/reports?{query}", content=RAW)
    assert answer.status_code == 400
    assert answer.json()["reason"] == "INVALID_ARGUMENT"
    assert SECRET not in answer.text


async def test_request_id_is_taken_if_sane(client: httpx.AsyncClient, reports: Any) -> None:
    kept = await client.post("/reports", content=RAW, headers={"x-request-id": "ci-17.a_B"})
    assert kept.headers["x-request-id"] == "ci-17.a_B"
    assert reports.uploads[-1].metadata["x-request-id"] == "ci-17.a_B"
    made = await client.post("/reports", content=RAW, headers={"x-request-id": "a b" * 30})
    assert len(made.headers["x-request-id"]) == 36
    assert json.dumps(made.headers["x-request-id"]) in json.dumps(reports.uploads[-1].metadata)


async def test_early_refusal_keeps_its_reason(client: httpx.AsyncClient) -> None:
    # The refusal meets a write that is under way, each time a little differently.
    for size in range(500_000, 2_000_000, 50_000):
        answer = await client.post("/reports?scanner_type=nobody", content=b"[" * size)
        assert answer.status_code == 422
        assert answer.json()["reason"] == "SCANNER_UNKNOWN"
