"""Rates by key, places by tenant, and bodies that are too much or too slow."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import admission, callers
from runtime import access, api_keys
from runtime.errors import WinnowError
from runtime.limits import Buckets, MemoryStore, Places, Shared, Streams, ValkeyStore
from tests.front.conftest import REPORT, Front, signed
from tests.runtime.transport.servers import valkey_server

SCENARIOS = Path(__file__).resolve().parents[2] / "deploy" / "scenarios"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def test_a_bucket_gives_what_it_holds_and_what_comes_back() -> None:
    clock = Clock()
    buckets = Buckets(MemoryStore(clock), 10, 2)
    taken = [await buckets.take("a", 1) for _ in range(11)]
    assert [one.ok for one in taken] == [True] * 10 + [False]
    assert [one.left for one in taken] == [*range(9, -1, -1), 0]
    assert taken[-1].wait == pytest.approx(0.5)
    assert (await buckets.take("b", 1)).ok
    clock.now += 0.5
    assert (await buckets.take("a", 1)).ok
    assert not (await buckets.take("a", 1)).ok
    clock.now += 1000
    assert (await buckets.take("a", 10)).left == 0


async def test_what_is_owed_is_taken_in_any_case() -> None:
    clock = Clock()
    buckets = Buckets(MemoryStore(clock), 10, 1)
    assert (await buckets.take("a", 30, owed=True)).ok
    clock.now += 19
    assert not (await buckets.take("a", 1)).ok
    clock.now += 2
    assert (await buckets.take("a", 1)).ok


@given(
    st.lists(st.tuples(st.floats(0, 5), st.integers(1, 8)), max_size=60),
    st.integers(1, 20),
    st.floats(0.1, 10),
)
def test_no_more_is_given_than_the_bucket_and_its_refill(
    asked: list[tuple[float, int]], capacity: int, refill: float
) -> None:
    async def given_out() -> tuple[float, float]:
        clock = Clock()
        start = clock.now
        buckets = Buckets(MemoryStore(clock), capacity, refill)
        total = 0
        for pause, cost in asked:
            clock.now += pause
            total += cost if (await buckets.take("a", cost)).ok else 0
        return total, capacity + refill * (clock.now - start)

    total, most = asyncio.run(given_out())
    assert total <= most + 1e-6


@pytest.fixture(scope="module")
def valkey() -> Iterator[str]:
    with valkey_server() as broker:
        yield broker.url


async def test_several_gateways_share_buckets(valkey: str) -> None:
    one, other = (Buckets(ValkeyStore(valkey), 10, 0.01) for _ in range(2))
    name = uuid.uuid4().hex
    taken = [await buckets.take(name, 1) for _ in range(6) for buckets in (one, other)]
    assert [one.ok for one in taken] == [True] * 10 + [False] * 2
    assert taken[9].left == 0
    assert 90 < taken[10].wait <= 100
    # Nobody owes longer than a day.
    assert (await one.take(name, 1e6, owed=True)).full == pytest.approx(86_400, abs=5)
    for buckets in (one, other):
        await buckets.close()


async def test_without_the_store_each_gateway_has_its_own() -> None:
    buckets = Buckets(Shared(ValkeyStore("valkey://127.0.0.1:1")), 2, 0.01)
    assert [(await buckets.take("a", 1)).ok for _ in range(3)] == [True, True, False]
    await buckets.close()


# Over REST.


async def test_a_key_that_sends_too_much_is_told_when_to_come_back(front: Front) -> None:
    client = await front.gateway(rate_capacity=5, rate_refill_per_second=0.5)
    key, other = await front.key(), await front.key()
    bearer = {"Authorization": f"Bearer {key.text}"}
    answers = [await client.get("/reports", headers=bearer) for _ in range(4)]
    # Signed or shown, it is one key.
    answers.append(await client.get("/reports", headers=signed(key, "GET", "/reports")))
    assert [one.status_code for one in answers] == [200] * 5
    assert answers[0].headers["ratelimit-policy"] == '"key";q=5;w=10'
    assert answers[0].headers["ratelimit"] == '"key";r=4;t=2'
    refused = await client.get("/reports", headers=bearer)
    assert refused.status_code == 429
    assert refused.json()["reason"] == "RATE_LIMITED"
    assert refused.headers["retry-after"] in ("1", "2")
    assert refused.headers["ratelimit"].startswith('"key";r=0;t=')
    answer = await client.get("/reports", headers={"Authorization": f"Bearer {other.text}"})
    assert answer.status_code == 200


async def test_who_does_not_hold_a_key_uses_up_nothing_of_its_rate(front: Front) -> None:
    client = await front.gateway(rate_capacity=5, rate_refill_per_second=0.01)
    other = await front.key()
    wrong = f"Bearer {api_key_of_somebody_else(other.key_id)}"
    for _ in range(10):
        refused = await client.get("/reports", headers={"Authorization": wrong})
        assert refused.status_code == 401
    answer = await client.get("/reports", headers={"Authorization": f"Bearer {other.text}"})
    assert answer.headers["ratelimit"].startswith('"key";r=4;')


async def test_a_key_that_nobody_could_look_up_takes_no_place(
    front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callers, "_GOOD_FOR_SECONDS", 0.0)
    client = await front.gateway(concurrency=1, concurrency_patience=0.2)
    bearer = {"Authorization": f"Bearer {(await front.key()).text}"}
    assert (await client.get("/whoami", headers=bearer)).status_code == 200
    # As where more strangers wait than may.
    monkeypatch.setattr(access, "_STRANGERS", 0)

    begun, end = asyncio.Event(), asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield b"["
        begun.set()
        await end.wait()

    made_up = {"Authorization": f"Bearer {api_keys.make().text}"}
    first = asyncio.create_task(client.post("/reports", content=body(), headers=made_up))
    await begun.wait()
    for _ in range(5):
        assert (await client.get("/whoami", headers=bearer)).status_code == 200
        await asyncio.sleep(0.02)
    end.set()
    refused = await first
    assert (refused.status_code, refused.json()["reason"]) == (503, "OVERLOADED")
    assert "ratelimit" not in refused.headers


async def test_a_flood_of_made_up_keys_keeps_no_new_key_out(front: Front) -> None:
    client = await front.gateway()

    async def ask(text: str) -> int:
        bearer = {"Authorization": f"Bearer {text}"}
        return (await client.get("/whoami", headers=bearer)).status_code

    flood = [asyncio.create_task(ask(api_keys.make().text)) for _ in range(200)]
    await asyncio.sleep(0.05)
    assert await ask((await front.key()).text) == 200
    assert set(await asyncio.gather(*flood)) == {401}


def api_key_of_somebody_else(key_id: str) -> str:
    return api_keys.Shown(key_id, "1" * 43).text


async def streamed(piece: bytes, number: int) -> AsyncIterator[bytes]:
    for _ in range(number):
        yield piece


async def test_large_bodies_cost_more(front: Front) -> None:
    client = await front.gateway(
        rate_capacity=100, rate_refill_per_second=0.01, rate_cost_per_mib=10
    )
    key = await front.key()
    bearer = {"Authorization": f"Bearer {key.text}"}
    target = "/reports?scanner_type=gitleaks"
    answer = await client.post(target, content=b"[" + b" " * (2 << 20) + b"]", headers=bearer)
    assert answer.headers["ratelimit"].startswith('"key";r=78;')
    # Of a size that nobody announced: what it cost shows in the next answer.
    await client.post(target, content=streamed(b" " * (1 << 20), 3), headers=bearer)
    answer = await client.get("/reports", headers=bearer)
    assert answer.headers["ratelimit"].split(";")[1] in ("r=46", "r=47")


async def test_a_body_that_is_cut_costs_what_came_of_it(front: Front) -> None:
    client = await front.gateway(
        rate_capacity=100, rate_refill_per_second=0.01, rate_cost_per_mib=10
    )
    key = await front.key()
    bearer = {"Authorization": f"Bearer {key.text}"}
    _, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
    writer.write(
        b"POST /reports?scanner_type=gitleaks HTTP/1.1\r\nHost: x\r\n"
        b"Transfer-Encoding: chunked\r\nAuthorization: " + bearer["Authorization"].encode()
    )
    writer.write(b"\r\n\r\n" + (b"100000\r\n[" + b" " * 0xFFFFF + b"\r\n") * 3)
    await writer.drain()
    await asyncio.sleep(0.2)
    writer.close()
    left = 100
    async with asyncio.timeout(10):
        while left > 80:
            answer = await client.get("/whoami", headers=bearer)
            left = int(answer.headers["ratelimit"].split(";")[1].removeprefix("r="))
            await asyncio.sleep(0.5)
    assert 60 < left <= 69


async def test_without_a_key_nothing_is_counted_unless_addresses_are(front: Front) -> None:
    given = {"auth": "none", "rate_capacity": 1, "rate_refill_per_second": 0.01}
    free = await front.gateway(**given)
    counted = await front.gateway(**given, rate_by_address=True)
    # The orchestrator wants a key: that is as far as these get.
    assert [(await free.get("/reports")).status_code for _ in range(3)] == [401] * 3
    assert [(await counted.get("/reports")).status_code for _ in range(3)] == [401, 429, 429]
    assert (await counted.get("/healthz")).status_code == 200


@pytest.mark.parametrize(("capacity", "code"), [(10, 0), (1000, 1)])
async def test_the_shipped_ramp_must_see_its_limit(
    front: Front, tmp_path: Path, capacity: int, code: int
) -> None:
    client = await front.gateway(rate_capacity=capacity, rate_refill_per_second=20)
    (tmp_path / "key").write_text((await front.key()).text)
    ran = await asyncio.to_thread(
        subprocess.run,
        [
            *(sys.executable, "-m", "cli.main", "load", str(SCENARIOS / "ramp-to-limit.yaml")),
            *("--server", str(client.base_url), "--key", f"ramp={tmp_path / 'key'}"),
            *("--duration", "2s", "--format", "json"),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == code, ran.stdout + ran.stderr
    held = {one["name"]: one["held"] for one in json.loads(ran.stdout)["expectations"]}
    assert held.pop("seen") is (code == 0)
    assert all(held.values())


# Places.


async def served(places: Places, log: list[str], tenant: str, key: str) -> None:
    await places.take(tenant, key)
    log.append(key)
    await asyncio.sleep(0)
    places.leave(tenant)


async def test_lines_take_turns_however_long_they_are() -> None:
    """One key asks a hundred times; the other's ten are not behind them."""
    places, log = Places(1, 1, 60), list[str]()
    await places.take("held", "held")
    async with asyncio.TaskGroup() as group:
        for _ in range(100):
            group.create_task(served(places, log, "a", "burst"))
        await asyncio.sleep(0)
        for _ in range(10):
            group.create_task(served(places, log, "b", "quiet"))
        await asyncio.sleep(0)
        places.leave("held")
    assert log[:20].count("quiet") == 10
    assert len(log) == 110


async def test_keys_of_one_tenant_take_turns_too() -> None:
    places, log = Places(10, 1, 60), list[str]()
    await places.take("a", "held")
    async with asyncio.TaskGroup() as group:
        for key in ["burst"] * 50 + ["quiet"] * 5:
            group.create_task(served(places, log, "a", key))
        await asyncio.sleep(0)
        places.leave("a")
    assert log[:10].count("quiet") == 5


async def test_a_tenant_never_has_more_than_its_places_nor_all_more_than_there_are() -> None:
    places = Places(5, 3, 60)
    now: dict[str, int] = {}
    most: dict[str, int] = {}

    async def work(tenant: str, number: int) -> None:
        await places.take(tenant, f"{tenant}{number % 3}")
        now[tenant] = now.get(tenant, 0) + 1
        most[tenant] = max(most.get(tenant, 0), now[tenant])
        most["all"] = max(most.get("all", 0), sum(now.values()))
        await asyncio.sleep(0.001)
        now[tenant] -= 1
        places.leave(tenant)

    async with asyncio.TaskGroup() as group:
        for number in range(60):
            group.create_task(work("ab"[number % 2], number))
    assert most == {"a": 3, "b": 3, "all": 5}
    assert (places._free, places._taken, places._lines) == (5, {}, {})


async def test_who_waits_in_vain_is_told_so_and_leaves_no_trace() -> None:
    places = Places(1, 1, 0.05)
    await places.take("a", "one")
    with pytest.raises(WinnowError) as caught:
        await places.take("a", "two")
    assert caught.value.reason == "OVERLOADED"
    assert caught.value.metadata == {"backpressure": "tenant_concurrency"}
    with pytest.raises(WinnowError) as caught:
        await places.take("b", "three")
    assert caught.value.metadata == {"backpressure": "concurrency"}
    gone = asyncio.create_task(places.take("b", "four"))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    places.leave("a")
    assert (places._free, places._taken, places._lines) == (1, {}, {})


async def test_a_place_that_comes_as_its_request_goes_is_given_on() -> None:
    places = Places(1, 1, 60)
    await places.take("a", "one")
    gone = asyncio.create_task(places.take("b", "two"))
    await asyncio.sleep(0)
    places.leave("a")
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    assert (places._free, places._taken) == (1, {})


async def test_a_place_that_comes_as_patience_ends_is_no_error() -> None:
    places = Places(1, 1, 0.01)
    await places.take("a", "one")
    late = asyncio.create_task(places.take("b", "two"))
    await asyncio.sleep(0)
    time.sleep(0.02)  # noqa: ASYNC251 -- a busy loop, which sees both at once
    for _ in range(2):
        await asyncio.sleep(0)
    places.leave("a")
    await late
    places.leave("b")
    assert (places._free, places._taken, places._lines) == (1, {}, {})


async def test_streams_are_bounded_in_all_and_of_one_caller() -> None:
    streams = Streams(3, 2)
    with streams.taken("b"):
        with streams.taken("a"), streams.taken("a"):
            for caller in "ac":
                with pytest.raises(WinnowError) as caught, streams.taken(caller):
                    pass
                assert caught.value.metadata == {"backpressure": "streams"}
        with streams.taken("a"), streams.taken("c"):
            pass
    assert (streams._free, streams._open) == (3, {})


async def test_a_key_follows_no_more_than_it_may(
    front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    streams = Streams(10, 1)
    monkeypatch.setattr(admission, "Streams", lambda: streams)
    client = await front.gateway()
    key, other = await front.key(), await front.key()

    async def follow(one: api_keys.Shown) -> httpx.Response:
        bearer = {"Authorization": f"Bearer {one.text}"}
        made = await client.post("/reports?scanner_type=gitleaks", content=REPORT, headers=bearer)
        return await client.get(f"{made.headers['location']}/events/stream", headers=bearer)

    with streams.taken(key.key_id):
        refused = await follow(key)
        assert refused.status_code == 503
        assert refused.headers["x-backpressure-reason"] == "streams"
        assert (await follow(other)).status_code == 200
    assert (await follow(key)).status_code == 200
    assert streams._free == 10


async def test_a_tenant_that_has_its_places_full_leaves_the_others(front: Front) -> None:
    client = await front.gateway(
        tenant_concurrency=1, concurrency_patience=0.3, max_report_bytes=100_000
    )
    busy, other = await front.key(), await front.key()
    begun, end = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"["
        begun.set()
        await end.wait()
        yield b"]"

    bearer = {"Authorization": f"Bearer {busy.text}"}
    first = asyncio.create_task(client.post("/reports", content=slow(), headers=bearer))
    await begun.wait()
    # Its head is on its way.
    async with asyncio.timeout(10):
        while (answer := await client.get("/reports", headers=bearer)).status_code == 200:
            pass
    assert answer.status_code == 503
    assert answer.headers["x-backpressure-reason"] == "tenant_concurrency"
    assert answer.headers["retry-after"] == "1"
    # What no place would help is refused without one.
    answer = await client.post("/reports", content=b" " * 100_001, headers=bearer)
    assert answer.status_code == 413
    answer = await client.get("/reports", headers={"Authorization": f"Bearer {other.text}"})
    assert answer.status_code == 200
    end.set()
    assert (await first).status_code == 201
    assert (await client.get("/reports", headers=bearer)).status_code == 200


# Back-pressure.


async def test_a_body_that_does_not_come_is_cut(
    front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "_WINDOW_SECONDS", 0.4)
    client = await front.gateway(upload_floor_bytes_per_second=1000)
    key = await front.key()

    async def slow(piece: bytes, pause: float) -> AsyncIterator[bytes]:
        for _ in range(20):
            yield piece
            await asyncio.sleep(pause)

    bearer = {"Authorization": f"Bearer {key.text}"}
    for piece, pause in ((b" ", 0.05), (b" ", 1)):
        answer = await client.post("/reports", content=slow(piece, pause), headers=bearer)
        assert answer.status_code == 408
        assert answer.json()["reason"] == "UPLOAD_TOO_SLOW"
        assert answer.headers["x-backpressure-reason"] == "upload_rate"
    # As fast as it must be, and longer than the window.
    enough = slow(b" " * 200, 0.05)
    answer = await client.post("/reports?scanner_type=gitleaks", content=enough, headers=bearer)
    assert answer.status_code == 201
    listed = await client.get("/reports", headers=bearer)
    assert [one["status"] for one in listed.json()["reports"]] == ["done"]


async def test_short_of_memory_no_body_is_taken(front: Front) -> None:
    client = await front.gateway(gateway_max_memory_bytes=1 << 20)
    key = await front.key()
    bearer = {"Authorization": f"Bearer {key.text}"}
    answer = await client.post("/reports", content=REPORT, headers=bearer)
    assert answer.status_code == 503
    assert answer.headers["x-backpressure-reason"] == "memory"
    assert (await client.get("/reports", headers=bearer)).status_code == 200


async def test_a_body_that_is_too_large_is_refused_before_it_is_sent(front: Front) -> None:
    client = await front.gateway(max_report_bytes=1000)
    key = await front.key()
    bearer = {"Authorization": f"Bearer {key.text}"}
    answer = await client.post("/reports", content=b" " * 1001, headers=bearer)
    assert answer.status_code == 413
    assert answer.headers["x-backpressure-reason"] == "body_size"
