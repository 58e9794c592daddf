"""The whole house, measured from outside: REST in, REST out, CPU and memory of every process."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench.measure import Figures, cpu_seconds, descendants, peak_rss, resident
from cli.keys import make_directly
from cli.loading.reports import generate
from runtime import api_keys

_WINNOW = Path(sys.executable).parent / "winnow"
COMMAND = (sys.executable, "-m", "cli.main")
_MIB = 1 << 20


class House:
    """A running `winnow up`.

    Args:
        process: of `winnow up`.
        url: of its gateway.
        log: what it writes.
    """

    def __init__(
        self, process: subprocess.Popen[Any], url: str, log: Path = Path(os.devnull)
    ) -> None:
        self._log = log
        self.url = url
        self._pid = process.pid
        self._address = urlsplit(url).netloc

    def request(
        self, method: str, path: str, body: Iterable[bytes] | bytes | None = None
    ) -> tuple[float, bytes]:
        """One request on a connection of its own: seconds, and the answer's body."""
        connection = http.client.HTTPConnection(self._address, timeout=600)
        started = time.perf_counter()
        connection.request(
            method,
            path,
            body=body,
            headers={"Content-Type": "application/octet-stream"} if body is not None else {},
            encode_chunked=body is not None and not isinstance(body, bytes),
        )
        answer = connection.getresponse()
        text = answer.read()
        seconds = time.perf_counter() - started
        connection.close()
        if answer.status >= 300:
            raise SystemExit(f"{method} {path} answered {answer.status}: {text[:300]!r}")
        return seconds, text

    def processes(self) -> dict[str, list[int]]:
        """Process ids by what they are: each service, and postgres with its backends."""
        found: dict[str, list[int]] = {}
        for pid in descendants(self._pid):
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"serve" in words:
                name = words[words.index(b"serve") + 1].decode()
                found.setdefault(name, []).append(pid)
            elif b"postgres" in words[0]:
                found.setdefault("postgres", []).append(pid)
        return found

    def environment(self) -> dict[str, str]:
        """What its services were given."""
        (pid,) = self.processes()["audit"]
        entries = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
        return dict(entry.split("=", 1) for entry in entries if entry)

    def database_url(self) -> str:
        """Where its PostgreSQL is."""
        return self.environment()["WINNOW_DATABASE_URL"]

    def errors(self) -> dict[str, int]:
        """Lines of its log at the level of errors, by their action."""
        found: Counter[str] = Counter()
        with self._log.open() as lines:
            for line in lines:
                if '"level": "error"' in line:
                    found[json.loads(line)["action"]] += 1
        return dict(found)

    def make_key(self, tenant: str) -> api_keys.Shown:
        """A key of a tenant that may submit and read."""
        made = make_directly(self.database_url(), tenant, tenant, ["submit", "read"])
        key = api_keys.parse(made or "")
        assert key is not None
        return key

    def cpu(self) -> dict[str, float]:
        """CPU seconds used so far, by service."""
        return {name: sum(map(cpu_seconds, pids)) for name, pids in self.processes().items()}

    def resident(self) -> dict[str, int]:
        """Bytes that are resident now, by service; the database's processes share theirs."""
        return {
            name: sum(map(resident, pids))
            for name, pids in self.processes().items()
            if name != "postgres"
        }

    def memory(self) -> dict[str, int]:
        """Peak resident set in MiB of each of our processes."""
        return {
            name: round(max(map(peak_rss, pids)) / _MIB)
            for name, pids in self.processes().items()
            if name != "postgres"
        }


@contextmanager
def running() -> Iterator[House]:
    """`winnow up` on a free port with a data directory of its own, gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="winnow-bench-"))
    folder.chmod(0o711)
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [_WINNOW, "up", "--listen", "127.0.0.1:0", "--data-dir", folder / "data"],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    try:
        assert process.stdout is not None
        url = ""
        for line in process.stdout:
            if line.startswith("winnow is ready: "):
                url = line.split()[3]
                break
        if not url:
            raise SystemExit("winnow did not start")
        # Its log lines must not fill the pipe.
        drain = subprocess.Popen(["cat"], stdin=process.stdout, stdout=subprocess.DEVNULL)
        yield House(process, url)
    finally:
        process.terminate()
        process.wait(60)
        drain.wait(5)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def guarded(**settings: str) -> Iterator[House]:
    """A house that needs keys, on a free port.

    Args:
        settings: environment variables of `winnow up`.
    """
    with tempfile.TemporaryDirectory(prefix="winnow-bench-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(
                [
                    *(*COMMAND, "up", "--auth", "keys"),
                    *("--listen", "127.0.0.1:0", "--data-dir", folder / "data"),
                ],
                stdout=log,
                stderr=log,
                env={**os.environ, **settings},
            )
        try:
            url = ""
            while not url:
                if process.poll() is not None:
                    raise SystemExit("winnow did not start")
                time.sleep(0.1)
                for line in (folder / "log").read_text().splitlines():
                    if line.startswith("winnow is ready: "):
                        url = line.split()[3]
            yield House(process, url, folder / "log")
        finally:
            process.terminate()
            process.wait(60)


def submit(house: House, report_format: str, findings: int, seed: int, limit_us: float) -> Figures:
    """POSTs one streamed report and waits for its verdicts.

    Args:
        limit_us: CPU microseconds a finding of `json.loads` on the same report.
    """
    before = house.cpu()
    seconds, text = house.request(
        "POST",
        f"/reports?scanner_type={report_format}",
        generate(report_format, findings, seed),
    )
    used = {name: value - before.get(name, 0.0) for name, value in house.cpu().items()}
    answer: dict[str, Any] = json.loads(text)
    assert answer["records"]["read"] == findings
    total_us = sum(used.values()) / findings * 1e6
    return {
        "findings": findings,
        "seconds": seconds,
        "findings_per_second": findings / seconds,
        "cpu_us_per_finding": total_us,
        "cpu_us_by_process": {name: round(v / findings * 1e6, 1) for name, v in used.items()},
        "times_json_loads": total_us / limit_us,
        "peak_rss_mib": house.memory(),
        "report_id": answer["report_id"],
    }


def read(house: House, report_id: str, findings: int) -> Figures:
    """GETs a whole report with all its findings, five times."""
    times = []
    for _ in range(5):
        seconds, text = house.request("GET", f"/reports/{report_id}")
        times.append(seconds)
    assert len(json.loads(text)["findings"]) == findings
    return {"findings": findings, "p50_ms": statistics.median(times) * 1000}


def small(house: House, findings: int, rounds: int) -> Figures:
    """POSTs small reports one after the other: the time a CI job waits."""
    body = b"".join(generate("gitleaks", findings, 5))
    times = [
        house.request("POST", "/reports?scanner_type=gitleaks", body)[0] for _ in range(rounds)
    ]
    return {
        "findings": findings,
        "rounds": rounds,
        "p50_ms": statistics.median(times) * 1000,
        "p95_ms": sorted(times)[int(rounds * 0.95) - 1] * 1000,
    }
