"""A running `winnow up`, seen from outside: its URL, its processes, its database."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psutil
import psycopg

from runtime import matching

WINNOW = Path(sys.executable).parent / "winnow"
SERVICES = ("audit", "gateway", "ingestor", "moderator", "orchestrator")

T = TypeVar("T")
Json = dict[str, Any]


def environment(**more: str) -> dict[str, str]:
    """This process's environment without settings of Winnow but one, and with `more`."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("WINNOW_") or name == matching.CACHE
    }
    return {**kept, **more}


def eventually(probe: Callable[[], T], seconds: float = 30.0) -> T:
    """What `probe` returns as soon as that is true.

    Raises:
        AssertionError: it was not within `seconds`.
    """
    until = time.monotonic() + seconds
    while not (value := probe()):
        assert time.monotonic() < until, f"not within {seconds:g} seconds"
        time.sleep(0.05)
    return value


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A new directory that the database's user can enter, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="winnow-e2e-", ignore_cleanup_errors=True) as name:
        path = Path(name)
        path.chmod(0o711)
        yield path


def processes_of(data_dir: Path) -> list[psutil.Process]:
    """All live processes that work in a data directory, however they were orphaned."""
    mine = []
    for process in psutil.process_iter():
        try:
            if process.status() == psutil.STATUS_ZOMBIE:
                continue
            words = [*process.cmdline(), process.environ().get("WINNOW_SECRETS_DIR", "")]
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        if process.pid != os.getpid() and any(str(data_dir) in word for word in words):
            mine.append(process)
    return mine


class House:
    """One `winnow up`, started by the constructor and ready when that returns.

    Args:
        data_dir: its data directory.
        settings: environment variables to set.
    """

    def __init__(self, data_dir: Path, **settings: str) -> None:
        self.data_dir = data_dir
        self.log = data_dir.parent / f"{data_dir.name}.log"
        with self.log.open("ab") as output:
            begin = output.tell()
            self.process = subprocess.Popen(
                [WINNOW, "up", "--listen", "127.0.0.1:0", "--data-dir", data_dir],
                stdout=output,
                stderr=output,
                env=environment(**settings),
            )
        self.url = eventually(lambda: self._ready(begin), 90)
        self.http = httpx.Client(base_url=self.url, timeout=60, trust_env=False)

    def _ready(self, begin: int) -> str:
        for line in self.log.read_bytes()[begin:].decode().splitlines(keepends=True):
            if line.startswith("winnow is ready: ") and line.endswith("\n"):
                return line.split()[3]
        assert self.process.poll() is None, "winnow up ended before it was ready"
        return ""

    def stop(self) -> None:
        """SIGTERM; it must end well and leave no process."""
        self.http.close()
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(30) == 0
        assert self.processes() == []

    def kill(self) -> None:
        """Whatever is left of it, after a failed test or a kill."""
        self.http.close()
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(self.process.pid).kill()
        self.process.wait(10)
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def processes(self) -> list[psutil.Process]:
        """All its live processes, the database's included."""
        return processes_of(self.data_dir)

    def service(self, name: str) -> psutil.Process | None:
        """The live process of one service."""
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                if process.cmdline()[-6:].count("serve") and name in process.cmdline():
                    return process
        return None

    def connect(self) -> psycopg.Connection[Any]:
        """A connection to the embedded database."""
        return psycopg.connect(
            host=str(self.data_dir / "postgres"),
            user="winnow",
            dbname="winnow",
            password=(self.data_dir / "keys" / "postgres_password").read_text(),
            autocommit=True,
        )

    def metrics(self) -> dict[str, str]:
        """What each service tells Prometheus; where, it has logged."""
        lines = [line for line in self.log.read_text().splitlines() if "metrics.listening" in line]
        addresses = {line["service"]: line["address"] for line in map(json.loads, lines)}
        return {
            service: httpx.get(f"http://{address}/metrics", timeout=20, trust_env=False).text
            for service, address in addresses.items()
        }

    def get(self, path: str, /, **parameters: str | int) -> Json:
        """A GET that must succeed."""
        answer = self.http.get(path, params=parameters)
        assert answer.status_code == 200, answer.text
        body: Json = answer.json()
        return body

    def submit(self, report: bytes, path: str = "/reports") -> Json:
        """A POST of a raw report that must succeed."""
        answer = self.http.post(path, content=report)
        assert answer.status_code == 201, answer.text
        body: Json = answer.json()
        return body

    def findings(self, report_id: str, /, **filters: str | int) -> list[Json]:
        """All findings, read page by page."""
        return self._pages(f"/reports/{report_id}/findings", "findings", **filters)

    def events(self, report_id: str) -> list[str]:
        """The types of a report's events, in the log's order, once its end is among them:
        they follow the answer by a moment.
        """

        def ended() -> list[str] | None:
            entries = self._pages(f"/reports/{report_id}/events", "events", page_size=1000)
            types = [entry["event"]["event_type"] for entry in entries]
            return types if {"REPORT_DONE", "REPORT_FAILED"} & set(types) else None

        return eventually(ended)

    def _pages(self, path: str, member: str, /, **parameters: str | int) -> list[Json]:
        found: list[Json] = []
        token = ""
        while True:
            more = {"page_token": token} if token else {}
            page = self.get(path, **parameters, **more)
            found += page[member]
            token = page["next_page_token"]
            if not token:
                return found
