"""The orchestrator's SQL on the outbox.

An event has two ways to go, to the audit service and to the event transport, and a
column that says whether it has gone each. The row goes with the second.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from sqlalchemy import BigInteger, Connection, bindparam, insert, select, text
from sqlalchemy.dialects.postgresql import ARRAY

from orchestrator.tables import outbox
from winnow.event.v1.envelope_pb2 import Envelope

Way = Literal["audited", "published"]

_OTHER: dict[Way, Way] = {"audited": "published", "published": "audited"}

# Rows are locked in their order, or two ways that mark the same rows could each wait
# for the other; and before they are looked at, or both could leave a row to the other.
_GONE = {
    way: text(
        "WITH gone AS MATERIALIZED (SELECT seq, audited, published FROM orchestrator.outbox"  # noqa: S608 -- columns of ours
        " WHERE seq = ANY(:seqs) ORDER BY seq FOR UPDATE),"
        " both_ways AS (DELETE FROM orchestrator.outbox AS one USING gone"
        f" WHERE one.seq = gone.seq AND gone.{other})"
        f" UPDATE orchestrator.outbox AS one SET {way} = true FROM gone"
        f" WHERE one.seq = gone.seq AND NOT gone.{other}"
    ).bindparams(bindparam("seqs", type_=ARRAY(BigInteger)))
    for way, other in _OTHER.items()
}


def put(connection: Connection, events: Iterable[Envelope]) -> None:
    """Adds events to the outbox, in order."""
    rows = [{"tenant_id": event.tenant_id, "event": event.SerializeToString()} for event in events]
    if rows:
        connection.execute(insert(outbox), rows)


def following(
    connection: Connection, way: Way, gone: Sequence[int], limit: int
) -> list[tuple[int, Envelope]]:
    """Writes down which rows have gone this way; returns the oldest that have not.

    Returns:
        Rows' numbers and events.
    """
    mark(connection, way, gone)
    return _next(connection, way, limit, locked=False)


def take(connection: Connection, way: Way, limit: int) -> list[Envelope]:
    """The oldest events that have not gone this way; they have when this commits."""
    rows = _next(connection, way, limit, locked=True)
    mark(connection, way, [seq for seq, _ in rows])
    return [event for _, event in rows]


def mark(connection: Connection, way: Way, gone: Sequence[int]) -> None:
    """Writes down which rows have gone this way; those that went both are deleted."""
    if gone:
        connection.execute(_GONE[way], {"seqs": gone})


def _next(
    connection: Connection, way: Way, limit: int, *, locked: bool
) -> list[tuple[int, Envelope]]:
    query = (
        select(outbox.c.seq, outbox.c.event)
        .where(~outbox.c[way])
        .order_by(outbox.c.seq)
        .limit(limit)
    )
    if locked:
        query = query.with_for_update()
    return [(seq, Envelope.FromString(event)) for seq, event in connection.execute(query)]
