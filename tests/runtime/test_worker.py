"""The loop around the queue: places, leases, failures, stops; and processes that die."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, func, insert, select

from runtime import worker
from runtime.errors import WinnowError
from runtime.jobs import DEAD, RUNNING, WAITING, Job
from runtime.worker import Kind, Worker, backoff, transaction
from tests.runtime import queues
from tests.runtime.queues import Scratch
from tests.runtime.queues import scratch as scratch

ROOT = Path(__file__).resolve().parents[2]
GONE = WinnowError("UPSTREAM_UNAVAILABLE", "gone")
WRONG = WinnowError("FORMAT_UNKNOWN", "not a known format")


@asynccontextmanager
async def working(made: Worker) -> AsyncIterator[Worker]:
    """A worker that runs, and is stopped as a service stops it."""
    running = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await made.stop()


async def until(holds: Callable[[], Awaitable[Any]], seconds: float = 10.0) -> Any:
    async with asyncio.timeout(seconds):
        while not (found := await holds()):
            await asyncio.sleep(0.02)
    return found


async def settled(scratch: Scratch, key: str, state: int) -> dict[str, Any]:
    """The job's row, once it is in this state."""

    async def there() -> dict[str, Any] | None:
        row = await scratch.row(key)
        return row if row is not None and row["state"] == state else None

    found: dict[str, Any] = await until(there)
    return found


async def gone(scratch: Scratch, key: str) -> None:
    async def missing() -> bool:
        return await scratch.row(key) is None

    await until(missing)


def one_worker(scratch: Scratch, *kinds: Kind, lease_seconds: float = 10.0, **more: Any) -> Worker:
    return Worker(scratch.database, scratch.queue("one", lease_seconds), kinds, **more)


async def test_every_job_is_done_once(scratch: Scratch) -> None:
    keys = [f"{n:03}" for n in range(200)]
    await scratch.put("a", *keys)
    workers = []
    for name in ("one", "two", "three"):
        queue = scratch.queue(name)
        kind = Kind("a", transaction(scratch.database, queue, scratch.effect), at_once=5)
        workers.append(Worker(scratch.database, queue, [kind]))
    async with working(workers[0]), working(workers[1]), working(workers[2]):

        async def all_done() -> bool:
            return len(await scratch.done()) >= len(keys)

        await until(all_done, 20)
    assert await scratch.done() == keys
    assert await scratch.row("000") is None


async def test_no_more_at_once_than_a_kind_allows(scratch: Scratch) -> None:
    running: Counter[str] = Counter()
    most: Counter[str] = Counter()
    queue = scratch.queue("one")
    end = transaction(scratch.database, queue, scratch.effect)

    async def work(job: Job) -> None:
        running[job.kind] += 1
        most[job.kind] = max(most[job.kind], running[job.kind])
        await asyncio.sleep(0.02)
        running[job.kind] -= 1
        await end(job)

    await scratch.put("a", *(f"a{n}" for n in range(20)))
    await scratch.put("b", *(f"b{n}" for n in range(5)))
    async with working(
        Worker(scratch.database, queue, [Kind("a", work, at_once=4), Kind("b", work)])
    ) as made:
        # Places that the caller takes are places too.
        assert made.reserve("a", "t")

        async def all_done() -> bool:
            return len(await scratch.done()) == 25

        await until(all_done)
        made.give_back("a", "t")
    assert most == {"a": 3, "b": 1}


async def test_reserved_places_run_out(scratch: Scratch) -> None:
    made = one_worker(scratch, Kind("a", asyncio.sleep, at_once=2))  # type: ignore[arg-type]
    assert [made.reserve("a", "t") for _ in range(3)] == [True, True, False]
    made.give_back("a", "t")
    # What was refused waits, and comes first; but not before who has nothing at work.
    assert [made.reserve("a", tenant) for tenant in ("t", "u", "v")] == [False, True, False]
    await made.stop()
    made.give_back("a", "t")
    assert not made.reserve("a", "v")


async def test_the_last_place_is_kept_for_another_tenant(scratch: Scratch) -> None:
    begun: list[str] = []
    over = asyncio.Event()

    async def work(job: Job) -> None:
        begun.append(job.tenant)
        await over.wait()
        await end(job)

    queue = scratch.queue("one")
    end = transaction(scratch.database, queue, scratch.effect)
    await scratch.put("a", *(f"x{n}" for n in range(9)), tenant="x")
    made = Worker(scratch.database, queue, [Kind("a", work, at_once=3, kept=1)])
    async with working(made):

        async def so_many(number: int) -> bool:
            return len(begun) == number

        await until(lambda: so_many(2))
        assert not made.reserve("a", "x")
        await scratch.put("a", "y0", tenant="y")
        made.ring()
        await until(lambda: so_many(3))
        assert begun == ["x", "x", "y"]
        over.set()

        async def all_done() -> bool:
            return len(await scratch.done()) == 10

        await until(all_done)


async def test_the_heartbeat_keeps_a_long_job(scratch: Scratch) -> None:
    await scratch.put("a", "1")
    begun: list[int] = []
    queue = scratch.queue("one", lease_seconds=0.4)
    end = transaction(scratch.database, queue, scratch.effect)

    async def work(job: Job) -> None:
        begun.append(job.attempt)
        await asyncio.sleep(1.5)
        await end(job)

    rival = Worker(
        scratch.database, scratch.queue("two", lease_seconds=0.4), [Kind("a", work, at_once=1)]
    )
    async with working(Worker(scratch.database, queue, [Kind("a", work)])):
        await settled(scratch, "1", RUNNING)
        async with working(rival):
            for _ in range(20):
                rival.ring()
                await asyncio.sleep(0.05)
            await gone(scratch, "1")
    assert begun == [1]
    assert await scratch.done() == ["1"]


async def test_a_lost_lease_cancels_the_work(scratch: Scratch) -> None:
    await scratch.put("a", "1")
    cut = asyncio.Event()
    made = one_worker(scratch, Kind("a", _until_cut(cut)), lease_seconds=0.4)
    async with working(made):
        await settled(scratch, "1", RUNNING)
        # Between two beats: taken over by somebody else.
        await scratch.lapse()
        await scratch.database.run(scratch.queue("two").claim, {"a": 1})
        await asyncio.wait_for(cut.wait(), 3)
    row = await scratch.row("1")
    assert row is not None
    assert (row["worker"], row["attempt"], row["state"]) == ("two", 2, RUNNING)


def _until_cut(cut: asyncio.Event) -> Callable[[Job], Awaitable[None]]:
    async def work(_job: Job) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            cut.set()

    return work


async def test_a_zombies_effect_is_refused(scratch: Scratch) -> None:
    """A worker that slept past its lease and writes: its heir's effect is the only one."""
    await scratch.put("a", "1")
    asleep, awake = asyncio.Event(), asyncio.Event()
    queue = scratch.queue("one", lease_seconds=60)
    end = transaction(scratch.database, queue, scratch.effect)

    async def work(job: Job) -> None:
        asleep.set()
        await awake.wait()
        await end(job)

    heir = scratch.queue("two")
    async with working(Worker(scratch.database, queue, [Kind("a", work)])):
        await asleep.wait()
        await scratch.lapse()
        kind = Kind("a", transaction(scratch.database, heir, scratch.effect))
        async with working(Worker(scratch.database, heir, [kind])):
            await gone(scratch, "1")
            awake.set()
            await asyncio.sleep(0.2)
    assert await scratch.done() == ["1"]


async def test_a_lease_taken_back_by_the_same_worker_is_another_one(scratch: Scratch) -> None:
    await scratch.put("a", "1")
    begun: list[int] = []
    cut: list[int] = []

    async def work(job: Job) -> None:
        begun.append(job.attempt)
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cut.append(job.attempt)
            raise

    made = one_worker(scratch, Kind("a", work, at_once=2), lease_seconds=0.8)
    async with working(made):
        await settled(scratch, "1", RUNNING)
        await scratch.lapse()
        made.ring()

        async def first_is_cut() -> bool:
            return cut == [1]

        await until(first_is_cut)
        # The second one goes on, and is renewed.
        await asyncio.sleep(1.2)
        assert (begun, cut) == ([1, 2], [1])


def test_back_off_grows_with_jitter_and_is_bounded() -> None:
    pauses = {n: [backoff(n) for _ in range(200)] for n in (0, 1, 2, 3, 4, 5, 6, 19, 5000)}
    for failures, seconds in ((0, 0.25), (1, 0.5), (4, 4.0), (6, 15.0), (19, 15.0), (5000, 15.0)):
        assert seconds / 2 <= min(pauses[failures]) < max(pauses[failures]) <= seconds
        assert len(set(pauses[failures])) > 100


async def test_a_failing_job_is_tried_again_and_then_dead(
    scratch: Scratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "_BACKOFF_SECONDS", 0.01)
    await scratch.put("a", "1", max_failures=3)
    tries: list[tuple[int, int]] = []
    told: list[tuple[str, str]] = []

    async def fail(job: Job) -> None:
        tries.append((job.attempt, job.failures))
        raise GONE

    made = one_worker(
        scratch, Kind("a", fail), ended=lambda job, error: told.append((job.key, error.reason))
    )
    async with working(made):
        row = await settled(scratch, "1", DEAD)
    assert tries == [(1, 0), (2, 1), (3, 2)]
    assert (row["failures"], row["error_reason"], row["error_message"]) == (
        3,
        "UPSTREAM_UNAVAILABLE",
        "gone",
    )
    assert told == [("1", "UPSTREAM_UNAVAILABLE")]


async def test_a_failure_that_passes_leaves_nothing(
    scratch: Scratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "_BACKOFF_SECONDS", 0.01)
    await scratch.put("a", "1")
    queue = scratch.queue("one")
    end = transaction(scratch.database, queue, scratch.effect)

    async def work(job: Job) -> None:
        if job.attempt < 4:
            raise GONE
        await end(job)

    async with working(Worker(scratch.database, queue, [Kind("a", work)])):
        await gone(scratch, "1")
    assert await scratch.done() == ["1"]


def _writes(scratch: Scratch) -> Callable[[Connection, Job, WinnowError], None]:
    def gave_up(connection: Connection, job: Job, error: WinnowError) -> None:
        connection.execute(insert(scratch.effects).values(key=f"{job.key} {error.reason}"))

    return gave_up


async def _fail(error: Exception) -> None:
    raise error


@pytest.mark.parametrize(
    ("error", "reason", "stays"),
    [
        # What no retry mends is a result where somebody writes it down.
        (WRONG, "FORMAT_UNKNOWN", False),
        # A defect is none: the job stays, for a newer build.
        (ZeroDivisionError("quotes the input"), "INTERNAL", True),
    ],
)
async def test_what_fails_for_good_is_written_down_once(
    scratch: Scratch, error: Exception, reason: str, stays: bool
) -> None:
    await scratch.put("a", "1")
    made = one_worker(scratch, Kind("a", lambda _job: _fail(error), _writes(scratch)))
    async with working(made):
        if stays:
            row = await settled(scratch, "1", DEAD)
            assert "quotes" not in row["error_message"]
        else:
            await gone(scratch, "1")
    assert await scratch.done() == [f"1 {reason}"]


async def test_without_anybody_to_write_it_down_it_is_a_dead_letter(scratch: Scratch) -> None:
    await scratch.put("a", "1")
    async with working(one_worker(scratch, Kind("a", lambda _job: _fail(WRONG)))):
        row = await settled(scratch, "1", DEAD)
    assert (row["error_reason"], row["attempt"]) == ("FORMAT_UNKNOWN", 1)


@pytest.mark.parametrize("failure", [KeyError("x"), WinnowError("REPORT_STATE", "ended")])
async def test_giving_up_that_fails_buries_the_job_and_writes_nothing(
    scratch: Scratch, failure: Exception
) -> None:
    await scratch.put("a", "1")
    writes = _writes(scratch)

    def gave_up(connection: Connection, job: Job, error: WinnowError) -> None:
        writes(connection, job, error)
        raise failure

    made = one_worker(scratch, Kind("a", lambda _job: _fail(WRONG), gave_up))
    async with working(made):
        row = await settled(scratch, "1", DEAD)
    assert row["error_reason"] == "FORMAT_UNKNOWN"
    assert await scratch.done() == []


async def test_giving_up_and_the_jobs_end_are_one_transaction(
    scratch: Scratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    await scratch.put("a", "1")
    queue = scratch.queue("one")

    def no_burial(*_: Any) -> None:
        raise WinnowError("DATABASE_UNAVAILABLE", "gone")

    monkeypatch.setattr(queue, "bury", no_burial)
    error = ZeroDivisionError()
    kind = Kind("a", lambda _job: _fail(error), _writes(scratch))
    made = Worker(scratch.database, queue, [kind])
    async with working(made):
        row = await settled(scratch, "1", RUNNING)

        async def tried() -> bool:
            return made.reserve("a", "t")

        await until(tried)
    assert await scratch.done() == []
    assert row["attempt"] == 1


async def test_jobs_whose_workers_died_too_often_are_buried_unbegun(scratch: Scratch) -> None:
    await scratch.put("a", "1", max_failures=2)
    dying = scratch.queue("dying")
    begun: list[Job] = []

    async def work(job: Job) -> None:
        begun.append(job)

    for _ in range(2):
        assert len(await scratch.database.run(dying.claim, {"a": 1})) == 1
        await scratch.lapse()
    async with working(one_worker(scratch, Kind("a", work, _writes(scratch)))):
        row = await settled(scratch, "1", DEAD)
    assert begun == []
    assert (row["failures"], row["error_reason"]) == (2, "INTERNAL")
    assert await scratch.done() == ["1 INTERNAL"]


async def test_an_orderly_stop_puts_everything_back(scratch: Scratch) -> None:
    await scratch.put("a", "1", "2")
    cut = asyncio.Event()
    async with working(one_worker(scratch, Kind("a", _until_cut(cut), at_once=2))):
        await settled(scratch, "1", RUNNING)
        await settled(scratch, "2", RUNNING)
        await scratch.put("a", "3")
    for key, attempts in (("1", 1), ("2", 1), ("3", 0)):
        row = await scratch.row(key)
        assert row is not None
        assert (row["state"], row["failures"], row["attempt"]) == (WAITING, 0, attempts)
        assert row["due_at"] <= await scratch.database.run(lambda c: c.scalar(select(func.now())))
    assert cut.is_set()


async def test_a_stop_in_the_middle_of_a_claim_loses_no_lease(
    scratch: Scratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    await scratch.put("a", "1")
    queue = scratch.queue("one")
    claiming = asyncio.Event()
    loop = asyncio.get_running_loop()
    claim = queue.claim

    def slow(connection: Connection, *wanted: Any) -> list[Job]:
        found = claim(connection, *wanted)
        loop.call_soon_threadsafe(claiming.set)
        time.sleep(0.3)
        return found

    monkeypatch.setattr(queue, "claim", slow)
    made = Worker(scratch.database, queue, [Kind("a", _until_cut(asyncio.Event()))])
    async with working(made):
        await claiming.wait()
    row = await scratch.row("1")
    assert row is not None
    assert (row["state"], row["attempt"], row["failures"]) == (WAITING, 1, 0)
    assert not made.reserve("a", "t")


async def test_interrupt_stops_one_job_only(scratch: Scratch) -> None:
    await scratch.put("a", "1", "2")
    cuts = {"1": asyncio.Event(), "2": asyncio.Event()}
    begun = asyncio.Semaphore(0)

    async def work(job: Job) -> None:
        begun.release()
        await _until_cut(cuts[job.key])(job)

    async with working(one_worker(scratch, Kind("a", work, at_once=2))) as made:
        await begun.acquire()
        await begun.acquire()
        await scratch.database.run(scratch.queue("any").drop, "a", "1")
        made.interrupt("a", "1")
        await asyncio.wait_for(cuts["1"].wait(), 2)
        assert not cuts["2"].is_set()
    assert await scratch.row("1") is None
    assert await scratch.row("2") is not None


async def test_a_failing_database_is_waited_for(
    scratch: Scratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    await scratch.put("a", "1")
    queue = scratch.queue("one")
    claim, tries = queue.claim, iter(range(100))

    def failing(connection: Connection, *wanted: Any) -> list[Job]:
        if next(tries) < 2:
            raise WinnowError("DATABASE_UNAVAILABLE", "gone")
        return claim(connection, *wanted)

    monkeypatch.setattr(queue, "claim", failing)
    kind = Kind("a", transaction(scratch.database, queue, scratch.effect))
    async with working(Worker(scratch.database, queue, [kind])):
        await gone(scratch, "1")
    assert await scratch.done() == ["1"]


async def test_processes_that_are_killed_do_every_job_once(
    scratch: Scratch, database_url: str
) -> None:
    """Three processes; ten times 200 new jobs, and one of those that are at it killed."""
    queue = scratch.queue()
    chance = random.Random(7)
    pids: set[int] = set()
    starter = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tests.runtime.queues", database_url, str(scratch.jobs.schema)),
        cwd=ROOT,
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'gen'}"},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    asks, says = starter.stdin, starter.stdout
    assert asks is not None
    assert says is not None

    async def start() -> None:
        asks.write(b"\n")
        pids.add(int(await says.readline()))

    def busy(connection: Connection) -> list[int]:
        jobs = scratch.jobs.c
        query = select(jobs.worker).where(jobs.state == RUNNING).distinct().order_by(jobs.worker)
        return sorted(pids.intersection(int(name) for name in connection.scalars(query)))

    try:
        for _ in range(3):
            await start()
        for lot in range(10):
            rows = [{"key": f"{lot}.{n:03}", "tenant_id": "t", "payload": {}} for n in range(200)]
            await scratch.database.run(queue.put_many, queues.COUNTED, rows)
            await asyncio.sleep(chance.uniform(0.0, 0.2))
            victim = chance.choice(await until(lambda: scratch.database.run(busy), 30))
            os.kill(victim, signal.SIGKILL)
            pids.remove(victim)
            await start()
        await until(lambda: _empty(scratch), 60)
    finally:
        starter.kill()
        await starter.wait()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
    assert await scratch.done() == sorted(f"{lot}.{n:03}" for lot in range(10) for n in range(200))


async def _empty(scratch: Scratch) -> bool:
    def count(connection: Connection) -> int:
        return int(connection.scalar(select(func.count()).select_from(scratch.jobs)) or 0)

    return await scratch.database.run(count) == 0
