"""API keys as callers show them: `wnw_`, a public id, a secret with a checksum.

    wnw_<12 of a-z 2-7>_<43 of 0-9 A-Z a-z, the secret><6 of the same, its checksum>

The prefix and the checksum (CRC-32 of all before it, as in other tokens that push
protection recognises) tell a key from any other text for certain: `PATTERN` finds
candidates, `parse` decides. Kept of a key is the SHA-256 of its secret. A slow hash
would add nothing: the secret is 256 random bits, which nobody guesses, and the check
runs on every call.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
import string
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field

from runtime.errors import WinnowError

HEADER = "authorization"
PATTERN = r"wnw_[a-z2-7]{12}_[0-9A-Za-z]{49}"

KEY_ID = re.compile(r"[a-z2-7]{12}")

_DIGITS = string.digits + string.ascii_uppercase + string.ascii_lowercase
_SECRET_DIGITS, _CHECK_DIGITS = 43, 6  # 62**43 > 2**256, 62**6 > 2**32
_KEY = re.compile(r"wnw_([a-z2-7]{12})_([0-9A-Za-z]{43})([0-9A-Za-z]{6})")
_SCHEME = re.compile(r"bearer(?: +(.*))?", re.IGNORECASE)


@dataclass(frozen=True)
class Shown:
    """A key that is well formed; whether it is anybody's is another question."""

    key_id: str
    secret: str = field(repr=False)

    @property
    def text(self) -> str:
        """The key itself."""
        body = f"wnw_{self.key_id}_{self.secret}"
        return body + _base62(zlib.crc32(body.encode()), _CHECK_DIGITS)

    @property
    def digest(self) -> bytes:
        """What is kept of the secret, 32 bytes."""
        return hashlib.sha256(self.secret.encode()).digest()


def make() -> Shown:
    """A new key."""
    key_id = base64.b32encode(secrets.token_bytes(8))[:12].decode().lower()
    return Shown(key_id, _base62(secrets.randbits(256), _SECRET_DIGITS))


def parse(text: str) -> Shown | None:
    """The key that a text is; None if it is none, or its checksum is wrong."""
    found = _KEY.fullmatch(text)
    if found is None:
        return None
    shown = Shown(found[1], found[2])
    return shown if shown.text == text else None


def shown(authorizations: Iterable[str]) -> Shown | None:
    """The key in a call's `authorization` values (RFC 6750 section 2.1).

    Other schemes are none of ours: a proxy in front may use them.

    Raises:
        WinnowError: UNAUTHENTICATED for a bearer token that is no key, or several.
    """
    tokens = [found[1] or "" for one in authorizations if (found := _SCHEME.fullmatch(one))]
    if not tokens:
        return None
    key = parse(tokens[0].strip())
    if key is None or len(tokens) > 1:
        raise refused("the bearer token is no API key of Winnow: it must read wnw_…, in full, once")
    return key


def refused(words: str) -> WinnowError:
    """The error for a caller who is not known."""
    return WinnowError("UNAUTHENTICATED", words, header=HEADER)


def needed() -> WinnowError:
    """The error for a caller who shows no key where one is needed."""
    return refused("show a key in the header `Authorization: Bearer wnw_…`")


def _base62(number: int, size: int) -> str:
    digits = []
    for _ in range(size):
        number, digit = divmod(number, 62)
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits))
