"""Buckets in PostgreSQL (runtime.limits), by its clock: what several processes share who
have a database already.

The table is unlogged: nothing of a bucket need outlive a crash, after which all are full,
and each take would be written twice. Nor is it copied to standbys.
"""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import Column, Connection, DateTime, LargeBinary, Table, delete, func, select
from sqlalchemy.dialects.postgresql import insert

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
        return await self._database.run(_take, digest(bucket), span, most, owed)

    async def close(self) -> None:
        """Nothing to close: the database is its maker's."""


def _take(
    connection: Connection, name_sha256: bytes, span: float, most: float, owed: bool
) -> tuple[bool, float]:
    """Takes in one statement, which holds the row until it is committed."""
    # Not now(): the row may have changed since the transaction began.
    clock = func.clock_timestamp()
    seconds = func.extract("epoch", buckets.c.full_at - clock)
    more = timedelta(seconds=min(span, LONGEST_SECONDS))
    full_at = func.greatest(buckets.c.full_at, clock) + more
    there = full_at <= clock + timedelta(seconds=min(most, LONGEST_SECONDS))
    taken = (
        insert(buckets)
        .values(name_sha256=name_sha256, full_at=clock + more)
        .on_conflict_do_update(
            index_elements=["name_sha256"],
            set_={"full_at": full_at},
            where=None if owed else there,
        )
        .returning(seconds)
    )
    if (full := connection.execute(taken).scalar()) is not None:
        return True, max(float(full), 0.0)
    asked = select(seconds).where(buckets.c.name_sha256 == name_sha256)
    return False, max(float(connection.execute(asked).scalar_one()), 0.0)


def count(connection: Connection) -> int:
    """How many buckets are kept; those that are full again, until they are swept."""
    found: int = connection.execute(select(func.count()).select_from(buckets)).scalar_one()
    return found


def sweep(connection: Connection) -> int:
    """Removes buckets that are full again, as all are that there are not; how many."""
    return connection.execute(delete(buckets).where(buckets.c.full_at < func.now())).rowcount
