"""Where settings come from, and what wrong ones are told as."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from pydantic import Field

from runtime import config

KEY = base64.b64encode(b"k" * 32).decode()


class Sample(config.Settings):
    """Settings of no service."""

    sample_size: int = Field(3, gt=0)
    sample_key: config.Key | None = None


class Strict(config.Settings):
    """Settings with one that must be given."""

    needed_key: config.Key


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CONFIG", "SECRETS_DIR", "SAMPLE_SIZE", "SAMPLE_KEY", "LOG_LEVEL", "TENANT"):
        monkeypatch.delenv(f"WINNOW_{name}", raising=False)


@pytest.fixture
def toml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "winnow.toml"
    monkeypatch.setenv("WINNOW_CONFIG", str(file))
    return file


@pytest.fixture
def secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "secrets"
    folder.mkdir()
    monkeypatch.setenv("WINNOW_SECRETS_DIR", str(folder))
    return folder


def test_precedence(toml: Path, secrets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toml.write_text("sample_size = 10\ntenant = 'toml'\nlog_level = 'DEBUG'\n")
    (secrets / "winnow_sample_size").write_text("20")
    (secrets / "winnow_tenant").write_text("file")
    monkeypatch.setenv("WINNOW_SAMPLE_SIZE", "30")
    loaded = config.load(Sample)
    assert (loaded.sample_size, loaded.tenant, loaded.log_level) == (30, "file", "DEBUG")
    assert config.load(Sample, sample_size=40).sample_size == 40


def test_defaults() -> None:
    loaded = config.load(Sample)
    assert (loaded.sample_size, loaded.sample_key, loaded.tenant) == (3, None, "default")


@pytest.mark.parametrize("source", ["environment", "file", "toml"])
def test_a_key_from_anywhere(
    source: str, toml: Path, secrets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toml.write_text(f"needed_key = '{KEY}'\n" if source == "toml" else "")
    if source == "file":
        (secrets / "winnow_needed_key").write_text(KEY + "\n")
    elif source == "environment":
        monkeypatch.setenv("WINNOW_NEEDED_KEY", KEY)
    loaded = config.load(Strict)
    assert loaded.needed_key.get_secret_value() == b"k" * 32
    assert KEY not in repr(loaded)
    assert "kkkk" not in repr(loaded)


@pytest.mark.parametrize(
    "bad",
    ["canary", base64.b64encode(b"canary" * 5).decode(), base64.b64encode(b"c" * 33).decode(), ""],
)
def test_a_bad_key_is_named_and_never_shown(bad: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WINNOW_NEEDED_KEY", bad)
    with pytest.raises(config.ConfigError) as caught:
        config.load(Strict)
    assert "WINNOW_NEEDED_KEY: must be 32 bytes in base64" in str(caught.value)
    assert not bad or bad not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_all_wrong_settings_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WINNOW_SAMPLE_SIZE", "canary")
    monkeypatch.setenv("WINNOW_SAMPLE_KEY", "canary")
    with pytest.raises(config.ConfigError) as caught:
        config.load(Sample)
    assert "WINNOW_SAMPLE_SIZE" in str(caught.value)
    assert "WINNOW_SAMPLE_KEY" in str(caught.value)
    assert "canary" not in str(caught.value)


def test_a_missing_one_is_named() -> None:
    with pytest.raises(config.ConfigError, match="WINNOW_NEEDED_KEY: Field required"):
        config.load(Strict)


def test_unknown_names_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    config.check_names([Sample, Strict])
    monkeypatch.setenv("WINNOW_SAMPLE_SISE", "canary")
    with pytest.raises(config.ConfigError) as caught:
        config.check_names([Sample, Strict])
    assert str(caught.value) == (
        "unknown setting WINNOW_SAMPLE_SISE; did you mean WINNOW_SAMPLE_SIZE?"
    )


def test_unknown_keys_of_the_file_are_refused(toml: Path) -> None:
    toml.write_text("samplesize = 'canary'\n")
    with pytest.raises(config.ConfigError) as caught:
        config.check_names([Sample])
    assert str(caught.value) == (
        "unknown key samplesize in the TOML file; did you mean sample_size?"
    )


@pytest.mark.parametrize("text", ["sample_size = canary", None, "\x00"])
def test_a_file_that_cannot_be_read(toml: Path, text: str | None) -> None:
    if text is not None:
        toml.write_text(text)
    with pytest.raises(config.ConfigError, match="the file named by WINNOW_CONFIG") as caught:
        config.check_names([Sample])
    assert "canary" not in str(caught.value)
