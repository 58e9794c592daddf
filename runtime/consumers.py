"""Consumers of events: at least once on the wire, once in effect.

A consumer writes the id of each event into its inbox in the transaction of the
event's effect; an event whose id stands there already has had its effect.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from datetime import timedelta

from sqlalchemy import Column, Connection, DateTime, Index, MetaData, Table, Text, delete, func
from sqlalchemy.dialects.postgresql import UUID, insert

from runtime import crash
from runtime.database import Database
from winnow.event.v1.envelope_pb2 import Envelope

Effect = Callable[[Connection, Sequence[Envelope]], object]


def inbox_table(metadata: MetaData) -> Table:
    """What consumers have taken, in the schema of the service that owns them."""
    return Table(
        "inbox",
        metadata,
        Column("consumer", Text, primary_key=True),
        Column("message_id", UUID(as_uuid=True), primary_key=True),
        Column("at", DateTime(timezone=True), nullable=False, server_default=func.now()),
        Index("inbox_by_age", "at"),
    )


class Consumer:
    """Gives events an effect exactly once.

    Args:
        name: whose inbox; the group that it is in.
        database: where the effect happens.
        inbox: made by `inbox_table`.
        effect: what new events lead to, in their order, within the transaction.
    """

    def __init__(self, name: str, database: Database, inbox: Table, effect: Effect) -> None:
        self.name = name
        self._database = database
        self._inbox = inbox
        self._effect = effect

    async def handle(self, events: Sequence[Envelope]) -> None:
        """Applies the effect of those events that are new."""
        await self._database.run(self._apply, events)
        crash.point("consumer.applied")

    def _apply(self, connection: Connection, events: Sequence[Envelope]) -> None:
        by_id = {uuid.UUID(event.event_id): event for event in events}
        # In one order everywhere: consumers that share events wait for one another.
        rows = [{"consumer": self.name, "message_id": key} for key in sorted(by_id)]
        new = set(
            connection.execute(
                insert(self._inbox)
                .values(rows)
                .on_conflict_do_nothing()
                .returning(self._inbox.c.message_id)
            ).scalars()
        )
        if new:
            self._effect(connection, [event for key, event in by_id.items() if key in new])


def sweep(connection: Connection, inbox: Table, older_than: timedelta) -> int:
    """Forgets what was taken long ago, and comes no more.

    Returns:
        How many events.
    """
    gone = connection.execute(delete(inbox).where(inbox.c.at < func.now() - older_than))
    return int(gone.rowcount)
