"""How `winnow submit` sends: keys, retries, and how long it waits."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from cli import commands, watching
from runtime.errors import WinnowError
from tests.cli.conftest import Run
from tests.gateway.conftest import Stack
from winnow.report.v1 import report_pb2

RAW = b'[{"RuleID": "r"}]'


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "gitleaks.json"
    path.write_bytes(RAW)
    return str(path)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "_PAUSE_SECONDS", 0.01)


@pytest.fixture
def told(reports: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What SubmitReport answers beside the report; for this test only."""
    more: dict[str, Any] = {}
    monkeypatch.setattr(reports, "told", more)
    return more


@asynccontextmanager
async def cutting(url: str, answers: list[int]) -> AsyncIterator[str]:
    """A way to a server that cuts each connection after so many bytes of answer.

    Args:
        url: the server's.
        answers: bytes, connection by connection; none is cut after the last.
    """
    place = urlsplit(url)

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(place.hostname, place.port)
        left = answers.pop(0) if answers else 1 << 30

        async def up() -> None:
            while data := await reader.read(1 << 16):
                back.write(data)
                await back.drain()

        sending = asyncio.create_task(up())
        while left > 0 and (data := await there.read(left)):
            left -= len(data)
            writer.write(data)
            await writer.drain()
        sending.cancel()
        writer.close()
        back.close()

    server = await asyncio.start_server(carry, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()
        yield f"http://{host}:{port}"


async def test_every_report_is_sent_under_a_key_of_its_own(
    winnow: Run, reports: Any, file: str
) -> None:
    before = len(reports.uploads)
    assert (await winnow("submit", file, file)).exit_code == 0
    keys = [upload.header.request_id for upload in reports.uploads[before:]]
    assert len(set(keys)) == 2
    assert all(len(key) == 36 for key in keys)
    assert (await winnow("submit", file, "--idempotency-key", "mine")).exit_code == 0
    assert reports.uploads[-1].header.request_id == "mine"
    two = await winnow("submit", file, file, "--idempotency-key", "mine")
    assert two.exit_code == 2
    assert "--idempotency-key is for one report" in two.stderr


async def test_what_a_busy_server_refuses_is_sent_again_under_the_same_key(
    winnow: Run, reports: Any, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(commands.time, "sleep", slept.append)
    before = len(reports.uploads)
    reports.busy = 2
    result = await winnow("submit", file)
    assert result.exit_code == 0
    assert result.stderr.count("trying again") == 2
    uploads = reports.uploads[before:]
    assert [upload.data for upload in uploads] == [RAW] * 3
    assert len({upload.header.request_id for upload in uploads}) == 1
    # The server asked for 2.5 seconds, which HTTP says as 3.
    assert [3.0 <= pause <= 4.5 for pause in slept] == [True, True]


async def test_attempts_are_bounded(winnow: Run, reports: Any, file: str) -> None:
    before = len(reports.uploads)
    reports.busy = 1
    result = await winnow("submit", file, "--retries", "0")
    assert result.exit_code == 2
    assert "Overloaded: busy (OVERLOADED)" in result.stderr
    assert "trying again" not in result.stderr
    assert len(reports.uploads) == before + 1


@pytest.mark.parametrize("after", [0, 20])
async def test_a_lost_answer_is_asked_for_again_under_the_same_key(
    winnow: Run, stack: Stack, reports: Any, file: str, after: int
) -> None:
    before = len(reports.uploads)
    async with cutting(stack.url, [after, after]) as url:
        result = await winnow("submit", file, "--server", url)
    assert result.exit_code == 0, result.stderr
    assert result.stderr.count("trying again") == 2
    uploads = reports.uploads[before:]
    assert [upload.data for upload in uploads if upload.end] == [RAW] * len(uploads)
    assert len({upload.header.request_id for upload in uploads}) == 1


async def test_a_refusal_is_final(winnow: Run, reports: Any, file: str) -> None:
    before = len(reports.uploads)
    result = await winnow("submit", file, "--scanner", "nobody")
    assert result.exit_code == 2
    assert len(reports.uploads) == before + 1


async def test_async_tells_the_id_and_does_not_wait(winnow: Run, reports: Any, file: str) -> None:
    result = await winnow("submit", file, "--async")
    assert result.exit_code == 0
    report_id = next(reversed(reports.reports))
    # The server of the test logs there too.
    said = result.stdout.splitlines()[-1]
    assert said == f"{file}: created · {report_id} · winnow watch {report_id}"
    assert not reports.uploads[-1].header.wait
    shown = await winnow("submit", file, "--async", "--format", "json")
    answer = json.loads(shown.stdout[shown.stdout.index("{") :])
    assert answer["status"] == "created"
    assert answer["report_id"] in reports.reports
    for more in (["--fail-on", "low"], ["--wait", "1"], ["--format", "sarif"]):
        refused = await winnow("submit", file, "--async", *more)
        assert refused.exit_code == 2
        assert "--async waits for nothing" in refused.stderr


async def test_wait_shows_what_ended_in_time(winnow: Run, reports: Any, file: str) -> None:
    result = await winnow("submit", file, "--wait", "7")
    assert result.exit_code == 0
    assert "src/0.py" in result.stdout
    header = reports.uploads[-1].header
    assert (header.wait, header.wait_at_most.seconds) == (True, 7)
    assert (await winnow("submit", file, "--wait", "7", "--fail-on", "high")).exit_code == 1


async def test_a_report_that_did_not_end_in_time_is_told_and_exits_with_3(
    winnow: Run, reports: Any, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = reports.add

    def unended(findings: int, **fields: Any) -> Any:
        report = add(findings, **fields)
        report.status = report_pb2.REPORT_STATUS_PROCESSING
        return report

    monkeypatch.setattr(reports, "add", unended)
    for output in ("table", "json", "sarif"):
        result = await winnow(
            "submit", file, "--wait", "1", "--fail-on", "high", "--format", output
        )
        assert result.exit_code == 3
        assert "src/0.py" not in result.stdout
        if output != "sarif":
            assert next(reversed(reports.reports)) in result.stdout


async def test_reuse_asks_for_it_and_says_so(
    winnow: Run, reports: Any, file: str, told: dict[str, Any]
) -> None:
    told["reused"] = True
    result = await winnow("submit", file, "--reuse")
    assert result.exit_code == 0
    assert reports.uploads[-1].header.duplicates == 2
    report_id = next(reversed(reports.reports))
    assert result.stderr == f"winnow: {file}: was submitted before, as report {report_id}\n"
    assert "src/0.py" in result.stdout


async def test_a_server_that_is_away_is_tried_for_about_a_minute(
    winnow: Run, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # of the pauses
    slept: list[float] = []
    monkeypatch.setattr(commands.time, "sleep", slept.append)
    result = await winnow("submit", file, "--server", "http://127.0.0.1:9")
    assert result.exit_code == 2
    assert result.stderr.count("trying again") == len(slept) == 8
    assert 45 <= sum(slept) <= 69


@pytest.mark.parametrize("key", ["", "two words", "h\xe4\xdflich", "k" * 256])
async def test_a_key_that_no_server_takes_is_refused_before_anything_is_sent(
    winnow: Run, reports: Any, file: str, key: str
) -> None:
    before = len(reports.uploads)
    result = await winnow("submit", file, "--idempotency-key", key)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        "winnow: --idempotency-key must have 1 to 255 visible ASCII characters\n"
    )
    assert len(reports.uploads) == before


@pytest.mark.parametrize("how", [(), ("--async",)])
async def test_what_was_there_before_is_told_beside_the_report(
    winnow: Run,
    reports: Any,
    file: str,
    told: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    how: tuple[str, ...],
) -> None:
    assert "answered before" not in (await winnow("submit", file, *how)).stdout
    add, first = reports.add, next(reversed(reports.reports))
    monkeypatch.setattr(reports, "add", lambda *n, **f: add(*n, **f, duplicate_of=first))
    told["replayed"] = True
    result = await winnow("submit", file, *how)
    assert result.exit_code == 0, result.stderr
    assert f" · same bytes as {first} · answered before" in result.stdout
    written = await winnow("submit", file, *how, "--format", "json")
    answer = json.loads(written.stdout[written.stdout.index("{") :])
    assert answer["duplicate_of"] == first
    assert "replayed" not in answer


async def test_an_answer_to_an_attempt_of_its_own_is_no_earlier_one(
    winnow: Run,
    reports: Any,
    file: str,
    told: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(commands.time, "sleep", lambda _seconds: None)
    told["replayed"] = True
    reports.busy = 1
    result = await winnow("submit", file)
    assert result.exit_code == 0
    assert "answered before" not in result.stdout


async def test_an_error_names_the_report_that_it_is_about(winnow: Run, tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    bad.write_bytes(b"bad")
    result = await winnow("submit", str(bad))
    assert result.exit_code == 2
    assert re.search(r"\(REPORT_MALFORMED\); report [0-9a-f-]{36}\n$", result.stderr)


@pytest.fixture
def unreadable(reports: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key may submit and follow, and read nothing."""

    def refused(*_arguments: Any) -> None:
        raise WinnowError("PERMISSION_DENIED", "the API key lacks the role read", role="read")

    monkeypatch.setattr(reports, "_find", refused)


@pytest.mark.usefixtures("unreadable")
@pytest.mark.parametrize("how", [(), ("--wait", "1")])
async def test_a_key_that_may_not_read_is_told_the_reports_id(
    winnow: Run, reports: Any, file: str, how: tuple[str, ...]
) -> None:
    result = await winnow("submit", file, *how)
    report_id = next(reversed(reports.reports))
    told = f"submitted as {report_id}; to see its result the key needs the role read"
    assert result.exit_code == 3
    assert result.stderr == f"winnow: {file}: {told}\n"
    assert report_id in result.stdout
    judged = await winnow("submit", file, *how, "--fail-on", "high")
    report_id = next(reversed(reports.reports))
    assert judged.exit_code == 2
    assert f"submitted as {report_id}" in judged.stderr
    assert "--fail-on cannot be judged" in judged.stderr


async def test_an_error_after_the_submission_names_the_report(
    winnow: Run, reports: Any, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_arguments: Any) -> None:
        raise WinnowError("INTERNAL", "internal error")

    monkeypatch.setattr(reports, "_find", broken)
    result = await winnow("submit", file)
    assert result.exit_code == 2
    assert f"submitted as {next(reversed(reports.reports))}" in result.stderr


@pytest.fixture
def unended(reports: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports are taken, and do not end by themselves."""
    add = reports.add

    def begun(findings: int, **fields: Any) -> Any:
        report = add(findings, **fields)
        report.status = report_pb2.REPORT_STATUS_PROCESSING
        reports.happened(report.report_id, "REPORT_CREATED", "REPORT_PROGRESS")
        return report

    monkeypatch.setattr(reports, "add", begun)


def end(reports: Any) -> None:
    """The newest report is done."""
    report = next(reversed(reports.reports.values()))
    report.status = report_pb2.REPORT_STATUS_DONE
    reports.happened(report.report_id, "REPORT_DONE")


@pytest.mark.usefixtures("unended")
@pytest.mark.parametrize("watched", [False, True])
async def test_a_report_is_followed_over_a_restart_of_the_server(
    winnow: Run, stack: Stack, reports: Any, file: str, watched: bool
) -> None:
    before = len(reports.watched)
    command = ("watch", reports.add(1).report_id) if watched else ("submit", file)
    running = asyncio.ensure_future(winnow(*command))
    async with asyncio.timeout(10):
        while len(reports.watched) == before:
            await asyncio.sleep(0.01)
        stack.draining.set()
        # It has come back.
        while len(reports.watched) == before + 1:
            await asyncio.sleep(0.01)
        stack.draining.clear()
        end(reports)
        result = await running
    assert result.exit_code == 0, result.stderr
    assert ("done" if watched else "src/0.py") in result.stdout


@pytest.mark.usefixtures("unended")
async def test_a_server_that_stays_away_leaves_a_report_that_can_be_shown(
    winnow: Run, stack: Stack, reports: Any, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "_RETRIES", 1)
    stack.draining.set()
    result = await winnow("submit", file, "--fail-on", "high")
    stack.draining.clear()
    report_id = next(reversed(reports.reports))
    assert result.exit_code == 3
    assert result.stderr.endswith(f"the report goes on: winnow show {report_id}\n")
    assert report_id in result.stdout


@pytest.mark.usefixtures("unended")
async def test_a_wait_that_the_server_cuts_short_goes_on(
    winnow: Run, reports: Any, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    find, looks = reports._find, []

    def found(report_id: str) -> Any:
        looks.append(report_id)
        if len(looks) == 2:
            end(reports)
        return find(report_id)

    monkeypatch.setattr(reports, "_find", found)
    result = await winnow("submit", file, "--wait", "30")
    assert result.exit_code == 0, result.stderr
    assert "src/0.py" in result.stdout
