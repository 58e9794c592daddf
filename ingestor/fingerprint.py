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

# Tokens as they mostly are: ASCII, without what is taken off or matters below
# (spaces, quotes, "=", ":", a backslash).
_PLAIN = re.compile(r"[!#-&(-9;<>-\[\]-_a-~]+={0,2}")
_WITHIN_QUOTES = re.compile(
    r"""(?:[bruf@$]{1,2}(?=["']))?("{3}|'{3}|\\?["'`])((?:(?!\1).)+)\1[,;]?""",
    re.IGNORECASE | re.DOTALL,
)
_ASSIGNED = re.compile(
    r"""(?:export\s+|set\s+|-D)?["']?[\w.-]{0,64}
        (?:key|token|secret|passw(?:or)?d|passphrase|pwd|credentials?)[\w.-]{0,64}["']?
        \s*(?:=>|:?=|:(?=[\s"'`]))\s*(?=\S)""",
    re.IGNORECASE | re.VERBOSE,
)
_SCHEME = re.compile(
    r"(?:authorization\s*[:=]\s*)?(?:bearer|basic|token)\s+(?=\S{16,}\Z)", re.IGNORECASE
)
_RETURNS = re.compile(r"\r+\n")
_MOST_LAYERS = 8

_BEGIN = "-----BEGIN "
_PEM = re.compile(r"-----BEGIN ([A-Z0-9 ]{1,64})-----(.*?)-----END \1-----", re.DOTALL)
_PEM_BEGIN = re.compile(r"-{0,5}BEGIN [A-Z0-9 ]{0,64}-{0,5}")
# What source code puts between the lines of a key: escapes, quotes, a plus sign.
_BREAK = re.compile(r"""\\{1,8}[nr]|\s\+(?=\s)|[\s"'`\\,;]""")
_LINE_END = re.compile(r"\\{1,8}(?:r\\{1,8}n|[nr])|\r\n?")
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")
_SHORTEST_KEY = 200  # characters of base64

_URL = re.compile(
    r"(?:jdbc:)?[a-z][a-z0-9+.-]*://([^\s:@/?#]*):([^\s@/]+)@[^\s/?#]*", re.IGNORECASE
)
_LONG_PASSWORD = 12  # characters

# Passwords beside which the user's name is the credential.
_NO_PASSWORD = frozenset({"x-oauth-basic", "api_token"})

_REPEATED = re.compile(r"(?<!:)/(?:\.?/)+")
_DRIVE = re.compile(r"[a-z]:/")


def canonical_value(value: str) -> str:
    """A credential without what surrounds it: whitespace, quotes, the name that it
    is assigned to, `Bearer`; a PEM block without the text around it, its
    indentation and how its line ends are written.

    Applied to its own result it changes nothing. Nothing is taken off a value
    in more layers than people write around one.
    """
    if _PLAIN.fullmatch(value):
        return value
    value = value.strip()
    if _BEGIN in value:
        return _canonical_pem(value)
    if "\r" in value:
        value = _RETURNS.sub("\n", value)
    bare = value
    for _ in range(_MOST_LAYERS):
        before = bare
        if quoted := _WITHIN_QUOTES.fullmatch(bare):
            bare = quoted[2].strip() or bare
        elif prefix := _ASSIGNED.match(bare) or _SCHEME.match(bare):
            bare = bare[prefix.end() :]
        if bare == before:
            return bare
    return value


def _canonical_pem(value: str) -> str:
    """A PEM block (RFC 7468); what is elided, or holds more than one, line by line."""
    if value.count(_BEGIN) == 1 and (block := _PEM.search(value)):
        label, body = block.groups()
        value = block[0]
        if body := _base64(body):
            lines = (body[i : i + 64] for i in range(0, len(body), 64))
            return "\n".join((f"-----BEGIN {label}-----", *lines, f"-----END {label}-----"))
    text = _LINE_END.sub("\n", value[value.index(_BEGIN) :])
    return "\n".join(line for part in text.splitlines() if (line := part.strip()))


def _credential(value: str) -> str:
    """What of a canonical value is the credential itself: of a URL its password, of
    a key in PEM its base64, because some tools report that alone. Nothing, where it
    is only the line that all keys begin with.

    A short password is one of many people: what is decided about it in one URL must
    not follow it into another, so that the user and the host belong to it.
    """
    if "://" in value and (url := _URL.match(value)):
        password = url[1] if url[2] in _NO_PASSWORD and url[1] else url[2]
        return password if len(password) >= _LONG_PASSWORD else url[0]
    if "BEGIN " in value:
        if block := _PEM.fullmatch(value):
            return _base64(block[2]) or value
        return "" if _PEM_BEGIN.fullmatch(value) else value
    if len(value) >= _SHORTEST_KEY and not _PLAIN.fullmatch(value):
        return _base64(value) or value
    return value


def _base64(lines: str) -> str:
    """Lines of base64 as one, without what source code puts between them; empty if
    they are something else.
    """
    joined = "".join(lines.split())
    if not _BASE64.fullmatch(joined):
        joined = _BREAK.sub("", lines)
    return joined if _BASE64.fullmatch(joined) else ""


def normal_path(path: str) -> str:
    """A path as all tools would write it: "/" between parts, no "./" parts, a
    drive's letter large. ".." stays: what it leads to depends on links.
    """
    if "\\" in path:
        path = path.replace("\\", "/")
    if "//" in path or "/./" in path:
        path = _REPEATED.sub("/", path)
    if path.startswith("./"):
        path = path[2:]
    return path[0].upper() + path[1:] if _DRIVE.match(path) else path


def value_digest(value: str) -> str:
    """SHA-1 (FIPS 180-4) of a canonical value's UTF-8 form, 40 lower-case hex digits:
    of a URL's password and a key's base64 alone. Empty where the value is nobody's
    in particular.
    """
    credential = _credential(value)
    if not credential:
        return ""
    return _sha1(credential)


def _sha1(text: str) -> str:
    return sha1(text.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()


# What detect-secrets takes for the value of every key and of every token of a kind:
# the words of a key's first line, a token's prefix.
_KINDS = ("", "RSA ", "DSA ", "EC ", "OPENSSH ", "ENCRYPTED ", "SSH2 ENCRYPTED ", "PGP ")
_PREFIXES = (
    *("ghp", "gho", "ghu", "ghs", "ghr", "glpat", "gldt", "glft", "glsoat", "glrt"),
    *("PuTTY-User-Key-File-2", "PuTTY-User-Key-File-3"),
)
_NOBODYS = frozenset(
    map(
        _sha1,
        (
            *_PREFIXES,
            *(f"BEGIN {kind}PRIVATE KEY" for kind in _KINDS),
            *(f"BEGIN {kind}PRIVATE KEY BLOCK" for kind in _KINDS),
        ),
    )
)


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
        # RFC 2104's key blocks are hashed once, not for every finding: hmac.digest
        # takes more than twice as long on the short messages here.
        self._inner = sha256(bytes(byte ^ 0x36 for byte in padded))
        self._outer = sha256(bytes(byte ^ 0x5C for byte in padded))

    def _hmac(self, message: str) -> bytes:
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(message.encode("utf-8", "surrogatepass"))
        outer.update(inner.digest())
        return outer.digest()

    def value(self, digest: str) -> bytes:
        """One credential, wherever it stands; `digest` as `value_digest` gives it.
        Empty where that is the digest of what all of a kind begin with.
        """
        return b"" if digest in _NOBODYS else self._hmac("winnow value v2\0" + digest)

    def place(self, digest: str, path: str) -> bytes:
        """One credential in one file; `path` as `normal_path` gives it. Empty as above."""
        return b"" if digest in _NOBODYS else self._hmac(f"winnow place v2\0{digest}{path}")

    def occurrence(self, rule: str, path: str, line: int, commit: str, value: str) -> bytes:
        """One match: `value` is the credential, or its masked form and the
        scanner's own identity where the report does not carry it.
        """
        return self._hmac(
            f"winnow occurrence v1\0{len(rule)}:{rule}{len(path)}:{path}"
            f"{line}:{len(commit)}:{commit}{value}"
        )
