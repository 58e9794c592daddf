"""`winnow settings` lists all that there is, and shows no value."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from cli.main import app
from cli.serve import SETTINGS
from runtime import config


def test_every_setting_is_listed_once() -> None:
    lines = CliRunner().invoke(app, ["settings"]).stdout.splitlines()
    listed = [line.split()[0] for line in lines]
    assert listed == sorted(set(listed))
    known = {f"WINNOW_{name.upper()}" for one in SETTINGS.values() for name in one.model_fields}
    assert set(listed) == known


def test_it_shows_no_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WINNOW_DATABASE_URL", "postgresql://u:canary@host/db")
    monkeypatch.setenv("WINNOW_SEALING_KEY", "canary")
    result = CliRunner().invoke(app, ["settings"])
    assert result.exit_code == 0
    assert "canary" not in result.stdout
    assert "(required)" in result.stdout


def test_it_shows_every_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of a setting that may be secret: what everybody has is not."""
    monkeypatch.setenv("WINNOW_RATE_STORE", "canary")
    lines = CliRunner().invoke(app, ["settings"]).stdout.splitlines()
    defaults = {name: default for name, default, *_ in map(str.split, lines)}
    assert defaults["WINNOW_RATE_STORE"] == "memory"
    assert "**********" not in defaults.values()


def test_names_are_unique_in_meaning() -> None:
    """One file serves all processes: a name that two services share means the same."""
    for name in {name for one in SETTINGS.values() for name in one.model_fields}:
        fields = [one.model_fields[name] for one in SETTINGS.values() if name in one.model_fields]
        assert len({str(field.annotation) for field in fields}) == 1, name
        assert len({str(field.default) for field in fields}) == 1, name


def test_all_names_are_known_to_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    for one in SETTINGS.values():
        for name in one.model_fields:
            monkeypatch.setenv(f"WINNOW_{name.upper()}", "x")
    config.check_names(SETTINGS.values())
