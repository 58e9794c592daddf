"""Is the log what was signed? Reads all of it, trusts nothing in it, and names what is wrong.

Every event against its leaf hash, its columns against its leaf, leaf hashes against
the tiles and against the hashes that were published, the tree against every
checkpoint in the tables and outside. The first event that does not fit is named.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from itertools import islice

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy import Connection

from audit import log, notes, store
from audit.log import HASH_BYTES, TILE_WIDTH, Edge
from audit.notes import Checkpoint, NoteError
from audit.publishing import Published


@dataclass(frozen=True)
class Fault:
    """What is wrong, and with which event.

    Attributes:
        what: in words.
        sequence: of the first event that it is about; None if it is about none.
        last: of the last one, where only a range can be named.
        event_id: of the event that stands there now, if one does.
    """

    what: str
    sequence: int | None = None
    last: int | None = None
    event_id: str = ""


@dataclass(frozen=True)
class Finding:
    """What a verification found.

    Attributes:
        size: events that were read.
        root: of them, where nothing is wrong.
        published: size of the newest checkpoint outside of the database; 0 without one.
        fault: the first that was found; None if there is none.
    """

    size: int
    root: bytes
    published: int
    fault: Fault | None


class _Leaf(msgspec.Struct):
    """What a leaf must say as its row's columns do; recorded_at is absent before 0.3."""

    event_id: str
    tenant_id: str
    subject: str
    event_type: str
    recorded_at: str | None = None


class _Wrong(Exception):
    def __init__(self, fault: Fault) -> None:
        self.fault = fault


@dataclass
class _Reading:
    """How far the log has been read, and what it came to.

    Attributes:
        edge: of the events so far.
        due: checkpoints that are still to be reached, by size, and where they stand.
        agreed: size of the last one that was reached.
        full: hashes of full tiles, by level and index of the tile that holds them.
        recorded_at: of the newest event, if its leaf says so.
    """

    due: deque[tuple[Checkpoint, str]]
    edge: Edge = field(default_factory=Edge)
    agreed: int = 0
    full: dict[tuple[int, int], list[bytes]] = field(default_factory=dict)
    recorded_at: str | None = None

    @property
    def size(self) -> int:
        return self.edge.size

    def take(self, hashes: list[bytes]) -> None:
        """Takes leaf hashes in, and stops wherever a checkpoint says what the root must be."""
        while hashes:
            step = self.due[0][0].size - self.size if self.due else len(hashes)
            self.edge, full = self.edge.grown(hashes[:step])
            for level, index, value in full:
                self.full.setdefault((level, index // TILE_WIDTH), []).append(value)
            hashes = hashes[step:]
            self.compare()

    def compare(self) -> None:
        """The root against the checkpoints of the size that was reached."""
        while self.due and self.due[0][0].size == self.size:
            checkpoint, where = self.due.popleft()
            if self.edge.root != checkpoint.root:
                what = f"not what the {where} checkpoint of size {self.size} was signed over"
                raise _Wrong(Fault(what, self.agreed, self.size - 1))
            self.agreed = self.size


def verify(connection: Connection, key: Ed25519PublicKey, published: Published) -> Finding:
    """Verifies the whole log.

    Args:
        connection: in a transaction that sees one state of the tables (REPEATABLE READ),
            begun after `published` was read.
        key: that checkpoints must be signed with.
        published: what is known from outside.
    """
    newest = max((point.size for point in published.checkpoints), default=0)
    reading = _Reading(deque())
    try:
        _read(connection, key, published, reading)
    except _Wrong as wrong:
        return Finding(reading.size, b"", newest, wrong.fault)
    return Finding(reading.size, reading.edge.root, newest, None)


def _read(
    connection: Connection, key: Ed25519PublicKey, published: Published, reading: _Reading
) -> None:
    signed, signed_at, forged = _stored(connection, key)
    due = [(point, "published") for point in published.checkpoints]
    due += [(point, "stored") for point in signed]
    reading.due.extend(sorted(due, key=lambda item: item[0].size))
    reading.compare()
    rows, tiles = store.rows(connection), store.full_tiles(connection)
    while block := list(islice(rows, TILE_WIDTH)):
        hashes = [_event(row, reading, at, published.leaf_hashes) for at, row in enumerate(block)]
        if len(block) == TILE_WIDTH:
            _full_tile(next(tiles, None), block, hashes)
        reading.take(hashes)
    if reading.due:
        point, where = reading.due.pop()
        # As far as leaf hashes are known, those before the end are the right ones.
        exact = len(published.leaf_hashes) >= reading.size * HASH_BYTES
        what = f"missing: the log has {reading.size} events, the {where} checkpoint {point.size}"
        first = reading.size if exact else reading.agreed
        raise _Wrong(Fault(what, first, point.size - 1))
    for index, _ in tiles:
        raise _Wrong(Fault(f"tile 0/{index} is of events that are not there", index * TILE_WIDTH))
    _tiles_above(connection, reading)
    # Which event is wrong says more than which checkpoint: so these come last.
    if forged and not published.checkpoints:
        raise _Wrong(forged)
    covered = reading.agreed
    if reading.size > covered:
        what = "no checkpoint covers it: the audit service did not append it"
        raise _Wrong(Fault(what, covered, reading.size - 1))
    if forged:
        raise _Wrong(forged)
    if reading.size and not signed:
        raise _Wrong(Fault("the stored checkpoint is missing"))
    # The newest is signed in the transaction, and at the time, of the last recording.
    if signed and (signed[-1].size, signed_at) != (reading.size, reading.recorded_at or signed_at):
        raise _Wrong(Fault("the stored checkpoint is an older one, or has another time"))


def _stored(
    connection: Connection, key: Ed25519PublicKey
) -> tuple[list[Checkpoint], str, Fault | None]:
    """The checkpoints of the table that the key signed, by size; when the newest was signed;
    what is wrong with another one."""
    found, signed_at, fault = [], "", None
    for size, root, note, at in store.checkpoints(connection):
        try:
            checkpoint = notes.verify(note, key)
        except NoteError as error:
            fault = fault or Fault(f"the stored checkpoint of size {size}: {error}")
            continue
        if (checkpoint.size, checkpoint.root) != (size, root):
            fault = fault or Fault(f"the stored checkpoint of size {size} is not its note's")
            continue
        found.append(checkpoint)
        signed_at = at
    return found, signed_at, fault


def _event(row: store.Row, reading: _Reading, at: int, known: bytes) -> bytes:
    """The leaf hash of an event that fits.

    Args:
        row: the event as its columns have it.
        reading: what was read before its block.
        at: where in its block it stands.
        known: published leaf hashes.
    """
    sequence, event_id, tenant, subject, event_type, recorded_at, leaf, stored = row
    expected = reading.size + at
    if sequence > expected:
        raise _Wrong(Fault("it is missing", expected))
    if sequence < expected:
        raise _Wrong(Fault("it stands outside of the log's order", sequence, None, event_id))
    value = log.leaf_hash(leaf)
    if value != stored:
        raise _Wrong(Fault("its leaf does not have its leaf hash", sequence, None, event_id))
    if value != (known[sequence * HASH_BYTES : (sequence + 1) * HASH_BYTES] or value):
        raise _Wrong(Fault("it is not the event that was published", sequence, None, event_id))
    try:
        said = _decode(leaf)
    except msgspec.DecodeError:
        raise _Wrong(Fault("its leaf is no event", sequence, None, event_id)) from None
    reading.recorded_at = said.recorded_at
    columns = (event_id, tenant, subject, event_type, said.recorded_at and recorded_at)
    if columns != msgspec.structs.astuple(said):
        raise _Wrong(Fault("its columns are not what its leaf says", sequence, None, event_id))
    return value


_decode = msgspec.json.Decoder(_Leaf).decode


def _full_tile(tile: tuple[int, bytes] | None, block: list[store.Row], hashes: list[bytes]) -> None:
    """A full tile of level 0 against the events that it is of."""
    first, last = block[0][0], block[-1][0]
    name = f"tile 0/{first // TILE_WIDTH}"
    if tile is None or tile[0] != first // TILE_WIDTH:
        raise _Wrong(Fault(f"{name} is missing", first, last))
    for row, stored, value in zip(block, log.hashes_in(tile[1]), hashes, strict=False):
        if stored != value:
            raise _Wrong(Fault(f"{name} does not hold its leaf hash", row[0], None, row[1]))
    if len(tile[1]) != TILE_WIDTH * HASH_BYTES:
        raise _Wrong(Fault(f"{name} is not as long as it must be", first, last))


def _tiles_above(connection: Connection, reading: _Reading) -> None:
    """The tiles above the leaves, against the hashes of the tiles below them."""
    for level, index, hashes in store.tiles_above(connection):
        name, spans = f"tile {level}/{index}", TILE_WIDTH**level
        expected = reading.full.pop((level, index), None)
        first = index * TILE_WIDTH * spans
        if expected is None:
            raise _Wrong(Fault(f"{name} is of events that are not there", first))
        for at, (stored, value) in enumerate(zip(log.hashes_in(hashes), expected, strict=False)):
            if stored != value:
                start = first + at * spans
                raise _Wrong(Fault(f"{name} does not hold their hash", start, start + spans - 1))
        if len(hashes) != len(expected) * HASH_BYTES:
            last = first + len(expected) * spans - 1
            raise _Wrong(Fault(f"{name} is not as long as it must be", first, last))
    for (level, index), expected in reading.full.items():
        spans = TILE_WIDTH**level
        first = index * TILE_WIDTH * spans
        what = f"tile {level}/{index} is missing"
        raise _Wrong(Fault(what, first, first + len(expected) * spans - 1))
