"""`winnow audit` as a user runs it: over REST and gRPC, against the tables, and offline."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

import httpx
import psycopg
import pytest
import uvicorn
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from typer.testing import CliRunner, Result

from audit import notes
from audit.app import AuditSettings
from audit.app import build as build_audit
from cli.main import app
from gateway.app import GatewaySettings
from gateway.app import build as build_gateway
from runtime import log
from runtime.config import load
from tests.audit.conftest import checkpoints as checkpoints
from tests.audit.conftest import own_url as own_url
from tests.harness import serving, settings
from tools import tamper
from winnow.audit.v1 import audit_service_pb2 as pb
from winnow.audit.v1.audit_service_pb2_grpc import AuditServiceStub
from winnow.event.v1.envelope_pb2 import Envelope

Run = Callable[..., Awaitable[Result]]


class Stand(NamedTuple):
    """A gateway before an audit service, and what was appended to that."""

    url: str
    address: str
    events: list[Envelope]


@pytest.fixture
async def stand(own_url: str, checkpoints: Path) -> AsyncIterator[Stand]:
    # The services run in this process: their log must not stand in a command's output.
    log.configure("test", "ERROR")
    given = settings(AuditSettings, own_url, audit_checkpoint_dir=checkpoints)
    async with serving(build_audit(given)) as (address, channel):
        source = tamper.random.Random(3)
        events = [tamper.event(source) for _ in range(20)]
        for event in events:
            event.tenant_id = "default"
            event.occurred_at.nanos -= event.occurred_at.nanos % 1000
        stub = AuditServiceStub(channel)
        await stub.AppendEvents(pb.AppendEventsRequest(events=events))
        gateway = build_gateway(
            load(GatewaySettings, audit_address=address, orchestrator_address="127.0.0.1:1")
        )
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(gateway, log_config=None, access_log=False))
        task = asyncio.create_task(server.serve([listener]))
        while not (server.started and (checkpoints / "checkpoint").exists()):
            await asyncio.sleep(0.01)
        await _published(checkpoints, len(events))
        yield Stand(f"http://127.0.0.1:{listener.getsockname()[1]}", address, events)
        server.should_exit = True
        await task


async def _published(folder: Path, size: int) -> None:
    while notes.read((folder / "checkpoint").read_text()).size < size:
        await asyncio.sleep(0.05)


@pytest.fixture
def winnow(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("WINNOW_SERVER", stand.url)

    async def run(*arguments: str, stdin: str | None = None) -> Result:
        return await asyncio.to_thread(CliRunner().invoke, app, ["audit", *arguments], stdin)

    return run


async def test_an_event_is_proved_over_rest_and_grpc_and_checked_offline(
    stand: Stand, winnow: Run, checkpoints: Path, tmp_path: Path
) -> None:
    event = stand.events[11]
    proved = await winnow("prove", event.event_id)
    assert (proved.exit_code, proved.stderr) == (0, "")
    over_grpc = await winnow("prove", event.event_id, "--server", f"grpc://{stand.address}")
    assert over_grpc.stdout == proved.stdout
    proof = tmp_path / "event.tlog-proof"
    proof.write_text(proved.stdout)
    key = (checkpoints / "public-key").read_text()
    # Another machine: an empty environment, no server.
    offline = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "cli.main", "audit", "check", proof, "--public-key", key],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert (offline.returncode, offline.stderr) == (0, "")
    assert offline.stdout.startswith("the proof holds: event 11 of a log of 20\n")
    assert event.event_id in offline.stdout
    found = json.loads(
        (await winnow("check", str(proof), "--public-key", key, "--format", "json")).stdout
    )
    assert (found["sequence"], found["tree_size"]) == (11, 20)
    assert json.loads(found["leaf"])["event_id"] == event.event_id


async def test_a_changed_proof_and_another_key_are_refused(
    stand: Stand, winnow: Run, checkpoints: Path
) -> None:
    proof = (await winnow("prove", stand.events[0].event_id)).stdout
    key = str(checkpoints / "public-key")
    assert (await winnow("check", "-", "--public-key", key, stdin=proof)).exit_code == 0
    moved = await winnow(
        "check", "-", "--public-key", key, stdin=proof.replace("index 0", "index 1")
    )
    assert moved.exit_code == 1
    assert "does not hold" in moved.stderr
    other = notes.verifier(Ed25519PrivateKey.generate().public_key())
    refused = await winnow("check", "-", "--public-key", other, stdin=proof)
    assert refused.exit_code == 1
    assert "not signed by this key" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("prove", "not-an-id"), "it is a UUID"),
        (("prove", "0198c5a0-0000-7000-8000-000000000000"), "no event has this id"),
        (("check", "/nowhere", "--public-key", "AAAA"), "not an Ed25519 public key"),
        (
            ("verify", "--data-dir", "/nowhere"),
            "no database of `winnow up` in /nowhere; name it with",
        ),
    ],
)
async def test_what_cannot_be_done_is_said_in_a_line(
    winnow: Run, arguments: tuple[str, ...], says: str
) -> None:
    refused = await winnow(*arguments)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert says in refused.stderr
    assert refused.stderr.count("\n") == 1


async def test_the_log_is_verified_and_an_altered_event_named(
    stand: Stand, winnow: Run, own_url: str, checkpoints: Path
) -> None:
    where = ("--database-url", own_url, "--checkpoint", str(checkpoints))
    whole = await winnow("verify", *where)
    assert whole.exit_code == 0
    assert whole.stdout.startswith("20 events, all as they were signed; root ")
    found = json.loads((await winnow("verify", *where, "--format", "json")).stdout)
    assert (found["events"], found["published"], found["altered"]) == (20, 20, None)
    with psycopg.connect(own_url, autocommit=True) as connection:
        connection.execute("UPDATE audit.events SET tenant_id = 'other' WHERE sequence = 5")
    altered = await winnow("verify", *where)
    assert altered.exit_code == 1
    assert altered.stdout == (
        f"ALTERED: event 5 ({stand.events[5].event_id}): its columns are not what its leaf says\n"
    )
    found = json.loads((await winnow("verify", *where, "--format", "json")).stdout)
    assert (found["altered"]["sequence"], found["altered"]["last"]) == (5, 5)


async def test_verifying_needs_the_right_key_and_a_database(
    winnow: Run, own_url: str, checkpoints: Path
) -> None:
    other = notes.verifier(Ed25519PrivateKey.generate().public_key())
    where = ("--checkpoint", str(checkpoints))
    refused = await winnow("verify", "--database-url", own_url, *where, "--public-key", other)
    assert refused.exit_code == 2
    assert "not signed by this key" in refused.stderr
    refused = await winnow("verify", "--database-url", "nonsense", *where)
    assert refused.exit_code == 2
    assert "is not a database URL" in refused.stderr
    with psycopg.connect(own_url, autocommit=True) as connection:
        connection.execute("DROP TABLE audit.tiles")
    refused = await winnow("verify", "--database-url", own_url, *where)
    assert refused.exit_code == 2
    assert "cannot be read (SQLSTATE 42P01)" in refused.stderr


async def test_verifying_says_which_of_its_parts_is_missing(
    stand: Stand, winnow: Run, own_url: str, checkpoints: Path, tmp_path: Path
) -> None:
    database = ("--database-url", own_url)
    refused = await winnow("verify", *database, "--data-dir", str(tmp_path / "none"))
    assert refused.exit_code == 2
    assert "`winnow audit checkpoint > FILE`" in refused.stderr
    (tmp_path / "elsewhere").mkdir()
    kept = tmp_path / "elsewhere" / "checkpoint"
    kept.write_text((checkpoints / "checkpoint").read_text())
    refused = await winnow("verify", *database, "--checkpoint", str(kept))
    assert refused.exit_code == 2
    assert "no public key: name one with --public-key" in refused.stderr
    # The key of a directory that is named is taken, whatever checkpoint goes with it.
    where = ("--checkpoint", str(kept), "--data-dir", str(tmp_path))
    assert (await winnow("verify", *database, *where)).exit_code == 0


async def test_the_help_names_the_service_that_is_asked(winnow: Run) -> None:
    for command in ("prove", "checkpoint", "public-key"):
        said = " ".join((await winnow(command, "--help")).stdout.replace("│", " ").split())
        assert "(audit service)" in said


async def test_checkpoint_and_key_are_printed_as_others_read_them(
    stand: Stand, winnow: Run, checkpoints: Path
) -> None:
    printed = (await winnow("checkpoint")).stdout
    assert printed == (checkpoints / "checkpoint").read_text()
    shown = json.loads((await winnow("checkpoint", "--format", "json")).stdout)
    assert (shown["tree_size"], shown["note"]) == (20, printed)
    key = (await winnow("public-key")).stdout
    assert key == (checkpoints / "public-key").read_text()
    pem = (await winnow("public-key", "--pem")).stdout
    assert notes.read_key(pem) == notes.read_key(key)


async def test_consistency_is_proved_over_rest(stand: Stand) -> None:
    async with httpx.AsyncClient(base_url=stand.url) as client:
        proof = (await client.get("/audit/consistency?first=7")).json()
        assert (proof["first"], proof["second"]) == (7, 20)
        hashes = [bytes.fromhex(value) for value in proof["hashes"]]
        roots = [bytes.fromhex(proof[name]) for name in ("first_root", "second_root")]
        assert tamper.log.verify_consistency(7, 20, hashes, *roots)
        for query, status in (("first=21", 404), ("first=x", 400), ("third=1", 400)):
            assert (await client.get(f"/audit/consistency?{query}")).status_code == status
