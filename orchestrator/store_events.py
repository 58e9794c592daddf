"""The events of a run, kept for good: history and what is live are the same rows.

An event gets its ordinal from the report's own row, in the transaction of what it
tells of: the row's lock makes ordinals gap-free, and visible in their order.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence

from sqlalchemy import BigInteger, Connection, String, bindparam, insert, text, update
from sqlalchemy.dialects.postgresql import ARRAY

from orchestrator.tables import reports, run_events
from winnow.event.v1.envelope_pb2 import Envelope

_PAGE = text(
    "SELECT wanted.run_id, event.payload"
    " FROM unnest(CAST(:runs AS uuid[]), :afters) AS wanted (run_id, after)"
    " CROSS JOIN LATERAL (SELECT ordinal, payload FROM orchestrator.run_events AS one"
    " WHERE one.run_id = wanted.run_id AND one.ordinal > wanted.after"
    " ORDER BY one.ordinal LIMIT :at_most) AS event"
    " ORDER BY wanted.run_id, event.ordinal"
).bindparams(bindparam("runs", type_=ARRAY(String)), bindparam("afters", type_=ARRAY(BigInteger)))


def append(connection: Connection, report_id: uuid.UUID, events: Sequence[Envelope]) -> None:
    """Adds events to a report's run, numbered on from its last."""
    if not events:
        return
    last = connection.execute(
        update(reports)
        .where(reports.c.report_id == report_id)
        .values(last_event=reports.c.last_event + len(events))
        .returning(reports.c.last_event)
    ).scalar_one()
    put(connection, report_id, events, int(last))


def put(
    connection: Connection, report_id: uuid.UUID, events: Sequence[Envelope], last: int
) -> None:
    """Writes events that end at ordinal `last`, which the report's row says already."""
    rows = []
    for ordinal, event in enumerate(events, last - len(events) + 1):
        event.ordinal = ordinal
        rows.append(
            {
                "run_id": report_id,
                "ordinal": ordinal,
                "tenant_id": event.tenant_id,
                "type": event.event_type,
                "at": event.occurred_at.ToDatetime(),
                "payload": event.SerializeToString(),
            }
        )
    if rows:
        connection.execute(insert(run_events), rows)


def page(
    connection: Connection, after: Mapping[uuid.UUID, int], limit: int
) -> dict[uuid.UUID, list[Envelope]]:
    """The next events of several runs, in one query.

    Args:
        after: for each run, the ordinal to go on after.
        limit: how many of each run at most.

    Returns:
        Events by ordinal; a run that has none is missing.
    """
    found: dict[uuid.UUID, list[Envelope]] = {}
    asked = {
        "runs": [str(run_id) for run_id in after],
        "afters": list(after.values()),
        "at_most": limit,
    }
    for run_id, payload in connection.execute(_PAGE, asked):
        found.setdefault(run_id, []).append(Envelope.FromString(payload))
    return found
