"""Checkpoints, keys and proofs as text: what holds, and that nothing else does."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from audit import log, notes
from audit.notes import NoteError

KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
OTHER = Ed25519PrivateKey.from_private_bytes(b"o" * 32)
LEAVES = [b'{"number":%d}' % number for number in range(11)]
HASHES = [log.leaf_hash(leaf) for leaf in LEAVES]
CHECKPOINT = notes.sign(KEY, len(LEAVES), log.root(HASHES))


def _proof(index: int) -> notes.Proof:
    spans = log.inclusion_spans(index, len(LEAVES))
    hashes = [log.root(HASHES[start:end]) for start, end in spans]
    return notes.Proof(LEAVES[index], index, hashes, CHECKPOINT.note)


def test_a_checkpoint_is_a_signed_note_that_the_public_key_verifies() -> None:
    text, _, signatures = CHECKPOINT.note.partition("\n\n")
    assert text.split("\n") == [
        "winnow/audit",
        "11",
        base64.b64encode(CHECKPOINT.root).decode(),
    ]
    dash, name, encoded = signatures.removesuffix("\n").split(" ")
    assert (dash, name) == ("\u2014", "winnow/audit")
    signature = base64.b64decode(encoded)
    KEY.public_key().verify(signature[4:], f"{text}\n".encode())
    # The verifier key names the same key id.
    assert notes.verifier(KEY.public_key()).split("+")[1] == signature[:4].hex()
    assert notes.verify(CHECKPOINT.note, KEY.public_key()) == CHECKPOINT


def test_no_checkpoint_holds_with_one_character_changed() -> None:
    for at, character in enumerate(CHECKPOINT.note):
        for other in {"#", "0", "1", "A", "\n", " "} - {character}:
            changed = CHECKPOINT.note[:at] + other + CHECKPOINT.note[at + 1 :]
            if changed.rstrip("\n") == CHECKPOINT.note.rstrip("\n"):
                continue
            with pytest.raises(NoteError):
                notes.verify(changed, KEY.public_key())


def test_a_checkpoint_of_another_key_is_refused() -> None:
    with pytest.raises(NoteError, match="not signed by this key"):
        notes.verify(CHECKPOINT.note, OTHER.public_key())


def test_a_witness_may_have_signed_too() -> None:
    witnessed = f"{CHECKPOINT.note}\u2014 witness.example {base64.b64encode(b'w' * 68).decode()}\n"
    assert notes.verify(witnessed, KEY.public_key()).size == 11
    text, _, signature = CHECKPOINT.note.partition("\n\n")
    first = f"{text}\n\n\u2014 witness.example {base64.b64encode(b'w' * 68).decode()}\n{signature}"
    assert notes.verify(first, KEY.public_key()).size == 11


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n\n",
        "winnow/audit\n11\n\n",
        "elsewhere\n11\nAAAA\n\n",
        "winnow/audit\n011\n" + base64.b64encode(b"r" * 32).decode() + "\n\n",
        "winnow/audit\n-1\n" + base64.b64encode(b"r" * 32).decode() + "\n\n",
        "winnow/audit\n11\nAAAA\n\n",
    ],
)
def test_what_is_no_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(NoteError):
        notes.read(text)


def test_a_file_holds_many_notes() -> None:
    made = [notes.sign(KEY, size, log.root(HASHES[:size])).note for size in range(3)]
    assert notes.split("".join(f"{note}\n" for note in made)) == made
    assert notes.split(made[0]) == [made[0]]
    assert notes.split("") == []


def test_a_key_is_read_in_all_three_ways() -> None:
    key = KEY.public_key()
    raw = notes.public_bytes(key)
    for text in (notes.verifier(key), notes.pem(key), base64.b64encode(raw).decode()):
        assert notes.public_bytes(notes.read_key(f" {text}\n")) == raw


@pytest.mark.parametrize(
    "text",
    [
        "",
        "winnow/audit",
        "AAAA",
        "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----",
        notes.verifier(KEY.public_key()).replace("+", "+0", 1),
        Ed448PrivateKey.generate()
        .public_key()
        .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        .decode(),
    ],
)
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(NoteError):
        notes.read_key(text)


@pytest.mark.parametrize("index", range(len(LEAVES)))
def test_a_proof_is_whole_in_itself(index: int) -> None:
    text = notes.write_proof(_proof(index))
    assert text.startswith("c2sp.org/tlog-proof@v1\nextra ")
    again = notes.read_proof(text)
    assert again == _proof(index)
    assert notes.check_proof(again, KEY.public_key()) == CHECKPOINT


def test_a_proof_with_one_bit_changed_is_refused() -> None:
    text = notes.write_proof(_proof(4)).encode()
    for at in range(len(text) - 1):  # the last is a line feed after the signature
        for bit in range(8):
            changed = bytearray(text)
            changed[at] ^= 1 << bit
            try:
                read = notes.read_proof(changed.decode())
                notes.check_proof(read, KEY.public_key())
            except (NoteError, UnicodeDecodeError):
                continue
            pytest.fail(f"bit {bit} of byte {at} may be changed")


def test_a_proof_does_not_hold_with_another_key() -> None:
    with pytest.raises(NoteError, match="not signed by this key"):
        notes.check_proof(_proof(4), OTHER.public_key())


def test_a_proof_of_another_place_is_refused() -> None:
    made = _proof(4)
    for index in (0, 3, 5, 11, 2**63):
        moved = notes.Proof(made.leaf, index, made.hashes, made.note)
        with pytest.raises(NoteError, match="does not stand in the log"):
            notes.check_proof(moved, KEY.public_key())
