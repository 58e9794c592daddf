"""Data keys under key-encryption keys: bound to their report, and rings that are read anew."""

from __future__ import annotations

import base64
import uuid
from pathlib import Path

import pytest

from runtime import keyring
from runtime.config import ConfigError, SealingSettings, load
from runtime.errors import WinnowError
from runtime.keyring import Keyring, key_id, new_data_key
from winnow.seal.v1.data_key_pb2 import DataKey

ONE, TWO = bytes(32), bytes(range(32))
REPORT = uuid.UUID(int=7)


def b64(*keys: bytes) -> str:
    return ",".join(base64.b64encode(key).decode() for key in keys)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WINNOW_SECRETS_DIR", str(tmp_path))
    monkeypatch.setattr(keyring, "AGAIN_SECONDS", 0.0)
    put(tmp_path, ONE)
    return tmp_path


def put(folder: Path, current: bytes, *accepted: bytes) -> None:
    (folder / "winnow_sealing_keys_accepted").write_text(b64(*accepted))
    (folder / "winnow_sealing_key").write_text(b64(current) + "\n")


def refused(ring: Keyring, report_id: uuid.UUID, data_key: DataKey) -> WinnowError:
    with pytest.raises(WinnowError) as caught:
        ring.open(report_id, data_key)
    return caught.value


def test_a_data_key_opens_for_its_report_and_under_its_key_only() -> None:
    ring, plain = Keyring((ONE, TWO)), new_data_key()
    wrapped = ring.wrap(REPORT, plain)
    assert wrapped.key_id == key_id(ONE) == ring.current
    assert plain not in wrapped.wrapped
    assert len(wrapped.wrapped) <= 64
    assert ring.open(REPORT, wrapped) == plain
    assert Keyring((TWO, ONE)).open(REPORT, wrapped) == plain
    assert refused(ring, uuid.UUID(int=8), wrapped).reason == "SEAL_BROKEN"
    as_twos = DataKey(key_id=key_id(TWO), wrapped=wrapped.wrapped)
    assert refused(ring, REPORT, as_twos).reason == "SEAL_BROKEN"
    for at in range(len(wrapped.wrapped)):
        bent = bytearray(wrapped.wrapped)
        bent[at] ^= 1
        changed = DataKey(key_id=wrapped.key_id, wrapped=bytes(bent))
        assert refused(ring, REPORT, changed).reason == "SEAL_BROKEN"


def test_without_a_data_key_it_is_the_current_key_itself() -> None:
    assert Keyring((ONE, TWO)).open(REPORT, DataKey()) == ONE


def test_a_key_that_is_not_held_is_named() -> None:
    error = refused(Keyring((ONE,)), REPORT, Keyring((TWO,)).wrap(REPORT, new_data_key()))
    assert error.reason == "SEALING_KEY_UNKNOWN"
    assert error.retryable
    assert error.metadata == {"key_id": key_id(TWO), "report_id": str(REPORT)}


def test_a_ring_finds_a_key_that_came_later(folder: Path) -> None:
    ring, plain = Keyring.of(load(SealingSettings)), new_data_key()
    wrapped = Keyring((TWO,)).wrap(REPORT, plain)
    assert refused(ring, REPORT, wrapped).reason == "SEALING_KEY_UNKNOWN"
    put(folder, ONE, TWO)
    assert ring.open(REPORT, wrapped) == plain
    assert (ring.current, list(ring.held)) == (key_id(ONE), [key_id(ONE), key_id(TWO)])


def test_a_ring_wraps_with_a_new_current_key_within_seconds(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring = Keyring.of(load(SealingSettings))
    put(folder, TWO, ONE)
    assert ring.wrap(REPORT, ONE).key_id == key_id(ONE)
    monkeypatch.setattr(keyring, "STALE_SECONDS", 0.0)
    assert ring.wrap(REPORT, ONE).key_id == key_id(TWO)


def test_a_ring_keeps_its_keys_when_they_cannot_be_read(folder: Path) -> None:
    ring = Keyring.of(load(SealingSettings))
    (folder / "winnow_sealing_key").write_text("half of a k")
    ring.refresh(0)
    assert ring.current == key_id(ONE)


def test_a_ring_is_not_read_for_every_unknown_key(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyring, "AGAIN_SECONDS", 3600.0)
    ring = Keyring.of(load(SealingSettings))
    put(folder, ONE, TWO)
    wrapped = Keyring((TWO,)).wrap(REPORT, new_data_key())
    assert refused(ring, REPORT, wrapped).reason == "SEALING_KEY_UNKNOWN"


def test_accepted_keys_come_from_anywhere(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WINNOW_SEALING_KEYS_ACCEPTED", f" {b64(TWO)} , {b64(ONE)},")
    found = load(SealingSettings).sealing_keys_accepted
    assert [key.get_secret_value() for key in found] == [TWO, ONE]
    monkeypatch.setenv("WINNOW_SEALING_KEYS_ACCEPTED", "neither")
    with pytest.raises(ConfigError, match=r"KEYS_ACCEPTED.*32 bytes in base64") as no:
        load(SealingSettings)
    assert "neither" not in str(no.value)
