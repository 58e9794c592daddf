"""What `winnow serve` makes of the server that it runs in."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from typing import Any

import pytest
import structlog
import uvicorn

from cli.serve import drained


async def test_a_stop_that_does_not_wait_any_longer_is_no_error(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = asyncio.Event()

    async def endless(scope: Any, _receive: Any, _send: Any) -> None:
        if scope["type"] == "http":
            begun.set()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()

    logger = logging.getLogger("uvicorn.error")
    monkeypatch.setattr(logger, "filters", [drained])
    config = uvicorn.Config(endless, log_config=None, timeout_graceful_shutdown=0, lifespan="off")
    server = uvicorn.Server(config)
    listener = socket.create_server(("127.0.0.1", 0))
    serving = asyncio.create_task(server.serve([listener]))
    with structlog.testing.capture_logs() as logs:
        _, writer = await asyncio.open_connection(*listener.getsockname())
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await asyncio.wait_for(begun.wait(), 10)
        server.should_exit = True
        await asyncio.wait_for(serving, 10)
    writer.close()
    assert [log for log in logs if log["event"] == "drain.over"] == [
        {"event": "drain.over", "log_level": "info", "status": "stopping", "requests": 1}
    ]
    assert not [one.getMessage() for one in caplog.records if "graceful" in one.getMessage()]
    logger.error("else")
    assert "else" in caplog.text
