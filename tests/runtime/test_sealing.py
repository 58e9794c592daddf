"""Seals open in their own place with their own key, and nowhere else."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import WinnowError
from runtime.sealing import EVIDENCE, RAW_REPORT, Sealer

KEY = bytes(range(32))
REPORT = uuid.UUID(int=7)
ordinals = st.integers(0, 2**64 - 1)


def sealer(key: bytes = KEY, report: uuid.UUID = REPORT, purpose: bytes = EVIDENCE) -> Sealer:
    return Sealer(key, report, purpose)


def refused(opener: Sealer, sealed: bytes, ordinal: int) -> None:
    with pytest.raises(WinnowError) as caught:
        opener.open(sealed, ordinal)
    assert caught.value.reason == "SEAL_BROKEN"
    assert caught.value.metadata == {"ordinal": str(ordinal)}
    assert caught.value.__cause__ is None


@given(st.binary(max_size=5000), ordinals)
def test_round_trip(plaintext: bytes, ordinal: int) -> None:
    sealed = sealer().seal(plaintext, ordinal)
    assert sealer().open(sealed, ordinal) == plaintext
    # Key id, nonce, tag.
    assert len(sealed) == len(plaintext) + 1 + 12 + 16
    assert len(plaintext) < 4 or plaintext not in sealed


@given(st.binary(max_size=50), ordinals, ordinals)
def test_moved_to_another_ordinal(plaintext: bytes, ordinal: int, other: int) -> None:
    sealed = sealer().seal(plaintext, ordinal)
    if other != ordinal:
        refused(sealer(), sealed, other)


@given(st.binary(max_size=50), st.integers(0), st.integers(0, 7))
def test_any_flipped_bit(plaintext: bytes, where: int, bit: int) -> None:
    sealed = bytearray(sealer().seal(plaintext, 3))
    sealed[where % len(sealed)] ^= 1 << bit
    refused(sealer(), bytes(sealed), 3)


@given(st.binary(max_size=50), st.integers(0))
def test_cut_short(plaintext: bytes, size: int) -> None:
    sealed = sealer().seal(plaintext, 3)
    refused(sealer(), sealed[: size % len(sealed)], 3)


@pytest.mark.parametrize(
    "other",
    [
        sealer(key=bytes(32)),
        sealer(report=uuid.UUID(int=8)),
        sealer(purpose=RAW_REPORT),
    ],
    ids=["another key", "another report", "another purpose"],
)
def test_only_its_own_sealer_opens(other: Sealer) -> None:
    refused(other, sealer().seal(b"value", 0), 0)


def test_nonces_do_not_repeat() -> None:
    one = sealer()
    nonces = {one.seal(b"", 0)[1:13] for _ in range(10_000)}
    assert len(nonces) == 10_000


@pytest.mark.parametrize("size", [0, 16, 31, 33])
def test_a_key_has_32_bytes(size: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        sealer(key=bytes(size))
