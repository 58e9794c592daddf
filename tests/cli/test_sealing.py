"""Key files are replaced so that a cut at any moment leaves everything readable."""

from __future__ import annotations

import base64
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

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
