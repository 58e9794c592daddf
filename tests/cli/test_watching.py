"""`winnow watch`, over connections that break."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from cli import watching
from cli.client import Client
from cli.errors import ClientError
from cli.watching import following
from winnow.report.v1 import report_pb2


class Breaking:
    """A server that tells one event a connection, and then breaks it."""

    def __init__(self, count: int, error: ClientError, breaks: int = 0) -> None:
        self.count = count
        self.error = error
        self.breaks = breaks
        self.asked: list[int] = []

    def watch(self, report_id: str, after: int = 0) -> Iterator[Any]:
        self.asked.append(after)
        if after and self.breaks:
            self.breaks -= 1
            raise self.error
        if after < self.count:
            yield {"ordinal": after + 1}
            raise self.error


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(watching, "_PAUSE_MOST_SECONDS", 0.001)


def follow(server: Any) -> list[int]:
    return [event["ordinal"] for event in following(server, "r1")]


def test_a_lost_connection_is_made_again_where_it_broke() -> None:
    server = Breaking(4, ClientError("broke", may_pass=True), breaks=5)
    assert follow(server) == [1, 2, 3, 4]
    assert server.asked == [0, *[1] * 6, 2, 3, 4]


def test_a_server_that_stays_away_is_given_up() -> None:
    server = Breaking(4, ClientError("broke", may_pass=True), breaks=50)
    with pytest.raises(ClientError):
        follow(server)
    assert len(server.asked) == watching._RETRIES + 1


def test_what_cannot_pass_is_not_tried_again() -> None:
    server = Breaking(4, ClientError("no such report"), breaks=5)
    with pytest.raises(ClientError):
        follow(server)
    assert server.asked == [0]


def test_a_server_that_was_never_there_is_not_waited_for() -> None:
    class Away:
        def watch(self, _report_id: str, _after: int = 0) -> Iterator[Any]:
            raise ClientError("away", may_pass=True)

    with pytest.raises(ClientError):
        follow(Away())


async def test_watch_shows_each_event(winnow: Any, reports: Any) -> None:
    result = await winnow("watch", reports.add(0).report_id)
    assert result.exit_code == 0
    lines = [line.split("Z  ")[1] for line in result.stdout.splitlines()]
    assert lines == [
        "created             0/2 judged: 0 high · 0 medium · 0 low",
        "progress            1/2 judged: 1 high · 0 medium · 0 low",
        "done                2/2 judged: 2 high · 0 medium · 0 low",
    ]


async def test_watch_writes_envelopes_one_a_line(winnow: Any, reports: Any) -> None:
    result = await winnow("watch", reports.add(0).report_id, "--json", "--after", "1")
    assert result.exit_code == 0
    told = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(event["ordinal"], event["event_type"]) for event in told] == [
        (2, "REPORT_PROGRESS"),
        (3, "REPORT_DONE"),
    ]
    over = await winnow("watch", reports.add(0).report_id, "--after", "3")
    assert (over.exit_code, over.stdout) == (0, "")


async def test_watch_of_what_failed_or_is_not_there_exits_with_2(winnow: Any, reports: Any) -> None:
    error = report_pb2.ReportError(reason="FORMAT_UNKNOWN", message="no scanner writes this")
    failed = await winnow("watch", reports.add(0, error=error).report_id)
    assert failed.exit_code == 2
    assert "the report failed (FORMAT_UNKNOWN)" in failed.stderr
    missing = await winnow("watch", "0198c5a0-0000-7000-8000-000000000000")
    assert missing.exit_code == 2
    assert "REPORT_NOT_FOUND" in missing.stderr


async def test_watch_says_where_to_go_on_when_it_gives_up(
    winnow: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaking(_: Any, _report_id: str, after: int = 0) -> Iterator[Any]:
        if not after:
            yield {"ordinal": 4, "event_type": "REPORT_PROGRESS"}
        raise ClientError("away", may_pass=True)

    monkeypatch.setattr(Client, "watch", breaking)
    result = await winnow("watch", "r1", "--json")
    assert result.exit_code == 3
    assert result.stderr == "winnow: away; to go on: winnow watch r1 --after 4\n"
    again = await winnow("watch", "r1", "--json", "--after", "4")
    assert again.stderr == "winnow: away\n"


def test_it_holds_out_for_about_two_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # of the pauses
    slept: list[float] = []
    monkeypatch.setattr(watching.time, "sleep", slept.append)
    with pytest.raises(ClientError):
        follow(Breaking(4, ClientError("broke", may_pass=True), breaks=50))
    assert 75 < sum(slept) < 160
