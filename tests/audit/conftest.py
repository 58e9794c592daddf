"""Logs of their own: a database and a folder that no other test writes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import migrations
from audit.ledger import Ledger
from audit.store import Entry
from cli.postgres import Postgres
from runtime.clock import uuid7
from runtime.database import Database
from tools import tamper

KEY = Ed25519PrivateKey.from_private_bytes(b"a" * 32)

Open = Callable[[], Ledger]


@pytest.fixture
def own_url(postgres: Postgres) -> Iterator[str]:
    """A migrated database for one test."""
    name = f"audit_{uuid7().hex}"
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        url = postgres.url.replace("@/winnow?", f"@/{name}?")
        migrations.upgrade(url)
        yield url
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def own_database(own_url: str) -> AsyncIterator[Database]:
    pool = Database(own_url, connections=4)
    yield pool
    await pool.close()


@pytest.fixture
def checkpoints(tmp_path: Path) -> Path:
    """The folder that checkpoints are published to."""
    return tmp_path / "checkpoints"


@pytest.fixture
def start(own_database: Database, checkpoints: Path) -> Open:
    """Starts the log's service once more, over the same tables and the same folder."""
    return lambda: Ledger(own_database, KEY, checkpoints)


def entries(count: int, seed: int = 0) -> list[Entry]:
    """Events to append."""
    source = random.Random(seed)
    return [tamper.entry(tamper.event(source)) for _ in range(count)]


async def run_for_a_moment(ledger: Ledger) -> None:
    """Its background work, until it has nothing to do."""
    task = asyncio.create_task(ledger.run())
    await asyncio.sleep(0.3)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
