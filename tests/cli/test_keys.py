"""Where a command finds its key, and what it refuses before it asks a server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cli.errors import ClientError
from cli.usage import ADMIN_KEY_FILE, SERVER_FILE, api_key
from runtime import api_keys
from tests.cli.conftest import Run

KEY = api_keys.make().text
OTHER = api_keys.make().text


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data directory of a `winnow up` of this user that needs keys."""
    for name in ("API_KEY", "API_KEY_FILE", "DATABASE_URL"):
        # Set first: what a command sets itself is taken back too.
        monkeypatch.setenv(f"WINNOW_{name}", "")
        monkeypatch.delenv(f"WINNOW_{name}")
    monkeypatch.setattr("cli.usage.default_data_dir", lambda: tmp_path)
    (tmp_path / "keys").mkdir()
    (tmp_path / ADMIN_KEY_FILE).write_text(OTHER)
    (tmp_path / SERVER_FILE).write_text("http://127.0.0.1:8080\nhttp://localhost:8080")
    return tmp_path


def test_a_key_is_found_where_it_was_put(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert api_key("http://127.0.0.1:8080") == OTHER
    assert api_key("http://localhost:8080/") == OTHER
    file = tmp_path / "mine"
    file.write_text(f"{KEY}\n")
    monkeypatch.setenv("WINNOW_API_KEY_FILE", str(file))
    assert api_key("https://winnow.example") == KEY
    monkeypatch.setenv("WINNOW_API_KEY", OTHER)
    assert api_key("https://winnow.example") == OTHER


def test_the_first_key_goes_to_no_other_server(home: Path) -> None:
    assert api_key("http://127.0.0.1:8081") == ""
    assert api_key("https://winnow.example") == ""
    (home / SERVER_FILE).unlink()  # it does not run, or needs none
    assert api_key("http://127.0.0.1:8080") == ""


def test_what_is_no_key_is_said_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WINNOW_API_KEY", f"{KEY}canary")
    with pytest.raises(ClientError, match="WINNOW_API_KEY holds no API key") as caught:
        api_key("http://x")
    assert "canary" not in str(caught.value)
    monkeypatch.setenv("WINNOW_API_KEY", "")
    monkeypatch.setenv("WINNOW_API_KEY_FILE", "/nowhere/key")
    with pytest.raises(ClientError, match=r"--key-file, or WINNOW_API_KEY_FILE, cannot be read"):
        api_key("http://x")


@pytest.mark.parametrize("text", ["", " \n"])
def test_an_empty_key_file_is_told_and_no_other_key_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    file = tmp_path / "mine"
    file.write_text(text)
    monkeypatch.setenv("WINNOW_API_KEY_FILE", str(file))
    with pytest.raises(ClientError, match=r"--key-file, or WINNOW_API_KEY_FILE, is empty"):
        api_key("http://127.0.0.1:8080")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("create", "--name", "x", "--role", "read", "--expires", "1m"), "days or weeks"),
        (("create", "--name", "x", "--role", "read", "--expires", "0d"), "--expires must read"),
        (("create", "--name", "x", "--role", "read", "--tenant", "a"), "go with --direct"),
        (("create", "--name", "x", "--role", "read", "--direct"), "no database of `winnow up`"),
        (("revoke", KEY), "never the whole key"),
    ],
)
async def test_what_is_wrong_is_said_before_a_server_is_asked(
    winnow: Run, arguments: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    monkeypatch.setattr("cli.keys.default_data_dir", lambda: home)
    result = await winnow("keys", *arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert KEY not in result.output


@pytest.mark.parametrize("behind", [False, True])
async def test_the_key_of_a_file_is_shown_to_the_server(
    winnow: Run, stack: Any, tmp_path: Path, behind: bool
) -> None:
    file = tmp_path / "mine"
    file.write_text(KEY)
    report = tmp_path / "report.json"
    report.write_text("[]")
    option, command = ("--key-file", str(file)), ("submit", str(report))
    await winnow(*(command + option if behind else option + command))
    assert stack.reports.uploads[-1].metadata["authorization"] == f"Bearer {KEY}"


async def test_a_key_written_by_hand_needs_a_database_that_answers(
    winnow: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    direct = ("keys", "create", "--name", "x", "--role", "admin", "--direct")
    for url, said in (
        ("postgresql://u:canary@127.0.0.1:9/d", "does not answer"),
        ("canary", "is not a database URL"),
    ):
        monkeypatch.setenv("WINNOW_DATABASE_URL", url)
        result = await winnow(*direct)
        assert result.exit_code == 2
        assert said in result.stderr
        assert "canary" not in result.output
    result = await winnow(*direct, "--tenant", "no tenant's name")
    assert (result.exit_code, "x-winnow-tenant" in result.stderr) == (2, True)


async def test_a_relative_data_directory_is_found_from_here(
    winnow: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []

    def url(folder: Path) -> str:
        asked.append(folder)
        return "postgresql://u@127.0.0.1:9/d"

    monkeypatch.setattr("cli.keys.embedded_url", url)
    monkeypatch.chdir(home)
    words = ("keys", "create", "--name", "x", "--role", "admin", "--direct", "--data-dir", "here")
    assert (await winnow(*words)).exit_code == 2
    assert asked == [home / "here"]
