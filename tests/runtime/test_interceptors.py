"""What happens around every call: context, deadline, validation, log."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from runtime import context, interceptors
from runtime.channels import dial
from runtime.errors import from_rpc
from runtime.limits import Streams
from tests.runtime.conftest import Logged, Peer
from winnow.audit.v1 import audit_service_pb2 as pb

CANARY = "canary-a8f3"


async def failure(call: Any) -> Any:
    """The error that a peer answers with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return from_rpc(caught.value, "peer")


async def test_context_comes_from_metadata(peer: Peer) -> None:
    seen: list[tuple[str, str]] = []

    async def handle(_request: Any, _context: Any) -> pb.ListEventsResponse:
        seen.append((context.request_id.get(), context.tenant.get()))
        return pb.ListEventsResponse()

    peer.servicer.ListEvents = handle
    metadata = (("x-request-id", "job-7"), ("x-winnow-tenant", "acme"))
    await peer.stub.ListEvents(pb.ListEventsRequest(), metadata=metadata)
    await peer.stub.ListEvents(pb.ListEventsRequest())
    assert seen[0] == ("job-7", "acme")
    assert seen[1][0] not in ("", "job-7")
    assert seen[1][1] == "default"


async def test_calls_at_the_same_time_keep_their_own_context(peer: Peer) -> None:
    async def handle(request: Any, _context: Any) -> pb.ListEventsResponse:
        await asyncio.sleep(0.05)
        return pb.ListEventsResponse(next_page_token=context.request_id.get())

    peer.servicer.ListEvents = handle
    ids = [f"id-{n}" for n in range(20)]
    answers = await asyncio.gather(
        *(
            peer.stub.ListEvents(pb.ListEventsRequest(), metadata=(("x-request-id", i),))
            for i in ids
        )
    )
    assert [answer.next_page_token for answer in answers] == ids


async def test_the_deadline_ends_a_unary_handler(peer: Peer) -> None:
    ended = asyncio.Event()

    async def handle(_request: Any, _context: Any) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    peer.servicer.ListEvents = handle
    started = time.monotonic()
    error = await failure(peer.stub.ListEvents(pb.ListEventsRequest(), timeout=0.2))
    assert error.reason == "DEADLINE_EXCEEDED"
    async with asyncio.timeout(10):
        await ended.wait()
    assert time.monotonic() - started < 30


async def test_a_handlers_own_timeout_is_a_defect(peer: Peer) -> None:
    async def handle(_request: Any, _context: Any) -> None:
        raise TimeoutError

    peer.servicer.ListEvents = handle
    assert (await failure(peer.stub.ListEvents(pb.ListEventsRequest(), timeout=20))).reason == (
        "INTERNAL"
    )


async def test_validation_names_the_field_and_not_the_value(peer: Peer) -> None:
    error = await failure(peer.stub.ListEvents(pb.ListEventsRequest(report_id=CANARY)))
    assert error.reason == "INVALID_ARGUMENT"
    assert error.metadata["field"] == "report_id"
    assert error.metadata["rule"] == "string.uuid"
    assert "report_id" in error.message
    assert CANARY not in repr((error.message, error.metadata))


async def test_validation_comes_before_the_handler(peer: Peer) -> None:
    called = False

    async def handle(_request: Any, _context: Any) -> pb.AppendEventsResponse:
        nonlocal called
        called = True
        return pb.AppendEventsResponse()

    peer.servicer.AppendEvents = handle
    error = await failure(peer.stub.AppendEvents(pb.AppendEventsRequest()))
    assert (error.reason, error.metadata["field"]) == ("INVALID_ARGUMENT", "events")
    assert not called


async def test_handlers_that_generate_and_handlers_that_write(peer: Peer) -> None:
    async def generate(_request: Any, _context: Any) -> AsyncIterator[pb.WatchEventsResponse]:
        for _ in range(3):
            yield pb.WatchEventsResponse()

    async def write(_request: Any, servicer_context: Any) -> None:
        for _ in range(3):
            await servicer_context.write(pb.WatchEventsResponse())

    for handler in (generate, write):
        peer.servicer.WatchEvents = handler
        answers = [one async for one in peer.stub.WatchEvents(pb.WatchEventsRequest())]
        assert len(answers) == 3


async def test_health_watch(peer: Peer) -> None:
    watch = health_pb2_grpc.HealthStub(peer.channel).Watch(health_pb2.HealthCheckRequest())
    answers = aiter(watch)
    assert (await anext(answers)).status == health_pb2.HealthCheckResponse.SERVING
    watch.cancel()


async def test_those_who_watch_our_health_are_few(peer: Peer) -> None:
    stub = health_pb2_grpc.HealthStub(peer.channel)
    asked = health_pb2.HealthCheckRequest()
    watches = [stub.Watch(asked) for _ in range(interceptors._QUIET_STREAMS)]
    for watch in watches:
        await anext(aiter(watch))
    error = await failure(anext(aiter(stub.Watch(asked))))
    assert (error.reason, error.metadata) == ("OVERLOADED", {"backpressure": "streams"})
    await stub.Check(asked)
    watches.pop().cancel()
    async with asyncio.timeout(10):
        while True:
            try:
                watches.append(stub.Watch(asked))
                await anext(aiter(watches[-1]))
                break
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.02)
    for watch in watches:
        watch.cancel()


async def test_a_caller_watches_no_more_than_he_may(
    peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = peer.service._interceptor._places
    monkeypatch.setattr(places, "_watches", Streams(10, 1))

    async def handle(_request: Any, _context: Any) -> AsyncIterator[pb.WatchEventsResponse]:
        yield pb.WatchEventsResponse()
        await asyncio.sleep(60)

    peer.servicer.WatchEvents = handle
    first = peer.stub.WatchEvents(pb.WatchEventsRequest())
    await anext(aiter(first))
    # The same address by another connection: it has another port, and is nobody else.
    async with dial(peer.address, None) as channel:
        again = type(peer.stub)(channel).WatchEvents(pb.WatchEventsRequest())
        error = await failure(anext(aiter(again)))
    assert (error.reason, error.metadata) == ("OVERLOADED", {"backpressure": "streams"})
    first.cancel()


async def test_a_generator_is_closed_when_its_caller_goes(peer: Peer) -> None:
    closed = asyncio.Event()

    async def generate(_request: Any, _context: Any) -> AsyncIterator[pb.WatchEventsResponse]:
        try:
            while True:
                yield pb.WatchEventsResponse()
                await asyncio.sleep(0.01)
        finally:
            closed.set()

    peer.servicer.WatchEvents = generate
    call = peer.stub.WatchEvents(pb.WatchEventsRequest())
    await anext(aiter(call))
    call.cancel()
    async with asyncio.timeout(10):
        await closed.wait()


async def test_the_log_line_of_a_call(peer: Peer, logged: Logged) -> None:
    async def handle(_request: Any, _context: Any) -> pb.ListEventsResponse:
        return pb.ListEventsResponse()

    peer.servicer.ListEvents = handle
    logged()
    metadata = (("x-request-id", "job-8"), ("x-winnow-tenant", "acme"))
    await peer.stub.ListEvents(pb.ListEventsRequest(), metadata=metadata)
    await failure(peer.stub.ListEvents(pb.ListEventsRequest(page_size=9999), metadata=metadata))
    await health_pb2_grpc.HealthStub(peer.channel).Check(health_pb2.HealthCheckRequest())
    good, bad = logged()
    for line in (good, bad):
        assert (line["action"], line["request_id"], line["tenant"]) == ("rpc", "job-8", "acme")
        assert line["method"] == "/winnow.audit.v1.AuditService/ListEvents"
    assert (good["level"], good["status"]) == ("debug", "ok")
    assert (bad["level"], bad["status"], bad["reason"]) == ("info", "error", "INVALID_ARGUMENT")
