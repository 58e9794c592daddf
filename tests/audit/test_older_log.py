"""A log of an older version: its tiles are filled, its events adopted, all of it verified."""

from __future__ import annotations

import random
from pathlib import Path

import psycopg
from alembic import command
from pymerkle import InmemoryTree
from sqlalchemy import Connection, create_engine, text

import migrations
from audit import log, notes, publishing
from audit.ledger import Ledger
from audit.verify import verify
from cli.postgres import Postgres
from runtime.clock import now, uuid7
from runtime.database import Database
from tests.audit.conftest import KEY, entries
from tools import tamper

# More than a tile of tiles holds would take minutes; two levels are what is asked.
_EVENTS = 1000


def _older_log(connection: Connection) -> list[bytes]:
    """Events as they were kept before there were tiles, and a checkpoint that somebody asked for."""
    source = random.Random(4)
    leaves = []
    for sequence in range(_EVENTS):
        members = log.members_of(tamper.event(source))
        leaf = log.canonical(log.without_recording(members))
        leaves.append(leaf)
        connection.execute(
            text(
                "INSERT INTO audit.events VALUES (:sequence, :event_id, :tenant_id, :subject,"
                " :event_type, now(), :leaf, :leaf_hash)"
            ),
            {**members, "sequence": sequence, "leaf": leaf, "leaf_hash": log.leaf_hash(leaf)},
        )
    signed = notes.sign(KEY, 300, log.root(map(log.leaf_hash, leaves[:300])))
    connection.execute(
        text("INSERT INTO audit.checkpoints VALUES (:size, :root, :note, :at)"),
        {"size": 300, "root": signed.root, "note": signed.note, "at": now()},
    )
    return leaves


async def test_an_older_log_is_migrated_adopted_and_goes_on(
    postgres: Postgres, tmp_path: Path
) -> None:
    name = f"older_{uuid7().hex}"
    with psycopg.connect(postgres.url, autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name}")
    url = postgres.url.replace("@/winnow?", f"@/{name}?")
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        config = migrations._config()
        config.attributes["connection"] = connection
        command.upgrade(config, "0004")
        leaves = _older_log(connection)
    engine.dispose()
    migrations.upgrade(url)

    database, folder = Database(url, connections=2), tmp_path / "checkpoints"
    ledger = Ledger(database, KEY, folder)
    assert await ledger.append(entries(30)) == list(range(_EVENTS, _EVENTS + 30))
    await ledger.close()
    published = publishing.read_published(folder, KEY.public_key())
    found = await database.run(lambda connection: verify(connection, KEY.public_key(), published))
    assert (found.fault, found.size, found.published) == (None, 1030, 1030)
    query = text("SELECT leaf FROM audit.events WHERE sequence >= 1000 ORDER BY sequence")
    more = await database.run(lambda connection: connection.execute(query).scalars().all())
    oracle = InmemoryTree.init_from_entries([*leaves, *map(bytes, more)], algorithm="sha256")
    assert found.root == oracle.get_root()
    await database.close()
