"""Alters the audit log in every way that write access to its tables allows, and looks.

Builds a log in a scratch PostgreSQL, publishes its checkpoint, and then tampers with
the tables at random, each time in a transaction that is rolled back afterwards. What
`winnow audit verify` runs must find every one, and name the right event.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from sqlalchemy import Connection

import migrations
from audit import log, notes
from audit.ledger import Ledger
from audit.log import HASH_BYTES, TILE_WIDTH
from audit.publishing import Published, read_published
from audit.store import Entry
from audit.verify import Fault, verify
from cli.postgres import Postgres
from runtime.clock import uuid7
from runtime.database import Database
from runtime.log import configure
from winnow.event.v1.envelope_pb2 import EVENT_SEVERITY_INFO, Envelope

EVENTS = 3_000
_TYPES = ("REPORT_CREATED", "REPORT_INGESTED", "REPORT_MODERATED", "REPORT_DONE", "DECISION_MADE")
_FAR = 1_000_000_000


def event(source: random.Random) -> Envelope:
    """An event as the orchestrator writes them."""
    report = uuid7()
    made = Envelope(
        event_id=str(uuid7()),
        event_type=source.choice(_TYPES),
        tenant_id=source.choice(("default", "acme")),
        subject=f"reports/{report}",
        service="orchestrator",
        schema="report.created/1",
        severity=EVENT_SEVERITY_INFO,
        request_id=str(uuid7()),
    )
    made.occurred_at.FromMicroseconds(time.time_ns() // 1000)
    made.payload.update({"report_id": str(report), "findings_count": source.randrange(1000)})
    return made


def entry(made: Envelope) -> Entry:
    """An event as it is appended."""
    return Entry(uuid.UUID(made.event_id), log.members_of(made))


@dataclass
class Log:
    """A log that somebody with write access to its tables has before him.

    Attributes:
        connection: in a transaction.
        leaf_hashes: of the log as it was.
        first: a checkpoint that was signed earlier, with the right key.
        source: of what is random.
    """

    connection: Connection
    leaf_hashes: list[bytes]
    first: notes.Checkpoint
    source: random.Random
    stranger: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)

    @property
    def size(self) -> int:
        return len(self.leaf_hashes)

    def run(self, statement: str, *values: object) -> None:
        self.connection.exec_driver_sql(statement, values)

    def one(self, statement: str, *values: object) -> bytes:
        found = self.connection.exec_driver_sql(statement, values).scalar_one()
        assert isinstance(found, bytes)
        return found

    def any(self) -> int:
        """The sequence of some event."""
        return self.source.randrange(self.size)

    def flipped(self, value: bytes) -> bytes:
        """The bytes with one bit changed."""
        bit = self.source.randrange(len(value) * 8)
        changed = bytearray(value)
        changed[bit // 8] ^= 1 << bit % 8
        return bytes(changed)

    def forged(self) -> tuple[object, ...]:
        """Id, tenant, subject, type, time, leaf and leaf hash of an event that fits itself."""
        members = entry(event(self.source)).members
        recorded_at = "2026-01-01T00:00:00.000000Z"
        leaf = log.canonical({**members, "recorded_at": recorded_at})
        names = ("event_id", "tenant_id", "subject", "event_type")
        return (*(members[name] for name in names), recorded_at, leaf, log.leaf_hash(leaf))

    def move(self, start: int, by: int) -> None:
        """Gives the events from `start` on other numbers."""
        self.run(
            "UPDATE audit.events SET sequence = sequence + %s WHERE sequence >= %s", _FAR, start
        )
        self.run(
            "UPDATE audit.events SET sequence = sequence + %s WHERE sequence >= %s",
            by - _FAR,
            _FAR,
        )

    def insert(self, sequence: int) -> bytes:
        """Puts a forged event in; its leaf hash."""
        made = self.forged()
        self.run(
            "INSERT INTO audit.events (sequence, event_id, tenant_id, subject, event_type,"
            " recorded_at, leaf, leaf_hash) VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
            sequence,
            *made,
        )
        assert isinstance(made[-1], bytes)
        return made[-1]

    def rewrite(self, sequence: int) -> bytes:
        """Puts a forged event in the place of another; its leaf hash."""
        made = self.forged()
        self.run(
            "UPDATE audit.events SET event_id = %s, tenant_id = %s, subject = %s, event_type = %s,"
            " recorded_at = %s, leaf = %s, leaf_hash = %s WHERE sequence = %s",
            *made,
            sequence,
        )
        assert isinstance(made[-1], bytes)
        return made[-1]

    def recompute(self, leaf_hashes: Sequence[bytes]) -> None:
        """Makes tiles and checkpoint those of a log with these leaf hashes, as far as one can
        without the key."""
        self.run("DELETE FROM audit.tiles")
        edge, full = log.Edge().grown(leaf_hashes)
        tiles = {
            (0, at): b"".join(leaf_hashes[at * TILE_WIDTH : (at + 1) * TILE_WIDTH])
            for at in range(len(leaf_hashes) // TILE_WIDTH)
        }
        for level, index, value in full:
            at = level, index // TILE_WIDTH
            tiles[at] = tiles.get(at, b"") + value
        for (level, index), hashes in tiles.items():
            self.run("INSERT INTO audit.tiles VALUES (%s, %s, %s)", level, index, hashes)
        self.forge_checkpoint(edge)

    def forge_checkpoint(self, edge: log.Edge) -> None:
        """Deletes the checkpoint, leaves it, signs another with a key of his own, puts
        back an older one, or writes his root over the real one."""
        match self.source.randrange(5):
            case 0:
                self.run("DELETE FROM audit.checkpoints")
            case 1:
                pass
            case 2:
                made = notes.sign(self.stranger, edge.size, edge.root)
                self.run(
                    "UPDATE audit.checkpoints SET tree_size = %s, root_hash = %s, note = %s",
                    made.size,
                    made.root,
                    made.note,
                )
            case 3:
                self.run(
                    "UPDATE audit.checkpoints SET tree_size = %s, root_hash = %s, note = %s",
                    self.first.size,
                    self.first.root,
                    self.first.note,
                )
            case _:
                self.run(
                    "UPDATE audit.checkpoints SET tree_size = %s, root_hash = %s",
                    edge.size,
                    edge.root,
                )


# What a tampering should lead to: the events of which one must be named; none where
# only a checkpoint was touched.
Wanted = range | None
Tampering = Callable[[Log], Wanted]


def _exactly(sequence: int) -> range:
    return range(sequence, sequence + 1)


def flip_leaf(made: Log) -> Wanted:
    at = made.any()
    leaf = made.one("SELECT leaf FROM audit.events WHERE sequence = %s", at)
    made.run("UPDATE audit.events SET leaf = %s WHERE sequence = %s", made.flipped(leaf), at)
    return _exactly(at)


def flip_leaf_hash(made: Log) -> Wanted:
    at = made.any()
    changed = made.flipped(made.leaf_hashes[at])
    made.run("UPDATE audit.events SET leaf_hash = %s WHERE sequence = %s", changed, at)
    return _exactly(at)


def flip_tile(made: Log) -> Wanted:
    at = made.source.randrange(made.size // TILE_WIDTH * TILE_WIDTH)
    tile = made.one(
        "SELECT hashes FROM audit.tiles WHERE level = 0 AND index = %s", at // TILE_WIDTH
    )
    start = at % TILE_WIDTH * HASH_BYTES
    changed = made.flipped(tile[start : start + HASH_BYTES])
    made.run(
        "UPDATE audit.tiles SET hashes = %s WHERE level = 0 AND index = %s",
        tile[:start] + changed + tile[start + HASH_BYTES :],
        at // TILE_WIDTH,
    )
    return _exactly(at)


def flip_tile_above(made: Log) -> Wanted:
    at = made.source.randrange(made.size // TILE_WIDTH)
    tile = made.one("SELECT hashes FROM audit.tiles WHERE level = 1 AND index = 0")
    start = at * HASH_BYTES
    changed = made.flipped(tile[start : start + HASH_BYTES])
    made.run(
        "UPDATE audit.tiles SET hashes = %s WHERE level = 1 AND index = 0",
        tile[:start] + changed + tile[start + HASH_BYTES :],
    )
    return range(at * TILE_WIDTH, (at + 1) * TILE_WIDTH)


def drop_tile(made: Log) -> Wanted:
    at = made.source.randrange(made.size // TILE_WIDTH)
    made.run("DELETE FROM audit.tiles WHERE level = 0 AND index = %s", at)
    return range(at * TILE_WIDTH, (at + 1) * TILE_WIDTH)


def change_column(made: Log) -> Wanted:
    at = made.any()
    statement, value = made.source.choice(
        (
            ("UPDATE audit.events SET event_id = %s WHERE sequence = %s", str(uuid.uuid4())),
            ("UPDATE audit.events SET tenant_id = %s WHERE sequence = %s", "other"),
            ("UPDATE audit.events SET subject = %s WHERE sequence = %s", "reports/another"),
            ("UPDATE audit.events SET event_type = %s WHERE sequence = %s", "REPORT_VIEWED"),
        )
    )
    made.run(statement, value, at)
    return _exactly(at)


def change_time(made: Log) -> Wanted:
    at = made.any()
    made.run(
        "UPDATE audit.events SET recorded_at = recorded_at + %s * interval '1 microsecond'"
        " WHERE sequence = %s",
        made.source.choice((-1, 1)) * made.source.randrange(1, 10 ** made.source.randrange(1, 14)),
        at,
    )
    return _exactly(at)


def change_checkpoint(made: Log) -> Wanted:
    match made.source.randrange(5):
        case 0:
            root = made.one("SELECT root_hash FROM audit.checkpoints")
            made.run("UPDATE audit.checkpoints SET root_hash = %s", made.flipped(root))
        case 1:
            # A flipped bit of text, and still text.
            made.run(
                "UPDATE audit.checkpoints SET note = overlay(note placing '#' from %s)", _at(made)
            )
        case 2:
            made.run("UPDATE audit.checkpoints SET tree_size = tree_size - 1")
        case 3:
            made.run(
                "UPDATE audit.checkpoints SET signed_at = signed_at + interval '1 microsecond'"
            )
        case _:
            made.run("DELETE FROM audit.checkpoints")
    return None


def _at(made: Log) -> int:
    """Some place in the text of a note, from 1."""
    return made.source.randrange(len(made.first.note)) + 1


def delete(made: Log) -> Wanted:
    at = made.any()
    made.run("DELETE FROM audit.events WHERE sequence = %s", at)
    return _exactly(at)


def delete_and_close_up(made: Log) -> Wanted:
    at = made.any()
    made.run("DELETE FROM audit.events WHERE sequence = %s", at)
    made.move(at + 1, -1)
    made.recompute(made.leaf_hashes[:at] + made.leaf_hashes[at + 1 :])
    return _exactly(at)


def insert(made: Log) -> Wanted:
    at = made.any()
    made.move(at, 1)
    forged = made.insert(at)
    made.recompute([*made.leaf_hashes[:at], forged, *made.leaf_hashes[at:]])
    return _exactly(at)


def insert_at_the_end(made: Log) -> Wanted:
    forged = [made.insert(made.size + more) for more in range(made.source.randrange(1, 4))]
    made.recompute([*made.leaf_hashes, *forged])
    return range(made.size, made.size + len(forged))


def swap(made: Log) -> Wanted:
    one, other = sorted(made.source.sample(range(made.size), 2))
    made.run("UPDATE audit.events SET sequence = %s WHERE sequence = %s", _FAR, one)
    made.run("UPDATE audit.events SET sequence = %s WHERE sequence = %s", one, other)
    made.run("UPDATE audit.events SET sequence = %s WHERE sequence = %s", other, _FAR)
    if made.source.random() < 0.5:
        hashes = list(made.leaf_hashes)
        hashes[one], hashes[other] = hashes[other], hashes[one]
        made.recompute(hashes)
    return _exactly(one)


def rewrite_one(made: Log) -> Wanted:
    at = made.any()
    forged = made.rewrite(at)
    if made.source.random() < 0.5:
        made.recompute([*made.leaf_hashes[:at], forged, *made.leaf_hashes[at + 1 :]])
    return _exactly(at)


def truncate(made: Log) -> Wanted:
    at = made.any()
    made.run("DELETE FROM audit.events WHERE sequence >= %s", at)
    if made.source.random() < 0.8:
        made.recompute(made.leaf_hashes[:at])
    return range(at, made.size)


def truncate_to_an_older_checkpoint(made: Log) -> Wanted:
    at = made.first.size
    made.run("DELETE FROM audit.events WHERE sequence >= %s", at)
    made.recompute(made.leaf_hashes[:at])
    made.run("DELETE FROM audit.checkpoints")
    made.run(
        "INSERT INTO audit.checkpoints SELECT %s, %s, %s, recorded_at FROM audit.events"
        " WHERE sequence = %s",
        at,
        made.first.root,
        made.first.note,
        at - 1,
    )
    return range(at, made.size)


def rewrite_tail(made: Log) -> Wanted:
    length = min(made.source.randrange(1, 60), made.size)
    at = made.size - length
    # It may come out longer or shorter than it was.
    made.run("DELETE FROM audit.events WHERE sequence >= %s", at)
    forged = [
        made.insert(at + more) for more in range(max(length + made.source.randrange(-3, 4), 1))
    ]
    made.recompute(made.leaf_hashes[:at] + forged)
    return _exactly(at)


def empty(made: Log) -> Wanted:
    made.run("TRUNCATE audit.events, audit.tiles, audit.checkpoints")
    return range(made.size)


KINDS: dict[str, Tampering] = {
    "bit flip: leaf": flip_leaf,
    "bit flip: leaf hash": flip_leaf_hash,
    "bit flip: tile": flip_tile,
    "bit flip: tile above": flip_tile_above,
    "tile deleted": drop_tile,
    "column that is not the leaf's": change_column,
    "time of recording": change_time,
    "checkpoint in the table": change_checkpoint,
    "deletion": delete,
    "deletion, hashes recomputed": delete_and_close_up,
    "insertion, hashes recomputed": insert,
    "insertion at the end": insert_at_the_end,
    "swap": swap,
    "event rewritten, hashes as well": rewrite_one,
    "truncation": truncate,
    "truncation to an older checkpoint": truncate_to_an_older_checkpoint,
    "tail rewritten, hashes recomputed": rewrite_tail,
    "everything deleted": empty,
}


def names(fault: Fault, wanted: Wanted) -> bool:
    """Whether a fault says which events are wrong."""
    if wanted is None:
        return fault.sequence is None and "checkpoint" in fault.what
    if fault.sequence is None:
        return False
    last = fault.sequence if fault.last is None else fault.last
    # A range may be named where a range was hit, and no larger one.
    return (fault.sequence, last + 1) == (wanted.start, wanted.stop)


@dataclass(frozen=True)
class Built:
    """A log as it was appended, and what was published of it."""

    key: Ed25519PublicKey
    published: Published
    first: notes.Checkpoint


async def build(database: Database, folder: Path, events: int, source: random.Random) -> Built:
    """A published log of so many events, in batches as they come."""
    key = Ed25519PrivateKey.generate()
    ledger = Ledger(database, key, folder)
    first = None
    left = events
    while left:
        batch = min(source.choice((1, 2, 6, 50, 300)), left)
        await ledger.append([entry(event(source)) for _ in range(batch)])
        left -= batch
        if first is None and left < events / 2:
            first = (await ledger.newest()).checkpoint
    await ledger.close()
    assert first is not None
    return Built(key.public_key(), read_published(folder, key.public_key()), first)


def tampered(
    connection: Connection, built: Built, kind: str, source: random.Random
) -> tuple[Fault | None, Wanted]:
    """Tampers once, verifies, and takes it back: what was found, and what should be."""
    leaf_hashes = log.hashes_in(built.published.leaf_hashes)
    transaction = connection.begin()
    try:
        wanted = KINDS[kind](Log(connection, leaf_hashes, built.first, source))
        return verify(connection, built.key, built.published).fault, wanted
    finally:
        transaction.rollback()


def _untouched(connection: Connection, built: Built) -> None:
    with connection.begin():
        fault = verify(connection, built.key, built.published).fault
    if fault is not None:
        raise SystemExit(f"the untouched log is said to be wrong: {fault}")


def run(database: Database, built: Built, seed: int, count: int) -> int:
    """Tampers `count` times in every way; how often that was missed, or misnamed."""
    failures = []
    print(f"{'':36} {'tampered':>8} {'found':>8} {'named':>8} {'seconds':>8}")
    with database.engine.connect() as connection:
        _untouched(connection, built)
        for kind in KINDS:
            found = named = 0
            started = time.monotonic()
            for number in range(count):
                source = random.Random(f"{seed}/{kind}/{number}")
                fault, wanted = tampered(connection, built, kind, source)
                found += fault is not None
                if fault is not None and names(fault, wanted):
                    named += 1
                else:
                    failures.append(f"{kind}, number {number}: {wanted} was wrong, said: {fault}")
            took = time.monotonic() - started
            print(f"{kind:36} {count:8} {found:8} {named:8} {took:8.1f}", flush=True)
        _untouched(connection, built)
    for failure in failures[:20]:
        print(failure)
    return len(failures)


@contextmanager
def scratch() -> Iterator[tuple[Database, Path]]:
    """A database for a while, and a folder."""
    folder = Path(tempfile.mkdtemp(prefix="winnow-tamper-"))
    # PostgreSQL never runs as root: started by root, its user must get in here.
    folder.chmod(0o711)
    cluster = Postgres(folder / "postgres", "a password for a while")
    try:
        cluster.start()
        migrations.upgrade(cluster.url)
        database = Database(cluster.url, connections=2)
        yield database, folder / "checkpoints"
        asyncio.run(database.close())
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=300, help="tamperings of each kind")
    parser.add_argument("--events", type=int, default=EVENTS, help="events of the log")
    options = parser.parse_args()
    configure("tamper", "ERROR")
    with scratch() as (database, folder):
        source = random.Random(options.seed)
        built = asyncio.run(build(database, folder, options.events, source))
        print(f"a log of {options.events} events; untouched, it verifies")
        failures = run(database, built, options.seed, options.count)
    total = len(KINDS) * options.count
    print(f"{total - failures} of {total} found, and the right event named")
    raise SystemExit(1 if failures else 0)


if __name__ == "__main__":
    main()
