"""Durable work in a table: what is to be done, who does it, and how often it failed.

A worker claims a job (`FOR UPDATE SKIP LOCKED`) and has it on lease; it renews the
lease while it works. Each claim raises the job's attempt number, and every
transaction of the work begins with `hold`, which checks that number: a worker that
was given up for dead and wakes again can write nothing (a fencing token). A job
that is done is deleted in the transaction of its last effect, so that the effect
happens once.

`due_at` says when a job may be taken: for one that waits its time, for one that
runs the end of its lease. All times are the database's own.

Who has many jobs waits for himself: the tenant of whom the fewest run is next, and of
a tenant's the key of which the fewest run (`line`), each with what is due the longest.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import (
    Column,
    Connection,
    DateTime,
    Index,
    Integer,
    Interval,
    MetaData,
    Row,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    bindparam,
    delete,
    func,
    select,
    text,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, UUID, insert

from runtime import context, tracing
from runtime.clock import uuid7
from runtime.errors import WinnowError
from winnow.queue.v1 import job_pb2 as pb

WAITING = pb.JobState.JOB_STATE_WAITING
RUNNING = pb.JobState.JOB_STATE_RUNNING
DEAD = pb.JobState.JOB_STATE_DEAD

LEASE_SECONDS = 10.0
# With the worker's back-off some eight minutes of trying: longer than a restart of anything.
MAX_FAILURES = 50
# A death counts for several: what kills its workers must not do so fifty times.
DEATH_COUNTS = 3

# How many jobs a claim looks at beyond those that it wants: others may be taking the
# first ones just then.
_SPARE = 16
# Two probes of an index for each line; what waits behind the first job of a line costs
# nothing unless it is its turn. Nothing is locked but what is taken.
_CLAIM = f"""
WITH RECURSIVE wanted AS (
    SELECT * FROM unnest(:kinds, :limits) AS one (kind, at_most)
), lines AS (
    SELECT kind, tenant_id, line FROM wanted CROSS JOIN LATERAL (
        SELECT tenant_id, line FROM {{jobs}} AS job
        WHERE job.kind = wanted.kind AND state <> {DEAD} ORDER BY tenant_id, line LIMIT 1
    ) AS first
    UNION ALL
    SELECT kind, next.tenant_id, next.line FROM lines CROSS JOIN LATERAL (
        SELECT tenant_id, line FROM {{jobs}} AS job
        WHERE job.kind = lines.kind AND state <> {DEAD}
        AND (job.tenant_id, job.line) > (lines.tenant_id, lines.line)
        ORDER BY tenant_id, line LIMIT 1
    ) AS next
), running AS (
    SELECT kind, tenant_id, line, count(*) AS jobs
    FROM {{jobs}} WHERE state = {RUNNING} AND due_at > now() GROUP BY kind, tenant_id, line
), heads AS (
    SELECT kind, tenant_id, line, since,
    coalesce(sum(jobs) OVER (PARTITION BY kind, tenant_id), 0) + row_number() OVER (
        PARTITION BY kind, tenant_id ORDER BY since IS NULL, coalesce(jobs, 0), since
    ) AS turn
    FROM lines LEFT JOIN running USING (kind, tenant_id, line) LEFT JOIN LATERAL (
        SELECT due_at AS since FROM {{jobs}} AS job
        WHERE job.kind = lines.kind AND job.tenant_id = lines.tenant_id
        AND job.line = lines.line AND due_at <= now() AND state <> {DEAD}
        ORDER BY due_at LIMIT 1
    ) AS head ON true
), in_turn AS (
    SELECT kind, at_most, job_id, due_at,
    turn + row_number() OVER (PARTITION BY kind, tenant_id, line ORDER BY due_at, job_id) AS turn
    FROM wanted CROSS JOIN LATERAL (
        SELECT tenant_id, line, turn FROM heads
        WHERE heads.kind = wanted.kind AND since IS NOT NULL
        AND (kind, tenant_id) NOT IN (SELECT * FROM unnest(:not_kinds, :not_tenants))
        ORDER BY turn, since LIMIT at_most + {_SPARE}
    ) AS first CROSS JOIN LATERAL (
        SELECT job_id, due_at FROM {{jobs}} AS job
        WHERE job.kind = wanted.kind AND job.tenant_id = first.tenant_id
        AND job.line = first.line AND due_at <= now() AND state <> {DEAD}
        ORDER BY due_at, job_id LIMIT at_most + {_SPARE}
    ) AS one
), due AS MATERIALIZED (
    SELECT one.job_id FROM (
        SELECT at_most, array_agg(job_id ORDER BY turn, due_at, job_id) AS ids
        FROM in_turn GROUP BY kind, at_most
    ) AS kinds CROSS JOIN LATERAL (
        SELECT job_id FROM {{jobs}} AS job
        WHERE job_id = ANY (ids) AND due_at <= now() AND state <> {DEAD}
        ORDER BY array_position(ids, job_id) LIMIT at_most
        FOR UPDATE SKIP LOCKED
    ) AS one
)
UPDATE {{jobs}} AS job SET state = {RUNNING}, attempt = attempt + 1,
failures = failures + {DEATH_COUNTS} * (state = {RUNNING})::int,
worker = :worker, due_at = now() + :lease
WHERE job_id = ANY (ARRAY(SELECT job_id FROM due)) RETURNING job.*
"""  # noqa: S608 -- the table's name is ours


def jobs_table(metadata: MetaData) -> Table:
    """The table of jobs, in the schema of the service that owns it."""
    return Table(
        "jobs",
        metadata,
        Column("job_id", UUID(as_uuid=True), primary_key=True),
        Column("kind", Text, nullable=False),
        Column("key", Text, nullable=False),
        Column("tenant_id", Text, nullable=False),
        # Id of the key that it was put with: the tenant's turns go from one to the next.
        Column("line", Text, nullable=False, server_default=""),
        Column("request_id", Text, nullable=False),
        # Ids and numbers; never findings.
        Column("payload", JSONB, nullable=False),
        Column("state", SmallInteger, nullable=False),
        Column("attempt", Integer, nullable=False, server_default="0"),
        Column("failures", Integer, nullable=False, server_default="0"),
        Column("max_failures", Integer, nullable=False),
        Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
        Column("due_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
        Column("worker", Text, nullable=False, server_default=""),
        Column("error_reason", Text, nullable=False, server_default=""),
        Column("error_message", Text, nullable=False, server_default=""),
        UniqueConstraint("kind", "key"),
        Index(
            "jobs_due",
            *("kind", "tenant_id", "line", "due_at", "job_id"),
            postgresql_where=text("state <> 3"),
        ),
        Index("jobs_running", "kind", "tenant_id", "line", postgresql_where=text("state = 2")),
        Index("jobs_dead", text("job_id DESC"), postgresql_where=text("state = 3")),
    )


class Job(NamedTuple):
    """A job as its worker has it."""

    job_id: uuid.UUID
    kind: str
    key: str
    tenant: str
    request_id: str
    payload: dict[str, Any]
    attempt: int
    failures: int
    max_failures: int

    @property
    def exhausted(self) -> bool:
        """Whether it has failed, or its worker died, too often to be begun again."""
        return self.failures >= self.max_failures


class Queue:
    """The SQL on a table of jobs. Each method is part of the caller's transaction.

    Args:
        table: made by `jobs_table`.
        worker: name of the process that claims through this object.
        lease_seconds: how long a job stays with a worker that says nothing.
    """

    def __init__(self, table: Table, worker: str, lease_seconds: float = LEASE_SECONDS) -> None:
        self._table = table
        self._worker = worker
        self.lease_seconds = lease_seconds
        self._lease = timedelta(seconds=lease_seconds)
        # One statement for all kinds: a free worker asks often.
        self._claim = text(_CLAIM.format(jobs=table.fullname)).bindparams(
            bindparam("limits", type_=ARRAY(Integer)),
            *(bindparam(name, type_=ARRAY(Text)) for name in ("kinds", "not_kinds", "not_tenants")),
        )
        self._put_many = text(
            f"INSERT INTO {table.fullname} (job_id, kind, key, tenant_id, request_id, payload,"  # noqa: S608
            f" state, max_failures) SELECT job_id, :kind, key, tenant_id, :request_id, payload,"
            f" {WAITING}, :at_most FROM unnest(CAST(:ids AS uuid[]), :keys, :tenants,"
            " CAST(:payloads AS jsonb[])) AS one (job_id, key, tenant_id, payload)"
            " ON CONFLICT DO NOTHING"
        ).bindparams(
            *(bindparam(name, type_=ARRAY(Text)) for name in ("ids", "keys", "tenants", "payloads"))
        )

        # Made once: SQLAlchemy takes longer to put a statement together than to send it.
        new = insert(table).on_conflict_do_nothing().returning(table)
        self._put = new
        self._put_claimed = new.values(due_at=func.now() + bindparam("lease", type_=Interval))
        ours = (
            (table.c.job_id == bindparam("job"))
            & (table.c.attempt == bindparam("begun"))
            & (table.c.worker == worker)
            & self._runs()
        )
        self._hold = select(table.c.job_id).where(ours).with_for_update(key_share=True)
        self._finish = delete(table).where(ours)

    def put(
        self,
        connection: Connection,
        kind: str,
        key: str,
        *,
        payload: Mapping[str, Any] | None = None,
        tenant: str = "",
        due_at: datetime | None = None,
        max_failures: int = MAX_FAILURES,
        claimed: bool = False,
    ) -> Job | None:
        """Adds a job, unless one of this kind and key is there already.

        Args:
            kind: what is to be done.
            key: what with; unique among the jobs of a kind.
            payload: ids and numbers.
            tenant: whose; the caller's where none is named.
            due_at: not before then.
            claimed: the caller does it at once, as if it had claimed it.

        Returns:
            The job; None if there is one already.
        """
        values: dict[str, Any] = {
            "job_id": uuid7(),
            "kind": kind,
            "key": key,
            "tenant_id": tenant or context.tenant.get(),
            "line": context.caller.get().key_id,
            "request_id": context.request_id.get(),
            "payload": {**(payload or {}), **tracing.carrier()},
            "state": RUNNING if claimed else WAITING,
            "attempt": int(claimed),
            "max_failures": max_failures,
            "worker": self._worker if claimed else "",
        }
        if claimed:
            values["lease"] = self._lease
        elif due_at is not None:
            values["due_at"] = due_at
        row = connection.execute(self._put_claimed if claimed else self._put, values).first()
        return None if row is None else _job(row)

    def put_many(self, connection: Connection, kind: str, rows: Iterable[Mapping[str, Any]]) -> int:
        """Adds jobs of one kind, each with `key`, `tenant_id` and `payload`, that are not there yet.

        Returns:
            How many were added.
        """
        rows = list(rows)
        if not rows:
            return 0
        added = connection.execute(
            self._put_many,
            {
                "kind": kind,
                "request_id": context.request_id.get(),
                "at_most": MAX_FAILURES,
                # In the order of their ids they are claimed.
                "ids": sorted(str(uuid7()) for _ in rows),
                "keys": [row["key"] for row in rows],
                "tenants": [row["tenant_id"] for row in rows],
                "payloads": [json.dumps(row["payload"]) for row in rows],
            },
        )
        return int(added.rowcount)

    def claim(
        self,
        connection: Connection,
        wanted: Mapping[str, int],
        without: Collection[tuple[str, str]] = (),
    ) -> list[Job]:
        """Takes due jobs on lease, those whose lease is over among them, in turn.

        Args:
            wanted: kinds, and how many of each at most.
            without: kinds, and tenants of whom none of that kind is taken.
        """
        rows = connection.execute(
            self._claim,
            {
                "worker": self._worker,
                "lease": self._lease,
                "kinds": list(wanted),
                "limits": list(wanted.values()),
                "not_kinds": [kind for kind, _ in without],
                "not_tenants": [tenant for _, tenant in without],
            },
        )
        return sorted((_job(row) for row in rows), key=lambda job: job.job_id)

    def renew(self, connection: Connection, jobs: Sequence[Job]) -> set[tuple[uuid.UUID, int]]:
        """Extends leases. A job whose work holds it in a transaction just now is left
        as it is, so that one that takes long does not cost the others their leases.

        Returns:
            Ids and attempts of the jobs that are still this worker's.
        """
        table = self._table
        mine = (
            table.c.job_id.in_([job.job_id for job in jobs])
            & (table.c.worker == self._worker)
            & self._runs()
        )
        free = (
            select(table.c.job_id)
            .where(mine)
            .with_for_update(key_share=True, skip_locked=True)
            .cte("free")
        )
        connection.execute(
            update(table)
            .where(table.c.job_id == free.c.job_id)
            .values(due_at=func.now() + self._lease)
        )
        held = connection.execute(select(table.c.job_id, table.c.attempt).where(mine))
        return {(row.job_id, row.attempt) for row in held}

    def hold(self, connection: Connection, job: Job) -> None:
        """First thing in every transaction of a job's work: it is still ours, and stays
        so until the transaction ends.

        Raises:
            WinnowError: LEASE_LOST.
        """
        ours = {"job": job.job_id, "begun": job.attempt}
        if connection.execute(self._hold, ours).first() is None:
            raise _lost()

    def keep(self, connection: Connection, job: Job, payload: Mapping[str, Any]) -> None:
        """Writes down how far a job has come, for whoever takes it up; `hold` came first."""
        connection.execute(update(self._table).where(self._is(job)).values(payload=dict(payload)))

    def finish(self, connection: Connection, job: Job) -> None:
        """Removes a job that is done; last thing in the transaction of its last effect.

        Raises:
            WinnowError: LEASE_LOST.
        """
        ours = {"job": job.job_id, "begun": job.attempt}
        if connection.execute(self._finish, ours).rowcount != 1:
            raise _lost()

    def finish_all(self, connection: Connection, jobs: Sequence[Job]) -> None:
        """Removes jobs that are done, as far as they are still this worker's."""
        table = self._table
        held = [(job.job_id, job.attempt) for job in jobs]
        connection.execute(
            delete(table).where(
                tuple_(table.c.job_id, table.c.attempt).in_(held),
                table.c.worker == self._worker,
                self._runs(),
            )
        )

    def again(self, connection: Connection, job: Job, error: WinnowError, seconds: float) -> None:
        """Puts a job that failed back, to be taken again after some seconds.

        Raises:
            WinnowError: LEASE_LOST.
        """
        self._back(
            connection,
            job,
            state=WAITING,
            failures=job.failures + 1,
            due_at=func.now() + timedelta(seconds=seconds),
            error_reason=error.reason,
            error_message=error.message,
        )

    def bury(self, connection: Connection, job: Job, error: WinnowError) -> None:
        """Makes a job a dead letter.

        Raises:
            WinnowError: LEASE_LOST.
        """
        self._back(
            connection,
            job,
            state=DEAD,
            failures=min(job.failures + 1, job.max_failures),
            due_at=func.now(),
            error_reason=error.reason,
            error_message=error.message,
        )

    def release(self, connection: Connection, jobs: Iterable[Job]) -> None:
        """Puts back, at once due, what an orderly stop cut; no failure is counted."""
        for job in jobs:
            connection.execute(
                update(self._table)
                .where(self._is(job))
                .values(state=WAITING, due_at=func.now(), worker="")
            )

    def drop(self, connection: Connection, kind: str, key: str) -> None:
        """Removes a job whoever has it: its worker loses the lease."""
        table = self._table
        connection.execute(delete(table).where(table.c.kind == kind, table.c.key == key))

    def drop_dead(self, connection: Connection, kind: str, key: str) -> None:
        """Removes a dead letter, for another job of its kind and key to be put."""
        table = self._table
        connection.execute(
            delete(table).where(table.c.kind == kind, table.c.key == key, table.c.state == DEAD)
        )

    def there(self, connection: Connection, kind: str, key: str) -> bool:
        """Whether there is a job that is to be done."""
        table = self._table
        query = select(table.c.job_id).where(
            table.c.kind == kind, table.c.key == key, table.c.state != DEAD
        )
        return connection.execute(query).first() is not None

    def waiting_of(self, kind: str) -> Callable[[Connection, int], dict[str, int]]:
        """Counts jobs of a kind that are not dead by their tenants, up to a number in all."""
        table = self._table

        def count(connection: Connection, most: int) -> dict[str, int]:
            some = select(table.c.tenant_id).where(table.c.kind == kind, table.c.state != DEAD)
            there = some.limit(most).subquery()
            query = select(there.c.tenant_id, func.count()).group_by(there.c.tenant_id)
            return {tenant: int(number) for tenant, number in connection.execute(query)}

        return count

    def dead(self, connection: Connection, job_id: uuid.UUID, tenant: str) -> Job:
        """A dead job, locked.

        Raises:
            WinnowError: JOB_NOT_FOUND, JOB_STATE.
        """
        table = self._table
        row = connection.execute(
            select(table)
            .where(table.c.job_id == job_id, table.c.tenant_id == tenant)
            .with_for_update()
        ).first()
        if row is None:
            raise WinnowError("JOB_NOT_FOUND", "no job has this id", job_id=str(job_id))
        if row.state != DEAD:
            raise WinnowError(
                "JOB_STATE",
                "only a dead job can be given another chance; this one goes on by itself",
                job_id=str(job_id),
                job_state=pb.JobState.Name(row.state).removeprefix("JOB_STATE_").lower(),
            )
        return _job(row)

    def revive(self, connection: Connection, job: Job) -> pb.Job:
        """Lets a dead job begin anew, its failures forgotten."""
        table = self._table
        row = connection.execute(
            update(table)
            .where(table.c.job_id == job.job_id, table.c.state == DEAD)
            .values(state=WAITING, failures=0, due_at=func.now())
            .returning(table)
        ).one()
        return message(row)

    def page(
        self,
        connection: Connection,
        tenant: str,
        state: pb.JobState.ValueType,
        kind: str,
        before: uuid.UUID | None,
        limit: int,
    ) -> list[pb.Job]:
        """Up to `limit` jobs of a tenant, newest first, older than `before`."""
        table = self._table
        query = (
            select(table)
            .where(table.c.tenant_id == tenant)
            .order_by(table.c.job_id.desc())
            .limit(limit)
        )
        if state:
            query = query.where(table.c.state == state)
        if kind:
            query = query.where(table.c.kind == kind)
        if before is not None:
            query = query.where(table.c.job_id < before)
        return [message(row) for row in connection.execute(query)]

    def _back(self, connection: Connection, job: Job, **values: Any) -> None:
        changed = connection.execute(update(self._table).where(self._is(job)).values(**values))
        if changed.rowcount != 1:
            raise _lost()

    def _is(self, job: Job) -> Any:
        table = self._table
        return (
            (table.c.job_id == job.job_id)
            & (table.c.attempt == job.attempt)
            & (table.c.worker == self._worker)
            & self._runs()
        )

    def _runs(self) -> Any:
        return self._table.c.state == RUNNING


def _lost() -> WinnowError:
    return WinnowError("LEASE_LOST", "another worker has taken this job over")


def _job(row: Row[Any]) -> Job:
    return Job(
        row.job_id,
        row.kind,
        row.key,
        row.tenant_id,
        row.request_id,
        row.payload,
        row.attempt,
        row.failures,
        row.max_failures,
    )


def message(row: Row[Any]) -> pb.Job:
    """A row as its contract says."""
    job = pb.Job(
        job_id=str(row.job_id),
        kind=row.kind,
        key=row.key,
        state=row.state,
        attempt=row.attempt,
        failures=row.failures,
        max_failures=row.max_failures,
        error_reason=row.error_reason,
        error_message=row.error_message,
        worker=row.worker,
        tenant_id=row.tenant_id,
    )
    job.created_at.FromDatetime(row.created_at)
    job.due_at.FromDatetime(row.due_at)
    return job
