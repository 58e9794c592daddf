"""Recurring work: cron expressions in a time zone, each due time exactly once."""

from __future__ import annotations

from sqlalchemy import Column, DateTime, MetaData, SmallInteger, Table, Text


def schedules_table(metadata: MetaData) -> Table:
    """The table of schedules, in the schema of the service that owns it."""
    return Table(
        "schedules",
        metadata,
        Column("name", Text, primary_key=True),
        # Kind of the jobs that it puts; their key is "<name>@<due time>".
        Column("kind", Text, nullable=False),
        Column("cron", Text, nullable=False),
        Column("zone", Text, nullable=False),
        Column("catch_up", SmallInteger, nullable=False),
        Column("next_at", DateTime(timezone=True), nullable=False),
    )
