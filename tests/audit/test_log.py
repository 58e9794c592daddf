"""The Merkle log's mathematics, against itself and against an independent oracle."""

from __future__ import annotations

import base64
import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from pymerkle import InmemoryTree

from audit import log
from winnow.event.v1.envelope_pb2 import Envelope, EventSeverity


def _leaves(count: int) -> list[bytes]:
    return [log.leaf_hash(b"event %d" % index) for index in range(count)]


def test_root_of_nothing_is_the_hash_of_nothing() -> None:
    assert log.root([]) == hashlib.sha256(b"").digest()


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 8, 9, 31, 64, 100])
def test_root_equals_the_oracles(count: int) -> None:
    tree = InmemoryTree(algorithm="sha256")
    for index in range(count):
        tree.append_entry(b"event %d" % index)
    assert log.root(_leaves(count)) == tree.get_root()


def test_every_inclusion_proof_holds_and_no_wrong_one_does() -> None:
    for size in range(1, 40):
        leaves = _leaves(size)
        root = log.root(leaves)
        for index in range(size):
            proof = log.inclusion_proof(leaves, index)
            assert log.verify_inclusion(leaves[index], index, size, proof, root)
            assert not log.verify_inclusion(log.leaf_hash(b"other"), index, size, proof, root)
            assert not log.verify_inclusion(leaves[index], index + size, size, proof, root)
            if proof:
                assert not log.verify_inclusion(leaves[index], index, size, proof[:-1], root)


def test_every_consistency_proof_holds_and_a_rewritten_past_does_not() -> None:
    for second in range(1, 40):
        leaves = _leaves(second)
        new = log.root(leaves)
        for first in range(1, second + 1):
            old = log.root(leaves[:first])
            proof = log.consistency_proof(leaves, first)
            assert log.verify_consistency(first, second, proof, old, new)
            rewritten = log.root([log.leaf_hash(b"rewritten"), *leaves[1:first]])
            assert not log.verify_consistency(first, second, proof, rewritten, new)


_texts = st.text(max_size=20)


@given(
    payload=st.dictionaries(
        _texts,
        st.recursive(
            st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | _texts,
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3),
            max_leaves=8,
        ),
        max_size=4,
    ),
    subject=_texts,
    severity=st.sampled_from(EventSeverity.values()),
)
def test_a_leaf_is_canonical_and_gives_the_event_back(payload, subject, severity) -> None:
    event = Envelope(
        event_id="0198c5a0-0000-7000-8000-000000000000",
        event_type="REPORT_DONE",
        subject=subject,
        severity=severity,
    )
    event.occurred_at.FromMicroseconds(1_700_000_000_123_456)
    event.payload.update(payload)
    leaf = log.leaf_of(event)
    again = log.event_of(leaf)
    assert again == event
    assert log.leaf_of(again) == leaf


def test_a_payload_with_a_fraction_is_refused() -> None:
    event = Envelope()
    event.payload.update({"ratio": 0.5})
    with pytest.raises(ValueError, match="whole numbers"):
        log.leaf_of(event)


def test_a_checkpoint_is_a_signed_note_that_the_public_key_verifies() -> None:
    key = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
    root = log.root(_leaves(5))
    note = log.sign_note(key, 5, root)
    text, _, signatures = note.partition("\n\n")
    assert text.split("\n") == [log.ORIGIN, "5", base64.b64encode(root).decode()]
    name, signature = signatures.strip().removeprefix("\u2014 ").split(" ")
    assert name == log.ORIGIN
    key.public_key().verify(base64.b64decode(signature)[4:], (text + "\n").encode())
