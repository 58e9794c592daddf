"""Buckets in PostgreSQL (runtime.limits), by its clock: what several processes share who
have a database already.

The table is unlogged: nothing of a bucket need outlive a crash, after which all are full,
and each take would be written twice. Nor is it copied to standbys.
"""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import (
    Column,
    Connection,
    DateTime,
    LargeBinary,
    Table,
    delete,
    func,
    select,
    text,
)

from runtime.access import metadata
from runtime.database import Database
from runtime.limits import LONGEST_SECONDS, digest

buckets = Table(
    "buckets",
    metadata,
    Column("name_sha256", LargeBinary, primary_key=True),
    Column("full_at", DateTime(timezone=True), nullable=False),
    prefixes=["UNLOGGED"],
)


class PostgresStore:
    """Buckets in a table.

    Args:
        database: where it is.
    """

    name = "postgres"

    def __init__(self, database: Database) -> None:
        self._database = database

    async def take(
        self, bucket: str, span: float, most: float, *, owed: bool
    ) -> tuple[bool, float]:
        """As `runtime.limits.Store` has it.

        Raises:
            WinnowError: DATABASE_UNAVAILABLE, OVERLOADED.
        """
        return await self._database.run(
            _take, digest(bucket), _interval(span), _interval(most), owed
        )

    async def close(self) -> None:
        """Nothing to close: the database is its maker's."""


_LONGEST = timedelta(seconds=LONGEST_SECONDS)

# One statement, which holds the row until it is committed. Not now(): the row may have
# changed since the transaction began.
_TAKE = text(
    """
    INSERT INTO access.buckets AS bucket (name_sha256, full_at)
    VALUES (:name_sha256, clock_timestamp() + :span)
    ON CONFLICT (name_sha256) DO UPDATE
    SET full_at = least(
        greatest(bucket.full_at, clock_timestamp()) + :span, clock_timestamp() + :longest
    )
    WHERE :owed
        OR greatest(bucket.full_at, clock_timestamp()) + :span <= clock_timestamp() + :most
    RETURNING extract(epoch FROM full_at - clock_timestamp())
    """
)
_LEFT = text(
    "SELECT extract(epoch FROM full_at - clock_timestamp()) FROM access.buckets"
    " WHERE name_sha256 = :name_sha256"
)


def _take(
    connection: Connection, name_sha256: bytes, span: timedelta, most: timedelta, owed: bool
) -> tuple[bool, float]:
    asked = {
        "name_sha256": name_sha256,
        "span": span,
        "most": most,
        "longest": _LONGEST,
        "owed": owed,
    }
    if (full := connection.execute(_TAKE, asked).scalar()) is not None:
        return True, max(float(full), 0.0)
    full = connection.execute(_LEFT, {"name_sha256": name_sha256}).scalar_one()
    return False, max(float(full), 0.0)


def count(connection: Connection) -> int:
    """How many buckets are kept; those that are full again, until they are swept."""
    found: int = connection.execute(select(func.count()).select_from(buckets)).scalar_one()
    return found


def sweep(connection: Connection) -> int:
    """Removes buckets that are full again, as all are that there are not; how many."""
    return connection.execute(delete(buckets).where(buckets.c.full_at < func.now())).rowcount


def _interval(seconds: float) -> timedelta:
    return timedelta(seconds=min(seconds, LONGEST_SECONDS))
