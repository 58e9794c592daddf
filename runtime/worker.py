"""Works through a queue: claims jobs, renews their leases, deals with their failures.

A new kind of work is a `Kind` and a row in the table of jobs.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from runtime import context, crash, metrics, tracing
from runtime.database import Database
from runtime.errors import WinnowError
from runtime.jobs import Job, Queue
from runtime.log import get_logger

_log = get_logger()

# A retry is found by this: no worker has an advantage, least of all the one that failed.
_POLL_SECONDS = 0.5
_BACKOFF_SECONDS = 0.25
_BACKOFF_MOST_SECONDS = 15.0


def backoff(failures: int) -> float:
    """Seconds until a job that has failed so often before is tried again, with jitter:
    what failed together does not come back together.
    """
    # 2 ** 6 quarters of a second are past the bound already.
    seconds = min(_BACKOFF_SECONDS * 2.0 ** min(failures, 6), _BACKOFF_MOST_SECONDS)
    return seconds * random.uniform(0.5, 1.0)  # noqa: S311


class Kind(NamedTuple):
    """A kind of work.

    Args:
        name: as jobs of it are put.
        run: does it; every transaction of it begins with `Queue.hold`, and its last
            one ends with `Queue.finish`.
        gave_up: what is to be written when the work has failed for good, in the
            transaction that ends the job. Without it, or where it fails itself, such a
            job is a dead letter.
        at_once: how many of them a worker does at a time.
        kept: how many of these places are only for a tenant of whom it does none.
    """

    name: str
    run: Callable[[Job], Awaitable[None]]
    gave_up: Callable[[Connection, Job, WinnowError], object] | None = None
    at_once: int = 1
    kept: int = 0


class Worker:
    """Does the work of a queue until cancelled.

    Args:
        database: where the queue is.
        queue: the jobs.
        kinds: what this worker can do.
        ended: told of each job that failed for good, once that is committed.
    """

    def __init__(
        self,
        database: Database,
        queue: Queue,
        kinds: Iterable[Kind],
        ended: Callable[[Job, WinnowError], None] = lambda _job, _error: None,
    ) -> None:
        self._database = database
        self._queue = queue
        self._kinds = {kind.name: kind for kind in kinds}
        self._free = {kind.name: kind.at_once for kind in self._kinds.values()}
        # Kinds and tenants, and how many places each has.
        self._taken: Counter[tuple[str, str]] = Counter()
        # Kinds of which more may wait than there were places for.
        self._full: set[str] = set()
        self._ended = ended
        self._bell = asyncio.Event()
        self._running: dict[asyncio.Task[None], Job] = {}
        self._claiming: asyncio.Task[None] | None = None
        self._stopping = False

    def ring(self) -> None:
        """Says that there may be work."""
        self._bell.set()

    def reserve(self, kind: str, tenant: str) -> bool:
        """Takes a place for a job that the caller is about to put as claimed.

        Returns:
            False if this worker has no place free for the tenant, or others may come
            first; the job then waits its turn.
        """
        free = self._free[kind]
        if self._taken[kind, tenant]:
            free = 0 if kind in self._full else free - self._kinds[kind].kept
        if self._stopping or free <= 0:
            self._full.add(kind)
            return False
        self._take(kind, tenant)
        return True

    def give_back(self, kind: str, tenant: str) -> None:
        """Frees a reserved place: there is no job after all."""
        self._free[kind] += 1
        self._taken[kind, tenant] -= 1
        if kind in self._full:
            self._bell.set()

    def begin(self, job: Job) -> asyncio.Task[None]:
        """Does a job that has been claimed, in a place that was reserved."""
        task = asyncio.create_task(self._do(job))
        self._running[task] = job
        task.add_done_callback(self._left)
        return task

    def interrupt(self, kind: str, key: str) -> None:
        """Stops work on a job that has been taken from this worker, if it is here."""
        for task, job in list(self._running.items()):
            if (job.kind, job.key) == (kind, key):
                task.cancel()

    async def run(self) -> None:
        """Claims and works until cancelled; `stop` then ends what is still running."""
        async with asyncio.TaskGroup() as tasks:
            heart = tasks.create_task(self._beat())
            while not self._stopping:
                # Cancelled, a claim still commits: what it took must be begun, or put back.
                self._claiming = asyncio.create_task(self._claim())
                await asyncio.shield(self._claiming)
                # Not all workers in step.
                seconds = _POLL_SECONDS * random.uniform(0.75, 1.25)  # noqa: S311
                # Not wait_for: before Python 3.12 it can swallow a cancellation.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(seconds):
                        await self._bell.wait()
                self._bell.clear()
            heart.cancel()

    async def stop(self) -> None:
        """Stops all work and puts it back: another worker, or the next life, goes on."""
        self._stopping = True
        self._bell.set()
        if self._claiming is not None:
            await asyncio.gather(self._claiming, return_exceptions=True)
        cut = dict(self._running)
        for task in cut:
            task.cancel()
        await asyncio.gather(*cut, return_exceptions=True)
        with contextlib.suppress(WinnowError):
            await self._database.run(self._queue.release, cut.values())

    def _take(self, kind: str, tenant: str) -> None:
        self._free[kind] -= 1
        self._taken[kind, tenant] += 1

    async def _claim(self) -> None:
        self._taken = +self._taken
        wanted = {
            kind: free - self._kinds[kind].kept if self._all_may(kind) else free
            for kind, free in self._free.items()
            if free > 0
        }
        without = [
            (kind, tenant)
            for kind, tenant in self._taken
            if kind in wanted and not self._all_may(kind)
        ]
        self._full = {kind for kind in self._free if kind not in wanted}
        self._full |= {kind for kind, _ in without}
        if not wanted:
            return
        for kind, places in wanted.items():
            self._free[kind] -= places
        claimed: list[Job] = []
        try:
            claimed = await self._database.run(self._queue.claim, wanted, without)
        except WinnowError as error:
            _log.warning("worker.waiting", status="retrying", reason=error.reason)
        finally:
            for kind, places in wanted.items():
                self._free[kind] += places
            for job in claimed:
                self._take(job.kind, job.tenant)
                wanted[job.kind] -= 1
            for kind in [kind for kind, places in wanted.items() if places == 0]:
                self._full.add(kind)
                if self._free[kind]:
                    self._bell.set()  # the kept places may be wanted too
        crash.point("job.claimed", bool(claimed))
        for job in claimed:
            self.begin(job)

    async def _beat(self) -> None:
        pause = self._queue.lease_seconds / 4
        while True:
            await asyncio.sleep(pause)
            held = dict(self._running)
            if not held:
                continue
            try:
                ours = await self._database.run(self._queue.renew, list(held.values()))
            except WinnowError as error:
                _log.warning("worker.heartbeat", status="retrying", reason=error.reason)
                continue
            for task, job in held.items():
                if (job.job_id, job.attempt) not in ours and not task.done():
                    # Not at once: one that has just finished is no longer ours either.
                    asyncio.get_running_loop().call_later(pause, task.cancel)

    def _all_may(self, kind: str) -> bool:
        """Whether more places are free than those that are kept."""
        return self._free[kind] > self._kinds[kind].kept

    def _left(self, task: asyncio.Task[None]) -> None:
        job = self._running.pop(task)
        self.give_back(job.kind, job.tenant)

    async def _do(self, job: Job) -> None:
        context.tenant.set(job.tenant)
        context.request_id.set(job.request_id)
        context.caller.set(context.LOCAL)
        structlog.contextvars.bind_contextvars(tenant=job.tenant, request_id=job.request_id)
        started = time.perf_counter()
        span = tracing.begin(
            job.kind,
            "CONSUMER",
            parent=job.payload.get(tracing.HEADER, ""),
            job_id=str(job.job_id),
            attempt=job.attempt,
        )
        outcome = "lost"
        try:
            outcome = await self._done(job)
        finally:
            metrics.JOBS.labels(job.kind, outcome).inc()
            seconds = time.perf_counter() - started
            metrics.observe(metrics.JOB_SECONDS.labels(job.kind), seconds)
            span.end("ok" if outcome == "done" else "failed", job=outcome)

    async def _done(self, job: Job) -> str:
        """Does a job, and settles its failure; how it left, as JOBS counts it."""
        try:
            if job.exhausted:
                raise WinnowError(
                    "INTERNAL", f"given up: its workers died or failed {job.failures} times"
                )
            await self._kinds[job.kind].run(job)
        except WinnowError as error:
            return await self._failed(job, error)
        except Exception as error:  # noqa: BLE001 -- a defect fails the job, not the process
            _log.error("job.defect", status="error", kind=job.kind, exc_info=error)
            return await self._failed(
                job, WinnowError("INTERNAL", "the work failed; the log says how")
            )
        return "done"

    async def _failed(self, job: Job, error: WinnowError) -> str:
        if error.reason == "LEASE_LOST":
            _log.warning("job.lost", status="lost", kind=job.kind, attempt=job.attempt)
            return "lost"
        # A failure that no retry mends is a result, if somebody writes it down; a
        # defect of ours is not: a newer build may do better.
        final = not error.retryable
        dead = job.failures + 1 >= job.max_failures or error.reason == "INTERNAL"
        delay = backoff(job.failures)

        def settle(connection: Connection) -> str:
            if not (dead or final):
                self._queue.again(connection, job, error, delay)
                return "retry"
            self._queue.hold(connection, job)
            written = self._write_off(connection, job, error)
            if dead or not written:
                self._queue.bury(connection, job, error)
                return "dead"
            self._queue.finish(connection, job)
            return "failed"

        try:
            outcome = await self._database.run(settle)
        except WinnowError as unsettled:
            # No database, or no longer ours: when the lease is over somebody takes it up.
            _log.warning("job.unsettled", status="error", kind=job.kind, reason=unsettled.reason)
            return "lost"
        if dead or final:
            _log.warning("job.ended", status="error", kind=job.kind, reason=error.reason)
            self._ended(job, error)
        else:
            crash.point("job.again")
            _log.warning("job.retry", status="retrying", kind=job.kind, reason=error.reason)
        return outcome

    def _write_off(self, connection: Connection, job: Job, error: WinnowError) -> bool:
        """Lets the kind write a failure down; whether it has."""
        gave_up = self._kinds[job.kind].gave_up
        if gave_up is None:
            return False
        try:
            with connection.begin_nested():
                gave_up(connection, job, error)
        except OperationalError:
            raise
        except Exception as defect:  # noqa: BLE001 -- or the job would come back for ever
            _log.error("job.defect", status="error", kind=job.kind, exc_info=defect)
            return False
        return True


def transaction(
    database: Database, queue: Queue, effect: Callable[[Connection, Job], object]
) -> Callable[[Job], Awaitable[None]]:
    """Work that is one transaction: its effect, and the job's end."""

    def do(connection: Connection, job: Job) -> None:
        queue.hold(connection, job)
        effect(connection, job)
        queue.finish(connection, job)

    async def run(job: Job) -> None:
        await database.run(do, job)

    return run
