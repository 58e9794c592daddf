"""A request's head is bounded, in bytes and in time; what is within is served as ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn

from gateway import protocol


async def _answer(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        return
    more = scope["path"] != "/refused"
    while more:
        more = (await receive()).get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x", b"y")]})
    await send({"type": "http.response.body", "body": b"fine"})


@pytest.fixture
async def port() -> AsyncIterator[int]:
    server = uvicorn.Server(
        uvicorn.Config(
            _answer, port=0, http=protocol.BoundedProtocol, log_config=None, lifespan="off"
        )
    )
    serving = asyncio.create_task(server.serve())
    async with asyncio.timeout(10):
        while not server.started:
            await asyncio.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    await serving


async def _said(port: int, *parts: bytes, pause: float = 0.0) -> bytes:
    """What the server says to these, as far as it takes them."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(pause)
        return await asyncio.wait_for(reader.read(), 10)
    except ConnectionError:
        return b"cut"
    finally:
        writer.close()


GET = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"


async def test_what_is_within_the_bounds_is_served(port: int) -> None:
    assert b"fine" in await _said(port, GET + b"A: b\r\n", b"\r\n")


async def test_two_requests_on_one_connection(port: int) -> None:
    one = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
    assert (await _said(port, one, GET + b"\r\n", pause=0.1)).count(b"fine") == 2


@pytest.mark.parametrize("line", [b"X-N: a\r\n", b"a" * 512], ids=["many", "one long"])
async def test_an_endless_head_is_cut(port: int, line: bytes) -> None:
    # Far more than sockets' own buffers hold.
    said = await _said(port, GET + b"X: ", *([line * 64] * 1_000))
    assert said.startswith((b"HTTP/1.1 431", b"HTTP/1.1 400", b"cut"))
    assert b"fine" not in said


@pytest.mark.parametrize("begun", [b"", b"GET / HT", GET], ids=["nothing", "a line", "some lines"])
async def test_a_head_that_does_not_come_is_not_waited_for(
    port: int, begun: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.2)
    assert (await _said(port, begun)).startswith(b"HTTP/1.1 408")


async def test_a_body_may_take_its_time(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.2)
    head = b"POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 3\r\n\r\n"
    assert b"fine" in await _said(port, head, b"a", b"b", b"c", pause=0.25)


REFUSED = b"POST /refused HTTP/1.1\r\nHost: localhost\r\nContent-Length: "


@pytest.mark.parametrize(
    ("piece", "pause"), [(b" " * 65_536, 0.0), (b" ", 0.05)], ids=["endless", "slow"]
)
async def test_a_body_that_goes_on_after_the_answer_is_cut(
    port: int, piece: bytes, pause: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "UNREAD_SECONDS", 0.3)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(REFUSED + b"2000000000000\r\n\r\n")
    assert b"fine" in await reader.readuntil(b"fine")
    with pytest.raises(ConnectionError):
        async with asyncio.timeout(4):
            while True:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(pause)
    writer.close()


async def test_a_body_that_ends_soon_after_the_answer_keeps_the_connection(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "UNREAD_SECONDS", 0.3)
    rest = b" " * (protocol.HEAD_BYTES * 4)
    head = REFUSED + b"%d\r\n\r\nabc" % (3 + len(rest))
    said = await _said(port, head, rest, b"", GET + b"\r\n", pause=0.2)
    assert said.count(b"fine") == said.count(b"HTTP/1.1 200") == said.count(b"HTTP/1.1") == 2
