"""What `winnow serve` makes of the server that it runs in."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn

from cli import serve


async def test_a_stop_that_does_not_wait_any_longer_is_no_error(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = asyncio.Event()

    async def endless(scope: Any, _receive: Any, _send: Any) -> None:
        if scope["type"] == "http":
            begun.set()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()

    # As it is here, whatever other tests have set up.
    told: list[tuple[str, dict[str, Any]]] = []
    ours = SimpleNamespace(info=lambda event, **fields: told.append((event, fields)))
    monkeypatch.setattr(serve, "_log", ours)
    logger = logging.getLogger("uvicorn.error")
    monkeypatch.setattr(logger, "filters", [serve.drained])
    monkeypatch.setattr(logger, "disabled", False)
    monkeypatch.setattr(logger, "propagate", True)
    caplog.set_level(logging.INFO, logger="uvicorn.error")
    config = uvicorn.Config(endless, log_config=None, timeout_graceful_shutdown=0, lifespan="off")
    server = uvicorn.Server(config)
    listener = socket.create_server(("127.0.0.1", 0))
    serving = asyncio.create_task(server.serve([listener]))
    _, writer = await asyncio.open_connection(*listener.getsockname())
    writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await asyncio.wait_for(begun.wait(), 10)
    server.should_exit = True
    await asyncio.wait_for(serving, 10)
    writer.close()
    assert told == [("drain.over", {"status": "stopping", "requests": 1})]
    assert not [one.getMessage() for one in caplog.records if "graceful" in one.getMessage()]
    logger.error("else")
    assert "else" in caplog.text
