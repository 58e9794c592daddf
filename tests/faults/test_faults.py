"""A slice of what `make crash` does: crash points, kills, a process that hangs, two at work.

One house, disturbed by one test after the other.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli import up
from cli.own import UpSettings
from runtime import crash
from tests.e2e.house import eventually
from tests.faults import modes
from tests.faults.house import LEASE_SECONDS, House
from tests.faults.load import LARGE, QUICK, Round
from tests.faults.points import PLANS, strike
from tests.faults.stage import Stage, stage

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("runtime", "ingestor", "moderator", "orchestrator", "audit", "gateway")
MIXED = tuple(one for one in QUICK if one.name == "mixed")
_USE = re.compile(r'crash\.point\(\s*"([^"]*)"')


def test_every_crash_point_is_in_the_code_and_is_struck() -> None:
    sources = [path for name in PACKAGES for path in (ROOT / name).rglob("*.py")]
    used = {name for path in sources for name in _USE.findall(path.read_text("utf-8"))}
    assert used == crash.POINTS.keys()
    assert PLANS.keys() == crash.POINTS.keys()


@pytest.fixture(scope="module")
def disturbed() -> Iterator[Stage]:
    with stage((*QUICK, LARGE)) as ready:
        yield ready


@pytest.fixture
def second(disturbed: Stage) -> Iterator[str]:
    """A second orchestrator on the same database."""
    disturbed.house.bring("orchestrator2")
    yield "orchestrator2"
    disturbed.house.send_away("orchestrator2")


@pytest.mark.parametrize(
    ("transport", "points"),
    [
        ("postgres", ["intake.admitted"]),
        ("postgres", ["writer.stored:3", "audit.appended"]),
        ("postgres", ["run.ending", "gateway.body"]),
        ("valkey", ["consumer.applied"]),
        ("nats", ["outbox.published"]),
    ],
)
def test_what_was_accepted_survives(disturbed: Stage, transport: str, points: list[str]) -> None:
    with disturbed.carried_by(transport):
        struck = strike(disturbed, points, QUICK)
    assert struck.died
    assert struck.complaints == []


def test_an_orchestrator_is_killed_again_and_again(disturbed: Stage) -> None:
    found = modes.kills(disturbed, 3, random.Random(1), ["orchestrator"], QUICK)
    assert found == []


def test_an_orchestrator_that_hangs_longer_than_its_lease_writes_nothing_more(
    disturbed: Stage, second: str
) -> None:
    house = disturbed.house
    round_ = Round(house.url, "hung", (LARGE,))
    report_id = eventually(lambda: _begun(house))
    with house.stopped("orchestrator"):
        stopped = time.monotonic()
        eventually(lambda: report_id in _done_by(house, second))
        time.sleep(max(0.0, 2 * LEASE_SECONDS - (time.monotonic() - stopped)))
    assert disturbed.checks.check(round_) == []
    assert report_id not in _done_by(house, "orchestrator")


def test_two_orchestrators_share_the_work(disturbed: Stage, second: str) -> None:
    house = disturbed.house
    rounds = [Round(house.url, f"shared{number}", MIXED) for number in range(12)]
    found = [complaint for round_ in rounds for complaint in disturbed.checks.check(round_)]
    assert found == []
    reports = {round_.answers()["mixed"].report_id for round_ in rounds}
    by_first, by_second = (_done_by(house, name) & reports for name in ("orchestrator", second))
    assert by_first | by_second == reports
    assert by_first
    assert by_second
    assert not by_first & by_second


async def test_what_winnow_up_starts_again_has_no_crash_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = up.House(tmp_path, "127.0.0.1:0", UpSettings())
    house._environment = {crash.VARIABLE: "run.ended", "PATH": "/bin"}
    armed: list[bool] = []

    async def start(*_command: str, env: dict[str, str], **_options: Any) -> Any:
        armed.append(crash.VARIABLE in env)
        if len(armed) == 3:
            house._stopping.set()
        return await asyncio.subprocess.create_subprocess_exec("sh", "-c", "exit 137")

    monkeypatch.setattr(asyncio, "create_subprocess_exec", start)
    await house._keep("orchestrator")
    assert armed == [True, False, False]


def _begun(house: House) -> str:
    """The report of the round "hung", once findings of it are stored."""
    with house.connect() as connection:
        row = connection.execute(
            "SELECT report_id::text FROM orchestrator.reports"
            " WHERE labels->>'round' = 'hung' AND finished_at IS NULL AND EXISTS"
            " (SELECT 1 FROM orchestrator.findings WHERE findings.report_id = reports.report_id)"
        ).fetchone()
    return str(row[0]) if row else ""


def _done_by(house: House, name: str) -> set[str]:
    """The reports that a process has brought to their end, from its log."""
    lines = (house.folder / f"{name}.log").read_text("utf-8").splitlines()
    entries = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
    return {entry["report_id"] for entry in entries if entry["action"] == "report.done"}
