"""Faults at moments that nobody chose, under a stream of reports.

Each prints what it did, and gives what does not hold in the end.
"""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx

from tests.faults.checks import Complaint
from tests.faults.house import SERVICES, House
from tests.faults.load import SUBMISSIONS, Stream, Submission
from tests.faults.stage import Stage
from tests.runtime.transport.servers import Broker

_BEFORE_SECONDS = 2.0
# Rounds under way at a time.
_STREAMS = 3


def kills(
    stage: Stage,
    count: int,
    chance: random.Random,
    victims: Sequence[str] = SERVICES,
    submissions: tuple[Submission, ...] = SUBMISSIONS,
) -> list[Complaint]:
    """SIGKILLs of random processes at random moments."""
    with _under_load(stage, "kills", submissions) as found:
        for number in range(1, count + 1):
            time.sleep(chance.uniform(0.2, 2.8))
            stage.house.process(chance.choice(victims)).kill()
            if number % 10 == 0:
                print(f"  {number} kills", flush=True)
    return found


def database(stage: Stage, count: int, chance: random.Random) -> list[Complaint]:
    """The database's processes are killed, and it is started again at once."""
    with _under_load(stage, "database") as found:
        for _ in range(count):
            time.sleep(chance.uniform(0.5, 3.0))
            killed = time.monotonic()
            stage.house.kill_database()
            stage.house.start_database()
            while not _answers(stage.house):
                time.sleep(0.02)
            print(f"  read again {time.monotonic() - killed:.1f} s after the kill", flush=True)
    return found


def gone(stage: Stage, away: str | Broker, seconds: float) -> list[Complaint]:
    """A service, or the server of the event transport, is away for a while."""
    with _under_load(stage, "gone") as found:
        time.sleep(_BEFORE_SECONDS)
        if isinstance(away, str):
            stage.house.send_away(away)
            time.sleep(seconds)
            stage.house.bring(away)
        else:
            away.kill()
            time.sleep(seconds)
            away.start()
        print(f"  back after {seconds:g} s", flush=True)
        time.sleep(_BEFORE_SECONDS)
    return found


def disk(stage: Stage, seconds: float) -> list[Complaint]:
    """The file system that holds the database is full to the last byte, then no more."""
    ballast = stage.house.folder / "ballast"
    log = stage.house.folder / "postgres" / "postgres.log"
    with _under_load(stage, "disk") as found:
        time.sleep(_BEFORE_SECONDS)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            _fill(ballast)
            time.sleep(0.2)
        ballast.unlink()
        felt = log.read_text("utf-8").count("No space left on device")
        print(f"  full for {seconds:g} s; PostgreSQL found no room {felt} times", flush=True)
        if not felt:
            found.append(Complaint("unclear", "the full disk was not felt"))
        stage.house.start_database()
        time.sleep(_BEFORE_SECONDS)
    return found


def _fill(ballast: Path) -> None:
    """Writes until there is no room left."""
    block = 1 << 20
    with ballast.open("ab", buffering=0) as file:
        while block >= 512:
            try:
                file.write(bytes(block))
            except OSError:
                block //= 2


@contextlib.contextmanager
def small_disk(mib: int) -> Iterator[Path]:
    """A folder that is a file system of its own, in memory.

    Raises:
        OSError: none can be mounted here.
    """
    with tempfile.TemporaryDirectory(prefix="winnow-faults-") as name:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", name],
            check=False,
            capture_output=True,
        )
        if done.returncode:
            raise OSError(f"cannot mount a file system of {mib} MiB: {os.strerror(1)}")
        try:
            yield Path(name)
        finally:
            subprocess.run(["umount", "--lazy", name], check=True)


@contextlib.contextmanager
def _under_load(
    stage: Stage, name: str, submissions: tuple[Submission, ...] = SUBMISSIONS
) -> Iterator[list[Complaint]]:
    """Reports come and come; in the end, everything that does not hold."""
    found: list[Complaint] = []
    begun = time.time_ns()
    streams = [
        Stream(stage.house.url, f"{name}@{begun}-{number}-", submissions)
        for number in range(_STREAMS)
    ]
    try:
        yield found
    finally:
        for stream in streams:
            stream.end()
    rounds = [round_ for stream in streams for round_ in stream.rounds]
    refused = []
    for round_ in rounds:
        found += stage.checks.check(round_)
        refused += [status for one in round_.answers().values() for status in one.refused]
    cut = refused.count(0)
    print(
        f"  {len(rounds)} rounds of {len(submissions)} reports; attempts cut {cut}, "
        f"refused for now {len(refused) - cut}",
        flush=True,
    )


def _answers(house: House) -> bool:
    try:
        answer = httpx.get(f"{house.url}/reports?page_size=1", timeout=5, trust_env=False)
    except httpx.TransportError:
        return False
    return answer.status_code == 200
