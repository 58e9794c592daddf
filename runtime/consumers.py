"""Consumers of events: at least once on the wire, once in effect."""

from __future__ import annotations

from sqlalchemy import Column, DateTime, Index, MetaData, Table, Text, func
from sqlalchemy.dialects.postgresql import UUID


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
