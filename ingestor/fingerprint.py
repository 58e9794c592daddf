"""Keyed fingerprints: HMAC-SHA-256 (RFC 2104) over unambiguous encodings.

A fingerprint says that two things are equal to whoever holds the key, and
nothing to anybody else: an unkeyed hash of a weak password is the password.

A value goes in by its SHA-1, because that is all that a detect-secrets baseline
has of it: so the same credential has the same fingerprint from there as from any
other tool. SHA-1 alone is never stored (docs/decisions/0013).
"""

from __future__ import annotations

import re
from hashlib import sha1, sha256

KEY_BYTES = 32
_BLOCK = 64  # SHA-256's block in bytes

_QUOTES = "\"'`"
_REPEATED = re.compile(r"(?<!:)/(?:\.?/)+")


def canonical_value(value: str) -> str:
    """A credential without what surrounds it: whitespace, a pair of quotes,
    the line ends of the machine it was found on.
    """
    value = value.strip()
    if len(value) > 2 and value[0] in _QUOTES and value[0] == value[-1]:
        value = value[1:-1].strip()
    return value.replace("\r\n", "\n") if "\r" in value else value


def normal_path(path: str) -> str:
    """A path as all tools would write it: "/" between parts, no "./" parts."""
    if "\\" in path:
        path = path.replace("\\", "/")
    if "//" in path or "/./" in path:
        path = _REPEATED.sub("/", path)
    return path[2:] if path.startswith("./") else path


def value_digest(value: str) -> str:
    """SHA-1 (FIPS 180-4) of a canonical value's UTF-8 form, 40 lower-case hex digits."""
    return sha1(value.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()


class Fingerprints:
    """Makes the three fingerprints of a finding, 32 bytes each.

    Args:
        key: 32 bytes from the secret source. The same key over reports and
            time makes equal things comparable.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"a fingerprint key has {KEY_BYTES} bytes")
        padded = key.ljust(_BLOCK, b"\0")
        # RFC 2104's key blocks once, not for every finding: hmac.digest takes
        # almost twice as long on the short messages here.
        self._inner = bytes(byte ^ 0x36 for byte in padded)
        self._outer = bytes(byte ^ 0x5C for byte in padded)

    def _hmac(self, message: str) -> bytes:
        data = message.encode("utf-8", "surrogatepass")
        return sha256(self._outer + sha256(self._inner + data).digest()).digest()

    def value(self, digest: str) -> bytes:
        """One credential, wherever it stands; `digest` as `value_digest` gives it."""
        return self._hmac("winnow value v2\0" + digest)

    def place(self, digest: str, path: str) -> bytes:
        """One credential in one file; `path` as `normal_path` gives it."""
        return self._hmac(f"winnow place v2\0{digest}{path}")

    def occurrence(self, rule: str, path: str, line: int, commit: str, value: str) -> bytes:
        """One match: `value` is the credential, or its masked form and the
        scanner's own identity where the report does not carry it.
        """
        return self._hmac(
            f"winnow occurrence v1\0{len(rule)}:{rule}{len(path)}:{path}"
            f"{line}:{len(commit)}:{commit}{value}"
        )
