"""The audit log's SQL: the only place where rows and messages meet.

Appending takes one lock for the whole log, so that sequences have no holes and
the order of leaves is the order of commits. Functions take the connection that
`Database.run` opened, one transaction each.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection, select, text

from audit import log, notes
from audit.log import TILE_WIDTH, Edge, Span
from audit.notes import Checkpoint
from audit.tables import events
from runtime import crash
from runtime.clock import now
from runtime.database import BulkInsert
from runtime.errors import WinnowError
from winnow.audit.v1.audit_event_pb2 import AuditEvent

_LOCK = text("SELECT pg_advisory_xact_lock(:key)")
_APPEND_LOCK = 0x41554449

_STATE = text(
    "SELECT (SELECT coalesce(max(sequence) + 1, 0) FROM audit.events) AS size, c.*"
    " FROM (SELECT) AS always LEFT JOIN LATERAL"
    " (SELECT note, tree_size, signed_at FROM audit.checkpoints ORDER BY tree_size DESC LIMIT 1)"
    " AS c ON true"
)
_KNOWN = text("SELECT event_id, sequence, leaf FROM audit.events WHERE event_id = ANY(:ids)")
_EVENTS = BulkInsert(
    "audit.events",
    {
        "sequence": "int8",
        "event_id": "uuid",
        "tenant_id": "text",
        "subject": "text",
        "event_type": "text",
        "recorded_at": "timestamptz",
        "leaf": "bytea",
        "leaf_hash": "bytea",
    },
)
_SIGN = text(
    "WITH gone AS (DELETE FROM audit.checkpoints WHERE tree_size = :before)"
    " INSERT INTO audit.checkpoints (tree_size, root_hash, note, signed_at)"
    " VALUES (:size, :root, :note, :at)"
    " ON CONFLICT (tree_size) DO UPDATE SET note = excluded.note, signed_at = excluded.signed_at"
)
_FULL_TILES = text(
    "INSERT INTO audit.tiles (level, index, hashes)"
    " SELECT 0, sequence / 256, string_agg(leaf_hash, '' ORDER BY sequence) FROM audit.events"
    " WHERE sequence >= :start AND sequence < :end GROUP BY sequence / 256"
)
_TILES_ABOVE = text(
    "INSERT INTO audit.tiles AS t (level, index, hashes) VALUES (:level, :index, :hashes)"
    " ON CONFLICT (level, index) DO UPDATE SET hashes = t.hashes || excluded.hashes"
)
_READ_TILES = text(
    "SELECT level, index, hashes FROM audit.tiles"
    " JOIN unnest(CAST(:levels AS int[]), CAST(:indexes AS bigint[])) AS wanted (level, index)"
    " USING (level, index)"
)
_READ_LEAF_HASHES = text(
    "SELECT string_agg(leaf_hash, '' ORDER BY sequence) FROM audit.events"
    " WHERE sequence >= :start AND sequence < :end"
)
_READ_LEAVES = text(
    "SELECT sequence, leaf, leaf_hash FROM audit.events"
    " WHERE sequence >= :start AND sequence < :end ORDER BY sequence"
)
_READ_ALL = (
    "SELECT sequence, event_id::text, tenant_id, subject, event_type,"
    " to_char(recorded_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'),"
    " coalesce(leaf, ''), coalesce(leaf_hash, '') FROM audit.events ORDER BY sequence"
)
_READ_LEVEL = "SELECT index, coalesce(hashes, '') FROM audit.tiles WHERE level = 0 ORDER BY index"
_READ_ABOVE = (
    "SELECT level, index, coalesce(hashes, '') FROM audit.tiles WHERE level <> 0"
    " ORDER BY level, index"
)
_READ_CHECKPOINTS = (
    "SELECT tree_size, coalesce(root_hash, ''), coalesce(note, ''),"
    " to_char(signed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"
    " FROM audit.checkpoints ORDER BY tree_size"
)
_AT_ONCE = 4096

# Sequence, event id, tenant, subject, event type, recorded at, leaf, leaf hash.
Row = tuple[int, str, str, str, str, str, bytes, bytes]


class Entry(NamedTuple):
    """An event to append: its id, and what its leaf will say."""

    event_id: uuid.UUID
    members: log.Members


class Signed(NamedTuple):
    """A checkpoint, and when it was signed."""

    checkpoint: Checkpoint
    at: datetime


class State(NamedTuple):
    """The log as far as this process has seen it.

    Attributes:
        edge: of all leaves.
        signed: the checkpoint of the same size.
        fresh: leaf hashes that were not seen before, one behind the other.
        adopted: leaves that no checkpoint covered, and that were taken on trust.
    """

    edge: Edge
    signed: Signed
    fresh: bytes = b""
    adopted: int = 0


def append(
    connection: Connection, batch: Sequence[Entry], seen: State, key: Ed25519PrivateKey
) -> tuple[list[int], State]:
    """Appends events, all or none; returns their sequences in the order given, and the log then.

    An event whose id is in the log already keeps its number.

    Raises:
        WinnowError: EVENT_CONFLICT if an id stands there with other content,
            AUDIT_INCONSISTENT if the tables do not continue what was seen.
    """
    connection.execute(_LOCK, {"key": _APPEND_LOCK})
    seen = caught_up(connection, seen, key)
    entries: dict[uuid.UUID, log.Members] = {}
    for event_id, members in batch:
        if entries.setdefault(event_id, members) != members:
            raise _conflict(event_id)
    known: dict[uuid.UUID, int] = {}
    for event_id, sequence, leaf in connection.execute(_KNOWN, {"ids": list(entries)}):
        if not log.says(bytes(leaf), entries[event_id]):
            raise _conflict(event_id)
        known[event_id] = sequence
    first, at = seen.edge.size, now()
    rows: list[tuple[Any, ...]] = []
    for event_id, members in entries.items():
        if event_id not in known:
            known[event_id] = first + len(rows)
            rows.append(_row(known[event_id], event_id, members, at))
    if rows:
        _EVENTS.put(connection, rows)
        seen = _grown(connection, seen, [row[-1] for row in rows], key, at)
        crash.point("audit.appending")
    return [known[event_id] for event_id, _ in batch], seen


def _row(sequence: int, event_id: uuid.UUID, members: log.Members, at: datetime) -> tuple[Any, ...]:
    leaf = log.leaf_of(members, at)
    columns = (members["tenant_id"], members["subject"], members["event_type"])
    return sequence, event_id, *columns, at, leaf, log.leaf_hash(leaf)


def _grown(
    connection: Connection,
    seen: State,
    leaf_hashes: Sequence[bytes],
    key: Ed25519PrivateKey,
    at: datetime,
) -> State:
    """Stores the tiles and the checkpoint of a log whose newest events are in."""
    edge, full = seen.edge.grown(leaf_hashes)
    if full:
        span = [size // TILE_WIDTH * TILE_WIDTH for size in (seen.edge.size, edge.size)]
        connection.execute(_FULL_TILES, {"start": span[0], "end": span[1]})
        above: dict[tuple[int, int], bytes] = {}
        for level, index, value in full:
            tile = level, index // TILE_WIDTH
            above[tile] = above.get(tile, b"") + value
        rows = [
            {"level": level, "index": index, "hashes": hashes}
            for (level, index), hashes in above.items()
        ]
        connection.execute(_TILES_ABOVE, rows)
    signed = _sign(connection, seen.edge.size, edge, key, at)
    return State(edge, signed, seen.fresh + b"".join(leaf_hashes))


def _sign(
    connection: Connection, before: int, edge: Edge, key: Ed25519PrivateKey, at: datetime
) -> Signed:
    """Signs the log as it is, in the place of the checkpoint of size `before`."""
    made = notes.sign(key, edge.size, edge.root)
    values = {"before": before, "size": made.size, "root": made.root, "note": made.note, "at": at}
    connection.execute(_SIGN, values)
    return Signed(made, at)


def opened(
    connection: Connection, key: Ed25519PrivateKey, published: Checkpoint | None, known: int
) -> State:
    """The log as the tables have it, if it continues what was signed and published.

    Leaves that no checkpoint covers are adopted as long as nothing was published:
    older versions signed only when they were asked.

    Args:
        connection: in a transaction of its own.
        key: signs checkpoints, and signed those that are there.
        published: the newest one outside of the database.
        known: how many leaf hashes stand beside it; `fresh` begins after them.

    Raises:
        WinnowError: AUDIT_INCONSISTENT, saying where the tables leave the log.
    """
    connection.execute(_LOCK, {"key": _APPEND_LOCK})
    size, signed = _state(connection, key)
    covered = signed.checkpoint.size if signed else 0
    anchor = published or (signed.checkpoint if signed else None)
    edge = _edge(connection, min(size, anchor.size if anchor else size))
    if anchor:
        _agree(edge, anchor, "published" if published else "newest")
    edge, _ = _read_on(connection, edge, size)
    if signed and covered >= size:
        _agree(edge, signed.checkpoint, "newest")
    elif published:
        raise inconsistent(f"{size - covered} of its events were never signed", published.size)
    else:
        signed = _sign(connection, covered, edge, key, now())
    start = min(known, published.size if published else 0)
    fresh = b"".join(_leaf_hashes(connection, start, size))
    return State(edge, signed, fresh, max(size - covered, 0))


def caught_up(connection: Connection, seen: State, key: Ed25519PrivateKey) -> State:
    """The log as the tables have it now, if it continues what was seen.

    Another copy of the service may have appended; its checkpoint says so.

    Raises:
        WinnowError: AUDIT_INCONSISTENT.
    """
    size, signed = _state(connection, key, seen.signed)
    covered = signed.checkpoint.size if signed else 0
    if signed is None or covered != size or size < seen.edge.size:
        raise inconsistent(f"it has {size} events, its newest checkpoint {covered}", seen.edge.size)
    edge, fresh = _read_on(connection, seen.edge, size)
    _agree(edge, signed.checkpoint, "newest")
    return State(edge, signed, b"".join(fresh))


def looked_over(connection: Connection, seen: State, key: Ed25519PrivateKey) -> State:
    """As `caught_up`, and tiles and events still give the tree that was signed.

    Raises:
        WinnowError: AUDIT_INCONSISTENT.
    """
    seen = caught_up(connection, seen, key)
    _agree(_edge(connection, seen.edge.size), seen.signed.checkpoint, "newest")
    return seen


def _state(
    connection: Connection, key: Ed25519PrivateKey, seen: Signed | None = None
) -> tuple[int, Signed | None]:
    """How many events there are, and the newest checkpoint if there is one."""
    row = connection.execute(_STATE).one()
    if row.note is None:
        return row.size, None
    if seen is not None and row.note == seen.checkpoint.note:
        return row.size, seen
    try:
        checkpoint = notes.verify(row.note, key.public_key())
    except notes.NoteError as error:
        raise inconsistent(f"of its newest checkpoint: {error}", row.tree_size) from None
    return row.size, Signed(checkpoint, row.signed_at)


def _agree(edge: Edge, checkpoint: Checkpoint, which: str) -> None:
    if edge.size < checkpoint.size:
        raise inconsistent(
            f"it has {edge.size} events, the {which} checkpoint {checkpoint.size}", checkpoint.size
        )
    if edge.root != checkpoint.root:
        raise inconsistent(
            f"its first {edge.size} events are not those of the {which} checkpoint",
            checkpoint.size,
        )


def inconsistent(what: str, size: int) -> WinnowError:
    """The refusal of a log that was altered.

    Args:
        what: is wrong with it.
        size: of the last checkpoint that it should continue.
    """
    return WinnowError(
        "AUDIT_INCONSISTENT",
        f"the audit log was altered: {what}; `winnow audit verify` names the event",
        tree_size=str(size),
    )


def _conflict(event_id: uuid.UUID) -> WinnowError:
    return WinnowError(
        "EVENT_CONFLICT",
        "an event with this id and other content exists",
        event_id=str(event_id),
    )


def _edge(connection: Connection, size: int) -> Edge:
    """The edge of the log's first `size` leaves, from the tiles."""
    spans = [(index << height, index + 1 << height) for height, index in log.subtrees((0, size))]
    return Edge(size, tuple(span_hashes(connection, spans)))


def _read_on(connection: Connection, edge: Edge, size: int) -> tuple[Edge, list[bytes]]:
    """The edge after the events up to `size`, from their leaves, and those leaves' hashes."""
    hashes: list[bytes] = []
    for start in range(edge.size, size, _AT_ONCE):
        span = {"start": start, "end": min(start + _AT_ONCE, size)}
        for sequence, leaf, leaf_hash in connection.execute(_READ_LEAVES, span):
            hashes.append(log.leaf_hash(bytes(leaf)))
            if sequence != edge.size + len(hashes) - 1 or hashes[-1] != bytes(leaf_hash):
                raise inconsistent(f"event {edge.size + len(hashes) - 1} is wrong", edge.size)
    return edge.grown(hashes)[0], hashes


def _leaf_hashes(connection: Connection, start: int, end: int) -> Iterator[bytes]:
    for at in range(start, end, _AT_ONCE):
        span = {"start": at, "end": min(at + _AT_ONCE, end)}
        yield bytes(connection.execute(_READ_LEAF_HASHES, span).scalar() or b"")


def span_hashes(connection: Connection, spans: Sequence[Span]) -> list[bytes]:
    """The Merkle tree hash of each span of leaves; reads a few tiles a level.

    Raises:
        WinnowError: AUDIT_INCONSISTENT if a tile is not as the log's size asks.
    """
    wanted = {log.tile_of(node) for span in spans for node in log.subtrees(span)}
    asked = {"levels": [level for level, _ in wanted], "indexes": [index for _, index in wanted]}
    tiles = {
        (level, index): bytes(hashes)
        for level, index, hashes in connection.execute(_READ_TILES, asked)
    }
    for level, index in wanted - tiles.keys():
        if level == 0:
            span = index * TILE_WIDTH, (index + 1) * TILE_WIDTH
            tiles[level, index] = b"".join(_leaf_hashes(connection, *span))
    try:
        return [log.span_hash(span, tiles) for span in spans]
    except ValueError:
        raise inconsistent("tiles are missing or cut", max(end for _, end in spans)) from None


def size_of(connection: Connection, wanted: int) -> int:
    """The size of the tree that is asked for, 0 being the whole log.

    Raises:
        WinnowError: AUDIT_NOT_FOUND if the log is smaller.
    """
    size: int = connection.execute(_STATE).one().size
    if wanted > size:
        raise WinnowError("AUDIT_NOT_FOUND", f"the log has {size} events, not {wanted}")
    return wanted or size


def page(
    connection: Connection, tenant: str, subject: str, event_type: str, after: int, limit: int
) -> list[AuditEvent]:
    """Up to `limit` events with a sequence above `after`; empty filters match all.

    Raises:
        WinnowError: AUDIT_INCONSISTENT if what stands there is no event.
    """
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
        try:
            said = log.event_of(bytes(leaf))
        except (ValueError, KeyError):
            raise inconsistent(f"event {sequence} cannot be read", sequence) from None
        event = AuditEvent(sequence=sequence, event=said, leaf_hash=bytes(leaf_hash))
        event.recorded_at.FromDatetime(recorded_at)
        found.append(event)
    return found


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


def rows(connection: Connection) -> Iterator[Row]:
    """Every event as its columns have it, by sequence; times as a leaf writes them."""
    return _streamed(connection, _READ_ALL)


def full_tiles(connection: Connection) -> Iterator[tuple[int, bytes]]:
    """Index and hashes of the tiles of level 0."""
    return _streamed(connection, _READ_LEVEL)


def tiles_above(connection: Connection) -> Iterator[tuple[int, int, bytes]]:
    """Level, index and hashes of the other tiles, by level and index."""
    return _streamed(connection, _READ_ABOVE)


def checkpoints(connection: Connection) -> Iterator[tuple[int, bytes, str, str]]:
    """Size, root, note and time of the stored checkpoints, by size."""
    return _streamed(connection, _READ_CHECKPOINTS)


def _streamed(connection: Connection, query: str) -> Iterator[Any]:
    """Rows as they come, however many; they are not held."""
    driver: Any = connection.connection.driver_connection
    with driver.cursor(name=f"streamed_{uuid.uuid4().hex}", binary=True) as cursor:
        cursor.itersize = _AT_ONCE
        cursor.execute(query)
        yield from cursor
