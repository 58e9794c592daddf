"""What is sent, when, and what is written down of it; against a server that is slow, that
refuses, and that hangs up."""

from __future__ import annotations

import asyncio
import io
import json
from typing import Any

import pytest

from cli.loading import emitter as emitting
from cli.loading.corpus import Corpus
from cli.loading.emitter import Run
from cli.loading.plan import Bodies, shots
from cli.loading.scenario import Scenario, ScenarioError
from cli.loading.summary import summarize
from cli.loading.telemetry import Telemetry
from runtime import api_keys
from tests.cli.loading.server import Answer, Json, Request, house, serving

KEYS = {label: api_keys.make() for label in ("first", "second")}
CORPUS = Corpus(1)


def scenario(*, settle: float = 5.0, timeout: float = 5.0, **emitter: Any) -> Scenario:
    known = {
        "name": "jobs",
        "profile": {"kind": "constant", "rate": 40.0},
        "findings": {"min": 1, "max": 3},
    }
    return Scenario.model_validate(
        {
            "name": "small",
            "duration": 0.5,
            "settle": settle,
            "timeout": timeout,
            "emitters": [known | emitter],
        }
    )


async def run(wanted: Scenario, answer: Answer) -> tuple[Json, Telemetry, list[Request], str]:
    """The summary, what it is of, what the server saw, and what was written."""
    file = io.StringIO()
    telemetry = Telemetry(file)
    plans = {one.name: shots(one, wanted.duration, 1) for one in wanted.emitters}
    async with (
        serving(answer) as server,
        Run(wanted, server.url, KEYS, Bodies(CORPUS, 1), "run", telemetry) as running,
    ):
        await running.emit(plans)
        await running.settle()
        assert running.under_way == 0
    found = summarize(telemetry, sum(map(len, plans.values())), wanted.expect)
    posts = [request for request in server.requests if request.method == "POST"]
    return found, telemetry, posts, file.getvalue()


async def test_everything_is_sent_once_and_followed_to_its_end() -> None:
    found, telemetry, posts, _ = await run(scenario(), house())
    assert (found["planned"], found["accepted"], found["finished"], found["lost"]) == (20,) * 3 + (
        0,
    )
    assert len({post.headers["idempotency-key"] for post in posts}) == len(posts) == 20
    assert all(post.headers["prefer"] == "respond-async" for post in posts)
    assert found["processing_ms"] == {"p50": 250.0, "p95": 250.0, "p99": 250.0, "max": 250.0}
    # Nothing before it is due.
    assert all(one.sent >= one.planned - 0.001 for one in telemetry.sent)


async def test_a_server_that_stops_for_a_while_does_not_stop_the_clock() -> None:
    """One request at a time, and the first one is held until all are due: each of the
    others is sent late, and its latency counts from when it was due."""
    wanted = scenario(in_flight=1)
    due = asyncio.Event()

    async def busy(request: Request) -> None:
        if request.headers["idempotency-key"].endswith("-0"):
            await due.wait()

    asyncio.get_running_loop().call_later(wanted.duration, due.set)
    found, telemetry, _, _ = await run(wanted, house(busy=busy))
    assert found["accepted"] == 20
    plan = shots(wanted.emitters[0], wanted.duration, 1)
    assert [one.planned for one in telemetry.sent] == [shot.at for shot in plan]
    first, *others = telemetry.sent
    assert all(one.sent >= first.ended - 0.001 for one in others)
    assert all(one.latency >= first.ended - one.planned for one in others)
    # What is counted from the sending alone hides it.
    assert found["latency_ms"]["p50"] > found["service_ms"]["p50"]


async def test_no_more_are_under_way_than_are_allowed() -> None:
    under_way, most = 0, 0

    async def busy(_: Request) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.05)
        under_way -= 1

    wanted = scenario(in_flight=3, profile={"kind": "constant", "rate": 100.0})
    found, _, _, _ = await run(wanted, house(busy=busy))
    assert most == 3
    assert found["accepted"] == 50


async def test_refusals_are_counted_by_reason_and_not_sent_again() -> None:
    async def refuse(_: Request) -> tuple[int, Json | None]:
        return 429, {"reason": "RATE_LIMITED"}

    found, _, posts, _ = await run(scenario(), refuse)
    assert found["reasons"] == {"RATE_LIMITED": 20}
    assert (found["refused"], found["unexplained"], len(posts)) == (20, 0, 20)


async def test_a_refusal_that_says_nothing_is_unexplained() -> None:
    async def refuse(_: Request) -> tuple[int, Json | None]:
        return 500, {"reason": 7}

    found, _, _, _ = await run(scenario(), refuse)
    assert found["unexplained"] == found["refused"] == 20


async def test_who_hangs_up_or_is_too_slow_has_not_answered() -> None:
    async def leave(request: Request) -> tuple[int, Json | None]:
        if request.headers["idempotency-key"].endswith("0"):
            await asyncio.sleep(10)
        return 0, None

    found, _, _, _ = await run(scenario(timeout=1.0), leave)
    assert found["reasons"] == {"TIMEOUT": 2, "CONNECTION": 18}
    assert found["unanswered"] == 20


async def test_what_does_not_end_is_lost() -> None:
    async def forget(request: Request) -> tuple[int, Json | None]:
        if request.method == "GET":
            return 200, {"status": "processing"}
        return 202, {"report_id": "one", "status": "created"}

    found, _, _, _ = await run(scenario(settle=0.1), forget)
    assert (found["accepted"], found["reports"], found["lost"]) == (20, 1, 1)


async def test_replayed_requests_are_the_same_and_conflicting_ones_are_not() -> None:
    wanted = scenario(
        auth="key", keys=["first", "second"], share={"replayed": 0.4, "conflicting": 0.2}
    )
    found, telemetry, posts, _ = await run(wanted, house())
    assert found["doubled"] == 0
    assert set(found["kinds"]["conflicting"]) == {"IDEMPOTENCY_KEY_REUSED"}
    assert set(found["kinds"]["replayed"]) == {"202"}
    again = [one for one in telemetry.sent if one.kind == "replayed"]
    sent = {(post.headers["idempotency-key"], post.body, str(post.headers)) for post in posts}
    conflicting = sum(one.kind == "conflicting" for one in telemetry.sent)
    assert len(sent) == len(posts) - len(again)
    assert len({post.headers["idempotency-key"] for post in posts}) == len(sent) - conflicting


async def test_a_second_report_of_a_replayed_request_is_seen() -> None:
    count = 0

    async def forgetful(request: Request) -> tuple[int, Json | None]:
        nonlocal count
        count += 1
        return (
            (200, {"status": "done"})
            if request.method == "GET"
            else (202, {"report_id": f"r{count}"})
        )

    found, telemetry, _, _ = await run(scenario(share={"replayed": 0.4}), forgetful)
    assert found["doubled"] == sum(one.kind == "replayed" for one in telemetry.sent) > 0


async def test_each_kind_is_what_its_name_says() -> None:
    shares = dict.fromkeys(("malformed", "unknown", "envelope", "oversized", "unsigned"), 0.15)
    wanted = scenario(auth="key", keys=["first"], share=shares, oversized_bytes=300_000)
    _, telemetry, posts, _ = await run(wanted, house())
    by_number = {post.headers["idempotency-key"].rpartition("-")[2]: post for post in posts}
    kinds = {one.kind for one in telemetry.sent}
    assert kinds == {"good", *shares}
    for one in telemetry.sent:
        post = by_number[str(one.number)]
        assert ("authorization" in post.headers) == (one.kind != "unsigned")
        assert ("envelope=false" in post.path) == (one.kind != "envelope")
        assert one.bytes == len(post.body)
        assert (len(post.body) == 300_000) == (one.kind == "oversized")
        if one.kind == "malformed":
            with pytest.raises(ValueError):
                json.loads(post.body)


async def test_no_key_and_no_body_is_written_down() -> None:
    wanted = scenario(auth="key", keys=["first", "second"])
    _, telemetry, posts, written = await run(wanted, house())
    assert {post.headers["authorization"] for post in posts} == {
        f"Bearer {key.text}" for key in KEYS.values()
    }
    assert {json.loads(line)["key"] for line in written.splitlines() if '"key"' in line} == {
        "first",
        "second",
    }
    for key in KEYS.values():
        assert key.secret not in written
        assert key.secret not in repr(telemetry.sent)
    for post in posts:
        for start in range(0, len(post.body) - 60, 60):
            assert post.body[start : start + 60].decode() not in written


async def test_signed_requests_are_refused_without_a_signer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(emitting, "SIGNER", None)
    with pytest.raises(ScenarioError, match="emitter jobs: this version of Winnow does not sign"):
        await run(scenario(auth="signed", keys=["first"]), house())


async def test_each_request_is_signed_anew_but_for_replayed_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    signed: list[tuple[Any, ...]] = []

    def signer(*what: Any) -> list[tuple[str, str]]:
        signed.append(what)
        return [("X-Nonce", str(len(signed)))]

    monkeypatch.setattr(emitting, "SIGNER", signer)
    wanted = scenario(
        auth="signed",
        keys=["first"],
        share={"replayed": 0.3, "unsigned": 0.2, "oversized": 0.1},
        oversized_bytes=100_000,
    )
    _, telemetry, posts, _ = await run(wanted, house())
    count = {
        kind: sum(one.kind == kind for one in telemetry.sent)
        for kind in wanted.emitters[0].share.of()
    }
    assert count["replayed"]
    assert count["unsigned"]
    nonces = [post.headers["x-nonce"] for post in posts if "x-nonce" in post.headers]
    assert len(nonces) == len(posts) - count["unsigned"]
    assert len(set(nonces)) == len(signed) == len(nonces) - count["replayed"]
    assert {what[:4] for what in signed} == {(KEYS["first"], "POST", "/reports", "envelope=false")}
    assert not any("authorization" in post.headers for post in posts)
