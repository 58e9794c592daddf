"""The events of a run, kept for good: history and what is live are the same rows.

An event gets its ordinal from the report's own row, in the transaction of what it
tells of: the row's lock makes ordinals gap-free, and visible in their order.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC
from typing import Any

from sqlalchemy import (
    BigInteger,
    Connection,
    DateTime,
    LargeBinary,
    String,
    bindparam,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY

from orchestrator.tables import reports
from winnow.event.v1.envelope_pb2 import Envelope

_EVENTS = (
    "INSERT INTO orchestrator.run_events (run_id, ordinal, tenant_id, type, at, payload)"
    " SELECT :run_id, ordinal, tenant, type, at, payload"
    " FROM unnest(:ordinals, :tenants, :types, :ats, :payloads)"
    " AS one (ordinal, tenant, type, at, payload)"
)
_COLUMNS = (
    bindparam("ordinals", type_=ARRAY(BigInteger)),
    bindparam("tenants", type_=ARRAY(String)),
    bindparam("types", type_=ARRAY(String)),
    bindparam("ats", type_=ARRAY(DateTime(timezone=True))),
    bindparam("payloads", type_=ARRAY(LargeBinary)),
)
_TELL = text(_EVENTS).bindparams(*_COLUMNS)
# Told and sent in one statement: a run does so in each of its few transactions.
_SEND = text(
    f"WITH told AS ({_EVENTS})"  # noqa: S608 -- a text of ours
    " INSERT INTO orchestrator.outbox (tenant_id, event)"
    " SELECT tenant, payload FROM unnest(:ordinals, :tenants, :payloads)"
    " AS one (ordinal, tenant, payload) ORDER BY ordinal"
).bindparams(*_COLUMNS)

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
    connection.execute(_TELL, _rows(report_id, events, int(last)))


def send(
    connection: Connection, report_id: uuid.UUID, events: Sequence[Envelope], last: int
) -> None:
    """Writes events that end at ordinal `last`, which the report's row says already, for
    its readers, and to the outbox.
    """
    if events:
        connection.execute(_SEND, _rows(report_id, events, last))


def _rows(report_id: uuid.UUID, events: Sequence[Envelope], last: int) -> dict[str, Any]:
    for ordinal, event in enumerate(events, last - len(events) + 1):
        event.ordinal = ordinal
    return {
        "run_id": report_id,
        "ordinals": [event.ordinal for event in events],
        "tenants": [event.tenant_id for event in events],
        "types": [event.event_type for event in events],
        "ats": [event.occurred_at.ToDatetime(UTC) for event in events],
        "payloads": [event.SerializeToString() for event in events],
    }


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
