"""Buckets that several processes share, and callers who go past the gateway."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from sqlalchemy import text

from runtime import buckets, context, limits, metrics
from runtime.buckets import PostgresStore
from runtime.channels import dial
from runtime.config import ConfigError, LimitSettings, load
from runtime.database import Database
from runtime.errors import WinnowError, from_rpc
from runtime.limits import Buckets, MemoryStore, Rate, Shared, Store
from tests.front.conftest import Front, signed
from tests.orchestrator.conftest import upload
from tests.runtime.test_metrics import samples
from winnow.access.v1 import access_service_pb2 as access_pb
from winnow.access.v1.access_service_pb2_grpc import AccessServiceStub
from winnow.audit.v1 import audit_service_pb2 as audit_pb
from winnow.audit.v1.audit_service_pb2_grpc import AuditServiceStub
from winnow.report.v1 import report_service_pb2 as pb
from winnow.report.v1.report_service_pb2_grpc import ReportServiceStub


@pytest.fixture
async def stores(database_url: str) -> AsyncIterator[list[PostgresStore]]:
    """The ways of two orchestrators to one table."""
    pools = [Database(database_url, 4, role="winnow_background") for _ in range(2)]
    yield [PostgresStore(pool) for pool in pools]
    for pool in pools:
        await pool.close()


async def test_two_hundred_takes_at_once_spend_what_there_is(stores: list[PostgresStore]) -> None:
    shared = [Buckets(store, 50, 0.001) for store in stores]
    name = uuid.uuid4().hex
    taken = await asyncio.gather(*(shared[turn % 2].take(name, 1) for turn in range(200)))
    assert sum(one.ok for one in taken) == 50
    assert sorted(one.left for one in taken if one.ok) == list(range(50))
    assert all(990 < one.wait <= 1000 for one in taken if not one.ok)


async def test_a_bucket_in_postgresql_is_as_one_in_memory(stores: list[PostgresStore]) -> None:
    """By another clock: refills are so slow that the time between two takes is nothing."""
    asked = [(1, False), (3, False), (7, False), (6, False), (1, False), (30, True), (1, False)]
    both: list[Store] = [stores[0], MemoryStore()]
    told = []
    for store in both:
        made, name = Buckets(store, 10, 0.0002), uuid.uuid4().hex
        told.append([await made.take(name, cost, owed=owed) for cost, owed in asked])
    for one, other in zip(*told, strict=True):
        assert (one.ok, one.left) == (other.ok, other.left)
        assert one.wait == pytest.approx(other.wait, abs=5)
        assert one.full == pytest.approx(other.full, abs=5)
    assert [one.ok for one in told[0]] == [True, True, False, True, False, True, False]


async def test_nobody_owes_longer_than_a_day(stores: list[PostgresStore]) -> None:
    name = uuid.uuid4().hex
    both: list[Store] = [stores[0], MemoryStore()]
    for store in both:
        for _ in range(3):
            _, full = await store.take(name, 1e12, 1e12, owed=True)
            assert full == pytest.approx(limits.LONGEST_SECONDS, abs=5)


def test_a_bucket_that_would_not_get_full_in_a_day_is_refused() -> None:
    given = load(LimitSettings, rate_capacity=1000, rate_refill_per_second=0.01)
    with pytest.raises(ConfigError, match="WINNOW_RATE_REFILL_PER_SECOND"):
        Rate.of(given, MemoryStore)


async def test_full_buckets_are_swept_and_others_stay(
    front: Front, stores: list[PostgresStore]
) -> None:
    names = [uuid.uuid4().hex for _ in range(2)]
    await stores[0].take(names[0], 0.001, 10, owed=False)
    await stores[0].take(names[1], 10, 10, owed=False)
    await asyncio.sleep(0.01)
    await front.database.run(buckets.sweep)
    kept = text("SELECT encode(name_sha256, 'hex') FROM access.buckets")
    found = await front.database.run(lambda c: c.execute(kept).scalars().all())
    # Under a digest: nobody's id stands there.
    assert names[0] not in str(found)
    digests = [buckets.digest(name).hex() for name in names]
    assert [one in found for one in digests] == [False, True]
    assert await front.database.run(buckets.count) == len(found)


async def test_the_table_is_not_written_twice(front: Front) -> None:
    asked = text("SELECT relpersistence FROM pg_class WHERE oid = 'access.buckets'::regclass")
    assert await front.database.run(lambda c: c.execute(asked).scalar()) == "u"


SHARED = {"rate_store": "postgres", "rate_capacity": 40, "rate_refill_per_second": 0.01}


async def test_gateways_share_the_buckets_of_keys(front: Front) -> None:
    one, other = [await front.gateway(**SHARED) for _ in range(2)]
    key = await front.key()
    bearer = {"Authorization": f"Bearer {key.text}"}

    async def ask(client: httpx.AsyncClient, headers: dict[str, str]) -> int:
        return (await client.get("/whoami", headers=headers)).status_code

    assert [await ask(client, bearer) for client in (one, other)] == [200, 200]
    # Signed or shown, here or there, it is one bucket.
    told = Counter(
        await asyncio.gather(
            *(ask(client, bearer) for client in (one, other) for _ in range(40)),
            *(ask(one, signed(key, "GET", "/whoami")) for _ in range(10)),
        )
    )
    assert told == {200: 38, 429: 52}
    refused = await other.get("/whoami", headers=bearer)
    assert refused.json()["reason"] == "RATE_LIMITED"
    assert 90 < int(refused.headers["retry-after"]) <= 100
    assert refused.headers["ratelimit"].startswith('"key";r=0;t=')
    assert await ask(other, {"Authorization": f"Bearer {(await front.key()).text}"}) == 200


async def test_gateways_share_the_buckets_of_addresses(front: Front) -> None:
    given = {**SHARED, "auth": "none", "rate_capacity": 3, "rate_by_address": True}
    clients = [await front.gateway(**given) for _ in range(2)]
    # The orchestrator wants a key: that is as far as these get.
    told = [(await client.get("/reports")).status_code for client in clients * 2]
    assert told == [401, 401, 401, 429]


def alone(store: str) -> float:
    return samples(metrics.RATE_FALLBACKS, "_total")[store,]


async def test_without_the_table_each_gateway_has_its_own(
    front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "_STORE_SECONDS", 0.5)
    monkeypatch.setattr(limits, "_AWAY_SECONDS", 0.5)
    client = await front.gateway(**{**SHARED, "rate_capacity": 2})
    key = await front.key()
    bearer = {"Authorization": f"Bearer {key.text}"}
    before = alone("postgres")
    with front.database.engine.begin() as connection:
        connection.execute(text("LOCK TABLE access.buckets"))
        told = [(await client.get("/whoami", headers=bearer)).status_code for _ in range(3)]
        assert told == [200, 200, 429]
        assert alone("postgres") == before + 3
    async with asyncio.timeout(20):
        # It is back: nothing was taken from the bucket that all share.
        while (await client.get("/whoami", headers=bearer)).status_code != 200:
            await asyncio.sleep(0.1)
    assert alone("postgres") > before


async def test_without_the_orchestrator_a_key_that_was_never_known_takes_nothing(
    front: Front,
) -> None:
    client = await front.gateway(**{**SHARED, "orchestrator_address": "127.0.0.1:1"})
    bearer = {"Authorization": f"Bearer {(await front.key()).text}"}
    answer = await client.get("/formats", headers=bearer)
    assert (answer.status_code, answer.json()["reason"]) == (503, "UPSTREAM_UNAVAILABLE")
    assert "ratelimit" not in answer.headers


class Away:
    name = "valkey"

    def __init__(self, reason: str = "UPSTREAM_UNAVAILABLE") -> None:
        self._reason = reason

    async def take(self, *_: Any, **__: Any) -> tuple[bool, float]:
        raise WinnowError(self._reason, "away")

    async def close(self) -> None:
        """Nothing."""


async def test_what_is_taken_is_counted_by_store() -> None:
    def seen() -> dict[tuple[str, ...], float]:
        return samples(metrics.RATE_TAKES, "_total")

    before, fallen = seen(), alone("valkey")
    for store in (MemoryStore(), Shared(Away())):
        made = Buckets(store, 2, 0.01)
        for _ in range(3):
            await made.take("a", 1)
    for name in ("memory", "valkey"):
        assert seen()[name, "taken"] - before[name, "taken"] == 2
        assert seen()[name, "refused"] - before[name, "refused"] == 1
    assert alone("valkey") == fallen + 3
    assert samples(metrics.RATE_BUCKETS)["memory",] == 1


async def test_a_store_that_refuses_is_as_one_that_is_away() -> None:
    before = alone("valkey")
    store = Shared(Away("INTERNAL"))
    for _ in range(2):
        assert (await store.take("a", 1, 10, owed=False))[0]
    assert alone("valkey") == before + 2


async def test_a_key_that_has_ended_is_no_store_that_is_away() -> None:
    before = alone("valkey")
    store = Shared(Away("UNAUTHENTICATED"))
    for _ in range(2):
        with pytest.raises(WinnowError, match="away"):
            await store.take("a", 1, 1, owed=False)
    assert alone("valkey") == before


# Past the gateway.

LIST = pb.ListReportsRequest()
THROUGH = (context.THROUGH_GATEWAY,)


def bearer(key: Any) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {key.text}"),)


async def refused(call: Any) -> WinnowError | None:
    try:
        await call
    except grpc.aio.AioRpcError as caught:
        return from_rpc(caught, "orchestrator")
    return None


async def refusal(call: Any) -> WinnowError:
    error = await refused(call)
    assert error is not None
    return error


@pytest.fixture(scope="module")
async def narrow(front: Front) -> AsyncIterator[tuple[grpc.aio.Channel, str]]:
    """An orchestrator with small buckets and a place for each tenant."""
    address = await front.orchestrator(
        rate_capacity=5,
        rate_refill_per_second=0.01,
        tenant_concurrency=1,
        concurrency_patience=0.2,
    )
    async with dial(address) as channel:
        yield channel, address


async def test_a_direct_caller_has_a_rate_too(
    front: Front, narrow: tuple[grpc.aio.Channel, str]
) -> None:
    stub = ReportServiceStub(narrow[0])
    key, other = await front.key(), await front.key()
    for _ in range(5):
        await stub.ListReports(LIST, metadata=bearer(key))
    error = await refusal(stub.ListReports(LIST, metadata=bearer(key)))
    assert (error.reason, error.grpc_code) == ("RATE_LIMITED", grpc.StatusCode.RESOURCE_EXHAUSTED)
    assert error.retry_after is not None
    assert 90 < error.retry_after <= 100
    # What cannot be read is refused for that: it was counted before.
    error = await refusal(
        stub.ListReports(pb.ListReportsRequest(page_size=9_999), metadata=bearer(key))
    )
    assert error.reason == "RATE_LIMITED"
    await stub.ListReports(LIST, metadata=bearer(other))
    health = health_pb2_grpc.HealthStub(narrow[0])
    for _ in range(10):
        await health.Check(health_pb2.HealthCheckRequest(), metadata=bearer(key))


async def test_who_holds_no_key_uses_up_nothing(
    front: Front, narrow: tuple[grpc.aio.Channel, str]
) -> None:
    from tests.front.test_limits import api_key_of_somebody_else

    stub = ReportServiceStub(narrow[0])
    key = await front.key()
    wrong = (("authorization", f"Bearer {api_key_of_somebody_else(key.key_id)}"),)
    for _ in range(6):
        error = await refusal(stub.ListReports(LIST, metadata=wrong))
        assert error.reason == "UNAUTHENTICATED"
    for _ in range(5):
        await stub.ListReports(LIST, metadata=bearer(key))


async def test_what_comes_through_the_gateway_is_not_counted_twice(
    front: Front, narrow: tuple[grpc.aio.Channel, str]
) -> None:
    client = await front.gateway(orchestrator_address=narrow[1])
    key = await front.key()
    for _ in range(10):
        answer = await client.get("/reports", headers={"Authorization": f"Bearer {key.text}"})
        assert answer.status_code == 200
        assert (
            await client.get("/whoami", headers=signed(key, "GET", "/whoami"))
        ).status_code == 200
    stub = ReportServiceStub(narrow[0])
    for _ in range(10):
        await stub.ListReports(LIST, metadata=(*bearer(key), *THROUGH))
    for _ in range(5):
        await stub.ListReports(LIST, metadata=bearer(key))


async def test_a_direct_caller_has_places_too(
    front: Front, narrow: tuple[grpc.aio.Channel, str]
) -> None:
    stub = ReportServiceStub(narrow[0])
    tenant = uuid.uuid4().hex
    key = await front.key(tenant=tenant)
    begun, end = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[pb.SubmitReportRequest]:
        async for one in upload(b"[]", "gitleaks"):
            yield one
            begun.set()
            await end.wait()

    first = stub.SubmitReport(slow(), metadata=bearer(key))
    await begun.wait()
    async with asyncio.timeout(10):
        # Its head is on its way; each asks once, so that no rate is used up.
        error = None
        while error is None:
            another = await front.key(tenant=tenant)
            error = await refused(stub.ListReports(LIST, metadata=bearer(another)))
    assert (error.reason, error.metadata) == ("OVERLOADED", {"backpressure": "tenant_concurrency"})
    assert error.retry_after == 1.0
    await stub.ListReports(LIST, metadata=bearer(await front.key()))
    # Who says that he is the gateway is believed as to the rate, and waits for his turn.
    said = (*bearer(await front.key(tenant=tenant)), *THROUGH)
    assert (await refusal(stub.ListReports(LIST, metadata=said))).reason == "OVERLOADED"
    await AccessServiceStub(narrow[0]).GetCaller(access_pb.GetCallerRequest(), metadata=said)
    end.set()
    report_id = (await first).report.report_id
    # Who only waits for events takes no place.
    watch = stub.WatchReport(pb.WatchReportRequest(report_id=report_id), metadata=bearer(key))
    await anext(aiter(watch))
    await stub.ListReports(LIST, metadata=bearer(key))
    watch.cancel()


async def test_an_upload_costs_what_came_of_it(front: Front) -> None:
    address = await front.orchestrator(
        rate_capacity=100, rate_refill_per_second=0.01, rate_cost_per_mib=20
    )
    key = await front.key()
    async with dial(address) as channel:
        stub = ReportServiceStub(channel)
        body = b"[" + b" " * (5 << 20) + b"]"
        # What cannot be read has come as well, and leaves the bucket in debt.
        error = await refusal(stub.SubmitReport(upload(body), metadata=bearer(key)))
        assert error.reason == "FORMAT_UNKNOWN"
        error = await refusal(stub.ListReports(LIST, metadata=bearer(key)))
        assert error.retry_after is not None
        assert error.retry_after > 100


async def test_the_audit_service_counts_direct_callers_too(front: Front) -> None:
    import audit.app
    from tests.harness import serving, settings

    given = {"auth": "keys", "rate_store": "postgres", "rate_capacity": 3}
    async with AsyncExitStack() as stack:
        stubs = []
        for _ in range(2):
            made = audit.app.build(
                settings(
                    audit.app.AuditSettings,
                    front.database_url,
                    rate_refill_per_second=0.01,
                    **given,
                )
            )
            _, channel = await stack.enter_async_context(serving(made))
            stubs.append(AuditServiceStub(channel))
        key = await front.key()
        request = audit_pb.ListEventsRequest()
        for stub in (*stubs, stubs[0]):
            await stub.ListEvents(request, metadata=bearer(key))
        for stub in stubs:
            error = await refusal(stub.ListEvents(request, metadata=bearer(key)))
            assert error.reason == "RATE_LIMITED"
            await stub.ListEvents(request, metadata=(*bearer(key), *THROUGH))


async def test_tokens_are_taken_of_the_key_that_is_shown(front: Front) -> None:
    """Whoever asks past the gateway takes from his own bucket, whatever he names."""
    stack = front.stack
    channel = await stack.enter_async_context(dial(front.addresses["orchestrator_address"]))
    stub = AccessServiceStub(channel)
    key, other = await front.key(), await front.key()
    own, others = (f"key {one.key_id}" for one in (key, other))
    request = access_pb.TakeTokensRequest(bucket=others, span_us=10_000_000, most_us=10_000_000)
    assert (await stub.TakeTokens(request, metadata=bearer(key))).taken
    assert not (await stub.TakeTokens(request, metadata=bearer(key))).taken
    # Without a key no key's bucket can be named.
    request.bucket = own
    assert (await stub.TakeTokens(request)).taken
    request.bucket = others
    assert (await stub.TakeTokens(request, metadata=bearer(other))).taken
    request.span_us = 1 << 62
    error = await refusal(stub.TakeTokens(request, metadata=bearer(other)))
    assert error.reason == "INVALID_ARGUMENT"
