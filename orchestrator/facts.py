"""What the orchestrator's metrics say of the queue and the outbox: looked up when asked."""

from __future__ import annotations

import math
from collections.abc import Sequence

from orchestrator import store_queue
from runtime import buckets, metrics
from runtime.database import Database
from winnow.queue.v1.queue_service_pb2 import QueueDepth


def of(database: Database, kinds: Sequence[str]) -> metrics.Facts:
    """Depths and ages, from one look at the tables.

    Args:
        database: the orchestrator's.
        kinds: of jobs, which are told of even while there are none.
    """

    async def read() -> None:
        for gauge in (metrics.QUEUE_JOBS, metrics.QUEUE_AGE, metrics.OUTBOX_EVENTS):
            gauge.clear()
        metrics.OUTBOX_AGE.set(math.nan)
        metrics.RATE_BUCKETS.labels("postgres").set(math.nan)
        seen = await database.run(store_queue.depths)
        metrics.RATE_BUCKETS.labels("postgres").set(await database.run(buckets.count))
        none = {kind: QueueDepth(kind=kind) for kind in kinds}
        found = {**none, **{depth.kind: depth for depth in seen.kinds}}
        for kind, depth in found.items():
            for state in metrics.JOB_STATES:
                metrics.QUEUE_JOBS.labels(kind, state).set(getattr(depth, state))
            metrics.QUEUE_AGE.labels(kind).set(depth.oldest_age.ToTimedelta().total_seconds())
        metrics.OUTBOX_EVENTS.labels("audit").set(seen.outbox_audit)
        metrics.OUTBOX_EVENTS.labels("transport").set(seen.outbox_transport)
        metrics.OUTBOX_AGE.set(seen.outbox_oldest_age.ToTimedelta().total_seconds())

    return metrics.Facts(read)
