"""Signed HTTP requests: what is signed, with which key, and how a signature is looked at.

Two forms, both HMAC-SHA-256 (RFC 2104) with the signing key that an API key gives:

- header form: `X-Api-Key` (the key's id), `X-Timestamp` (Unix seconds), `X-Nonce`,
  `X-Content-SHA256` (hex, of the body as it is sent), `X-Signature` (base64). Signed are
  method, path, body digest, timestamp and nonce, joined by newlines (`hmac-v1`), with the
  query string as a sixth line in `hmac-v2`. `X-Signature-Version` names the version; a
  request with a query needs the second.
- RFC 9421, HTTP Message Signatures, with `Content-Digest` of RFC 9530 for the body.

Nothing here decides who the caller is: see runtime.signatures.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol

from runtime import api_keys
from runtime.api_keys import Shown
from runtime.errors import WinnowError

# What a request carries that is signed in one form or the other.
KEY, TIMESTAMP, NONCE = "x-api-key", "x-timestamp", "x-nonce"
DIGEST, SIGNATURE, VERSION = "x-content-sha256", "x-signature", "x-signature-version"
MESSAGE_INPUT, MESSAGE_SIGNATURE, CONTENT_DIGEST = "signature-input", "signature", "content-digest"
V1, V2 = "hmac-v1", "hmac-v2"

_LABEL = b"winnow signing key v1 "
_NONCE = re.compile(r"[A-Za-z0-9._~+/=-]{16,128}", re.ASCII)
_SECONDS = re.compile(r"[0-9]{1,12}", re.ASCII)
HEX = re.compile(r"[0-9a-f]{64}", re.ASCII)
_SENT_BYTES = 32
Headers = Iterable[tuple[str, str]]


class Head(NamedTuple):
    """The head of an HTTP request.

    Args:
        scheme: "http" or "https".
        path: as it is sent, percent-encoded.
        query: without its question mark; empty for none.
        headers: names in lower case, in order.
    """

    method: str
    scheme: str
    path: str
    query: str
    headers: tuple[tuple[str, str], ...]

    def only(self, name: str, what: str) -> str:
        """The value of a field that must be there, once.

        Raises:
            WinnowError: SIGNATURE_INVALID.
        """
        found = [value.strip(" \t") for known, value in self.headers if known == name]
        if len(found) != 1:
            raise invalid(name, f"must be there, once: {what}")
        return found[0]

    def has(self, name: str) -> bool:
        """Whether a field is there."""
        return any(known == name for known, _ in self.headers)


class Signed(Protocol):
    """A request that is signed by somebody, whoever that is.

    `key_id`, `nonce` and `at` (Unix seconds) are what it says of itself; `where` names
    the fields that each of them stands in.
    """

    key_id: str
    nonce: str
    at: int
    where: Mapping[str, str]

    def check(self, key: bytes) -> None:
        """Returns if the signature is of this signing key.

        Raises:
            WinnowError: SIGNATURE_INVALID.
        """
        ...


def signing_key(key: Shown) -> bytes:
    """What an API key signs with, 32 bytes: it does not follow from what is kept of the key."""
    return hashlib.sha256(_LABEL + key.text.encode()).digest()


def is_signed(headers: Headers) -> bool:
    """Whether a request claims to be signed."""
    return any(name in (SIGNATURE, MESSAGE_SIGNATURE, MESSAGE_INPUT) for name, _ in headers)


def invalid(header: str, words: str) -> WinnowError:
    """The error for a request that is not signed as it must be."""
    return WinnowError("SIGNATURE_INVALID", f"{header}: {words}", header=header)


def checked_key_id(given: str, where: str) -> str:
    """The id of a key.

    Raises:
        WinnowError: SIGNATURE_INVALID.
    """
    if not api_keys.KEY_ID.fullmatch(given):
        raise invalid(where, "must be the key's id, the 12 characters behind wnw_, and no more")
    return given


def checked_nonce(given: str, where: str) -> str:
    """A nonce that can be kept.

    Raises:
        WinnowError: SIGNATURE_INVALID.
    """
    if not _NONCE.fullmatch(given):
        raise invalid(where, "a nonce has 16 to 128 characters of A-Z a-z 0-9 . _ ~ + / = -")
    return given


def base(version: str, method: str, path: str, query: str, said: Mapping[str, str]) -> bytes:
    """The bytes that the header form signs.

    Args:
        version: `V1` or `V2`.
        said: DIGEST, TIMESTAMP and NONCE as they are sent.
    """
    lines = [method, path, said[DIGEST], said[TIMESTAMP], said[NONCE]]
    if version == V2:
        lines.append(query)
    return "\n".join(lines).encode("latin-1")


def sign(key: Shown, method: str, path: str, query: str, body_sha256: bytes, at: int) -> Headers:
    """The fields of a request that is signed in the header form.

    Args:
        path: as it is sent, percent-encoded.
        body_sha256: SHA-256 of the body, which may be empty.
        at: Unix seconds.
    """
    version = V2 if query else V1
    said = {
        KEY: key.key_id,
        TIMESTAMP: str(at),
        NONCE: secrets.token_urlsafe(24),
        DIGEST: body_sha256.hex(),
        VERSION: version,
    }
    mac = hmac.digest(signing_key(key), base(version, method, path, query, said), "sha256")
    return [*said.items(), (SIGNATURE, base64.b64encode(mac).decode())]


class HeaderForm:
    """A request with X-Signature."""

    where: Mapping[str, str] = {"key_id": KEY, "nonce": NONCE, "at": TIMESTAMP}

    def __init__(self, head: Head) -> None:
        self.key_id = checked_key_id(head.only(KEY, "the key's id"), KEY)
        at = head.only(TIMESTAMP, "the time of signing, in Unix seconds")
        if not _SECONDS.fullmatch(at):
            raise invalid(TIMESTAMP, "must be Unix seconds, a whole number")
        self.at = int(at)
        self.nonce = checked_nonce(head.only(NONCE, "a text that is used once"), NONCE)
        digest = head.only(DIGEST, "the SHA-256 of the body, in hex; of nothing without one")
        if not HEX.fullmatch(digest):
            raise invalid(DIGEST, "must be a SHA-256 in hex: 64 characters of 0-9 a-f")
        version = V2 if head.query else V1
        if head.has(VERSION):
            version = head.only(VERSION, f"{V1} or {V2}")
        if version not in (V1, V2) or (head.query and version == V1):
            raise invalid(
                VERSION,
                f"must be {V1} or {V2}, and {V2} where there is a query: only it covers that",
            )
        try:
            self._sent = base64.b64decode(head.only(SIGNATURE, "the signature"), validate=True)
        except (binascii.Error, ValueError):
            raise invalid(SIGNATURE, "must be an HMAC-SHA-256 in base64") from None
        if len(self._sent) != _SENT_BYTES:
            raise invalid(SIGNATURE, "must be an HMAC-SHA-256 in base64")
        said = {DIGEST: digest, TIMESTAMP: at, NONCE: self.nonce}
        self._base = base(version, head.method, head.path, head.query, said)
        self._version = version

    def check(self, key: bytes) -> None:
        if not hmac.compare_digest(hmac.digest(key, self._base, "sha256"), self._sent):
            lines = "method, path, body digest, timestamp, nonce"
            raise invalid(
                SIGNATURE,
                f"does not fit this request: {self._version} signs {lines}"
                f"{', query' if self._version == V2 else ''}, joined by newlines, with the key's "
                "signing key (docs/signing.md)",
            )
