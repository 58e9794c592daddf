"""The orchestrator's SQL on the queue as operators see it, and on what is forgotten."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, case, delete, func, select, true

from orchestrator.tables import activity, jobs, outbox, schedules
from runtime.jobs import DEAD, RUNNING, WAITING
from winnow.queue.v1.queue_service_pb2 import (
    GetQueueHealthResponse,
    QueueDepth,
    ScheduleState,
)

_DAY = timedelta(days=1)
EVERYBODYS = true()


def health(connection: Connection, tenant: str) -> GetQueueHealthResponse:
    """All counts are of one moment but for what ships meanwhile.

    Args:
        tenant: whose jobs and events are counted; the schedules are everybody's.
    """
    answer = depths(connection, jobs.c.tenant_id == tenant, outbox.c.tenant_id == tenant)
    answer.schedules.extend(_schedules(connection))
    answer.events_of_a_day.update(_events_of_a_day(connection, tenant))
    return answer


def depths(
    connection: Connection,
    which_jobs: ColumnElement[bool] = EVERYBODYS,
    which_events: ColumnElement[bool] = EVERYBODYS,
) -> GetQueueHealthResponse:
    """How much waits in the queue and in the outbox; no more is filled in."""
    answer = GetQueueHealthResponse(kinds=_depths(connection, which_jobs))
    waiting = connection.execute(
        select(
            func.count().filter(~outbox.c.audited).label("audit"),
            func.count().filter(~outbox.c.published).label("transport"),
            (func.now() - func.min(outbox.c.at)).label("age"),
        ).where(which_events)
    ).one()
    answer.outbox_audit = waiting.audit
    answer.outbox_transport = waiting.transport
    answer.outbox_oldest_age.FromTimedelta(waiting.age or timedelta())
    return answer


def _depths(connection: Connection, which: ColumnElement[bool]) -> list[QueueDepth]:
    state, now = jobs.c.state, func.now()
    # One whose lease is over waits for a worker too.
    waiting = (state != DEAD) & (jobs.c.due_at <= now)
    running = (state == RUNNING) & (jobs.c.due_at > now)
    failing = (state != DEAD) & (jobs.c.failures > 0)
    # One that was never begun may have been put long before its time.
    since = case((jobs.c.attempt == 0, jobs.c.due_at), else_=jobs.c.created_at)
    query = (
        select(
            jobs.c.kind,
            func.count().filter(waiting).label("waiting"),
            func.count().filter((state == WAITING) & (jobs.c.due_at > now)).label("delayed"),
            func.count().filter(running).label("running"),
            func.count().filter(failing).label("retried"),
            func.count().filter(state == DEAD).label("dead"),
            (now - func.min(since).filter(waiting | failing)).label("age"),
        )
        .where(which)
        .group_by(jobs.c.kind)
        .order_by(jobs.c.kind)
    )
    depths = []
    for row in connection.execute(query):
        depth = QueueDepth(
            kind=row.kind,
            waiting=row.waiting,
            delayed=row.delayed,
            running=row.running,
            retried=row.retried,
            dead=row.dead,
        )
        depth.oldest_age.FromTimedelta(row.age or timedelta())
        depths.append(depth)
    return depths


def _schedules(connection: Connection) -> list[ScheduleState]:
    query = select(
        schedules.c.name,
        schedules.c.cron,
        schedules.c.zone,
        (schedules.c.next_at - func.now()).label("due_in"),
    ).order_by(schedules.c.name)
    found = []
    for row in connection.execute(query):
        state = ScheduleState(name=row.name, cron=row.cron, zone=row.zone)
        state.due_in.FromTimedelta(row.due_in)
        found.append(state)
    return found


def _events_of_a_day(connection: Connection, tenant: str) -> dict[str, int]:
    """By type; the hour in which the day began counts whole."""
    query = (
        select(activity.c.event_type, func.sum(activity.c.events))
        .where(
            activity.c.tenant_id == tenant,
            activity.c.hour >= func.date_trunc("hour", func.now() - _DAY),
        )
        .group_by(activity.c.event_type)
    )
    return {event_type: int(events) for event_type, events in connection.execute(query)}


def forget(connection: Connection, column: Column[Any], age: timedelta) -> int:
    """Removes the rows of a column's table that are older than `age` by it.

    Returns:
        How many.
    """
    gone = connection.execute(delete(column.table).where(column < func.now() - age))
    return int(gone.rowcount)
