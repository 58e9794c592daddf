"""What is cleared away from time to time: each a kind of job and its schedule."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from sqlalchemy import Connection

from orchestrator import store, store_idempotency, store_queue
from orchestrator.retention import RETENTION
from orchestrator.service_decisions import settle_all
from orchestrator.tables import activity, idempotency, inbox
from runtime import buckets, consumers, signatures
from runtime.clock import uuid7
from runtime.database import Database
from runtime.jobs import Job, Queue
from runtime.log import get_logger
from runtime.schedules import CatchUp, Schedule
from runtime.worker import Kind, transaction

_log = get_logger()

# No upload takes a day: older chunks without a report were cut by a crash.
_UPLOADS_SECONDS = 86_400
# Longer than any transport tries to deliver an event.
_INBOX_KEPT = timedelta(days=7)
_ACTIVITY_KEPT = timedelta(days=31)

# By name, the work: how many rows it removed.
_SWEEPS: dict[str, Callable[[Connection], int]] = {
    "uploads.sweep": lambda connection: store.drop_orphans(
        connection, uuid7(age_seconds=_UPLOADS_SECONDS)
    ),
    "idempotency.sweep": lambda connection: store_queue.forget(
        connection, idempotency.c.created_at, store_idempotency.KEPT
    ),
    "inbox.sweep": lambda connection: consumers.sweep(connection, inbox, _INBOX_KEPT),
    "activity.sweep": lambda connection: store_queue.forget(
        connection, activity.c.hour, _ACTIVITY_KEPT
    ),
    "nonces.sweep": signatures.sweep,
    "buckets.sweep": buckets.sweep,
    # An expiry has a job of its own; this finds what an older version left.
    "decisions.sweep": settle_all,
}

# A sweep takes all that there is, so one makes up for any number that were missed.
SCHEDULES = (
    Schedule("uploads.sweep", "uploads.sweep", "7 * * * *", catch_up=CatchUp.ONCE),
    Schedule("idempotency.sweep", "idempotency.sweep", "17 * * * *", catch_up=CatchUp.ONCE),
    Schedule("nonces.sweep", "nonces.sweep", "*/5 * * * *", catch_up=CatchUp.ONCE),
    Schedule("buckets.sweep", "buckets.sweep", "*/5 * * * *", catch_up=CatchUp.ONCE),
    Schedule("inbox.sweep", "inbox.sweep", "27 3 * * *", catch_up=CatchUp.ONCE),
    Schedule("decisions.sweep", "decisions.sweep", "47 * * * *", catch_up=CatchUp.ONCE),
    Schedule("activity.sweep", "activity.sweep", "37 3 * * *", catch_up=CatchUp.ONCE),
    Schedule(RETENTION, RETENTION, "*/15 * * * *", catch_up=CatchUp.ONCE),
)


def kinds(database: Database, queue: Queue) -> list[Kind]:
    """The kinds of work that the schedules put, but for retention's own."""
    return [
        Kind(name, transaction(database, queue, _swept(sweep))) for name, sweep in _SWEEPS.items()
    ]


def _swept(sweep: Callable[[Connection], int]) -> Callable[[Connection, Job], None]:
    def effect(connection: Connection, job: Job) -> None:
        removed = sweep(connection)
        _log.info("housekeeping.swept", status="ok", kind=job.kind, rows=removed)

    return effect
