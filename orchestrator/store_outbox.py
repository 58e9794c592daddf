"""The orchestrator's SQL on the outbox.

An event has two ways to go, to the audit service and to the event transport, and a
column that says whether it has gone each. The row goes with the second.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from sqlalchemy import BigInteger, Connection, bindparam, insert, text
from sqlalchemy.dialects.postgresql import ARRAY

from orchestrator.tables import outbox
from winnow.event.v1.envelope_pb2 import Envelope

Way = Literal["audited", "published"]

_OTHER: dict[Way, Way] = {"audited": "published", "published": "audited"}


def _marking(way: Way, which: str) -> str:
    """SQL that marks the chosen rows as gone one way, and deletes those gone both.

    Rows are locked in their order, or two ways that mark the same rows could each wait
    for the other; and before they are looked at, or both could leave a row to the other.
    """
    other = _OTHER[way]
    return (
        "WITH gone AS MATERIALIZED (SELECT seq, event, audited, published"  # noqa: S608 -- columns of ours
        f" FROM orchestrator.outbox WHERE {which} FOR UPDATE),"
        " both_ways AS (DELETE FROM orchestrator.outbox AS one USING gone"
        f" WHERE one.seq = gone.seq AND gone.{other}),"
        f" one_way AS (UPDATE orchestrator.outbox AS one SET {way} = true FROM gone"
        f" WHERE one.seq = gone.seq AND NOT gone.{other})"
    )


_FOLLOWING = {
    way: text(
        f"{_marking(way, 'seq = ANY(:seqs) ORDER BY seq')}"  # noqa: S608 -- columns of ours
        " SELECT seq, event FROM orchestrator.outbox"
        f" WHERE NOT {way} AND seq <> ALL(:seqs) ORDER BY seq LIMIT :at_most"
    ).bindparams(bindparam("seqs", type_=ARRAY(BigInteger)))
    for way in _OTHER
}
_MARK = {
    way: text(f"{_marking(way, 'seq = ANY(:seqs) ORDER BY seq')} SELECT").bindparams(
        bindparam("seqs", type_=ARRAY(BigInteger))
    )
    for way in _OTHER
}
_TAKE = {
    way: text(
        f"{_marking(way, f'NOT {way} ORDER BY seq LIMIT :at_most')}"  # noqa: S608 -- columns of ours
        " SELECT event FROM gone ORDER BY seq"
    )
    for way in _OTHER
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
    rows = connection.execute(_FOLLOWING[way], {"seqs": gone, "at_most": limit})
    return [(seq, Envelope.FromString(event)) for seq, event in rows]


def take(connection: Connection, way: Way, limit: int) -> list[Envelope]:
    """The oldest events that have not gone this way; they have when this commits."""
    rows = connection.execute(_TAKE[way], {"at_most": limit}).scalars()
    return [Envelope.FromString(event) for event in rows]


def mark(connection: Connection, way: Way, gone: Sequence[int]) -> None:
    """Writes down which rows have gone this way; those that went both are deleted."""
    if gone:
        connection.execute(_MARK[way], {"seqs": gone})
