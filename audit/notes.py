"""Signed texts: checkpoints, proofs that hold without us, and the key that verifies them.

Checkpoints are C2SP tlog-checkpoint, signed notes with Ed25519 (RFC 8032); the
key in words is a note verifier key, `name+key id+base64`; a proof is C2SP
tlog-proof, its `extra` the leaf itself.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)

from audit import log

ORIGIN = "winnow/audit"

_ED25519 = b"\x01"
_DASH = "\u2014"
_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}\Z")
_PROOF = "c2sp.org/tlog-proof@v1"
_MOST_SIGNATURES = 64


class NoteError(Exception):
    """A text that proves nothing; the message says why, and never quotes it."""


@dataclass(frozen=True)
class Checkpoint:
    """A log's size and root, as a note says them."""

    size: int
    root: bytes
    note: str


@dataclass(frozen=True)
class Proof:
    """That a leaf stands at an index of the log that a checkpoint is of."""

    leaf: bytes
    index: int
    hashes: list[bytes]
    note: str


def public_bytes(key: Ed25519PublicKey) -> bytes:
    """The 32 bytes of a public key."""
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)


def _key_id(key: Ed25519PublicKey) -> bytes:
    """The first 4 bytes of SHA-256(name || newline || 0x01 || key), as signed-note asks."""
    return hashlib.sha256(ORIGIN.encode() + b"\n" + _ED25519 + public_bytes(key)).digest()[:4]


def verifier(key: Ed25519PublicKey) -> str:
    """A public key in words: name, key id, base64 of 0x01 and the key."""
    encoded = base64.b64encode(_ED25519 + public_bytes(key)).decode()
    return f"{ORIGIN}+{_key_id(key).hex()}+{encoded}"


def pem(key: Ed25519PublicKey) -> str:
    """A public key as openssl reads it."""
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def read_key(text: str) -> Ed25519PublicKey:
    """A public key from words: as `verifier` or `pem` write it, or its 32 bytes in base64.

    Raises:
        NoteError: it is none of them, or its key id is another key's.
    """
    wrong = NoteError(
        "not an Ed25519 public key: neither a verifier key (name+id+base64), nor PEM, "
        "nor 32 bytes in base64"
    )
    text = text.strip()
    if text.startswith("-----BEGIN"):
        try:
            key = load_pem_public_key(text.encode())
        except (ValueError, UnsupportedAlgorithm):
            raise wrong from None
        if not isinstance(key, Ed25519PublicKey):
            raise wrong
        return key
    # Neither the name nor the id can hold a plus; base64 can.
    name, plus, rest = text.partition("+")
    raw = _bytes(rest.partition("+")[2] if plus and name == ORIGIN else text)
    if raw is not None and plus and name == ORIGIN and raw[:1] == _ED25519:
        raw = raw[1:]
    if raw is None or len(raw) != log.HASH_BYTES:
        raise wrong
    key = Ed25519PublicKey.from_public_bytes(raw)
    if name == ORIGIN and rest.partition("+")[0] != _key_id(key).hex():
        raise NoteError("the key's id does not belong to the key")
    return key


def sign(key: Ed25519PrivateKey, size: int, root: bytes) -> Checkpoint:
    """The checkpoint of a log of this size and root."""
    text = f"{ORIGIN}\n{size}\n{base64.b64encode(root).decode()}\n"
    signature = _key_id(key.public_key()) + key.sign(text.encode())
    encoded = base64.b64encode(signature).decode()
    return Checkpoint(size, root, f"{text}\n{_DASH} {ORIGIN} {encoded}\n")


def read(note: str) -> Checkpoint:
    """What a note says; who signed it is not looked at.

    Raises:
        NoteError: it is no checkpoint of this log.
    """
    text, blank, _ = note.partition("\n\n")
    lines = text.split("\n")
    if not blank or len(lines) < 3:
        raise NoteError("not a checkpoint: origin, size, root, an empty line, signatures")
    if lines[0] != ORIGIN:
        raise NoteError(f"a checkpoint of another log than {ORIGIN}")
    root = _bytes(lines[2])
    if not _NUMBER.fullmatch(lines[1]) or root is None or len(root) != log.HASH_BYTES:
        raise NoteError("not a checkpoint: its size is no number, or its root no hash")
    return Checkpoint(int(lines[1]), root, note)


def verify(note: str, key: Ed25519PublicKey) -> Checkpoint:
    """What a note says that this key signed.

    Raises:
        NoteError: it is no checkpoint of this log, or not signed by the key.
    """
    found = read(note)
    text, _, signatures = note.partition("\n\n")
    for line in signatures.split("\n")[:_MOST_SIGNATURES]:
        dash, _, named = line.partition(" ")
        name, _, encoded = named.partition(" ")
        signature = _bytes(encoded)
        # Lines of other keys, a witness's for example, are none of ours.
        if dash != _DASH or name != ORIGIN or signature is None or signature[:4] != _key_id(key):
            continue
        try:
            key.verify(signature[4:], f"{text}\n".encode())
        except InvalidSignature:
            raise NoteError("the checkpoint's signature is wrong") from None
        return found
    raise NoteError("the checkpoint is not signed by this key")


def split(text: str) -> list[str]:
    """The notes of a file that holds several, an empty line between them."""
    parts = text.strip("\n").split("\n\n")
    return [f"{body}\n\n{signed}\n" for body, signed in zip(parts[::2], parts[1::2], strict=False)]


def write_proof(proof: Proof) -> str:
    """A proof as text that needs nothing else but the public key."""
    lines = [
        _PROOF,
        f"extra {base64.b64encode(proof.leaf).decode()}",
        f"index {proof.index}",
        *(base64.b64encode(value).decode() for value in proof.hashes),
    ]
    return "\n".join(lines) + f"\n\n{proof.note}"


def read_proof(text: str) -> Proof:
    """The proof that a text holds; nothing is checked yet.

    Raises:
        NoteError: it holds none.
    """
    wrong = NoteError(f"not a proof as {_PROOF} has it, with the event as its extra")
    head, blank, note = text.partition("\n\n")
    lines = head.split("\n")
    if not blank or len(lines) < 3 or lines[0] != _PROOF:
        raise wrong
    leaf = _bytes(lines[1].removeprefix("extra ")) if lines[1].startswith("extra ") else None
    index = lines[2].removeprefix("index ")
    hashes = [_bytes(line) for line in lines[3:]]
    if leaf is None or not lines[2].startswith("index ") or not _NUMBER.fullmatch(index):
        raise wrong
    known = [value for value in hashes if value is not None and len(value) == log.HASH_BYTES]
    if len(known) != len(hashes):
        raise wrong
    return Proof(leaf, int(index), known, note)


def check_proof(proof: Proof, key: Ed25519PublicKey) -> Checkpoint:
    """The checkpoint under which the proof's leaf stands.

    Raises:
        NoteError: the checkpoint is not signed by the key, or does not cover the leaf.
    """
    checkpoint = verify(proof.note, key)
    leaf = log.leaf_hash(proof.leaf)
    if not log.verify_inclusion(leaf, proof.index, checkpoint.size, proof.hashes, checkpoint.root):
        raise NoteError("the event does not stand in the log that the checkpoint is of")
    return checkpoint


def _bytes(text: str) -> bytes | None:
    """Base64 as RFC 4648 section 4 has it, in its one canonical form; None if it is not."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    # Spare bits that are set would make two texts of the same bytes.
    return raw if base64.b64encode(raw).decode() == text else None
