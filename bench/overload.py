"""`python -m bench.overload`: more than the house can take, for minutes, and its memory.

A house with keys is loaded, more and more, until it takes no more; then another one gets
about twice that: reports of mixed sizes by shown and signed keys of three tenants, broken,
oversized and repeated ones, strangers, and uploads that hardly move. Each second the memory
of each process and the database's connections are looked at. One JSON object a line:

- ramp: reports a second that the house takes to their end;
- overload: what became of each request and each accepted report; what each process holds,
  after the first minute and at the end.

Exit code 1 unless each accepted report was finished, each refusal had its reason and a
status that asks for less or says what is wrong, nothing was logged as an error, and no
process grew by more than a tenth.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import httpx
import psycopg

from bench.house import House, guarded
from bench.measure import Figures
from cli.loading.corpus import Corpus
from cli.loading.emitter import Run
from cli.loading.plan import Bodies, shots
from cli.loading.scenario import Scenario
from cli.loading.summary import percentile, summarize
from cli.loading.telemetry import Telemetry
from runtime import api_keys
from runtime.api_keys import Shown

Json = dict[str, Any]

_SEED = 7
_TENANTS = ("one", "two", "three")
_MOST_GROWTH = 0.1
_MIB = 1 << 20
_LAG_SECONDS = 0.5
_RAMP_SECONDS = 30.0
_RAMP_RATE = 150.0
# The rate that a house takes is the best of these.
_WINDOW_SECONDS = 5.0
# Of a report. Its callers send a body to its end before they read the answer, so that one of
# gigabytes would be cut before (gateway.protocol).
_LARGEST_BYTES = 16 << 20
# Averages, since a single sample may be in the middle of a large report.
_SAMPLES = 15
_SLOW_UPLOADS = 8
_SETTLE_SECONDS = 900.0
# Statuses that a refusal may have, of what is good and of what is not.
_TOO_MUCH = {429, 503}
_WRONG = {400, 401, 408, 409, 413, 415, 422}


def ramp() -> Scenario:
    """Ever more reports, each waited for."""
    return Scenario.model_validate(
        {
            "name": "ramp",
            "duration": _RAMP_SECONDS,
            "settle": 1.0,
            "emitters": [
                {
                    "name": "ramp",
                    "profile": {"kind": "ramp", "from": 1, "to": _RAMP_RATE},
                    "auth": "key",
                    "keys": list(_TENANTS),
                    "wait": True,
                    "in_flight": 48,
                    "findings": {"min": 5, "max": 100},
                }
            ],
        }
    )


def overload(rate: float, seconds: float) -> Scenario:
    """About so many requests a second, good and bad ones."""

    def emitter(name: str, part: float, **members: Any) -> Json:
        keyed: Json = {"auth": "key", "keys": list(_TENANTS)}
        profile = {"kind": "constant", "rate": part * rate}
        return {"name": name, "profile": profile, "arrivals": "random"} | keyed | members

    wrong = {
        "malformed": 0.2,
        "unknown": 0.15,
        "envelope": 0.15,
        "oversized": 0.1,
        "conflicting": 0.1,
        "replayed": 0.2,
        "unsigned": 0.1,
    }
    return Scenario.model_validate(
        {
            "name": "overload",
            "duration": seconds,
            "timeout": 120.0,
            "settle": 60.0,
            "emitters": [
                emitter("later", 0.35, findings={"min": 5, "max": 100}, in_flight=400),
                emitter("waiting", 0.2, wait=True, findings={"min": 5, "max": 100}, in_flight=400),
                emitter("signed", 0.2, auth="signed", in_flight=400),
                emitter("large", 0.02, findings={"min": 500, "max": 4000}, in_flight=32),
                emitter(
                    "wrong", 0.15, share=wrong, in_flight=200, oversized_bytes=_LARGEST_BYTES + 1
                ),
                emitter("strangers", 0.08, keys=["stranger"], in_flight=200),
            ],
        }
    )


class Watched:
    """What a house holds, looked at once a second in a thread of its own.

    Args:
        house: that runs.
    """

    def __init__(self, house: House) -> None:
        self._house = house
        # By process: seconds from the start, and bytes.
        self.sizes: dict[str, list[tuple[float, int]]] = {}
        self.connections: list[int] = []
        self.late: list[float] = []

    async def lag(self) -> None:
        """Measures how late the sender's own loop is, until it is cancelled."""
        while True:
            due = time.monotonic() + _LAG_SECONDS
            await asyncio.sleep(_LAG_SECONDS)
            self.late.append(time.monotonic() - due)

    async def watch(self) -> None:
        """Looks until it is cancelled."""
        started = time.monotonic()
        url = self._house.database_url()
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as database:
            while True:
                at = time.monotonic() - started
                for name, size in (await asyncio.to_thread(self._house.resident)).items():
                    self.sizes.setdefault(name, []).append((at, size))
                asked = await database.execute(
                    "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
                )
                row = await asked.fetchone()
                self.connections.append(row[0] if row else 0)
                await asyncio.sleep(max(0.0, started + at + 1.0 - time.monotonic()))

    def memory(self, from_second: float) -> dict[str, Json]:
        """Of each process: MiB at `from_second` and at the end, growth, MiB a minute between."""
        found = {}
        for name, samples in sorted(self.sizes.items()):
            later = [(at, size / _MIB) for at, size in samples if at >= from_second]
            first = statistics.fmean(size for _, size in later[:_SAMPLES])
            last = statistics.fmean(size for _, size in later[-_SAMPLES:])
            slope = statistics.linear_regression(*zip(*later, strict=True)).slope
            found[name] = {
                "mib_first": round(first, 1),
                "mib_last": round(last, 1),
                "mib_most": round(max(size for _, size in later), 1),
                "growth": round(last / first - 1, 3),
                "mib_a_minute": round(slope * 60, 2),
            }
        return found


async def send(scenario: Scenario, house: House, keys: Mapping[str, Shown]) -> Telemetry:
    """Sends what a scenario says, and waits for every answer."""
    telemetry = Telemetry()
    plans = {one.name: shots(one, scenario.duration, _SEED) for one in scenario.emitters}
    bodies, run_id = Bodies(Corpus(_SEED), _SEED), uuid.uuid4().hex[:12]
    async with Run(scenario, house.url, keys, bodies, run_id, telemetry) as run:
        await run.emit(plans)
    return telemetry


async def crawl(house: House, key: Shown, told: Counter[str]) -> None:
    """Uploads that bring a few bytes a second, one after another, until it is cancelled."""
    host, _, port = urlsplit(house.url).netloc.partition(":")
    head = (
        f"POST /reports?scanner_type=gitleaks HTTP/1.1\r\nHost: {host}:{port}\r\n"
        f"{api_keys.HEADER}: Bearer {key.text}\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    while True:
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(head.encode())
        answer = asyncio.create_task(reader.readline())
        with suppress(OSError):
            while not answer.done():
                writer.write(b"1\r\n[\r\n")
                await asyncio.wait([answer], timeout=1.0)
        with suppress(OSError):
            told[(await answer).decode().partition(" ")[2][:3] or "cut"] += 1
        writer.close()


async def ended(house: House, keys: Mapping[str, Shown]) -> dict[str, str]:
    """Statuses of all reports by id, once none is under way or time is up."""
    until = time.monotonic() + _SETTLE_SECONDS
    async with httpx.AsyncClient(base_url=house.url, timeout=60) as client:
        while True:
            found: dict[str, str] = {}
            for tenant in _TENANTS:
                token = ""
                while True:
                    page = await client.get(
                        "/reports",
                        params={"page_size": 500, "page_token": token},
                        headers={api_keys.HEADER: f"Bearer {keys[tenant].text}"},
                    )
                    if page.status_code != 200:  # too much asked of one key, for a moment
                        await asyncio.sleep(1.0)
                        continue
                    found |= {one["report_id"]: one["status"] for one in page.json()["reports"]}
                    token = page.json()["next_page_token"]
                    if not token:
                        break
            if set(found.values()) <= {"done", "error"} or time.monotonic() > until:
                return found
            await asyncio.sleep(2.0)


def taken(telemetry: Telemetry) -> float:
    """The most reports a second that were answered as done, over a few seconds."""
    done = Counter(int(one.ended / _WINDOW_SECONDS) for one in telemetry.sent if one.accepted)
    return max(done.values(), default=0) / _WINDOW_SECONDS


async def _known(house: House) -> dict[str, Shown]:
    """A key of each tenant, shown once so that it can sign, and one that nobody knows."""
    keys = {name: house.make_key(name) for name in (*_TENANTS, "slow")}
    async with httpx.AsyncClient(base_url=house.url, timeout=60) as client:
        for key in keys.values():
            shown = {api_keys.HEADER: f"Bearer {key.text}"}
            (await client.get("/whoami", headers=shown)).raise_for_status()
    return {**keys, "stranger": api_keys.make()}


async def capacity(house: House) -> float:
    """Reports a second that a house takes to their end."""
    return taken(await send(ramp(), house, await _known(house)))


async def overloaded(house: House, rate: float, seconds: float, warm_up: float) -> Figures:
    """Sends about `rate` requests a second; what became of them, and what the house held."""
    keys = await _known(house)
    watched, slow = Watched(house), Counter[str]()
    beside = [
        asyncio.create_task(watched.watch()),
        asyncio.create_task(watched.lag()),
        *(asyncio.create_task(crawl(house, keys["slow"], slow)) for _ in range(_SLOW_UPLOADS)),
    ]
    scenario = overload(rate, seconds)
    try:
        telemetry = await send(scenario, house, keys)
    finally:
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
    memory = watched.memory(warm_up)
    reports = await ended(house, keys)
    accepted = {one.report_id for one in telemetry.sent if one.accepted}
    answers = Counter(
        (one.kind == "good" and one.key != "stranger", one.status, one.reason)
        for one in telemetry.sent
    )
    allowed = {True: _TOO_MUCH, False: _TOO_MUCH | _WRONG}
    odd = {
        f"{status} {reason}": count
        for (good, status, reason), count in answers.items()
        if not 200 <= status < 300 and (status not in allowed[good] or not reason)
    }
    late = sorted(max(0.0, one.sent - one.planned) for one in telemetry.sent)
    totals = summarize(telemetry, len(telemetry.sent), scenario.expect)
    told = Counter(f"{one.status} {one.reason}".strip() for one in telemetry.sent)
    return {
        "seconds": seconds,
        "sent": len(telemetry.sent),
        "sent_a_second": round(len(telemetry.sent) / seconds, 1),
        # Who sends too slowly is cut, as the server should: then the sender needs more room.
        "sent_late_p95_ms": round(percentile(late, 0.95) * 1e3),
        "sender_stalled_p99_ms": round(percentile(sorted(watched.late), 0.99) * 1e3),
        "accepted": len(accepted),
        "finished": Counter(reports.get(one, "lost") for one in accepted)["done"],
        "doubled": totals["doubled"],
        "answers": dict(told.most_common()),
        "slow_uploads": dict(slow),
        "odd": odd,
        "logged_errors": house.errors(),
        "memory": memory,
        "connections_most": max(watched.connections),
        "connections_first": watched.connections[min(len(watched.connections) - 1, int(warm_up))],
        "connections_last": watched.connections[-1],
    }


def held(figures: Figures) -> bool:
    """Whether the house did what it should under more than it can take."""
    return (
        0 < figures["accepted"] == figures["finished"]
        and not figures["odd"]
        and not figures["logged_errors"]
        and not figures["doubled"]
        and set(figures["slow_uploads"]) <= {"408", "429", "503"}
        and all(one["growth"] <= _MOST_GROWTH for one in figures["memory"].values())
    )


def _politely(work: Callable[[], Coroutine[Any, Any, Any]], nice: int) -> Any:
    """Runs it in a thread that gives way to the house: on Linux a thread is nice by itself."""
    with ThreadPoolExecutor(1, initializer=os.nice, initargs=(nice,)) as pool:
        return pool.submit(lambda: asyncio.run(work())).result()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.overload", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--rate", type=float, help="what the house takes; measured if not given")
    parser.add_argument("--nice", type=int, default=5, help="of the sender, not of the house")
    options = parser.parse_args()
    rate = options.rate
    if rate is None:
        with guarded() as house:
            rate = _politely(lambda: capacity(house), options.nice)
        print(json.dumps({"stage": "ramp", "reports_a_second": rate}), flush=True)
    seconds = 60 * options.minutes
    limits = {
        "WINNOW_MAX_REPORT_BYTES": str(_LARGEST_BYTES),
        # Half of what the house takes is any key's, so that some are beyond their rate.
        "WINNOW_RATE_CAPACITY": str(max(1, round(2 * rate))),
        "WINNOW_RATE_REFILL_PER_SECOND": str(rate / 2),
        # What waits at the end is waited for.
        "WINNOW_MAX_QUEUE_DEPTH": "500",
    }
    with guarded(**limits) as house:
        warm_up = min(60, seconds / 3)
        figures = _politely(lambda: overloaded(house, 2 * rate, seconds, warm_up), options.nice)
    print(json.dumps({"stage": "overload", **figures}))
    sys.exit(0 if held(figures) else 1)


if __name__ == "__main__":
    main()
