"""`winnow load` as a command: what it refuses before it sends anything, and its exit codes."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cli.main import app
from runtime import api_keys
from tests.cli.loading.server import Answer, Json, Request, house, serving

SMALL = """\
name: small
duration: 400ms
settle: 5
emitters:
  - name: jobs
    profile: {kind: constant, rate: 20}
    findings: {min: 1, max: 2}
expect: {lost: 0, reasons: []}
""".replace("400ms", "0.4")
KEYED = SMALL.replace("    findings", "    auth: key\n    keys: [first, second]\n    findings")


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return made(tmp_path, SMALL)


def made(folder: Path, text: str) -> Path:
    file = folder / "small.yaml"
    file.write_text(text)
    return file


async def load(
    *arguments: str | Path, answer: Answer | None = None
) -> tuple[Result, list[Request]]:
    """Runs the command in a thread: the server lives in this one."""
    async with serving(answer or ready(house())) as server:
        words = ["load", *map(str, arguments)]
        if "--server" not in words:
            words += ["--server", server.url]
        done = await asyncio.to_thread(CliRunner().invoke, app, words)
        return done, server.requests


def ready(answer: Answer) -> Answer:
    """The answers of a gateway that is ready and makes keys."""

    async def answered(request: Request) -> tuple[int, Json | None]:
        if request.path == "/readyz":
            return 200, {}
        if request.path.startswith("/keys"):
            key = api_keys.make()
            return 200, {"key": {"key_id": key.key_id}, "secret": key.text}
        return await answer(request)

    return answered


async def test_what_holds_exits_with_0_and_is_written(small: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done, requests = await load(small, "--out", out, "--format", "json", "--pid", str(os.getpid()))
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["accepted"], found["finished"]) == (8, 8)
    assert found["memory"]["max_bytes"] > 1 << 20
    assert json.loads((out / "summary.json").read_text()) == found
    lines = [json.loads(line) for line in (out / "telemetry.jsonl").read_text().splitlines()]
    assert sum(line["type"] == "request" for line in lines) == 8
    # An emitter without keys shows none, and asks for none.
    assert not any("authorization" in request.headers for request in requests)
    assert not any(request.path.startswith("/keys") for request in requests)


async def test_what_does_not_hold_exits_with_1(small: Path) -> None:
    async def refuse(_: Request) -> tuple[int, Json | None]:
        return 503, {"reason": "OVERLOADED"}

    done, _ = await load(small, answer=ready(refuse))
    assert done.exit_code == 1
    assert "DOES NOT HOLD: reasons" in done.stdout
    assert "OVERLOADED" in done.stdout


async def test_keys_are_made_and_revoked_unless_they_are_given(tmp_path: Path) -> None:
    key = api_keys.make()
    (tmp_path / "key").write_text(key.text)
    file = made(tmp_path, KEYED)
    done, requests = await load(file, "--key", f"first={tmp_path / 'key'}")
    assert done.exit_code == 0, done.output
    about = [(one.method, json.loads(one.body or "{}")) for one in requests if "/keys" in one.path]
    assert [method for method, _ in about] == ["POST", "DELETE"]
    assert about[0][1]["name"] == "load second"
    assert about[0][1]["roles"] == ["submit", "read"]
    shown = {one.headers["authorization"] for one in requests if one.path.startswith("/reports?")}
    assert len(shown) == 2
    assert f"Bearer {key.text}" in shown
    assert key.secret not in done.output


async def test_keys_that_cannot_be_made_are_an_error(tmp_path: Path) -> None:
    async def deny(request: Request) -> tuple[int, Json | None]:
        if request.path == "/readyz":
            return 200, {}
        return 403, {"reason": "PERMISSION_DENIED", "title": "not allowed", "detail": "no role"}

    done, requests = await load(made(tmp_path, KEYED), answer=deny)
    assert done.exit_code == 2
    assert "PERMISSION_DENIED" in done.output
    assert not any(request.path.startswith("/reports") for request in requests)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--server", "http://198.51.100.7:8080"), "--allow-remote 198.51.100.7"),
        (
            ("--server", "http://198.51.100.7:8080", "--allow-remote", "198.51.100.8"),
            "is another machine",
        ),
        (("--server", "http://127.0.0.1.example"), "is another machine"),
        (("--server", "grpc://127.0.0.1:1"), "--server must read http"),
        (("--server", "http://[::1"), "--server must read http"),
        (("--server", "http://127.0.0.1:1"), "does not answer"),
        (("--allow-rate", "19"), "reaches 20 requests a second, and 19 are allowed"),
        (("--duration", "soon"), "--duration must read"),
        (("--pid", "999999999"), "--pid: there is no such process"),
        (("--key", "other=file"), "--key must read LABEL=FILE"),
    ],
)
async def test_what_is_refused_before_anything_is_sent(
    small: Path, words: tuple[str, ...], told: str
) -> None:
    done, requests = await load(small, *words)
    assert done.exit_code == 2
    assert told in done.output
    assert [request for request in requests if request.method == "POST"] == []


async def test_a_house_that_is_not_ready_is_not_loaded(small: Path) -> None:
    async def starting(_: Request) -> tuple[int, Json | None]:
        return 503, {}

    done, requests = await load(small, answer=starting)
    assert done.exit_code == 2
    assert "is not ready" in done.output
    assert [request.path for request in requests] == ["/readyz"]


async def test_a_key_file_without_a_key(tmp_path: Path) -> None:
    file = made(tmp_path, KEYED)
    done, _ = await load(file, "--key", f"first={file}")
    assert done.exit_code == 2
    assert "the file of --key first holds no API key" in done.output


async def test_a_scenario_that_is_wrong_is_told_by_line(tmp_path: Path) -> None:
    done, requests = await load(made(tmp_path, SMALL.replace("rate: 20", "rate: many")))
    assert done.exit_code == 2
    assert "small.yaml:6: emitters[0].profile.rate: " in done.output
    assert requests == []
