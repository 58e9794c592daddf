"""The audit log's SQL: the only place where rows and messages meet.

Appending takes one lock for the whole log, so that sequences have no holes and
the order of leaves is the order of commits. Methods take the connection that
`Database.run` opened, one transaction each.
"""

from __future__ import annotations

import uuid

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection, func, select, text
from sqlalchemy.dialects.postgresql import insert

from audit import log
from audit.tables import checkpoints, events
from runtime.clock import now
from runtime.errors import WinnowError
from winnow.audit.v1.audit_event_pb2 import AuditEvent, Checkpoint
from winnow.event.v1.envelope_pb2 import Envelope

_APPEND_LOCK = 0x41554449


def append(connection: Connection, batch: list[tuple[Envelope, bytes]]) -> list[int]:
    """Appends events with their leaves, all or none; returns their sequences in the order given.

    An event whose id is in the log already keeps its number.

    Raises:
        WinnowError: EVENT_CONFLICT if an id stands there with other content.
    """
    leaves: dict[uuid.UUID, tuple[Envelope, bytes]] = {}
    for event, leaf in batch:
        key = uuid.UUID(event.event_id)
        if leaves.setdefault(key, (event, leaf))[1] != leaf:
            raise _conflict(key)
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _APPEND_LOCK})
    known: dict[uuid.UUID, int] = {}
    rows = connection.execute(
        select(events.c.event_id, events.c.sequence, events.c.leaf).where(
            events.c.event_id.in_(leaves)
        )
    )
    for key, sequence, leaf in rows:
        if bytes(leaf) != leaves[key][1]:
            raise _conflict(key)
        known[key] = sequence
    following = _size(connection)
    recorded_at = now()
    fresh = []
    for key, (event, leaf) in leaves.items():
        if key in known:
            continue
        known[key] = following
        fresh.append(
            {
                "sequence": following,
                "event_id": key,
                "tenant_id": event.tenant_id,
                "subject": event.subject,
                "event_type": event.event_type,
                "recorded_at": recorded_at,
                "leaf": leaf,
                "leaf_hash": log.leaf_hash(leaf),
            }
        )
        following += 1
    if fresh:
        connection.execute(insert(events), fresh)
    return [known[uuid.UUID(event.event_id)] for event, _ in batch]


def _conflict(key: uuid.UUID) -> WinnowError:
    return WinnowError(
        "EVENT_CONFLICT", "an event with this id and other content exists", event_id=str(key)
    )


def _size(connection: Connection) -> int:
    last = connection.execute(select(func.max(events.c.sequence))).scalar()
    return 0 if last is None else last + 1


def page(
    connection: Connection, tenant: str, subject: str, event_type: str, after: int, limit: int
) -> list[AuditEvent]:
    """Up to `limit` events with a sequence above `after`; empty filters match all."""
    query = (
        select(events.c.sequence, events.c.leaf, events.c.leaf_hash, events.c.recorded_at)
        .where(events.c.tenant_id == tenant, events.c.sequence > after)
        .order_by(events.c.sequence)
        .limit(limit)
    )
    if subject:
        query = query.where(events.c.subject == subject)
    if event_type:
        query = query.where(events.c.event_type == event_type)
    found = []
    for sequence, leaf, leaf_hash, recorded_at in connection.execute(query):
        event = AuditEvent(
            sequence=sequence, event=log.event_of(bytes(leaf)), leaf_hash=bytes(leaf_hash)
        )
        event.recorded_at.FromDatetime(recorded_at)
        found.append(event)
    return found


def leaf_hashes(connection: Connection, size: int) -> list[bytes]:
    """The first `size` leaf hashes; 0 means all.

    Raises:
        WinnowError: AUDIT_NOT_FOUND if the log is smaller.
    """
    query = select(events.c.leaf_hash).order_by(events.c.sequence)
    if size:
        query = query.limit(size)
    hashes = [bytes(row[0]) for row in connection.execute(query)]
    if len(hashes) < size:
        raise WinnowError("AUDIT_NOT_FOUND", f"the log has {len(hashes)} events, not {size}")
    return hashes


def index_of(connection: Connection, event_id: uuid.UUID, tenant: str) -> int:
    """The leaf index of an event.

    Raises:
        WinnowError: AUDIT_NOT_FOUND.
    """
    found = connection.execute(
        select(events.c.sequence).where(events.c.event_id == event_id, events.c.tenant_id == tenant)
    ).scalar()
    if found is None:
        raise WinnowError("AUDIT_NOT_FOUND", "no event has this id")
    return int(found)


def checkpoint(connection: Connection, key: Ed25519PrivateKey) -> Checkpoint:
    """The checkpoint of the log as it is, signed now unless it was before."""
    size = _size(connection)
    row = connection.execute(select(checkpoints).where(checkpoints.c.tree_size == size)).first()
    if row is None:
        root = log.root(leaf_hashes(connection, 0)[:size])
        values = {
            "tree_size": size,
            "root_hash": root,
            "note": log.sign_note(key, size, root),
            "signed_at": now(),
        }
        connection.execute(insert(checkpoints).values(values).on_conflict_do_nothing())
        query = select(checkpoints).where(checkpoints.c.tree_size == size)
        row = connection.execute(query).one()
    found = Checkpoint(
        origin=log.ORIGIN,
        tree_size=size,
        root_hash=bytes(row.root_hash),
        note=row.note,
        public_key=log.public_key(key),
    )
    found.signed_at.FromDatetime(row.signed_at)
    return found
