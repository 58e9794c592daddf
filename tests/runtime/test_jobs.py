"""The queue's SQL on the real database: claims, leases, fencing, ends."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, text

from runtime.clock import now
from runtime.database import Database
from runtime.errors import WinnowError
from runtime.jobs import DEAD, DEATH_COUNTS, RUNNING, WAITING, Job, Queue
from tests.runtime.queues import Scratch
from tests.runtime.queues import scratch as scratch

FAILURE = WinnowError("UPSTREAM_UNAVAILABLE", "gone")


async def claim(scratch: Scratch, queue: Queue, **wanted: int) -> list[Job]:
    return await scratch.database.run(queue.claim, wanted)


async def test_one_kind_and_key_is_one_job(scratch: Scratch) -> None:
    [first] = await scratch.put("a", "1")
    assert await scratch.put("a", "1") == []
    assert len(await scratch.put("b", "1")) == 1
    queue = scratch.queue()
    rows = [{"key": str(n), "tenant_id": "t", "payload": {"n": n}} for n in range(3)]
    assert await scratch.database.run(queue.put_many, "a", rows) == 2
    assert await scratch.database.run(queue.put_many, "a", []) == 0
    row = await scratch.row("2")
    assert row is not None
    assert (row["tenant_id"], row["payload"], row["state"]) == ("t", {"n": 2}, WAITING)
    assert first.attempt == 0


async def test_jobs_put_at_once_are_claimed_in_their_order(scratch: Scratch) -> None:
    queue = scratch.queue()
    rows = [{"key": str(n), "tenant_id": "t", "payload": {}} for n in range(50)]
    await scratch.database.run(queue.put_many, "a", rows)
    claimed = [await claim(scratch, queue, a=7) for _ in range(8)]
    assert [job.key for jobs in claimed for job in jobs] == [str(n) for n in range(50)]


async def test_claims_are_limited_by_kind_and_take_no_job_twice(scratch: Scratch) -> None:
    await scratch.put("a", *(f"a{n}" for n in range(300)))
    await scratch.put("b", "b0", "b1", "b2")
    await scratch.database.run(lambda c: c.execute(text(f"ANALYZE {scratch.jobs.fullname}")))
    taken: list[Job] = []
    for limit in (1, 5, 40):
        jobs = await claim(scratch, scratch.queue(), a=limit, b=1)
        assert Counter(job.kind for job in jobs) == {"a": limit, "b": 1}
        taken += jobs
    assert len({job.job_id for job in taken}) == len(taken)
    assert {job.attempt for job in taken} == {1}
    assert await claim(scratch, scratch.queue(), c=9) == []


async def test_claimers_at_once_share_the_jobs(scratch: Scratch) -> None:
    await scratch.put("a", *(str(n) for n in range(400)))

    async def work(name: str) -> list[str]:
        queue, mine = scratch.queue(name), []
        while jobs := await claim(scratch, queue, a=7):
            mine += [job.key for job in jobs]
        return mine

    shares = await asyncio.gather(*(work(f"w{n}") for n in range(4)))
    taken = [key for share in shares for key in share]
    assert sorted(taken) == sorted(str(n) for n in range(400))
    assert sum(1 for share in shares if share) > 1


async def in_turn(scratch: Scratch, number: int) -> str:
    """Whose jobs are claimed one after the other, and run on: the first letters of their keys."""
    claimed = [await claim(scratch, scratch.queue(), a=1) for _ in range(number)]
    return "".join(job.key[0] for jobs in claimed for job in jobs)


async def test_a_tenants_burst_waits_for_itself(scratch: Scratch) -> None:
    await scratch.put("a", *(f"x{n}" for n in range(2000)), tenant="x")
    assert await in_turn(scratch, 2) == "xx"
    await scratch.put("a", "y0", "y1", "y2", tenant="y")
    await scratch.put("a", "z", tenant="z")
    # Whoever has the fewest at work; of those who have as many, who waits the longest.
    assert await in_turn(scratch, 7) == "yzyxyxx"


async def test_what_has_ended_counts_no_more(scratch: Scratch) -> None:
    await scratch.put("a", "x0", "x1", "x2", tenant="x")
    jobs = await claim(scratch, scratch.queue(), a=2)
    await scratch.put("a", "y0", "y1", tenant="y")
    assert await in_turn(scratch, 1) == "y"
    await scratch.database.run(scratch.queue().finish_all, jobs)
    assert await in_turn(scratch, 2) == "xy"


async def test_several_at_a_time_are_shared_out(scratch: Scratch) -> None:
    await scratch.put("a", *(f"many{n}" for n in range(50)), tenant="many")
    await scratch.put("a", *(f"few{n}" for n in range(3)), tenant="few")
    await scratch.put("b", *(f"other{n}" for n in range(3)), tenant="many")
    jobs = await claim(scratch, scratch.queue(), a=8, b=2)
    assert Counter((job.kind, job.tenant) for job in jobs) == {
        ("a", "many"): 5,
        ("a", "few"): 3,
        ("b", "many"): 2,
    }


async def test_keys_of_a_tenant_take_turns_and_bring_it_no_more(scratch: Scratch) -> None:
    for line in ("k", "l"):
        await scratch.put("a", *(f"{line}{n}" for n in range(4)), tenant="two", line=line)
    await scratch.put("a", *(f"m{n}" for n in range(4)), tenant="one", line="m")
    assert await in_turn(scratch, 9) == "kmlmkmlmk"


async def test_a_lapsed_job_has_its_turn_too(scratch: Scratch) -> None:
    await scratch.put("a", "x0", "x1", tenant="x")
    await claim(scratch, scratch.queue("gone"), a=1)
    await scratch.put("a", "y0", tenant="y")
    await scratch.lapse("x0", "x1")
    assert await in_turn(scratch, 3) == "xyx"


async def test_tenants_can_be_left_out(scratch: Scratch) -> None:
    await scratch.put("a", "x0", tenant="x")
    await scratch.put("a", "y0", tenant="y")
    await scratch.put("b", "x1", tenant="x")
    queue, wanted = scratch.queue(), {"a": 5, "b": 5}
    jobs = await scratch.database.run(queue.claim, wanted, [("a", "x")])
    assert sorted(job.key for job in jobs) == ["x1", "y0"]


async def test_locked_jobs_are_passed_over(scratch: Scratch) -> None:
    await scratch.put("a", "1", "2")
    [first] = await claim(scratch, scratch.queue("one"), a=1)
    await scratch.lapse()
    with scratch.database.engine.begin() as held:
        scratch.queue("one").hold(held, first)
        jobs = await asyncio.wait_for(claim(scratch, scratch.queue("two"), a=5), 2)
        assert [job.key for job in jobs] == ["2"]


async def test_a_job_waits_for_its_time(scratch: Scratch) -> None:
    queue = scratch.queue()
    later = now() + timedelta(hours=1)
    await scratch.database.run(lambda c: queue.put(c, "a", "1", due_at=later))
    assert await claim(scratch, queue, a=1) == []
    await scratch.lapse("1")
    assert len(await claim(scratch, queue, a=1)) == 1


async def test_a_lapsed_lease_is_taken_over_and_counts_a_failure(scratch: Scratch) -> None:
    await scratch.put("a", "1")
    one, two = scratch.queue("one"), scratch.queue("two")
    [held] = await claim(scratch, one, a=1)
    assert await claim(scratch, two, a=1) == []
    await scratch.lapse()
    [taken] = await claim(scratch, two, a=1)
    assert (held.attempt, held.failures) == (1, 0)
    assert (taken.attempt, taken.failures) == (2, DEATH_COUNTS)


@pytest.mark.parametrize(
    "write",
    [
        lambda queue, connection, job: queue.hold(connection, job),
        lambda queue, connection, job: queue.finish(connection, job),
        lambda queue, connection, job: queue.again(connection, job, FAILURE, 0.0),
        lambda queue, connection, job: queue.bury(connection, job, FAILURE),
    ],
    ids=["hold", "finish", "again", "bury"],
)
@pytest.mark.parametrize("heir", ["one", "two"])
async def test_a_zombie_writes_nothing(
    scratch: Scratch, write: Callable[[Queue, Connection, Job], object], heir: str
) -> None:
    """Whoever took the job over, also the same worker once more."""
    await scratch.put("a", "1")
    one = scratch.queue("one")
    [zombie] = await claim(scratch, one, a=1)
    await scratch.lapse()
    [heirs] = await claim(scratch, scratch.queue(heir), a=1)
    with pytest.raises(WinnowError) as refused:
        await scratch.database.run(lambda connection: write(one, connection, zombie))
    assert refused.value.reason == "LEASE_LOST"
    row = await scratch.row("1")
    assert row is not None
    assert (row["state"], row["attempt"], row["worker"]) == (RUNNING, heirs.attempt, heir)


async def test_a_lapsed_job_that_nobody_took_is_still_ours(scratch: Scratch) -> None:
    await scratch.put("a", "1")
    queue = scratch.queue()
    [job] = await claim(scratch, queue, a=1)
    await scratch.lapse()

    def end(connection: Connection) -> None:
        queue.hold(connection, job)
        queue.finish(connection, job)

    await scratch.database.run(end)
    assert await scratch.row("1") is None


async def test_renewal_keeps_what_is_ours_and_tells_what_is_not(scratch: Scratch) -> None:
    await scratch.put("a", "mine", "lost", "dropped", "ended")
    one, two = scratch.queue("one"), scratch.queue("two")
    jobs = {job.key: job for job in await claim(scratch, one, a=4)}
    await scratch.lapse("lost")
    assert [job.key for job in await claim(scratch, two, a=4)] == ["lost"]

    def end(connection: Connection) -> None:
        one.drop(connection, "a", "dropped")
        one.finish(connection, jobs["ended"])

    await scratch.database.run(end)
    await scratch.lapse("mine")
    ours = await scratch.database.run(one.renew, list(jobs.values()))
    assert ours == {(jobs["mine"].job_id, 1)}
    assert await claim(scratch, two, a=1) == []


async def test_a_long_transaction_does_not_cost_other_jobs_their_lease(scratch: Scratch) -> None:
    await scratch.put("a", "long", "other")
    queue = scratch.queue("one")
    jobs = {job.key: job for job in await claim(scratch, queue, a=2)}
    await scratch.lapse()
    with scratch.database.engine.begin() as held:
        queue.hold(held, jobs["long"])
        renewal = scratch.database.run(queue.renew, list(jobs.values()))
        ours = await asyncio.wait_for(renewal, 2)
        assert ours == {(job.job_id, 1) for job in jobs.values()}
        # The one is locked, the other renewed.
        assert await claim(scratch, scratch.queue("two"), a=2) == []


async def test_a_failed_job_comes_back_with_its_error(scratch: Scratch) -> None:
    await scratch.put("a", "1")
    queue = scratch.queue()
    [job] = await claim(scratch, queue, a=1)
    await scratch.database.run(queue.again, job, FAILURE, 0.2)
    assert await claim(scratch, queue, a=1) == []
    row = await scratch.row("1")
    assert row is not None
    assert (row["state"], row["failures"]) == (WAITING, 1)
    assert (row["error_reason"], row["error_message"]) == ("UPSTREAM_UNAVAILABLE", "gone")
    await asyncio.sleep(0.25)
    [again] = await claim(scratch, queue, a=1)
    assert (again.attempt, again.failures) == (2, 1)


async def test_an_orderly_stop_counts_no_failure(scratch: Scratch) -> None:
    await scratch.put("a", "1", "2")
    queue = scratch.queue("one")
    jobs = await claim(scratch, queue, a=2)
    await scratch.database.run(queue.finish, jobs[1])
    await scratch.database.run(queue.release, jobs)
    [again] = await claim(scratch, scratch.queue("two"), a=2)
    assert (again.key, again.attempt, again.failures) == ("1", 2, 0)


async def test_a_claimed_job_is_its_putters(scratch: Scratch) -> None:
    queue = scratch.queue("one")
    job = await scratch.database.run(lambda c: queue.put(c, "a", "1", claimed=True))
    assert job is not None
    assert await claim(scratch, scratch.queue("two"), a=1) == []
    await scratch.database.run(queue.finish, job)


async def dead_job(scratch: Scratch, key: str) -> Job:
    [job] = await scratch.put("a", key)
    queue = scratch.queue()
    [claimed] = await claim(scratch, queue, a=1)
    await scratch.database.run(queue.bury, claimed, FAILURE)
    return job


async def test_a_dead_job_rests_until_it_is_revived(scratch: Scratch) -> None:
    queue = scratch.queue()
    job = await dead_job(scratch, "1")
    assert await claim(scratch, queue, a=1) == []

    def revive(connection: Connection) -> Any:
        return queue.revive(connection, queue.dead(connection, job.job_id, "default"))

    revived = await scratch.database.run(revive)
    assert (revived.state, revived.failures, revived.attempt) == (WAITING, 0, 1)
    assert revived.error_reason == "UPSTREAM_UNAVAILABLE"
    [again] = await claim(scratch, queue, a=1)
    # The fencing token goes on, so that nobody of its first life can write.
    assert (again.attempt, again.failures) == (2, 0)


@pytest.mark.parametrize(
    ("tenant", "state", "reason"),
    [("default", WAITING, "JOB_STATE"), ("other", DEAD, "JOB_NOT_FOUND")],
)
async def test_only_a_dead_job_of_ones_own_is_revived(
    scratch: Scratch, tenant: str, state: int, reason: str
) -> None:
    if state == DEAD:
        job = await dead_job(scratch, "1")
    else:
        [job] = await scratch.put("a", "1")
    with pytest.raises(WinnowError) as refused:
        await scratch.database.run(scratch.queue().dead, job.job_id, tenant)
    assert refused.value.reason == reason
    assert refused.value.metadata["job_id"] == str(job.job_id)


async def test_pages_are_newest_first(scratch: Scratch, database: Database) -> None:
    jobs = [(await scratch.put("a", str(n)))[0] for n in range(4)]
    await dead_job_of(scratch, jobs[2])
    queue = scratch.queue()

    async def page(state: int = 0, kind: str = "", before: Any = None, limit: int = 9) -> list[str]:
        found = await database.run(queue.page, "default", state, kind, before, limit)
        return [job.key for job in found]

    assert await page(limit=2) == ["3", "2"]
    assert await page(before=jobs[2].job_id) == ["1", "0"]
    assert await page(state=DEAD) == ["2"]
    assert await page(kind="b") == []


async def dead_job_of(scratch: Scratch, job: Job) -> None:
    await scratch.lapse(job.key)
    queue = scratch.queue()
    [claimed] = await claim(scratch, queue, a=1)
    assert claimed.job_id == job.job_id
    await scratch.database.run(queue.bury, claimed, FAILURE)
