"""A service whose handlers a test writes, on a real socket."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, NamedTuple

import grpc
import pytest
import structlog

from runtime import log
from runtime.server import Service
from tests.harness import serving
from winnow.audit.v1 import audit_service_pb2 as pb
from winnow.audit.v1 import audit_service_pb2_grpc as rpc

DESCRIPTOR = pb.DESCRIPTOR.services_by_name["AuditService"]


Logged = Callable[[], list[dict[str, Any]]]


class Peer(NamedTuple):
    """Set methods on `servicer`, call them through `stub`."""

    servicer: Any
    stub: Any
    channel: grpc.aio.Channel
    address: str
    service: Service


class _Handlers(rpc.AuditServiceServicer):
    """Looks a method up when it is called: the server binds its own at the start."""

    def __init__(self) -> None:
        self.now: Any = type("Now", (), {})()

    async def AppendEvents(self, request: Any, context: Any) -> Any:
        return await self.now.AppendEvents(request, context)

    async def ListEvents(self, request: Any, context: Any) -> Any:
        return await self.now.ListEvents(request, context)

    def WatchEvents(self, request: Any, context: Any) -> Any:
        return self.now.WatchEvents(request, context)


def service(handlers: Any, **more: Any) -> Service:
    """A service with these handlers, on a free port."""
    return Service(
        "127.0.0.1:0",
        [DESCRIPTOR],
        lambda server: rpc.add_AuditServiceServicer_to_server(handlers, server),
        **more,
    )


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Iterator[Logged]:
    """Returns the log lines written since the last call."""
    written = io.StringIO()
    monkeypatch.setattr(sys, "stdout", written)
    log.configure("test", "DEBUG")

    def lines() -> list[dict[str, Any]]:
        text = written.getvalue()
        written.seek(0)
        written.truncate()
        return [json.loads(line) for line in text.splitlines()]

    yield lines
    structlog.reset_defaults()
    logging.getLogger().handlers.clear()


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    handlers = _Handlers()
    made = service(handlers)
    async with serving(made) as (address, channel):
        yield Peer(handlers.now, rpc.AuditServiceStub(channel), channel, address, made)
