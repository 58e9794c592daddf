"""A small HTTP server inside a test, which answers as the test says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple

Json = dict[str, Any]


class Request(NamedTuple):
    """What came: header names are in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


Answer = Callable[[Request], Awaitable[tuple[int, Json | None]]]


class Server:
    """Answers with a status and a JSON object; with None it hangs up.

    Args:
        answer: what is answered.
    """

    def __init__(self, answer: Answer) -> None:
        self.requests: list[Request] = []
        self.url = ""
        self._answer = answer

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                first, *lines = head.strip().split("\r\n")
                headers = {
                    name.lower(): value for name, value in (one.split(": ", 1) for one in lines)
                }
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                request = Request(*first.split()[:2], headers, body)
                self.requests.append(request)
                status, members = await self._answer(request)
                if members is None:
                    break
                text = json.dumps(members).encode()
                writer.write(b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n" % (status, len(text)))
                writer.write(text)
        writer.close()


@asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[Server]:
    """A server on a free port of the loopback."""
    made = Server(answer)
    listening = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.url = "http://127.0.0.1:{1}".format(*listening.sockets[0].getsockname())
    try:
        yield made
    finally:
        listening.close()


def house(*, busy: Callable[[Request], Awaitable[None]] | None = None) -> Answer:
    """Answers as the gateway does: a new report each time, done when it is asked for, and
    the same one for the same Idempotency-Key."""
    known: dict[str, tuple[str, bytes]] = {}

    async def answer(request: Request) -> tuple[int, Json | None]:
        if request.method == "GET":
            created, finished = "2026-11-22T09:00:00.000000Z", "2026-11-22T09:00:00.250000Z"
            return 200, {"status": "done", "created_at": created, "finished_at": finished}
        if busy is not None:
            await busy(request)
        key = request.headers["idempotency-key"]
        report_id, body = known.setdefault(key, (f"report-{len(known)}", request.body))
        if body != request.body:
            return 409, {"reason": "IDEMPOTENCY_KEY_REUSED", "report_id": report_id}
        return 202, {"report_id": report_id, "status": "created"}

    return answer
