"""`python -m bench.front`: the front door under load, each figure beside its limit.

A house with keys (`winnow up --auth keys`), and callers on the same machine. One JSON
object:

- fairness: p95 of one key's POSTs, alone and beside a burst of another key of another tenant at
  twenty times its share.

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


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.front", description=__doc__)
    parser.add_argument("--requests", type=int, default=100)
    asyncio.run(_measure(parser.parse_args()))


if __name__ == "__main__":
    main()
