"""`python -m bench.front`: the front door under load, each figure beside its limit.

A house with keys (`winnow up --auth keys`), and callers on the same machine. One JSON
object a line:

- fairness: p95 of one key's POSTs, alone and beside a burst of another key of another tenant at
  twenty times its share;
- turns: from an asynchronous POST of one tenant to the report's end, alone and while a burst
  of another tenant waits in the queue, all of it.

Replays are in `bench.replays`, more than the house can take is in `bench.overload`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from collections import Counter
from typing import Any

import httpx

from bench.house import guarded
from cli.loading.reports import generate
from runtime import api_keys

_FINDINGS = 100


def _show(name: str, **figures: Any) -> None:
    print(json.dumps({"stage": name, **figures}), flush=True)


def _p95(seconds: list[float]) -> float:
    return statistics.quantiles(seconds, n=20)[-1]


async def quiet(
    client: httpx.AsyncClient, key: api_keys.Shown, report: bytes, number: int, pause: float
) -> list[float]:
    """One POST after another with a pause; seconds of each."""
    took = []
    for _ in range(number):
        started = time.perf_counter()
        answer = await client.post(
            "/reports", content=report, headers={"Authorization": f"Bearer {key.text}"}
        )
        took.append(time.perf_counter() - started)
        if answer.status_code != 201:
            raise SystemExit(f"the quiet key was answered {answer.status_code}")
        await asyncio.sleep(pause)
    return took


async def burst(
    client: httpx.AsyncClient,
    key: api_keys.Shown,
    report: bytes,
    rate: float,
    until: asyncio.Event,
) -> Counter[str]:
    """POSTs at a rate, whatever becomes of them; how many were answered how."""
    told: Counter[str] = Counter()

    async def send() -> None:
        answer = await client.post(
            "/reports", content=report, headers={"Authorization": f"Bearer {key.text}"}
        )
        reason = answer.headers.get("x-backpressure-reason") or answer.json().get("reason", "")
        told[f"{answer.status_code} {reason}".strip()] += 1

    tasks = []
    while not until.is_set():
        tasks.append(asyncio.create_task(send()))
        await asyncio.sleep(1 / rate)
    await asyncio.gather(*tasks)
    return told


async def unhurried(
    client: httpx.AsyncClient, key: api_keys.Shown, report: bytes, number: int
) -> list[float]:
    """One asynchronous POST after another; seconds from each to its report's end."""
    took = []
    bearer = {"Authorization": f"Bearer {key.text}"}
    for _ in range(number):
        started = time.perf_counter()
        answer = await client.post(
            "/reports", content=report, headers={**bearer, "Prefer": "respond-async"}
        )
        if answer.status_code != 202:
            raise SystemExit(f"the quiet tenant was answered {answer.status_code}")
        async with client.stream("GET", answer.json()["events_url"], headers=bearer) as events:
            async for line in events.aiter_lines():
                if line == "event: report.done":
                    break
        took.append(time.perf_counter() - started)
        await asyncio.sleep(0.1)
    return took


async def queued(
    client: httpx.AsyncClient, key: api_keys.Shown, report: bytes, number: int
) -> None:
    """So many reports in the queue, or as many as are left of them when the last has come."""
    left = number
    headers = {"Authorization": f"Bearer {key.text}", "Prefer": "respond-async"}

    async def send() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            answer = await client.post("/reports", content=report, headers=headers)
            if answer.status_code != 202:
                raise SystemExit(f"the burst was answered {answer.status_code}")

    await asyncio.gather(*(send() for _ in range(16)))


async def _kept(client: httpx.AsyncClient, keys: list[api_keys.Shown]) -> Counter[str]:
    """Reports of these keys' tenants by status."""
    found: Counter[str] = Counter()
    for key in keys:
        token = ""
        while True:
            page = await client.get(
                "/reports",
                params={"page_size": 500, "page_token": token},
                headers={"Authorization": f"Bearer {key.text}"},
            )
            found.update(one["status"] for one in page.json()["reports"])
            token = page.json()["next_page_token"]
            if not token:
                break
    return found


async def _measure(options: argparse.Namespace) -> None:
    report = b"".join(generate("gitleaks", _FINDINGS, 1))
    limits = httpx.Limits(max_connections=400)
    share = 5.0
    with guarded(
        WINNOW_RATE_CAPACITY="10",
        WINNOW_RATE_REFILL_PER_SECOND=str(share),
        WINNOW_TENANT_CONCURRENCY="2",
    ) as house:
        one, other = house.make_key("one"), house.make_key("other")
        async with httpx.AsyncClient(base_url=house.url, timeout=120, limits=limits) as client:
            pause = 1 / share
            await quiet(client, one, report, 20, pause)
            alone = await quiet(client, one, report, options.requests, pause)
            over = asyncio.Event()
            task = asyncio.create_task(burst(client, other, report, 20 * share, over))
            await asyncio.sleep(3)
            beside = await quiet(client, one, report, options.requests, pause)
            over.set()
            told = await task
            _show(
                "fairness",
                p95_alone_ms=round(1000 * _p95(alone), 1),
                p95_beside_ms=round(1000 * _p95(beside), 1),
                ratio=round(_p95(beside) / _p95(alone), 2),
                limit=1.5,
                burst=dict(told),
            )
    with guarded(WINNOW_RATE_CAPACITY="0") as house:
        one, other = house.make_key("one"), house.make_key("other")
        async with httpx.AsyncClient(base_url=house.url, timeout=120, limits=limits) as client:
            await unhurried(client, one, report, 20)
            alone = await unhurried(client, one, report, options.turns)
            await queued(client, other, report, options.burst)
            before = await _kept(client, [other])
            beside = await unhurried(client, one, report, options.turns)
            after = await _kept(client, [other])
            if after.total() == after["done"]:
                raise SystemExit("the burst was over too early: make it larger (--burst)")
            _show(
                "turns",
                median_alone_ms=round(1000 * statistics.median(alone), 1),
                median_beside_ms=round(1000 * statistics.median(beside), 1),
                p95_alone_ms=round(1000 * _p95(alone), 1),
                p95_beside_ms=round(1000 * _p95(beside), 1),
                ratio=round(statistics.median(beside) / statistics.median(alone), 2),
                limit=1.5,
                waiting_before=before.total() - before["done"],
                waiting_after=after.total() - after["done"],
            )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.front", description=__doc__)
    parser.add_argument("--requests", type=int, default=100)
    parser.add_argument("--turns", type=int, default=40)
    parser.add_argument("--burst", type=int, default=2_000)
    asyncio.run(_measure(parser.parse_args()))


if __name__ == "__main__":
    main()
