"""`python -m bench.replays`: copies of one signed request, at two gateways, through restarts.

A house with keys and a second gateway beside it. A signed report is served once; then its
copies go to both gateways: a quarter undisturbed, one while the first gateway is killed and
started again, one while the orchestrator is, one after that. What is answered with 503, or
with nothing since the process was killed, is sent again until it is refused or served. One
JSON object; exit code 1 unless every copy was refused as a replay and one report is there.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from typing import Any
from urllib.parse import urlsplit

import httpx

from bench.house import COMMAND, House, guarded
from bench.measure import Figures
from cli.serve import bind
from runtime import signing

_REPORT = b"[]"
_PATH = "/reports"
_IN_FLIGHT = 64
_PAUSE_SECONDS = 0.05
# How long one copy may go unanswered through a restart.
_PATIENCE_SECONDS = 60.0


@contextmanager
def second_gateway(house: House) -> Iterator[str]:
    """One more gateway of a running house: its URL."""
    listener = bind("127.0.0.1:0")
    process = subprocess.Popen(
        [*COMMAND, "serve", "gateway", "--fd", str(listener.fileno())],
        env=house.environment(),
        pass_fds=(listener.fileno(),),
        stdout=subprocess.DEVNULL,
    )
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        process.terminate()
        process.wait(60)
        listener.close()


class Copies:
    """Sends one request again and again.

    Args:
        urls: gateways, used in turn.
        fields: header fields of the request.
    """

    def __init__(self, urls: list[str], fields: dict[str, str]) -> None:
        self._hosts = [urlsplit(url).netloc for url in urls]
        self._fields = fields
        # How the copies ended, and what was said to those that had to be sent again.
        self.answers: Counter[str] = Counter()
        self.again: Counter[str] = Counter()

    async def send(self, number: int) -> None:
        """Sends so many, each until it has ended."""
        hosts = cycle(self._hosts)
        left = iter(range(number))
        # One connection each: a client's pool would cost more than the refusal.
        await asyncio.gather(*(self._caller(next(hosts), left) for _ in range(_IN_FLIGHT)))

    async def _caller(self, host: str, left: Iterator[int]) -> None:
        lines = [f"POST {_PATH} HTTP/1.1", f"Host: {host}", f"Content-Length: {len(_REPORT)}"]
        lines += [f"{name}: {value}" for name, value in self._fields.items()]
        request = "\r\n".join([*lines, "", ""]).encode() + _REPORT
        address, _, port = host.partition(":")
        connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        for _ in left:
            until = time.monotonic() + _PATIENCE_SECONDS
            status, told = 503, "never answered"
            while status == 503 and time.monotonic() < until:
                try:
                    connection = connection or await asyncio.open_connection(address, port)
                    connection[1].write(request)
                    status, told = await _answer(connection[0])
                except (OSError, EOFError):
                    connection, told = None, "no answer"
                if status == 503:
                    self.again[told] += 1
                    await asyncio.sleep(_PAUSE_SECONDS)
            self.answers[told] += 1
        if connection:
            connection[1].close()


async def _answer(reader: asyncio.StreamReader) -> tuple[int, str]:
    """Status, and the reason of a refusal or the status of the report."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    (length,) = (
        int(line.split(":")[1]) for line in head.splitlines() if line.startswith("content-length:")
    )
    answer: dict[str, Any] = json.loads(await reader.readexactly(length))
    return int(head.split()[1]), answer.get("reason") or str(answer.get("status"))


async def _kill(house: House, name: str) -> float:
    """Kills a service, which `winnow up` starts again; seconds until the house is ready."""
    killed = house.processes()[name][0]
    os.kill(killed, signal.SIGKILL)
    started = time.monotonic()
    async with httpx.AsyncClient(timeout=2) as client:
        while True:
            await asyncio.sleep(_PAUSE_SECONDS)
            try:
                ready = (await client.get(f"{house.url}/readyz")).status_code == 200
            except httpx.HTTPError:
                continue
            if ready and killed not in house.processes().get(name, [killed]):
                return time.monotonic() - started


async def replay(house: House, other: str, number: int) -> Figures:
    """Has a signed report served, then sends copies of it, through two restarts.

    Args:
        other: URL of the second gateway.
        number: of copies.
    """
    key, urls = house.make_key("replayed"), [house.url, other]
    shown = {"Authorization": f"Bearer {key.text}"}
    digest = hashlib.sha256(_REPORT).digest()
    async with httpx.AsyncClient(base_url=urls[0], timeout=60) as client:
        await client.get("/whoami", headers=shown)  # what `--direct` made can sign from then on
        fields = dict(signing.sign(key, "POST", _PATH, "", digest, int(time.time())))
        first = await client.post(_PATH, content=_REPORT, headers=fields)
    copies = Copies(urls, fields)
    before, started = house.cpu(), time.monotonic()
    part = number // 4
    await copies.send(part)
    undisturbed, cpu = time.monotonic() - started, house.cpu()
    restarts = {}
    for name in ("gateway", "orchestrator"):
        restarts[name], _ = await asyncio.gather(_kill(house, name), copies.send(part))
    await copies.send(number - 3 * part)
    seconds = time.monotonic() - started
    async with httpx.AsyncClient(base_url=urls[1], timeout=60) as client:
        listed = (await client.get(_PATH, headers=shown)).json()["reports"]
    return {
        "first": first.status_code,
        "copies": number,
        "answers": dict(copies.answers),
        "sent_again": dict(copies.again),
        "reports": len(listed),
        "restart_seconds": {name: round(took, 1) for name, took in restarts.items()},
        "seconds": round(seconds, 1),
        # Before anything was killed.
        "copies_per_second": round(part / undisturbed),
        "cpu_ms_a_copy": {
            name: round(1e3 * (cpu[name] - before[name]) / part, 2) for name in before
        },
    }


def held(figures: Figures) -> bool:
    """Whether the first was served, every copy refused as a replay, and one report made."""
    served = (figures["first"], figures["reports"]) == (201, 1)
    return served and figures["answers"] == {"REPLAYED": figures["copies"]}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.replays", description=__doc__)
    parser.add_argument("--replays", type=int, default=10_000)
    options = parser.parse_args()
    with guarded() as house, second_gateway(house) as other:
        figures = asyncio.run(replay(house, other, options.replays))
    print(json.dumps({"stage": "replays", **figures}))
    sys.exit(0 if held(figures) else 1)


if __name__ == "__main__":
    main()
