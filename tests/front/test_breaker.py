"""Breakers, retries of reads, and what is refused before it is worked on."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from sqlalchemy import text

from gateway.backends import connect
from runtime import channels, metrics
from runtime.access import RULES
from runtime.breaker import Breaker, GuardedChannel
from runtime.channels import READS, dial
from runtime.errors import WinnowError
from runtime.server import Service
from tests.front.conftest import Front
from tests.harness import serving
from tests.runtime.test_metrics import samples
from winnow.audit.v1 import audit_service_pb2 as pb
from winnow.audit.v1 import audit_service_pb2_grpc as rpc
from winnow.event.v1.envelope_pb2 import Envelope
from winnow.report.v1 import report_service_pb2 as report_pb
from winnow.report.v1 import report_service_pb2_grpc as report_rpc


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def refused(breaker: Breaker) -> bool:
    try:
        breaker.check()
    except WinnowError as error:
        return error.reason == "UPSTREAM_UNAVAILABLE" and bool(error.retry_after)
    return False


def test_it_opens_probes_and_closes() -> None:
    clock = Clock()
    breaker = Breaker("peer", clock)
    for _ in range(4):
        assert not refused(breaker)
        breaker.failed()
    breaker.answered()
    for _ in range(5):
        assert not refused(breaker)
        breaker.failed()
    assert breaker.open
    assert refused(breaker)
    clock.now += 0.6
    # Ready for a probe, which nobody would make if this were still said to be down.
    assert not breaker.open
    assert not refused(breaker)
    assert refused(breaker)
    breaker.failed()
    clock.now += 0.45
    assert refused(breaker), "the second time it stays open for longer"
    clock.now += 0.6
    assert not refused(breaker)
    # Whoever asked has gone: that says nothing.
    breaker.left()
    assert not refused(breaker)
    assert refused(breaker)
    # It may be a long upload, for which not everybody waits.
    clock.now += 1.0
    assert not refused(breaker)
    assert refused(breaker)
    breaker.answered()
    assert not any(refused(breaker) for _ in range(10))


def test_its_state_is_shown() -> None:
    clock = Clock()
    breaker = Breaker("shown service", clock)
    before = samples(metrics.BREAKER_OPENED, "_total")["shown",]

    def state() -> list[str]:
        shown = samples(metrics.BREAKER_STATE)
        return [one for one in metrics.BREAKER_STATES if shown["shown", one]]

    assert state() == ["closed"]
    for _ in range(5):
        breaker.failed()
    assert state() == ["open"]
    clock.now += 0.6
    assert state() == ["half_open"]
    breaker.check()
    assert state() == ["half_open"]
    breaker.failed()
    assert state() == ["open"]
    assert samples(metrics.BREAKER_OPENED, "_total")["shown",] == before + 2
    breaker.answered()
    assert state() == ["closed"]


class Peer(rpc.AuditServiceServicer):
    """Answers as it is told."""

    def __init__(self) -> None:
        self.calls = 0
        self.failing: list[Any] = []

    async def GetCheckpoint(self, _request: Any, context: Any) -> Any:
        self.calls += 1
        if self.failing:
            failure = self.failing.pop(0)
            if isinstance(failure, WinnowError):
                raise failure
            await context.abort(failure, "told so")
        return pb.GetCheckpointResponse()

    async def AppendEvents(self, request: Any, context: Any) -> Any:
        await self.GetCheckpoint(request, context)
        return pb.AppendEventsResponse()


@pytest.fixture
async def away() -> AsyncIterator[tuple[Peer, str]]:
    servicer = Peer()
    service = Service(
        "127.0.0.1:0",
        [pb.DESCRIPTOR.services_by_name["AuditService"]],
        lambda server: rpc.add_AuditServiceServicer_to_server(servicer, server),
    )
    async with serving(service) as (address, _):
        yield servicer, address


APPEND = pb.AppendEventsRequest(
    events=[Envelope(event_id=str(uuid.uuid4()), event_type="REPORT_DONE", tenant_id="t")]
)
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


async def test_calls_to_a_peer_that_fails_end_at_once(away: tuple[Peer, str]) -> None:
    peer, address = away
    channel = GuardedChannel(dial(address), Breaker("audit service"))
    stub = rpc.AuditServiceStub(channel)
    peer.failing = [UNAVAILABLE] * 5
    for _ in range(5):
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.AppendEvents(APPEND)
    with pytest.raises(WinnowError):
        await stub.AppendEvents(APPEND)
    assert peer.calls == 5
    async with asyncio.timeout(10):
        while channel.breaker.open:
            await asyncio.sleep(0.02)
    await stub.AppendEvents(APPEND)
    await stub.AppendEvents(APPEND)
    assert peer.calls == 7
    # A refusal is an answer, also that there is too much to do.
    peer.failing = [WinnowError("OVERLOADED", "busy") for _ in range(20)]
    for _ in range(20):
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.AppendEvents(APPEND)
    assert peer.calls == 27
    await channel.close()


class Reader(report_rpc.ReportServiceServicer):
    """Reads uploads, and never answers those that have come whole."""

    async def SubmitReport(self, requests: Any, _context: Any) -> Any:
        async for _ in requests:
            pass
        await asyncio.Event().wait()


async def test_a_slow_upload_says_nothing_of_the_peer() -> None:
    service = Service(
        "127.0.0.1:0",
        [report_pb.DESCRIPTOR.services_by_name["ReportService"]],
        lambda server: report_rpc.add_ReportServiceServicer_to_server(Reader(), server),
    )

    async def upload(pause: float) -> AsyncIterator[report_pb.SubmitReportRequest]:
        yield report_pb.SubmitReportRequest(header=report_pb.SubmitReportHeader())
        await asyncio.sleep(pause)

    async with serving(service) as (address, _):
        breaker = Breaker("orchestrator")
        channel = GuardedChannel(dial(address), breaker)
        stub = report_rpc.ReportServiceStub(channel)

        async def late(pause: float) -> None:
            calls = [stub.SubmitReport(upload(pause), timeout=0.5) for _ in range(6)]
            codes = {await call.code() for call in calls}
            assert codes == {grpc.StatusCode.DEADLINE_EXCEEDED}

        await late(30)
        assert breaker.state == "closed"
        await late(0)
        assert breaker.open
        async with asyncio.timeout(10):
            while breaker.open:
                await asyncio.sleep(0.02)
        # Half open, such a call probes in vain; the next one may.
        code = await stub.SubmitReport(upload(30), timeout=0.2).code()
        assert code is grpc.StatusCode.DEADLINE_EXCEEDED
        assert breaker.state == "half_open"
        breaker.check()
        await channel.close()


async def test_a_slow_handshake_is_no_failure() -> None:
    service = Service(
        "127.0.0.1:0",
        [pb.DESCRIPTOR.services_by_name["AuditService"]],
        lambda server: rpc.add_AuditServiceServicer_to_server(Peer(), server),
    )

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            writer.write(data)
        writer.close()

    async with serving(service) as (address, _):
        host, _, port = address.rpartition(":")

        async def late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await asyncio.sleep(0.5)
            there, back = await asyncio.open_connection(host, int(port))
            await asyncio.gather(pipe(reader, back), pipe(there, writer))

        async with await asyncio.start_server(late, "127.0.0.1", 0) as proxy:
            slow = f"127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
            async with dial(slow) as channel:
                await rpc.AuditServiceStub(channel).AppendEvents(APPEND)


async def test_reads_are_tried_again_and_nothing_else(away: tuple[Peer, str]) -> None:
    peer, address = away
    channel = dial(address)
    stub = rpc.AuditServiceStub(channel)
    peer.failing = [UNAVAILABLE] * 2
    await stub.GetCheckpoint(pb.GetCheckpointRequest())
    assert peer.calls == 3
    peer.failing = [UNAVAILABLE]
    with pytest.raises(grpc.aio.AioRpcError):
        await stub.AppendEvents(APPEND)
    assert peer.calls == 4
    peer.failing = [WinnowError("OVERLOADED", "busy")]
    with pytest.raises(grpc.aio.AioRpcError):
        await stub.GetCheckpoint(pb.GetCheckpointRequest())
    assert peer.calls == 5
    await channel.close()


def test_the_reads_are_all_reads() -> None:
    found = {f"/{service}/{method}" for service, methods in READS.items() for method in methods}
    known = {name for name in RULES if name.rpartition("/")[2].startswith(("Get", "List"))}
    # A raw report's reading is an event each time.
    assert found - known == {"/winnow.ingest.v1.IngestService/ListFormats"}
    assert known - found == {"/winnow.report.v1.ReportService/GetRawReport"}
    assert channels.UNARY_TIMEOUT > 2


async def test_readiness_follows_the_breakers(front: Front) -> None:
    made = connect(front.addresses["orchestrator_address"], front.addresses["audit_address"], None)
    assert not made.orchestrator.breaker.open
    await made.close()
    client = await front.gateway(orchestrator_address="127.0.0.1:1")
    key = await front.key()
    bearer = {"Authorization": f"Bearer {key.text}"}
    for _ in range(6):
        answer = await client.get("/formats", headers=bearer)
        assert answer.status_code == 503
    assert "several times" in answer.json()["detail"]
    answer = await client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["service"] == "orchestrator"


async def test_a_report_of_too_many_records_is_refused(front: Front) -> None:
    from tests.fixtures.load import load_report

    address = await front.orchestrator(max_records=3)
    # The one that takes it up may be another, which takes more.
    client = await front.gateway(orchestrator_address=address)
    key = await front.key()
    bearer = {"Authorization": f"Bearer {key.text}"}
    answer = await client.post("/reports", content=load_report("gitleaks.git.json"), headers=bearer)
    assert answer.status_code == 413, answer.text
    assert answer.json()["reason"] == "TOO_MANY_RECORDS"
    assert "more than 3 records" in answer.json()["detail"]
    assert answer.headers["x-backpressure-reason"] == "records"


@asynccontextmanager
async def waiting(front: Front, number: int, tenant: str) -> AsyncIterator[None]:
    """So many runs of a tenant wait."""
    put = text(
        "INSERT INTO orchestrator.jobs (job_id, kind, key, tenant_id, request_id, payload, state,"
        " max_failures, due_at) SELECT gen_random_uuid(), 'report.run', gen_random_uuid()::text,"
        " :tenant, 'filling', '{}', 1, 1, now() + interval '1 hour'"
        " FROM generate_series(1, :number)"
    ).bindparams(number=number, tenant=tenant)
    await front.database.run(lambda c: c.execute(put) and None)
    try:
        yield
    finally:
        drop = text("DELETE FROM orchestrator.jobs WHERE request_id = 'filling'")
        await front.database.run(lambda c: c.execute(drop) and None)


async def test_a_full_queue_takes_no_report(front: Front) -> None:
    client = await front.gateway(orchestrator_address=await front.orchestrator(max_queue_depth=2))
    key = await front.key()
    bearer = {"Authorization": f"Bearer {key.text}"}
    async with waiting(front, 2, "full"):
        answer = await client.post("/reports", content=b"[]", headers=bearer)
        assert answer.status_code == 503
        assert answer.headers["x-backpressure-reason"] == "queue_depth"
        assert answer.headers["retry-after"] == "5"
        assert (await client.get("/reports", headers=bearer)).json()["reports"] == []


async def test_a_tenant_that_has_its_share_of_the_queue_keeps_nobody_out(front: Front) -> None:
    from tests.fixtures.load import load_report

    address = await front.orchestrator(max_queue_depth=10, tenant_queue_share=0.3)
    client = await front.gateway(orchestrator_address=address)
    key, other = await front.key(tenant="crowding"), await front.key(tenant="alone")
    async with waiting(front, 3, "crowding"):
        report = load_report("gitleaks.git.json")
        refused, taken = [
            await client.post(
                "/reports", content=report, headers={"Authorization": f"Bearer {one.text}"}
            )
            for one in (key, other)
        ]
    assert refused.status_code == 503
    assert refused.headers["x-backpressure-reason"] == "tenant_queue_depth"
    assert refused.headers["retry-after"] == "5"
    assert taken.status_code == 201, taken.text
