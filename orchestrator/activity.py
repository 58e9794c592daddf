"""What happens how often: events counted by tenant, hour and type.

A consumer of the event transport with an effect of its own. Each event counts
once, so that the counts agree with the audit log.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC

from sqlalchemy import Connection
from sqlalchemy.dialects.postgresql import insert

from orchestrator.tables import activity
from winnow.event.v1.envelope_pb2 import Envelope

GROUP = "activity"


def count(connection: Connection, events: Sequence[Envelope]) -> None:
    """Adds events to the counts of their hours (UTC)."""
    counts = Counter(
        (
            event.tenant_id,
            event.occurred_at.ToDatetime(UTC).replace(minute=0, second=0, microsecond=0),
            event.event_type,
        )
        for event in events
    )
    added = insert(activity).values(
        [
            {"tenant_id": tenant, "hour": hour, "event_type": event_type, "events": number}
            # In one order everywhere, so that consumers wait for one another.
            for (tenant, hour, event_type), number in sorted(counts.items())
        ]
    )
    connection.execute(
        added.on_conflict_do_update(
            index_elements=["tenant_id", "hour", "event_type"],
            set_={"events": activity.c.events + added.excluded.events},
        )
    )
