"""Recurring work: cron expressions in a time zone, each due time exactly once.

A schedule is a row that says when it is due next. Whoever finds it due puts the job
of that time, whose key is the time itself, and moves the row on in one transaction:
any number of processes may look.

Daylight saving is dealt with as cron does: what is due at a fixed time that the
clock jumps over is done right after the jump, and what is due at a time that comes
twice is done the first time; what is due every so many minutes follows real time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from enum import IntEnum
from itertools import islice, takewhile
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from sqlalchemy import (
    Column,
    Connection,
    DateTime,
    MetaData,
    SmallInteger,
    Table,
    Text,
    case,
    delete,
    func,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from runtime import crash
from runtime.config import ConfigError
from runtime.context import DEFAULT_TENANT
from runtime.database import Database
from runtime.errors import WinnowError
from runtime.jobs import Queue
from runtime.log import get_logger

_log = get_logger()

# How late a due time may be found before it counts as missed.
_PUNCTUAL = timedelta(minutes=1)
# How many missed times one transaction catches up with; the next goes on.
_AT_ONCE = 1000
_LOOK_SECONDS = 30.0
_RETRY_SECONDS = 1.0
# More than any clock is put back.
_PUT_BACK = timedelta(hours=3)


class CatchUp(IntEnum):
    """What becomes of due times that passed while nobody looked."""

    # They are dropped; the next one to come is done.
    SKIP = 1
    # One job for all of them, with the time of the last.
    ONCE = 2
    # A job for each, the oldest first.
    ALL = 3


@dataclass(frozen=True)
class Schedule:
    """A recurring piece of work.

    Args:
        name: unique among schedules.
        kind: of the jobs that it puts. Their key is `<name>@<due time>`, and their
            payload says `due_at`.
        cron: minute, hour, day of month, month, day of week.
        zone: IANA time zone that the expression is in.
        catch_up: what becomes of missed times.

    Raises:
        ConfigError: if the expression or the zone is none, or is never due.
    """

    name: str
    kind: str
    cron: str
    zone: str = "UTC"
    catch_up: CatchUp = CatchUp.SKIP

    def __post_init__(self) -> None:
        try:
            zone = _zone(self.zone)
        except (KeyError, ValueError, OSError):
            raise ConfigError(f"schedule {self.name}: its zone is no IANA time zone") from None
        if len(self.cron.split()) != 5:
            raise ConfigError(
                f"schedule {self.name}: its cron expression must have five fields: "
                "minute, hour, day of month, month, day of week"
            )
        try:
            next(CronSim(self.cron, datetime.now(zone)))
        except CronSimError as error:
            wrong = str(error).removeprefix("Bad ")
            raise ConfigError(
                f"schedule {self.name}: its cron expression is wrong: {wrong}"
            ) from None
        except StopIteration:
            raise ConfigError(f"schedule {self.name}: its cron expression is never due") from None


def schedules_table(metadata: MetaData) -> Table:
    """The table of schedules, in the schema of the service that owns it."""
    return Table(
        "schedules",
        metadata,
        Column("name", Text, primary_key=True),
        # Kind of the jobs that it puts; their key is "<name>@<due time>".
        Column("kind", Text, nullable=False),
        Column("cron", Text, nullable=False),
        Column("zone", Text, nullable=False),
        Column("catch_up", SmallInteger, nullable=False),
        Column("next_at", DateTime(timezone=True), nullable=False),
    )


def next_due(cron: str, zone: str, after: datetime) -> datetime:
    """The first due time later than `after`, UTC."""
    local = CronSim(cron, after.astimezone(_zone(zone)))
    return next(due for due in map(_utc, local) if due > after)


def last_due(cron: str, zone: str, until: datetime) -> datetime:
    """The last due time not later than `until`, UTC."""
    # Begun later: within an hour that comes twice, going back would miss what was due
    # the first time.
    local = CronSim(cron, (until + _PUT_BACK).astimezone(_zone(zone)), reverse=True)
    return next(due for due in map(_utc, local) if due <= until)


def ensure(connection: Connection, table: Table, schedules: Iterable[Schedule]) -> None:
    """Makes the table say what the code says: new ones begin with their next due time,
    so do those whose times have changed, and what is no schedule any more goes.
    """
    at = _now(connection)
    given = {schedule.name: schedule for schedule in schedules}
    connection.execute(delete(table).where(table.c.name.not_in(given)))
    # Always in the same order: processes that start together do not wait for one another.
    for name in sorted(given):
        schedule = given[name]
        row = insert(table).values(
            name=name,
            kind=schedule.kind,
            cron=schedule.cron,
            zone=schedule.zone,
            catch_up=schedule.catch_up,
            next_at=next_due(schedule.cron, schedule.zone, at),
        )
        new = row.excluded
        same = (table.c.cron == new.cron) & (table.c.zone == new.zone)
        connection.execute(
            row.on_conflict_do_update(
                index_elements=[table.c.name],
                set_={
                    "kind": new.kind,
                    "cron": new.cron,
                    "zone": new.zone,
                    "catch_up": new.catch_up,
                    "next_at": case((same, table.c.next_at), else_=new.next_at),
                },
            )
        )


def fire(connection: Connection, table: Table, queue: Queue) -> int:
    """Puts the jobs of all schedules that are due, and moves these on.

    Returns:
        How many jobs.
    """
    at = _now(connection)
    due = connection.execute(
        select(table)
        .where(table.c.next_at <= at)
        .order_by(table.c.name)
        .with_for_update(skip_locked=True)
    ).all()
    count = 0
    for row in due:
        times, next_at = _times(row.cron, row.zone, CatchUp(row.catch_up), row.next_at, at)
        jobs = [
            {
                "key": f"{row.name}@{time:%Y-%m-%dT%H:%MZ}",
                "tenant_id": DEFAULT_TENANT,
                "payload": {"due_at": time.isoformat()},
            }
            for time in times
        ]
        count += queue.put_many(connection, row.kind, jobs)
        connection.execute(update(table).where(table.c.name == row.name).values(next_at=next_at))
    crash.point("schedule.firing", count > 0)
    return count


def _times(
    cron: str, zone: str, catch_up: CatchUp, first: datetime, at: datetime
) -> tuple[Sequence[datetime], datetime]:
    """The due times to be done of those from `first` on, and the one to go on with."""
    if catch_up is CatchUp.ALL:
        later = map(_utc, CronSim(cron, first.astimezone(_zone(zone))))
        passed = [first, *islice(takewhile(lambda time: time <= at, later), _AT_ONCE - 1)]
        return passed, next_due(cron, zone, passed[-1])
    # What the row says is due, whatever has become of the zone's rules since.
    last = max(first, last_due(cron, zone, at))
    missed = catch_up is CatchUp.SKIP and at - last > _PUNCTUAL
    return [] if missed else [last], next_due(cron, zone, at)


class Scheduler:
    """Looks for what is due until cancelled.

    Args:
        database: where the tables are.
        table: made by `schedules_table`.
        schedules: all that there are.
        queue: where their jobs go.
        ring: told when there are new jobs.
    """

    def __init__(
        self,
        database: Database,
        table: Table,
        schedules: Iterable[Schedule],
        queue: Queue,
        ring: Callable[[], object],
    ) -> None:
        self._database = database
        self._table = table
        self._schedules = tuple(schedules)
        self._queue = queue
        self._ring = ring

    async def run(self) -> None:
        """Writes the schedules down, then puts their jobs as they become due."""
        ensured = False
        while True:
            try:
                if not ensured:
                    await self._database.run(ensure, self._table, self._schedules)
                    ensured = True
                put, pause = await self._database.run(self._look)
                if put:
                    self._ring()
            except WinnowError as error:
                _log.warning("schedules.waiting", status="retrying", reason=error.reason)
                pause = _RETRY_SECONDS
            await asyncio.sleep(pause)

    def _look(self, connection: Connection) -> tuple[int, float]:
        """Fires what is due.

        Returns:
            How many jobs were put, and seconds until it is worth looking again.
        """
        put = fire(connection, self._table, self._queue)
        soonest = connection.scalar(
            select(func.min(self._table.c.next_at) - func.clock_timestamp())
        )
        if soonest is None:
            return put, _LOOK_SECONDS
        # Late are those that another process has, and those with more to catch up with.
        return put, min(max(float(soonest.total_seconds()), 0.05), _LOOK_SECONDS)


def _zone(name: str) -> tzinfo:
    # Needs no time zone database.
    return UTC if name == "UTC" else ZoneInfo(name)


def _utc(time: datetime) -> datetime:
    return time.astimezone(UTC)


def _now(connection: Connection) -> datetime:
    """The database's clock: processes may differ in theirs."""
    at: datetime = connection.execute(select(func.now())).scalar_one()
    return at
