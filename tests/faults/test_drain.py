"""SIGTERM in the middle of a load: what was accepted is there, whatever else was told so.

One house with keys; the gateway is stopped, then the orchestrator, then all of it.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from cli.loading.reports import generate
from cli.usage import ADMIN_KEY_FILE
from runtime import api_keys, signing
from tests.e2e.house import House, eventually, folder

pytestmark = pytest.mark.xdist_group("e2e")

SMALL = b"".join(generate("trufflehog", 60, 21))
# Takes longer than the small ones, and than a stop waits for where the machine is slow.
LARGE = b"".join(generate("trufflehog", 20_000, 22))
_TARGET = "/reports"
_QUERY = "scanner_type=trufflehog&label=name="
_MAY_BE_REFUSED = (429, 503)
_POSTERS = 6


class Told(NamedTuple):
    """What became of a submission: a status, 0 for a connection that was cut; and the body."""

    name: str
    status: int
    body: dict[str, Any]


@pytest.fixture(scope="module")
def data_dir() -> Iterator[Path]:
    with folder() as path:
        yield path / "data"


class Held:
    """The house that is up just now, and what its reports come to when nobody disturbs it."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.start()
        key = api_keys.parse((data_dir / ADMIN_KEY_FILE).read_text().strip())
        assert key is not None
        self.key = key
        self.quiet = {len(body): self._quiet(body) for body in (SMALL, LARGE)}

    def start(self) -> None:
        self.house = House(self.data_dir, WINNOW_AUTH="keys")

    def _quiet(self, body: bytes) -> Any:
        told = self.submit("quiet", body)
        assert told.status == 201, told
        return _outcome(self.report(told))

    def submit(self, name: str, body: bytes, *, sign: bool = False, wait: bool = True) -> Told:
        """One submission, signed or with the key shown."""
        query = _QUERY + name
        headers = {} if wait else {"Prefer": "respond-async"}
        if sign:
            digest = hashlib.sha256(body).digest()
            fields = signing.sign(self.key, "POST", _TARGET, query, digest, int(time.time()))
            headers.update(fields)
        else:
            headers["Authorization"] = f"Bearer {self.key.text}"
        try:
            answer = httpx.post(
                f"{self.house.url}{_TARGET}?{query}",
                content=body,
                headers=headers,
                timeout=120,
                trust_env=False,
            )
        except httpx.TransportError:
            return Told(name, 0, {})
        if answer.status_code >= 400:
            assert answer.headers["content-type"] == "application/problem+json", answer.text
        return Told(name, answer.status_code, answer.json())

    def report(self, told: Told) -> dict[str, Any]:
        """The report of an answer, once it has ended."""

        def ended() -> dict[str, Any] | None:
            try:
                answer = httpx.get(
                    f"{self.house.url}/reports/{told.body['report_id']}?findings=false",
                    headers={"Authorization": f"Bearer {self.key.text}"},
                    timeout=30,
                    trust_env=False,
                )
            except httpx.TransportError:
                return None
            if answer.status_code in _MAY_BE_REFUSED:
                return None
            assert answer.status_code == 200, (told, answer.text)
            found: dict[str, Any] = answer.json()
            return found if found["status"] in ("done", "error") else None

        return eventually(ended, 60)

    def names(self, prefix: str) -> list[str]:
        """Names of the reports that there are."""
        with self.house.connect() as connection:
            rows = connection.execute(
                "SELECT labels->>'name' FROM orchestrator.reports"
                " WHERE labels->>'name' LIKE %s ORDER BY 1",
                [f"{prefix}%"],
            ).fetchall()
        return [row[0] for row in rows]


def _outcome(report: dict[str, Any]) -> Any:
    return report["status"], report["records"], report["summary"]


@pytest.fixture(scope="module")
def held(data_dir: Path) -> Iterator[Held]:
    made = Held(data_dir)
    try:
        yield made
    finally:
        made.house.kill()


@contextmanager
def under_load(held: Held, prefix: str) -> Iterator[list[Told]]:
    """Submissions of all kinds, before the block, in it and after; what became of each, at the end."""
    over = threading.Event()
    numbers = itertools.count()
    found: list[Told] = []

    def post(poster: int) -> None:
        while not over.is_set():
            name = f"{prefix}.{next(numbers)}"
            told = held.submit(name, SMALL, sign=poster % 2 == 0, wait=poster % 3 > 0)
            found.append(told)
            if told.status == 0:
                time.sleep(0.1)

    with ThreadPoolExecutor(_POSTERS + 1) as pool:
        posting = [pool.submit(post, number) for number in range(_POSTERS)]
        large = pool.submit(held.submit, f"{prefix}.large", LARGE)
        try:
            eventually(lambda: len(found) > 2 * _POSTERS)
            yield found
        finally:
            over.set()
        for one in posting:
            one.result()
        found.append(large.result())


@contextmanager
def half_an_upload(held: Held) -> Iterator[socket.socket]:
    """A connection on which a body has begun, and will not end."""
    host, _, port = held.house.url.rpartition("/")[2].partition(":")
    head = (
        f"POST {_TARGET}?{_QUERY}half HTTP/1.1\r\nHost: {host}:{port}\r\n"
        f"Authorization: Bearer {held.key.text}\r\nContent-Length: {len(LARGE)}\r\n\r\n"
    )
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(head.encode() + LARGE[: len(LARGE) // 2])
        yield connection


def told_on(connection: socket.socket) -> tuple[int, dict[str, Any]]:
    """The answer on a connection that the server then closes."""
    answer = b""
    while piece := connection.recv(1 << 16):
        answer += piece
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


def check(held: Held, prefix: str, found: list[Told]) -> None:
    """Every answer was kept to."""
    accepted = [told for told in found if 200 <= told.status < 300]
    assert {told.status for told in found} - {200, 201, 202, 0, *_MAY_BE_REFUSED} == set()
    for told in accepted:
        size = len(LARGE if told.name.endswith("large") else SMALL)
        assert _outcome(held.report(told)) == held.quiet[size], told
    # Whoever was cut, or told to come again, has left nothing.
    assert held.names(f"{prefix}.") == sorted(told.name for told in accepted)


@pytest.mark.parametrize("service", ["gateway", "orchestrator"])
def test_one_service_is_stopped(held: Held, service: str) -> None:
    stopping = held.house.service(service)
    assert stopping is not None
    with under_load(held, service) as found:
        stopping.send_signal(signal.SIGTERM)
        stopped = len(found)
        assert stopping.wait(15) in (0, None)

        def served_again() -> bool:
            return any(told.status == 201 for told in found[stopped + _POSTERS :])

        eventually(served_again)
    check(held, service, found)


def test_all_of_it_is_stopped(held: Held) -> None:
    with under_load(held, "all") as found, half_an_upload(held) as connection:
        house = held.house
        house.process.send_signal(signal.SIGTERM)
        status, problem = told_on(connection)
        assert (status, problem["reason"]) == (503, "UPSTREAM_UNAVAILABLE")
        assert house.process.wait(30) == 0
        assert house.processes() == []
    held.start()
    check(held, "all", found)
    assert held.names("half") == []
    held.house.stop()
