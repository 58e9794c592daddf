"""jobs, jobs retry, jobs health: over REST, and what the gRPC client makes of answers."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.main import app
from cli.queue import _span
from runtime.clock import now, uuid7
from tests.cli.conftest import Run
from tests.gateway.queues import Desk
from tests.gateway.queues import desk as desk
from winnow.queue.v1.job_pb2 import JOB_STATE_DEAD, JOB_STATE_RUNNING, JOB_STATE_WAITING


@pytest.fixture(params=["rest", "grpc"])
def winnow(desk: Desk, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs one command line against the gateway, or the service behind it."""
    monkeypatch.setenv("WINNOW_SERVER", desk.url if request.param == "rest" else desk.grpc_url)

    async def run(*arguments: str, stdin: bytes | None = None) -> Any:
        return await asyncio.to_thread(CliRunner().invoke, app, list(arguments), stdin)

    return run


async def test_jobs_are_a_table(winnow: Run, desk: Desk) -> None:
    job = desk.queue.add("report.run", JOB_STATE_RUNNING, attempt=3, failures=2)
    dead = desk.queue.add(
        "uploads.sweep",
        JOB_STATE_DEAD,
        failures=20,
        error_reason="INTERNAL",
        error_message="it \x1b[31mfailed",
    )
    result = await winnow("jobs")
    assert result.exit_code == 0, result.stderr
    head, first, second, _, _, error = result.stdout.splitlines()
    assert head.split()[:4] == ["job", "kind", "key", "state"]
    assert first.startswith(f"{dead.job_id}  uploads.sweep")
    assert "20 of 20" in first
    assert second.startswith(f"{job.job_id}  report.run")
    assert "2 of 20" in second
    assert error == f"{dead.job_id}  it \\x1b[31mfailed (INTERNAL)"


async def test_jobs_are_filtered_and_paged(winnow: Run, desk: Desk) -> None:
    for _ in range(7):
        desk.queue.add("a", JOB_STATE_WAITING)
    dead = desk.queue.add("a", JOB_STATE_DEAD)
    desk.queue.add("b", JOB_STATE_DEAD)
    desk.queue.page = 3
    found = await winnow("jobs", "--state", "dead", "--kind", "a", "--json")
    assert [job["job_id"] for job in json.loads(found.stdout)] == [dead.job_id]
    limited = await winnow("jobs", "--limit", "5", "--json")
    assert len(json.loads(limited.stdout)) == 5
    assert desk.queue.requests[-1].page_size == 5
    assert len(json.loads((await winnow("jobs", "--json")).stdout)) == 9
    assert (await winnow("jobs", "--state", "done")).exit_code == 2


async def test_a_job_that_waits_for_a_later_time_is_delayed(winnow: Run, desk: Desk) -> None:
    later = desk.queue.add("a", JOB_STATE_WAITING)
    later.due_at.FromDatetime(now() + timedelta(minutes=1))
    desk.queue.add("a", JOB_STATE_WAITING)
    leased = desk.queue.add("a", JOB_STATE_RUNNING)
    leased.due_at.FromDatetime(now() + timedelta(minutes=1))
    _, *lines = (await winnow("jobs")).stdout.splitlines()
    assert [line.split()[3] for line in lines] == ["running", "waiting", "delayed"]
    _, *lines = (await winnow("jobs", "--state", "waiting")).stdout.splitlines()
    assert [line.split()[3] for line in lines] == ["waiting", "delayed"]


async def test_retry(winnow: Run, desk: Desk) -> None:
    job = desk.queue.add("report.run", JOB_STATE_DEAD)
    result = await winnow("jobs", "retry", job.job_id)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"report.run {job.key}: waiting\n"
    again = await winnow("jobs", "retry", job.job_id)
    assert again.exit_code == 2
    assert "it is not dead (JOB_STATE)" in again.stderr
    assert again.stdout == ""
    job.state = JOB_STATE_DEAD
    as_json = await winnow("jobs", "retry", job.job_id, "--json")
    assert json.loads(as_json.stdout)["state"] == "waiting"
    for unknown in (str(uuid7()), "../../healthz"):
        missing = await winnow("jobs", "retry", unknown)
        assert missing.exit_code == 2
        assert missing.stderr.startswith("winnow: ")


async def test_health(winnow: Run, desk: Desk) -> None:
    depth = desk.queue.health.kinds.add(kind="report.run", waiting=3, retried=1, dead=2)
    depth.oldest_age.FromTimedelta(timedelta(minutes=3, seconds=20))
    failing = desk.queue.health.kinds.add(kind="uploads.sweep", delayed=1, retried=1)
    failing.oldest_age.FromTimedelta(timedelta(seconds=65))
    desk.queue.health.kinds.add(kind="quiet", dead=1).oldest_age.FromTimedelta(timedelta())
    state = desk.queue.health.schedules.add(name="uploads.sweep", cron="7 * * * *", zone="UTC")
    state.due_in.FromTimedelta(timedelta(seconds=59))
    desk.queue.health.events_of_a_day["REPORT_DONE"] = 7
    desk.queue.health.outbox_transport = 4
    desk.queue.health.outbox_oldest_age.FromTimedelta(timedelta(hours=30))
    result = await winnow("jobs", "health")
    assert result.exit_code == 0, result.stderr
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[0] == ["kind", "waiting", "delayed", "running", "retried", "dead", "oldest"]
    assert lines[1] == ["report.run", "3", "0", "0", "1", "2", "3", "min", "20", "s"]
    assert lines[2] == ["uploads.sweep", "0", "1", "0", "1", "0", "1", "min", "5", "s"]
    assert lines[3] == ["quiet", "0", "0", "0", "0", "1"]
    assert ["REPORT_DONE", "7"] in lines
    assert ["uploads.sweep", "7", "*", "*", "*", "*", "UTC", "59", "s"] in lines
    assert (
        "outbox: 0 events wait for the audit service, 4 for the event transport; "
        "the oldest for 1 d 6 h" in result.stdout
    )
    as_json = json.loads((await winnow("jobs", "health", "--json")).stdout)
    assert as_json["kinds"][0]["waiting"] == 3


async def test_no_server_is_said_as_ever(winnow: Run) -> None:
    for arguments in (("jobs",), ("jobs", "health"), ("jobs", "retry", "x")):
        result = await winnow(*arguments, "--server", "http://127.0.0.1:9")
        assert result.exit_code == 2
        assert "`winnow up`" in result.stderr


@pytest.mark.parametrize("arguments", [("jobs",), ("jobs", "--state", "dead"), ("jobs", "health")])
async def test_the_key_may_be_in_a_file(
    winnow: Run, arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WINNOW_API_KEY_FILE", "")  # so that what the command sets is undone
    (tmp_path / "key").touch()
    result = await winnow(*arguments, "--key-file", str(tmp_path / "key"))
    assert result.exit_code == 2
    assert "the file of --key-file, or WINNOW_API_KEY_FILE, is empty" in result.stderr


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (45, "45 s"),
        (200, "3 min 20 s"),
        (3600, "1 h"),
        (90_061, "1 d 1 h"),
        (40 * 86_400, "40 d"),
        (-61, "-1 min 1 s"),
    ],
)
def test_spans(seconds: int, words: str) -> None:
    assert _span(seconds) == words
