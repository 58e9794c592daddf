"""Health, reflection, drain, background work: the face of every service."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from runtime.channels import dial
from runtime.server import Service, healthy
from tests.harness import serving
from tests.runtime.conftest import DESCRIPTOR, Logged, Peer, service
from winnow.audit.v1 import audit_service_pb2 as pb
from winnow.audit.v1 import audit_service_pb2_grpc as rpc

NAME = "winnow.audit.v1.AuditService"


async def test_healthy_by_name_and_as_a_whole(peer: Peer) -> None:
    stub = health_pb2_grpc.HealthStub(peer.channel)
    for name in ("", NAME):
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=name))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    assert await healthy(peer.channel)


async def test_nobody_there_is_not_healthy() -> None:
    async with dial("127.0.0.1:9") as channel:
        assert not await healthy(channel)


async def test_reflection_lists_the_service(peer: Peer) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(peer.channel)
    requests = [reflection_pb2.ServerReflectionRequest(list_services="")]
    (answer,) = [one async for one in stub.ServerReflectionInfo(iter(requests))]
    listed = {one.name for one in answer.list_services_response.service}
    assert listed == {NAME, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}


async def test_a_stop_says_not_serving_and_lets_calls_end() -> None:
    entered, leave = asyncio.Event(), asyncio.Event()
    closed: list[str] = []

    class Slow(rpc.AuditServiceServicer):
        async def ListEvents(self, _request: Any, _context: Any) -> pb.ListEventsResponse:
            entered.set()
            await leave.wait()
            return pb.ListEventsResponse(next_page_token="whole")

    async def close() -> None:
        closed.append("closed")

    made = service(Slow(), close=close)
    async with serving(made) as (_, channel):
        health = health_pb2_grpc.HealthStub(channel)
        watching = health.Watch(health_pb2.HealthCheckRequest(service=NAME))
        watch = aiter(watching)
        assert (await anext(watch)).status == health_pb2.HealthCheckResponse.SERVING
        call = asyncio.ensure_future(
            rpc.AuditServiceStub(channel).ListEvents(pb.ListEventsRequest())
        )
        await entered.wait()
        stopping = asyncio.create_task(made.stop(drain_seconds=20))
        assert (await anext(watch)).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert closed == []
        watching.cancel()
        leave.set()
        assert (await call).next_page_token == "whole"
        await stopping
        assert closed == ["closed"]


async def test_background_work_begins_again_after_a_failure(
    monkeypatch: pytest.MonkeyPatch, logged: Logged
) -> None:
    runs = 0
    again = asyncio.Event()
    sleep = asyncio.sleep

    async def work() -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise ValueError("canary-a8f3")
        again.set()
        await sleep(60)

    async def at_once(_seconds: float) -> None:
        await sleep(0)

    monkeypatch.setattr("runtime.server.asyncio.sleep", at_once)
    made = service(rpc.AuditServiceServicer(), background=(work,))
    await made.start()
    async with asyncio.timeout(10):
        await again.wait()
    await made.stop(0.1)
    lines = logged()
    assert "canary" not in repr(lines)
    (failed,) = [line for line in lines if line["action"] == "background.failed"]
    assert (failed["level"], failed["error_type"]) == ("error", "ValueError")


async def test_a_socket_file(tmp_path: Path) -> None:
    address = f"unix:{tmp_path / 'socket'}"
    made = Service(address, [DESCRIPTOR], lambda server: None)
    async with serving(made) as (_, channel):
        assert await healthy(channel)


async def test_an_address_in_use(peer: Peer) -> None:
    made = Service(peer.address, [DESCRIPTOR], lambda server: None)
    with pytest.raises(RuntimeError, match=r"[Ff]ailed to bind"):
        await made.start()
    await made.stop(0)


async def test_an_unknown_method(peer: Peer) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await peer.channel.unary_unary("/winnow.audit.v1.AuditService/No")(b"")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
