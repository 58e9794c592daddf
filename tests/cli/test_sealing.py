"""Key files are replaced so that a cut at any moment leaves everything readable."""

from __future__ import annotations

import base64
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from cli import sealing
from cli.main import app
from runtime.config import SealingSettings, load
from runtime.keyring import Keyring, key_id

OLD = b"o" * 32


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / sealing.CURRENT).write_text(base64.b64encode(OLD).decode())
    monkeypatch.setenv("WINNOW_SECRETS_DIR", str(tmp_path))
    return tmp_path


class Cut(Exception):
    """The machine went away."""


@pytest.mark.parametrize("after", range(5))
def test_whenever_it_is_cut_the_old_key_is_held(
    folder: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """Two replacements, each a write and a rename: cut before each of them, and not at all."""
    calls = 0

    def counted(original: Any) -> Any:
        def call(*arguments: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls > after:
                raise Cut
            return original(*arguments)

        return call

    if after < 4:
        monkeypatch.setattr(os, "replace", counted(os.replace))
        monkeypatch.setattr(os, "fsync", counted(os.fsync))
        with pytest.raises(Cut):
            sealing._replace_key(folder)
    else:
        sealing._replace_key(folder)
    monkeypatch.undo()
    monkeypatch.setenv("WINNOW_SECRETS_DIR", str(folder))
    ring = Keyring.of(load(SealingSettings))
    assert key_id(OLD) in ring.held
    # Done again, it ends well.
    sealing._replace_key(folder)
    ring.refresh(0)
    assert key_id(OLD) in ring.held
    assert ring.current != key_id(OLD)
    assert {one.name for one in folder.iterdir()} == {sealing.CURRENT, sealing.ACCEPTED}
    assert {stat.S_IMODE(one.stat().st_mode) for one in folder.iterdir()} == {0o600}


def test_a_report_is_not_written_to_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal:
        @staticmethod
        def isatty() -> bool:
            return True

    monkeypatch.setattr(sealing.sys, "stdout", Terminal())
    with pytest.raises(sealing.typer.Exit):
        sealing.raw("id", "-", force=False, server="http://127.0.0.1:9")


def test_a_server_with_other_keys_loses_none_here(tmp_path: Path) -> None:
    words = ["keys", "rotate", "--drop-retired", "--data-dir", str(tmp_path)]
    done = CliRunner().invoke(app, [*words, "--server", "http://127.0.0.1:9"])
    assert (done.exit_code, "not those in" in done.stderr) == (2, True)


class Server:
    """A server with one key, which says how often it was told to rotate."""

    def __init__(self, current: bytes) -> None:
        self._current = current
        self.rotated = 0

    def sealing(self) -> dict[str, Any]:
        keys = [{"key_id": key_id(self._current), "current": True, "held": True, "reports": 0}]
        return {"keys": keys, "shredded": 1, "rotating": False}

    def rotate_sealing(self) -> dict[str, Any]:
        self.rotated += 1
        return {"key_id": key_id(self._current), "outstanding": 0}


def rotate(home: Path, server: Server, monkeypatch: pytest.MonkeyPatch, *words: str) -> Result:
    monkeypatch.setattr("cli.client.connect", lambda _server: server)
    return CliRunner().invoke(app, ["keys", "rotate", "--data-dir", str(home), *words])


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The data directory of a `winnow up`."""
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / sealing.CURRENT).write_text(base64.b64encode(OLD).decode())
    return tmp_path


def test_where_no_key_can_be_made_nothing_is_rotated(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Server(b"x" * 32)
    for folder in (home, home / "nothing"):
        done = rotate(folder, other, monkeypatch)
        assert done.exit_code == 2
        assert "no new key was made" in done.stderr
        assert all(word in done.stderr for word in (str(folder), "--data-dir", "--rewrap"))
    assert other.rotated == 0
    done = rotate(home, other, monkeypatch, "--rewrap")
    assert (done.exit_code, other.rotated) == (0, 1)
    assert done.stdout.endswith("1 report is shredded\n")


def test_rewrapping_makes_no_key(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    current = home / "keys" / sealing.CURRENT
    before = current.read_text()
    assert rotate(home, Server(OLD), monkeypatch, "--rewrap").exit_code == 0
    assert current.read_text() == before
    assert rotate(home, Server(OLD), monkeypatch).exit_code == 0
    assert current.read_text() != before


def test_what_is_removed_is_told(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing, "_SETTLED_SECONDS", 0.0)
    done = rotate(home, Server(OLD), monkeypatch, "--drop-retired")
    assert f"removed from {home / 'keys'}: {key_id(OLD)}" in done.stderr
    assert (home / "keys" / sealing.ACCEPTED).read_text() == ""
    server = Server(base64.b64decode((home / "keys" / sealing.CURRENT).read_text()))
    done = rotate(home, server, monkeypatch, "--drop-retired", "--rewrap")
    assert "no retired keys" in done.stderr
