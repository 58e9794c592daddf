"""The log as the service keeps it: over restarts, copies, and hands that rewrite its tables."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pymerkle import InmemoryTree
from sqlalchemy import Connection, text

from audit import ledger as ledger_module
from audit import log, notes, publishing
from audit.ledger import Ledger
from audit.verify import Finding, verify
from runtime.database import Database
from runtime.errors import WinnowError
from tests.audit.conftest import KEY, Open, entries, run_for_a_moment
from tests.runtime.conftest import Logged
from tests.runtime.conftest import logged as logged


async def _verified(database: Database, folder: Path) -> Finding:
    published = publishing.read_published(folder, KEY.public_key())
    return await database.run(lambda connection: verify(connection, KEY.public_key(), published))


async def _do(database: Database, *statements: str) -> None:
    def run(connection: Connection) -> None:
        for statement in statements:
            connection.execute(text(statement))

    await database.run(run)


async def _leaves(database: Database) -> list[bytes]:
    query = text("SELECT leaf FROM audit.events ORDER BY sequence")
    found = await database.run(lambda connection: connection.execute(query).scalars().all())
    return [bytes(leaf) for leaf in found]


async def _refused(ledger: Ledger) -> WinnowError:
    with pytest.raises(WinnowError) as caught:
        await ledger.append(entries(1))
    assert caught.value.reason == "AUDIT_INCONSISTENT"
    return caught.value


async def test_random_batches_over_restarts_give_the_oracles_tree(
    start: Open, own_database: Database, checkpoints: Path
) -> None:
    for number, size in enumerate((1, 3, 254, 1, 500, 6, 300, 257)):
        ledger = start()
        await ledger.append(entries(size, number))
        if number % 2:
            await ledger.close()
    leaves = await _leaves(own_database)
    oracle = InmemoryTree.init_from_entries(leaves, algorithm="sha256")
    newest = (await start().newest()).checkpoint
    assert (newest.size, newest.root) == (1322, oracle.get_root())
    await ledger.close()
    found = await _verified(own_database, checkpoints)
    assert (found.fault, found.size, found.root) == (None, 1322, oracle.get_root())


async def test_concurrent_appends_of_two_copies_make_one_log(
    own_database: Database, checkpoints: Path
) -> None:
    copies = [Ledger(own_database, KEY, checkpoints) for _ in range(2)]
    given = [entries(1 + number % 5, number) for number in range(40)]
    answers = await asyncio.gather(
        *(copies[number % 2].append(batch) for number, batch in enumerate(given))
    )
    sequences = sorted(sequence for answer in answers for sequence in answer)
    assert sequences == list(range(sum(map(len, given))))
    for copy in copies:
        await copy.newest()
        await copy.close()
    found = await _verified(own_database, checkpoints)
    assert (found.fault, found.size, found.published) == (None, len(sequences), len(sequences))


async def test_appending_again_after_a_restart_changes_nothing(start: Open) -> None:
    batch = entries(5)
    first = await start().append(batch)
    ledger = start()
    before = await ledger.newest()
    assert await ledger.append(batch) == first
    assert await ledger.newest() == before


async def test_what_is_published_is_the_whole_log(start: Open, checkpoints: Path) -> None:
    ledger = start()
    await ledger.append(entries(3))
    await run_for_a_moment(ledger)
    await ledger.append(entries(4, 1))
    await ledger.close()
    newest = (checkpoints / "checkpoint").read_text()
    history = notes.split((checkpoints / "checkpoints.log").read_text())
    assert [notes.read(note).size for note in history] == [3, 7]
    assert history[-1] == newest
    hashes = log.hashes_in((checkpoints / "leaf-hashes").read_bytes())
    assert log.root(hashes) == notes.verify(newest, KEY.public_key()).root
    assert notes.read_key((checkpoints / "public-key").read_text()) == KEY.public_key()


async def test_a_crash_before_publishing_loses_nothing(
    start: Open, own_database: Database, checkpoints: Path
) -> None:
    ledger = start()
    await ledger.append(entries(3))
    await ledger.close()
    await start().append(entries(300, 1))  # and dies before it publishes
    with (checkpoints / "leaf-hashes").open("ab") as file:
        file.write(b"a write that was cut short")
    await run_for_a_moment(start())
    found = await _verified(own_database, checkpoints)
    assert (found.fault, found.size, found.published) == (None, 303, 303)
    assert len(publishing.read_published(checkpoints, KEY.public_key()).leaf_hashes) == 303 * 32


async def test_lost_leaf_hashes_are_written_again(start: Open, checkpoints: Path) -> None:
    ledger = start()
    await ledger.append(entries(10))
    await ledger.close()
    (checkpoints / "leaf-hashes").unlink()
    ledger = start()
    await ledger.append(entries(1, 1))
    await ledger.close()
    assert len((checkpoints / "leaf-hashes").read_bytes()) == 11 * 32
    assert publishing.read_published(checkpoints, KEY.public_key()).leaf_hashes


REWRITES = {
    "an event's hash": (
        "UPDATE audit.events SET leaf_hash = sha256(leaf_hash) WHERE sequence = 3",
    ),
    "the tail is cut": (
        "DELETE FROM audit.events WHERE sequence >= 7",
        "DELETE FROM audit.checkpoints",
    ),
    "everything is cut": ("TRUNCATE audit.events, audit.tiles, audit.checkpoints",),
    "the checkpoint is deleted": ("DELETE FROM audit.checkpoints",),
    "the checkpoint is another's": (
        "UPDATE audit.checkpoints SET note = translate(note, 'ABCDEFGHIJ', 'BCDEFGHIJA')",
    ),
    "an event that was never appended": (
        "INSERT INTO audit.events SELECT sequence + 1, gen_random_uuid(), tenant_id, subject,"
        " event_type, recorded_at, leaf, leaf_hash FROM audit.events"
        " ORDER BY sequence DESC LIMIT 1",
    ),
}


@pytest.mark.parametrize("statements", REWRITES.values(), ids=REWRITES)
async def test_rewritten_tables_get_no_new_signature_after_a_start(
    start: Open, own_database: Database, logged: Logged, statements: tuple[str, ...]
) -> None:
    ledger = start()
    await ledger.append(entries(10))
    await ledger.close()
    await _do(own_database, *statements)
    ledger = start()
    error = await _refused(ledger)
    assert "altered" in error.message
    with pytest.raises(WinnowError):
        await ledger.newest()
    assert [line["status"] for line in logged() if line["action"] == "audit.inconsistent"]


@pytest.mark.parametrize(
    "statements",
    [statements for name, statements in REWRITES.items() if name != "an event's hash"],
    ids=[name for name in REWRITES if name != "an event's hash"],
)
async def test_rewritten_tables_get_no_new_signature_while_the_service_runs(
    start: Open, own_database: Database, statements: tuple[str, ...]
) -> None:
    ledger = start()
    await ledger.append(entries(10))
    await _do(own_database, *statements)
    await _refused(ledger)


async def test_what_is_signed_after_a_rewrite_is_the_log_as_it_was(
    start: Open, own_database: Database, checkpoints: Path
) -> None:
    ledger = start()
    await ledger.append(entries(10))
    await _do(own_database, "UPDATE audit.events SET subject = 'reports/x' WHERE sequence = 4")
    await _do(own_database, *REWRITES["an event's hash"])
    true = await _leaves(own_database)
    await ledger.append(entries(1, 1))
    await ledger.close()
    newest = publishing.read_published(checkpoints, KEY.public_key()).checkpoints[-1]
    tail = (await _leaves(own_database))[-1]
    assert newest.root == log.root([log.leaf_hash(leaf) for leaf in [*true, tail]])
    fault = (await _verified(own_database, checkpoints)).fault
    assert fault is not None
    assert fault.sequence == 3


async def test_a_tail_rewritten_in_all_its_hashes_stops_appending(
    start: Open, own_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "_LOOK_SECONDS", 0.0)
    ledger = start()
    await ledger.append(entries(300))
    for sequence in (299, 17):
        await _do(
            own_database,
            "CREATE TEMP TABLE forged AS SELECT sequence, sha256(leaf_hash) AS leaf_hash"
            f" FROM audit.events WHERE sequence = {sequence}",
            "UPDATE audit.events AS e SET leaf_hash = f.leaf_hash FROM forged AS f"
            " WHERE e.sequence = f.sequence",
            "DROP TABLE forged",
        )
        if sequence == 17:
            # The hash above it as well: the tree is whole, and another one.
            await own_database.run(_recomputed)
        error = await _refused(ledger)
        assert "not those of the newest checkpoint" in error.message
        with pytest.raises(WinnowError):
            await ledger.newest()
        if sequence == 299:
            leaf = "sha256('\\x00'::bytea || leaf)"
            await _do(own_database, f"UPDATE audit.events SET leaf_hash = {leaf}")
            await ledger.newest()


def _recomputed(connection: Connection) -> None:
    query = text("SELECT leaf_hash FROM audit.events ORDER BY sequence LIMIT 256")
    tile = b"".join(bytes(row[0]) for row in connection.execute(query))
    for level, hashes in ((0, tile), (1, log.root(log.hashes_in(tile)))):
        connection.execute(
            text("UPDATE audit.tiles SET hashes = :hashes WHERE level = :level"),
            {"hashes": hashes, "level": level},
        )


async def test_a_log_that_is_put_right_goes_on(start: Open, own_database: Database) -> None:
    ledger = start()
    await ledger.append(entries(2))
    await _do(own_database, "CREATE TABLE kept AS SELECT * FROM audit.checkpoints")
    await _do(own_database, "DELETE FROM audit.checkpoints")
    await _refused(ledger)
    await _do(own_database, "INSERT INTO audit.checkpoints SELECT * FROM kept")
    assert await ledger.append(entries(1, 1)) == [2]


async def test_a_checkpoint_of_another_log_is_not_continued(start: Open, checkpoints: Path) -> None:
    ledger = start()
    await ledger.append(entries(2))
    await ledger.close()
    stranger = Ed25519PrivateKey.generate()
    (checkpoints / "checkpoint").write_text(notes.sign(stranger, 2, b"r" * 32).note)
    assert "not signed by this key" in (await _refused(start())).message


def block(folder: Path) -> None:
    folder.write_text("a file where the folder should be")


def unblock(folder: Path) -> None:
    folder.unlink()


async def test_a_folder_that_cannot_be_written_stops_no_appending_and_is_said(
    start: Open, own_database: Database, checkpoints: Path, logged: Logged
) -> None:
    ledger = start()
    await ledger.newest()
    block(checkpoints)
    await ledger.append(entries(2))
    await run_for_a_moment(ledger)
    assert [line["status"] for line in logged() if line["action"] == "audit.unpublished"] == [
        "retrying"
    ]
    unblock(checkpoints)
    await ledger.close()
    found = await _verified(own_database, checkpoints)
    assert (found.fault, found.published) == (None, 2)


async def test_nothing_secret_or_foreign_is_written_when_a_log_is_refused(
    start: Open, own_database: Database, logged: Logged
) -> None:
    ledger = start()
    await ledger.append(entries(2))
    await ledger.close()
    await _do(own_database, "UPDATE audit.checkpoints SET note = 'planted words'")
    error = await _refused(start())
    assert "planted" not in error.message + json.dumps(logged())
