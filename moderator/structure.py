"""Structure of credentials: what can be checked without asking anybody.

Each check takes the text in which a provider's pattern matched and answers with
the ids of signals in the rule pack (`signals.toml`), none if it saw nothing.
"""

from __future__ import annotations

import base64
import re
import zlib
from collections.abc import Callable
from typing import Any

import msgspec

_BASE62 = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_LOCAL_HOST = re.compile(
    r"^(?:localhost|127\.|0\.0\.0\.0|10\.|192\.168\.|172\.(?:1[6-9]|2\d|3[01])\.|\[::1\]|host\.docker"
    r"|(?:[\w-]+\.)*(?:example(?:\.(?:com|org|net))?|test|invalid|local|localdomain)(?:[:/?]|$)"
    r"|[a-z]{1,12}(?:[:/?]|$)|host|hostname|server|%s|\{|\$|<)",
    re.IGNORECASE,
)
_WEAK = re.compile(
    r"password|passwd|pass|pwd|secret|admin|root|user|username|test|guest|default|"
    r"changeme|postgres|mysql|mongo|redis|rabbitmq|example|p4ssw0rd|p@ssw0rd|letmein|"
    r"qwerty|token|key|foo|bar|baz|demo|sa|oracle|docker|elastic|minio|minioadmin|"
    r"dev|local|pw|s3cret|passw0rd|mypassword|mysecretpassword|login|temp|hunter2|"
    r"xxx|xxxx|credentials|user1|pass1"
)
_CHECKSUMMED = re.compile(r"_([0-9A-Za-z]{36})(?![0-9A-Za-z])", re.ASCII)
_RUN = re.compile(r"[\w.+/=:-]+")
_URL = re.compile(r"://([^\s/:@\"'<>]*):([^\s/@\"'<>]{1,200})@([^\s\"'<>]*)")
# What is filled in, whole or in part; single signs of it are signs of good passwords,
# and `%23` is a sign in an address.
_TEMPLATE = re.compile(
    r"\$[({\[]|^\$\w+$|\{\{|\{[\w.:-]*\}|<[^>]*>|%\(|%[a-z_]{3,}%|^%[a-z@]$|\*{3}|\.\.\.|x{3}"
    r"|^\[.*\]$|your|replace|placeholder",
    re.IGNORECASE,
)
_BASIC = re.compile(r"(?i)\bbasic\s+([0-9a-z+/]{8,200}={0,2})")
_JWT = re.compile(r"\b(eyJ[\w-]+)\.(e[\w-]*)\.([\w-]*)")
# AWS accounts whose keys are traps: canarytokens.org and look-alikes (TruffleHog,
# pkg/detectors/aws/access_keys/canary.go).
_CANARY_ACCOUNTS = frozenset(
    [
        "052310077262",
        "171436882533",
        "534261010715",
        "595918472158",
        "717712589309",
        "819147034852",
        "992382622183",
        "730335385048",
        "266735846894",
        "893192397702",
        "044858866125",
        "251535659677",
        "344043088457",
        "351906852752",
        "390477818340",
        "426127672474",
        "427150556519",
        "439872796651",
        "445142720921",
        "465867158099",
        "637958123769",
        "693412236332",
        "732624840810",
        "735421457923",
        "959235150393",
        "982842642351",
    ]
)
_AWS_KEY_ID = re.compile(r"(?:AKIA|ASIA)([A-Z2-7]{16})", re.ASCII)
_PEM_BODY = re.compile(r"-----BEGIN [A-Z0-9 ]+-----(.*?)(?:-----END|\Z)", re.DOTALL)
# The first lines of a key tell; the rest would only cost time.
_PEM_HEAD = 400
_NOT_BASE64 = re.compile(r"\\[nr]|[^A-Za-z0-9+/=]")
_SAMPLE_SUBJECTS = {"1234567890", "John Doe", "Jane Doe", "123", "test", "user", "joe", "foo"}


def _crc32_base62(text: str, _moment: float) -> tuple[str, ...]:
    """GitHub's and npm's tokens: after the prefix 30 random characters, then their
    CRC-32 in base 62, six characters (GitHub's engineering blog, 2021-04-05)."""
    match = _CHECKSUMMED.search(text)
    if match is None:
        return ()
    body = match[1].encode()
    if len(set(body)) < 10:
        return ("check.flat",)
    checksum = zlib.crc32(body[:30])
    expected = bytearray(b"000000")
    for place in range(5, -1, -1):
        checksum, digit = divmod(checksum, 62)
        expected[place] = _BASE62[digit]
    return ("check.passed",) if body[30:] == expected else ("check.failed",)


def _spread(text: str, _moment: float) -> tuple[str, ...]:
    """A random body of 16 characters or more has many different ones."""
    tail = max(_RUN.findall(text), key=len, default=text)[-16:]
    return ("check.flat",) if len(set(tail)) < 6 else ()


def _decode_part(part: str) -> Any:
    padded = part + "=" * (-len(part) % 4)
    return msgspec.json.decode(base64.urlsafe_b64decode(padded))


def _jwt(text: str, moment: float) -> tuple[str, ...]:
    """RFC 7519: header and claims are JSON objects; `exp` in seconds since 1970."""
    match = _JWT.search(text)
    if match is None:
        return ()
    try:
        header = _decode_part(match[1])
        claims = _decode_part(match[2])
    except (ValueError, RecursionError):
        return ("check.failed",) if match[3] else ("check.pem_elided",)
    if not isinstance(header, dict) or not isinstance(claims, dict):
        return ("check.failed",)
    seen = []
    if str(header.get("alg", "")).lower() == "none" or not match[3]:
        seen.append("check.jwt_unsigned")
    expiry = claims.get("exp")
    if isinstance(expiry, int | float) and expiry < moment:
        seen.append("check.jwt_expired")
    subject, name = claims.get("sub"), claims.get("name")
    if name in ("John Doe", "Jane Doe") or subject in ("1234567890", "joe"):
        seen.append("check.jwt_sample")
    elif claims.get("role") == "anon":
        seen.append("check.jwt_public")
    elif str(subject) in _SAMPLE_SUBJECTS or "foo" in claims or not claims:
        seen.append("check.jwt_test")
    return tuple(seen)


def _pem(text: str, _moment: float) -> tuple[str, ...]:
    """RFC 7468 and RFC 1421: base64 of DER between the two lines."""
    text = text[:_PEM_HEAD]
    match = _PEM_BODY.search(text)
    body = match[1] if match else ""
    if not body.strip():
        return ("check.pem_header",)  # scanners often report the first line only
    if "Proc-Type: 4,ENCRYPTED" in body:
        return ("check.pem_encrypted",)
    if "..." in body or "\u2026" in body or "xxxx" in body.lower() or "<" in body:
        return ("check.pem_elided",)
    compact = _NOT_BASE64.sub("", body)
    if len(compact) < 60 or len(set(compact)) < 20:
        return ("check.pem_elided",)
    if compact.startswith("b3BlbnNzaC1rZXktdjEAAAAACmFlczI1"):
        return ("check.pem_encrypted",)
    return ("check.pem_encrypted",) if "ENCRYPTED" in text[:80] else ()


def _password_signals(user: str, password: str) -> list[str]:
    if _TEMPLATE.search(password):
        return ["check.template_password"]
    lowered = password.lower().strip("0123456789!")
    if _WEAK.fullmatch(lowered) or lowered == user.lower() or len(password) < 4:
        return ["check.weak_password"]
    return ["check.strong_password"] if len(password) >= 12 else []


def _aws_key_id(text: str, _moment: float) -> tuple[str, ...]:
    """The account in a key id: bits 1 to 40 of its base 32 after the prefix."""
    match = _AWS_KEY_ID.search(text)
    if match is None:
        return ()
    if len(set(match[1])) < 6:
        return ("check.flat",)
    number = int.from_bytes(base64.b32decode(match[1])[:6], "big") >> 7 & (1 << 40) - 1
    return ("check.canary",) if f"{number:012}" in _CANARY_ACCOUNTS else ()


def _url_password(text: str, _moment: float) -> tuple[str, ...]:
    """RFC 3986 section 3.2.1: `scheme://user:password@host`."""
    match = _URL.search(text)
    if match is None:
        return ()
    seen = _password_signals(match[1], match[2])
    if _LOCAL_HOST.match(match[3]):
        seen.append("check.local_host")
    return tuple(seen)


def _basic(text: str, _moment: float) -> tuple[str, ...]:
    """RFC 7617: base64 of `user:password`."""
    match = _BASIC.search(text)
    if match is None:
        return ()
    try:
        user, colon, password = base64.b64decode(match[1] + "==").decode().partition(":")
    except ValueError:
        return ("check.failed",)
    return tuple(_password_signals(user, password)) if colon else ("check.failed",)


# Each takes the text and the moment, in seconds since 1970, that it is judged as of.
CHECKS: dict[str, Callable[[str, float], tuple[str, ...]]] = {
    "spread": _spread,
    "crc32_base62": _crc32_base62,
    "aws_key_id": _aws_key_id,
    "jwt": _jwt,
    "pem": _pem,
    "url_password": _url_password,
    "basic": _basic,
}
