"""Every way to alter the tables is found, and the right event named: a slice of `make tamper`."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from audit import publishing
from audit.publishing import Published
from audit.verify import Fault, verify
from runtime.database import Database
from tests.audit.conftest import KEY, Open, entries
from tools import tamper

_EVENTS = 700
_TIMES = 6


@pytest.fixture
async def built(own_database: Database, checkpoints: Path) -> tamper.Built:
    return await tamper.build(own_database, checkpoints, _EVENTS, random.Random(1))


async def test_every_tampering_is_found_and_named(
    own_database: Database, built: tamper.Built
) -> None:
    missed = []
    with own_database.engine.connect() as connection:
        for kind in tamper.KINDS:
            for number in range(_TIMES):
                source = random.Random(f"{kind}/{number}")
                fault, wanted = tamper.tampered(connection, built, kind, source)
                if fault is None or not tamper.names(fault, wanted):
                    missed.append((kind, number, wanted, fault))
        with connection.begin():
            assert verify(connection, built.key, built.published).fault is None
    assert missed == []


async def test_every_tampering_is_found_with_the_checkpoint_alone(
    own_database: Database, built: tamper.Built
) -> None:
    # Without the leaf hashes a range may be named, in which the event is.
    alone = tamper.Built(built.key, Published(built.published.checkpoints), built.first)
    known = built.published
    missed = []
    with own_database.engine.connect() as connection:
        for kind, tampering in tamper.KINDS.items():
            source = random.Random(kind)
            transaction = connection.begin()
            hashes = tamper.log.hashes_in(known.leaf_hashes)
            wanted = tampering(tamper.Log(connection, hashes, built.first, source))
            fault = verify(connection, alone.key, alone.published).fault
            transaction.rollback()
            if fault is None or (wanted is not None and not _holds(fault, wanted)):
                missed.append((kind, wanted, fault))
    assert missed == []


def _holds(fault: Fault, wanted: range) -> bool:
    assert fault.sequence is not None
    return fault.sequence <= wanted.start and wanted.start <= max(fault.last or 0, fault.sequence)


async def test_events_that_are_appended_meanwhile_are_no_fault(
    own_database: Database, checkpoints: Path, start: Open
) -> None:
    ledger = start()
    await ledger.append(entries(300))
    await ledger.close()
    published = publishing.read_published(checkpoints, KEY.public_key())
    await ledger.append(entries(300, 1))
    found = await own_database.run(
        lambda connection: verify(connection, KEY.public_key(), published)
    )
    assert (found.fault, found.size, found.published) == (None, 600, 300)


async def test_an_empty_log_verifies(
    own_database: Database, checkpoints: Path, start: Open
) -> None:
    ledger = start()
    await ledger.newest()
    await ledger.close()
    published = publishing.read_published(checkpoints, KEY.public_key())
    found = await own_database.run(
        lambda connection: verify(connection, KEY.public_key(), published)
    )
    assert (found.fault, found.size) == (None, 0)


async def test_a_published_fork_is_named_from_the_checkpoints_alone(
    own_database: Database, checkpoints: Path, start: Open
) -> None:
    ledger = start()
    await ledger.append(entries(40))
    first = (await ledger.newest()).checkpoint
    await ledger.append(entries(40, 1))
    second = (await ledger.newest()).checkpoint

    def rewrite(connection: Connection) -> Fault | None:
        connection.execute(
            text(
                "UPDATE audit.events SET leaf = :leaf, leaf_hash = sha256(:hashed)"
                " WHERE sequence = 60"
            ),
            {"leaf": b"{}", "hashed": b"\0{}"},
        )
        return verify(connection, KEY.public_key(), Published((first, second))).fault

    fault = await own_database.run(rewrite)
    assert fault is not None
    # Its hash fits, and no tile holds it yet; but it is no event.
    assert (fault.sequence, fault.what) == (60, "its leaf is no event")
