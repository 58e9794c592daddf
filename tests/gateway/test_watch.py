"""Progress as it happens: server-sent events, WebSockets, CloudEvents."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from typing import Any

import httpx
import pytest
import websockets
from structlog.testing import capture_logs
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from gateway import event_schema, watching
from gateway.cloudevents import cloud_event
from gateway.routes import events as routes
from runtime import feeds
from tests.gateway.test_contracts import check

SECRET = "s3cr3t-" + "value"
NOBODY = "0198c5a0-0000-7000-8000-000000000000"


def parse(text: str) -> list[tuple[int, str, dict[str, Any]]]:
    """Ordinal, name and data of each server-sent event; 0 for what has no ordinal."""
    found = []
    for block in text.strip().split("\n\n"):
        said = dict(line.partition(": ")[::2] for line in block.split("\n"))
        if "data" in said:
            found.append((int(said.get("id", 0)), said["event"], json.loads(said["data"])))
    return found


def url(report: Any) -> str:
    return f"/reports/{report.report_id}/events/stream"


def socket_url(stack: Any, report_id: str, query: str = "") -> str:
    return f"{stack.url.replace('http', 'ws', 1)}/reports/{report_id}/stream{query}"


async def test_history_then_what_happens_then_the_end(
    client: httpx.AsyncClient, reports: Any
) -> None:
    report = reports.add(0)
    reports.happened(report.report_id, "REPORT_CREATED", "REPORT_INGESTED")
    async with client.stream("GET", url(report)) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-store"
        pieces = answer.aiter_text()
        text = await anext(pieces)
        while "REPORT_INGESTED" not in text:
            text += await anext(pieces)
        reports.happened(report.report_id, "REPORT_PROGRESS", "REPORT_DONE")
        text += "".join([piece async for piece in pieces])
    assert text.startswith("retry: 1000\n\n")
    told = parse(text)
    assert [(ordinal, name) for ordinal, name, _ in told] == [
        (1, "report.created"),
        (2, "report.ingested"),
        (3, "report.progress"),
        (4, "report.done"),
    ]
    for ordinal, _, envelope in told:
        assert envelope["ordinal"] == ordinal
        assert envelope["subject"] == f"reports/{report.report_id}"
    assert told[-1][2]["payload"]["progress"]["summary"] == {"high": 2, "medium": 0, "low": 0}


@pytest.mark.parametrize(
    ("headers", "query"),
    [({"last-event-id": "2"}, ""), ({}, "?after=2"), ({"last-event-id": "2"}, "?after=1")],
)
async def test_who_comes_back_misses_nothing_and_sees_nothing_twice(
    client: httpx.AsyncClient, reports: Any, headers: dict[str, str], query: str
) -> None:
    report = reports.add(0)
    answer = await client.get(url(report) + query, headers=headers)
    assert [ordinal for ordinal, _, _ in parse(answer.text)] == [3]
    over = await client.get(url(report), headers={"last-event-id": "3"})
    assert (over.status_code, over.content) == (204, b"")


@pytest.mark.parametrize(
    ("headers", "query", "field"),
    [
        ({"last-event-id": SECRET}, "", "Last-Event-ID"),
        ({"last-event-id": "-1"}, "", "Last-Event-ID"),
        ({}, "?after=x", "after"),
        ({}, "?after=", "after"),
        ({}, f"?after={2**64}", "after"),
        ({}, "?format=xml", "format"),
        ({}, f"?{SECRET}=1", "query"),
    ],
)
async def test_what_is_no_place_to_go_on_is_refused(
    client: httpx.AsyncClient, reports: Any, headers: dict[str, str], query: str, field: str
) -> None:
    answer = await client.get(url(reports.add(0)) + query, headers=headers)
    assert answer.status_code == 400
    assert answer.json()["field"] == field
    assert SECRET not in answer.text


@pytest.mark.parametrize(
    ("headers", "query", "field"),
    [
        ({"last-event-id": "99"}, "", "Last-Event-ID"),
        ({"last-event-id": "99"}, "?after=1", "Last-Event-ID"),
        ({}, "?after=99", "after"),
    ],
)
async def test_a_place_beyond_the_end_is_called_as_it_was_sent(
    client: httpx.AsyncClient, reports: Any, headers: dict[str, str], query: str, field: str
) -> None:
    report = reports.add(0)
    await client.get(url(report))
    ended = await client.get(url(report) + query, headers=headers)
    assert (ended.status_code, ended.json()["field"]) == (400, field)
    assert ended.json()["detail"].startswith(f"{field} must be")


async def test_a_place_that_may_still_come_is_waited_for(
    client: httpx.AsyncClient, reports: Any
) -> None:
    report = reports.add(0)
    reports.happened(report.report_id, "REPORT_CREATED")
    async with client.stream("GET", url(report), headers={"last-event-id": "3"}) as answer:
        assert answer.status_code == 200
        reports.happened(report.report_id, "REPORT_DONE")
        [(_, name, problem)] = parse("".join([piece async for piece in answer.aiter_text()]))
    assert (name, problem["field"]) == ("error", "Last-Event-ID")


async def test_one_call_for_all_who_watch(
    client: httpx.AsyncClient, stack: Any, reports: Any
) -> None:
    report = reports.add(0)
    reports.happened(report.report_id, "REPORT_CREATED")
    reports.watched.clear()
    reading = [asyncio.create_task(client.get(url(report))) for _ in range(30)]
    sockets = [await connect(socket_url(stack, report.report_id)) for _ in range(10)]
    while len(reports.watched) < 1:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.2)
    reports.happened(report.report_id, "REPORT_DONE")
    for answer in await asyncio.gather(*reading):
        assert [ordinal for ordinal, _, _ in parse(answer.text)] == [1, 2]
    for one in sockets:
        assert [json.loads(text)["ordinal"] async for text in one] == [1, 2]
    assert [request.after_ordinal for request in reports.watched] == [0]


async def test_silence_is_filled(
    client: httpx.AsyncClient, reports: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "PULSE_SECONDS", 0.05)
    report = reports.add(0)
    reports.happened(report.report_id, "REPORT_CREATED")
    async with client.stream("GET", f"{url(report)}?after=1") as answer:
        pieces = answer.aiter_text()
        text = ""
        while text.count(":\n\n") < 3:
            text += await anext(pieces)
        reports.happened(report.report_id, "REPORT_DONE")
        text += "".join([piece async for piece in pieces])
    assert [ordinal for ordinal, _, _ in parse(text)] == [2]


async def test_a_server_that_stops_ends_the_stream(
    client: httpx.AsyncClient, stack: Any, reports: Any
) -> None:
    report = reports.add(0)
    reports.happened(report.report_id, "REPORT_CREATED")
    try:
        async with asyncio.timeout(5), client.stream("GET", url(report)) as answer:
            pieces = answer.aiter_text()
            text = await anext(pieces)
            while "REPORT_CREATED" not in text:
                text += await anext(pieces)
            stack.draining.set()
            # Whole, so that the client comes back at once instead of looking for what is missing.
            assert "".join([piece async for piece in pieces]).strip() == ""
    finally:
        stack.draining.clear()


async def test_a_stream_that_fails_says_so(
    client: httpx.AsyncClient, stack: Any, reports: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "_RETRIES", 1)
    report = reports.add(0, scanner_type="falls")
    told = parse((await client.get(url(report))).text)
    assert [name for _, name, _ in told] == ["report.created", "error"]
    assert told[-1][2]["reason"] == "DATABASE_UNAVAILABLE"
    async with connect(socket_url(stack, report.report_id)) as opened:
        with pytest.raises(ConnectionClosed) as caught:
            while True:
                await opened.recv()
    assert caught.value.rcvd is not None
    assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (1013, "resume after 1")


async def test_a_socket_carries_the_same_envelopes(
    client: httpx.AsyncClient, stack: Any, reports: Any
) -> None:
    report = reports.add(0)
    with capture_logs() as lines:
        async with connect(
            socket_url(stack, report.report_id, "?after=1"),
            additional_headers={"x-request-id": "mine"},
        ) as opened:
            assert opened.response is not None
            assert opened.response.headers["x-request-id"] == "mine"
            await opened.send("whatever a client may say")
            told = [json.loads(text) async for text in opened]
            assert opened.close_code == 1000
        await asyncio.sleep(0.05)
    streamed = parse((await client.get(url(report))).text)
    assert told == [envelope for _, _, envelope in streamed[1:]]
    (line,) = [line for line in lines if line["event"] == "WS /reports/{report_id}/stream"]
    assert (line["status"], line["report_id"]) == (1000, report.report_id)


@pytest.mark.parametrize(
    ("report_id", "query", "reason"),
    [
        (NOBODY, "", "REPORT_NOT_FOUND"),
        (SECRET, "", "REPORT_NOT_FOUND"),
        ("", "?after=x", "INVALID_ARGUMENT"),
        ("", f"?{SECRET}=1", "INVALID_ARGUMENT"),
    ],
)
async def test_a_socket_to_nothing_is_closed_with_the_reason(
    stack: Any, reports: Any, report_id: str, query: str, reason: str
) -> None:
    report_id = report_id or reports.add(0).report_id
    async with connect(socket_url(stack, report_id, query)) as opened:
        with pytest.raises(ConnectionClosed) as caught:
            await opened.recv()
    assert caught.value.rcvd is not None
    assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (1008, reason)


async def test_a_page_of_somebody_else_may_not_read(stack: Any, reports: Any) -> None:
    where = socket_url(stack, reports.add(0).report_id)
    async with connect(where, origin=stack.url) as opened:
        assert json.loads(await opened.recv())["ordinal"] == 1
    with pytest.raises(websockets.exceptions.InvalidStatus) as caught:
        await connect(where, origin="https://elsewhere.example")
    assert caught.value.response.status_code == 403


async def test_a_client_that_leaves_leaves_nothing(
    client: httpx.AsyncClient, stack: Any, reports: Any
) -> None:
    report = reports.add(0)
    reports.happened(report.report_id, "REPORT_CREATED")
    with capture_logs() as lines:
        async with connect(socket_url(stack, report.report_id)) as opened:
            await opened.recv()
        async with client.stream("GET", url(report)) as answer:
            await anext(answer.aiter_text())
        async with asyncio.timeout(5):
            while stack.watches._feeds._runs:
                await asyncio.sleep(0.01)
    assert {line["event"] for line in lines} <= {
        "WS /reports/{report_id}/stream",
        "GET /reports/{report_id}/events/stream",
        "rpc",
    }
    reports.happened(report.report_id, "REPORT_DONE")


@pytest.mark.parametrize("scheme", ["sse", "ws"])
async def test_a_reader_that_stops_reading_is_cut_and_told_where(
    stack: Any, reports: Any, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "TAKEN_SECONDS", 0.5)
    report = reports.add(0)
    # More than all buffers between the two hold.
    reports.happened(report.report_id, "REPORT_CREATED", *["REPORT_PROGRESS"] * 20_000)
    host, _, port = stack.url.removeprefix("http://").partition(":")
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    plain.connect((host, int(port)))
    plain.setblocking(False)
    reader, writer = await asyncio.open_connection(sock=plain, limit=1 << 24)
    path = url(report) if scheme == "sse" else f"/reports/{report.report_id}/stream"
    upgrade = (
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Key: {'A' * 22}==\r\n"
    )
    writer.write(
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{upgrade if scheme == 'ws' else ''}\r\n".encode()
    )
    try:
        writer.transport.pause_reading()
        async with asyncio.timeout(60):
            for cut in (False, True):
                while cut == bool(stack.watches._feeds._runs):
                    await asyncio.sleep(0.01)
        writer.transport.resume_reading()
        # The end of a chunked body, or a close frame's reason.
        end = rb"\r\n0\r\n\r\n$" if scheme == "sse" else rb"resume after \d+$"
        everything = b""
        async with asyncio.timeout(60):
            while not re.search(end, everything[-100:]):
                piece = await reader.read(1 << 20)
                assert piece
                everything += piece
    finally:
        writer.transport.abort()
    ordinals = [int(n) for n in re.findall(rb'"ordinal":(\d+)', everything)]
    assert ordinals == list(range(1, len(ordinals) + 1))
    assert len(ordinals) < 20_001
    if scheme == "sse":
        name, problem = parse(everything.decode().replace("\r\n", "\n"))[-1][1:]
        assert name == "cut"
        assert problem["reason"] == "READER_TOO_SLOW"
        assert int(problem["last_ordinal"]) == len(ordinals)
    else:
        assert everything.endswith(b"resume after %d" % len(ordinals))
    reports.runs[report.report_id] = reports.runs[report.report_id][:1]
    reports.happened(report.report_id, "REPORT_DONE")


async def test_events_as_cloudevents(client: httpx.AsyncClient, stack: Any, reports: Any) -> None:
    report = reports.add(0)
    answer = await client.get(url(report) + "?format=cloudevents")
    told = parse(answer.text)
    plain = parse((await client.get(url(report))).text)
    (_, name, last), (_, _, envelope) = told[-1], plain[-1]
    assert (name, last["type"]) == ("report.done", "winnow.report.done")
    assert last == {
        "specversion": "1.0",
        "id": envelope["event_id"],
        "source": "winnow/orchestrator",
        "type": "winnow.report.done",
        "time": envelope["occurred_at"],
        "subject": envelope["subject"],
        "datacontenttype": "application/json",
        "dataschema": "urn:winnow:schema:report.done/1",
        "tenantid": "default",
        "severity": "info",
        "sequence": "00000000000000000003",
        "data": envelope["payload"],
    }
    # Attribute names as the specification wants them (section 3.1): lower case, short.
    assert all(re.fullmatch("[a-z0-9]{1,20}", attribute) for attribute in last)
    async with connect(socket_url(stack, report.report_id, "?format=cloudevents")) as opened:
        assert [json.loads(text) async for text in opened] == [event for _, _, event in told]


def test_every_field_of_an_envelope_has_its_attribute() -> None:
    full = watching.Envelope(
        event_id="e",
        event_type="REPORT_DONE",
        tenant_id="t",
        request_id="r",
        subject="s",
        severity=1,
        schema="x/1",
        idempotency_key="k",
        service="orchestrator",
        ordinal=1,
    )
    full.occurred_at.GetCurrentTime()
    full.payload.update({"report_id": "x"})
    assert {field.name for field, _ in full.ListFields()} == set(full.DESCRIPTOR.fields_by_name)
    # type, source and data are always there; specversion and datacontenttype are ours.
    assert len(cloud_event(full)) == len(full.DESCRIPTOR.fields) + 2


async def test_envelopes_are_as_their_schema_says(client: httpx.AsyncClient, reports: Any) -> None:
    schema = json.loads(event_schema.document())
    for _, _, envelope in parse((await client.get(url(reports.add(0)))).text):
        check(envelope, schema, {})
        with pytest.raises(AssertionError):
            check({**envelope, "ordinal": "1"}, schema, {})
