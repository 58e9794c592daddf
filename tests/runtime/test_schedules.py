"""Due times over daylight saving, catching up, and each due time once."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, func, select, update

from runtime import schedules
from runtime.clock import now
from runtime.config import ConfigError
from runtime.schedules import CatchUp, Schedule, Scheduler, ensure, fire, last_due, next_due
from tests.runtime.queues import Scratch
from tests.runtime.queues import scratch as scratch

BERLIN = "Europe/Berlin"


def utc(text: str) -> datetime:
    return datetime.fromisoformat(f"{text}+00:00")


@pytest.mark.parametrize(
    ("cron", "after", "due"),
    [
        # Winter: one hour ahead of UTC. Summer: two.
        ("30 2 * * *", "2026-01-10T12:00", "2026-01-11T01:30"),
        ("30 2 * * *", "2026-07-10T12:00", "2026-07-11T00:30"),
        # 29 March 2026, 2:00 to 3:00 is not there: right after the jump, then as ever.
        ("30 2 * * *", "2026-03-28T12:00", "2026-03-29T01:00"),
        ("30 2 * * *", "2026-03-29T01:00", "2026-03-30T00:30"),
        # 25 October 2026, 2:00 to 3:00 comes twice: done the first time only.
        ("30 2 * * *", "2026-10-24T12:00", "2026-10-25T00:30"),
        ("30 2 * * *", "2026-10-25T00:30", "2026-10-26T01:30"),
        ("30 2 * * *", "2026-10-25T01:10", "2026-10-26T01:30"),
        # Every so many minutes goes by real time, through both.
        ("*/30 * * * *", "2026-03-29T00:30", "2026-03-29T01:00"),
        ("*/30 * * * *", "2026-10-25T00:30", "2026-10-25T01:00"),
        ("*/30 * * * *", "2026-10-25T01:00", "2026-10-25T01:30"),
    ],
)
def test_daylight_saving(cron: str, after: str, due: str) -> None:
    assert next_due(cron, BERLIN, utc(after)) == utc(due)


@pytest.mark.parametrize("cron", ["30 2 * * *", "15 */2 * * *", "*/20 1-3 * * *", "0 2,3 * * *"])
def test_going_on_from_each_due_time_gives_every_one_once(cron: str) -> None:
    time = datetime(2026, 1, 1, tzinfo=UTC)
    days = set()
    while time.year == 2026:
        later = next_due(cron, BERLIN, time)
        assert later > time
        # Asked at any moment in between, the answer is the same.
        assert next_due(cron, BERLIN, later - timedelta(seconds=1)) == later
        assert last_due(cron, BERLIN, later) == later
        if time.month > 1:
            assert last_due(cron, BERLIN, later - timedelta(seconds=1)) == time
        days.add(later.astimezone(ZoneInfo(BERLIN)).date())
        time = later
    assert len(days) >= 365


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(["30 2 * * *", "*/10 * * * *", "5 1-4 * * *", "0 0 1 * *", "0 9 * * MON"]),
    st.sampled_from([BERLIN, "UTC", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"]),
    st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 31), timezones=st.just(UTC)),
)
def test_last_and_next_enclose_every_moment(cron: str, zone: str, moment: datetime) -> None:
    last, due = last_due(cron, zone, moment), next_due(cron, zone, moment)
    assert last <= moment < due
    assert next_due(cron, zone, last) == due


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"zone": "Europe/Nowhere"}, "zone"),
        ({"zone": "../../etc/passwd"}, "zone"),
        ({"zone": "Europe"}, "zone"),
        ({"zone": ""}, "zone"),
        ({"cron": "61 * * * *"}, "minute"),
        ({"cron": "* * * * * *"}, "five fields"),
        ({"cron": ""}, "five fields"),
        ({"cron": "secret x x x x"}, "minute"),
        ({"cron": "0 0 30 2 *"}, "day-of-month"),
        ({"cron": "0 0 * 2 MON#5,MON#9"}, "day-of-week"),
    ],
)
def test_wrong_schedules_are_refused_in_words(wrong: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError, match="schedule nightly: ") as refused:
        Schedule(**{"name": "nightly", "kind": "a", "cron": "* * * * *", **wrong})
    assert words in str(refused.value)
    assert "secret" not in str(refused.value)


async def jobs(scratch: Scratch) -> list[tuple[str, str, str]]:
    """Kind, key and due time of all jobs, by when they were put."""

    def read(connection: Connection) -> list[Any]:
        table = scratch.jobs.c
        return list(
            connection.execute(
                select(table.kind, table.key, table.payload["due_at"].astext).order_by(table.job_id)
            )
        )

    return [tuple(row) for row in await scratch.database.run(read)]


async def state(scratch: Scratch) -> dict[str, Any]:
    def read(connection: Connection) -> dict[str, Any]:
        return {row.name: row for row in connection.execute(select(scratch.schedules))}

    return await scratch.database.run(read)


async def set_next(scratch: Scratch, at: datetime) -> None:
    await scratch.database.run(
        lambda connection: connection.execute(update(scratch.schedules).values(next_at=at))
    )


async def test_the_table_says_what_the_code_says(scratch: Scratch) -> None:
    table, database = scratch.schedules, scratch.database
    hourly = Schedule("hourly", "a", "0 * * * *")
    daily = Schedule("daily", "a", "30 2 * * *", BERLIN)
    await database.run(ensure, table, [hourly, daily])
    first = await state(scratch)
    assert first["hourly"].next_at == next_due("0 * * * *", "UTC", now())
    late = now() - timedelta(hours=5)
    await set_next(scratch, late)
    # What only does something else keeps its time; what has another one begins anew.
    again = Schedule("hourly", "b", "0 * * * *", catch_up=CatchUp.ALL)
    moved = Schedule("daily", "a", "30 2 * * *", "UTC")
    new = Schedule("new", "c", "* * * * *")
    await database.run(ensure, table, [again, moved, new])
    second = await state(scratch)
    assert (second["hourly"].kind, second["hourly"].next_at) == ("b", late)
    assert second["hourly"].catch_up == CatchUp.ALL
    assert second["daily"].next_at == next_due("30 2 * * *", "UTC", now())
    assert set(second) == {"hourly", "daily", "new"}
    await database.run(ensure, table, [new])
    assert set(await state(scratch)) == {"new"}
    await database.run(ensure, table, [])
    assert await state(scratch) == {}


async def late_by(scratch: Scratch, catch_up: CatchUp, minutes: int) -> list[datetime]:
    """Makes a schedule of each minute that nobody has looked at for so many minutes.

    Returns:
        The due times that have passed.
    """
    schedule = Schedule("each", "a", "* * * * *", catch_up=catch_up)
    await scratch.database.run(ensure, scratch.schedules, [schedule])
    if now().second > 55:  # not over a minute's end
        await asyncio.sleep(61 - now().second)
    minute = now().replace(second=0, microsecond=0)
    times = [minute - timedelta(minutes=n) for n in range(minutes, -1, -1)]
    await set_next(scratch, times[0])
    return times


async def fire_once(scratch: Scratch) -> int:
    return await scratch.database.run(fire, scratch.schedules, scratch.queue())


def key(time: datetime) -> str:
    return f"each@{time:%Y-%m-%dT%H:%MZ}"


async def test_catching_up_with_all(scratch: Scratch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedules, "_AT_ONCE", 4)
    times = await late_by(scratch, CatchUp.ALL, 9)
    assert [await fire_once(scratch) for _ in range(4)] == [4, 4, 2, 0]
    assert await jobs(scratch) == [("a", key(time), time.isoformat()) for time in times]


async def test_catching_up_once(scratch: Scratch) -> None:
    times = await late_by(scratch, CatchUp.ONCE, 9)
    assert [await fire_once(scratch) for _ in range(2)] == [1, 0]
    assert await jobs(scratch) == [("a", key(times[-1]), times[-1].isoformat())]
    assert (await state(scratch))["each"].next_at == times[-1] + timedelta(minutes=1)


@pytest.mark.parametrize("minutes", [0, 9])
async def test_skipping_what_was_missed_does_what_is_due_now(
    scratch: Scratch, minutes: int
) -> None:
    times = await late_by(scratch, CatchUp.SKIP, minutes)
    assert [await fire_once(scratch) for _ in range(2)] == [1, 0]
    assert [found[1] for found in await jobs(scratch)] == [key(times[-1])]


async def test_what_was_missed_by_more_than_a_minute_is_skipped(scratch: Scratch) -> None:
    at = now()
    cron = f"{(at - timedelta(minutes=3)).minute} * * * *"
    await scratch.database.run(ensure, scratch.schedules, [Schedule("each", "a", cron)])
    due = (await state(scratch))["each"].next_at
    await set_next(scratch, due - timedelta(hours=1))
    assert await fire_once(scratch) == 0
    assert await jobs(scratch) == []
    assert (await state(scratch))["each"].next_at == due


async def test_many_processes_fire_each_due_time_once(scratch: Scratch) -> None:
    times = await late_by(scratch, CatchUp.ALL, 60)
    fired = await asyncio.gather(*(fire_once(scratch) for _ in range(20)))
    assert sum(fired) == len(times)
    assert [found[1] for found in await jobs(scratch)] == [key(time) for time in times]


async def test_a_crash_before_the_commit_fires_again(scratch: Scratch) -> None:
    times = await late_by(scratch, CatchUp.ONCE, 0)

    def crash(connection: Connection) -> None:
        assert fire(connection, scratch.schedules, scratch.queue()) == 1
        raise RuntimeError

    with pytest.raises(RuntimeError):
        await scratch.database.run(crash)
    assert await fire_once(scratch) == 1
    assert [found[1] for found in await jobs(scratch)] == [key(times[0])]


async def test_schedulers_at_once_ring_when_there_is_work(scratch: Scratch) -> None:
    rings: list[str] = []
    schedule = Schedule("each", "a", "* * * * *", catch_up=CatchUp.ALL)
    # One runs already when the time comes, two start late.
    await scratch.database.run(ensure, scratch.schedules, [schedule])
    soon = now() + timedelta(seconds=0.4)
    await set_next(scratch, soon)
    made = [
        Scheduler(
            scratch.database,
            scratch.schedules,
            [schedule],
            scratch.queue(name),
            lambda name=name: rings.append(name),
        )
        for name in ("one", "two", "three")
    ]
    tasks = [asyncio.create_task(scheduler.run()) for scheduler in made]
    async with asyncio.timeout(10):
        while not rings:
            await asyncio.sleep(0.02)
    assert now() >= soon
    await asyncio.sleep(0.3)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert len(rings) == len(await jobs(scratch))
    assert len(await jobs(scratch)) >= 1


async def test_a_scheduler_waits_for_its_database(
    scratch: Scratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedules, "_RETRY_SECONDS", 0.05)
    run, tries = scratch.database.run, iter(range(100))

    async def failing(work: Any, *arguments: Any) -> Any:
        if next(tries) < 2:
            raise schedules.WinnowError("DATABASE_UNAVAILABLE", "gone")
        return await run(work, *arguments)

    database = type("Failing", (), {"run": staticmethod(failing)})()
    schedule = Schedule("each", "a", "* * * * *")
    made = Scheduler(database, scratch.schedules, [schedule], scratch.queue(), lambda: None)
    task = asyncio.create_task(made.run())
    async with asyncio.timeout(10):
        while not await state(scratch):
            await asyncio.sleep(0.02)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_times_are_the_databases_own(scratch: Scratch) -> None:
    await scratch.database.run(ensure, scratch.schedules, [Schedule("each", "a", "* * * * *")])
    at = await scratch.database.run(lambda connection: connection.scalar(select(func.now())))
    assert at is not None
    waits = (await state(scratch))["each"].next_at - at
    assert timedelta() < waits <= timedelta(minutes=1)
