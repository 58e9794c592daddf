"""The audit log's tables, schema `audit`."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Index,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
)
from sqlalchemy.dialects.postgresql import UUID

SCHEMA = "audit"

metadata = MetaData(schema=SCHEMA)

events = Table(
    "events",
    metadata,
    # The RFC 6962 leaf index: from 0, without holes; numbered under a lock.
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("event_id", UUID(as_uuid=True), nullable=False, unique=True),
    Column("tenant_id", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("event_type", Text, nullable=False),
    Column("recorded_at", DateTime(timezone=True), nullable=False),
    # Canonical JSON of the event: what is hashed, and what readers get.
    Column("leaf", LargeBinary, nullable=False),
    Column("leaf_hash", LargeBinary, nullable=False),
    CheckConstraint("sequence >= 0"),
    CheckConstraint("octet_length(leaf_hash) = 32"),
    Index("events_by_subject", "tenant_id", "subject", "sequence"),
)

# Tree hashes as C2SP tlog-tiles has them, up to 256 in a tile: leaf hashes at level 0,
# above it the hashes of the tiles below. Of level 0 only full tiles are here; the
# hashes of the newest leaves are read from their events.
tiles = Table(
    "tiles",
    metadata,
    Column("level", SmallInteger, primary_key=True, autoincrement=False),
    Column("index", BigInteger, primary_key=True, autoincrement=False),
    Column("hashes", LargeBinary, nullable=False),
)

# The newest, signed in the transaction that appended; those before it are outside
# of the database.
checkpoints = Table(
    "checkpoints",
    metadata,
    Column("tree_size", BigInteger, primary_key=True, autoincrement=False),
    Column("root_hash", LargeBinary, nullable=False),
    Column("note", Text, nullable=False),
    Column("signed_at", DateTime(timezone=True), nullable=False),
)
