"""Sealing: AES-256-GCM (NIST SP 800-38D) with keys derived for each report.

A sealed thing is `version (1 byte) | nonce (12) | ciphertext | tag (16)`. The
key of a purpose is HKDF-SHA-256 (RFC 5869) of the report's data key
(runtime.keyring) with the report's id as salt and the purpose as info, so nonces
are drawn at random within one report only, far below GCM's bound of 2^32 messages
a key. The associated data binds a seal to its place: moved to another report, or
to another ordinal of the same one, it does not open.
"""

from __future__ import annotations

import os
import uuid

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from runtime.errors import WinnowError

KEY_BYTES = 32
NONCE_BYTES = 12
_OVERHEAD = 1 + NONCE_BYTES + 16
_VERSION = b"\x01"
_NONCES_AT_ONCE = 256

EVIDENCE = b"winnow evidence v1"
RAW_REPORT = b"winnow raw report v1"
# Followed by the id of the key-encryption key.
DATA_KEY = b"winnow data key v1 "


class Sealer:
    """Seals and opens the parts of one report, for one purpose.

    Args:
        key: 32 bytes: the report's data key, or a key-encryption key.
        report_id: the report that all parts belong to.
        purpose: `EVIDENCE`, `RAW_REPORT` or `DATA_KEY…`; a part sealed for one
            purpose does not open for another.
    """

    def __init__(self, key: bytes, report_id: uuid.UUID, purpose: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"a sealing key has {KEY_BYTES} bytes")
        self._cipher = AESGCM(
            HKDF(SHA256(), KEY_BYTES, salt=report_id.bytes, info=purpose).derive(key)
        )
        self._associated = purpose + report_id.bytes
        self._nonces = b""
        self._next = 0

    def _nonce(self) -> bytes:
        # One system call for many nonces: it costs more than the cipher itself.
        if self._next >= len(self._nonces):
            self._nonces = os.urandom(NONCE_BYTES * _NONCES_AT_ONCE)
            self._next = 0
        start = self._next
        self._next = start + NONCE_BYTES
        return self._nonces[start : self._next]

    def seal(self, plaintext: bytes, ordinal: int) -> bytes:
        """The sealed form of part number `ordinal` (0 to 2^64 - 1)."""
        nonce = self._nonce()
        associated = self._associated + ordinal.to_bytes(8, "big")
        return _VERSION + nonce + self._cipher.encrypt(nonce, plaintext, associated)

    def open(self, sealed: bytes, ordinal: int) -> bytes:
        """The plaintext of part number `ordinal`.

        Raises:
            WinnowError: SEAL_BROKEN if the bytes, the key or the place is wrong.
        """
        associated = self._associated + ordinal.to_bytes(8, "big")
        try:
            if sealed[:1] != _VERSION or len(sealed) < _OVERHEAD:
                raise InvalidTag
            return self._cipher.decrypt(sealed[1:13], sealed[13:], associated)
        except InvalidTag:
            raise WinnowError(
                "SEAL_BROKEN",
                f"sealed part {ordinal} does not open: another key, or changed bytes",
                ordinal=str(ordinal),
            ) from None
