"""HTTP Message Signatures (RFC 9421), by a library; what we demand of one is ours.

One signature, `hmac-sha256`, with `keyid`, `created` and `nonce`. It covers `@method`
and `@path`, or `@target-uri`, or `@request-target`; `@query` where there is a query,
unless one of the latter two stands for it; and `content-digest` where that is there.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import http_sf
from http_message_signatures import (
    HTTPMessageSigner,
    HTTPMessageVerifier,
    HTTPSignatureKeyResolver,
    InvalidSignature,
)
from http_message_signatures.algorithms import HMAC_SHA256
from http_message_signatures.exceptions import HTTPMessageSignaturesException

from runtime.api_keys import Shown
from runtime.signing import (
    CONTENT_DIGEST,
    MESSAGE_INPUT,
    MESSAGE_SIGNATURE,
    Head,
    Headers,
    checked_key_id,
    checked_nonce,
    invalid,
    signing_key,
)

_WHOLE_TARGET = {"@target-uri", "@request-target"}
_PARAMETERS = {"keyid": str, "nonce": str, "created": int}


class _Fields:
    """Header fields as the library reads them: each line of its own."""

    def __init__(self, lines: Iterable[tuple[str, str]]) -> None:
        self._lines = list(lines)

    def items(self) -> list[tuple[str, str]]:
        return self._lines


@dataclass
class _Message:
    """A request as the library reads it."""

    method: str
    url: str
    headers: Any
    request_target: str


class _OneKey(HTTPSignatureKeyResolver):
    """The key that was looked up."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def resolve_public_key(self, key_id: str) -> bytes:
        return self._key

    resolve_private_key = resolve_public_key


class _Verifier(HTTPMessageVerifier):
    # When it was made is compared with the tolerance of the settings (runtime.signatures).
    max_clock_skew = timedelta(days=36_500)


class MessageForm:
    """A request with Signature-Input and Signature.

    Raises:
        WinnowError: SIGNATURE_INVALID.
    """

    where: Mapping[str, str] = dict.fromkeys(("key_id", "nonce", "at"), MESSAGE_INPUT)

    def __init__(self, head: Head) -> None:
        head.only(MESSAGE_SIGNATURE, "the signature")
        given = head.only(MESSAGE_INPUT, "what the signature covers")
        try:
            inputs: Any = http_sf.parse(given.encode("ascii"), tltype="dictionary")
            ((covered, parameters),) = inputs.values()
            names = [name for name, more in covered if not more]
        except (ValueError, TypeError):
            raise invalid(MESSAGE_INPUT, "must announce one signature (RFC 9421)") from None
        for name, kind in _PARAMETERS.items():
            if type(parameters.get(name)) is not kind:
                raise invalid(MESSAGE_INPUT, f"must have the parameter {name}")
        expires = parameters.get("expires")
        if isinstance(expires, int) and expires < datetime.now(UTC).timestamp():
            raise invalid(MESSAGE_INPUT, "the signature has expired")
        self.key_id = checked_key_id(parameters["keyid"], MESSAGE_INPUT)
        self.nonce = checked_nonce(parameters["nonce"], MESSAGE_INPUT)
        self.at = parameters["created"]
        demanded = ["@method"]
        if not _WHOLE_TARGET & set(names):
            demanded += ["@path", "@query"] if head.query else ["@path"]
        if head.has(CONTENT_DIGEST):
            demanded.append(CONTENT_DIGEST)
        for name in demanded:
            if name not in names:
                raise invalid(MESSAGE_INPUT, f'the signature must cover "{name}"')
        self._message = _message(head)

    def check(self, key: bytes) -> None:
        verifier = _Verifier(signature_algorithm=HMAC_SHA256, key_resolver=_OneKey(key))
        try:
            verifier.verify(self._message, max_age=None)
        except (InvalidSignature, HTTPMessageSignaturesException):
            raise invalid(
                MESSAGE_SIGNATURE,
                "does not fit this request and what Signature-Input covers of it: it must be "
                "hmac-sha256 with the key's signing key (docs/signing.md)",
            ) from None


def digests(head: Head, known: Container[str]) -> list[tuple[str, bytes]]:
    """The digests that Content-Digest announces (RFC 9530 section 2), by known algorithms.

    Raises:
        WinnowError: SIGNATURE_INVALID if there is none that is known.
    """
    given = head.only(CONTENT_DIGEST, "the digest of the body")
    try:
        found: Any = http_sf.parse(given.encode("ascii"), tltype="dictionary")
        values = [(name, value) for name, (value, _) in found.items() if name in known]
    except (ValueError, TypeError):
        values = []
    if not values or not all(isinstance(value, bytes) for _, value in values):
        raise invalid(CONTENT_DIGEST, "must hold sha-256=:…: or sha-512=:…: (RFC 9530)")
    return values


def sign(
    key: Shown,
    method: str,
    url: str,
    body: bytes | None,
    nonce: str,
    at: datetime,
    covered: tuple[str, ...] = (),
) -> Headers:
    """The fields of a request that is signed by RFC 9421.

    Args:
        url: the whole URL, percent-encoded.
        body: what is sent; None for no body.
        covered: components to cover; by default method, path, query and digest.
    """
    headers: dict[str, str] = {}
    names = ["@method", "@path", *(["@query"] if "?" in url else [])]
    signer = HTTPMessageSigner(
        signature_algorithm=HMAC_SHA256, key_resolver=_OneKey(signing_key(key))
    )
    signer.sign(
        _Request(method, url, headers),
        key_id=key.key_id,
        created=at,
        nonce=nonce,
        label="winnow",
        covered_component_ids=covered or tuple(names),
        body=body,
    )
    return [(name.lower(), value) for name, value in headers.items()]


@dataclass
class _Request:
    """A request that is being made."""

    method: str
    url: str
    headers: dict[str, str]


def _message(head: Head) -> _Message:
    hosts = [value for name, value in head.headers if name == "host"]
    target = head.path + (f"?{head.query}" if head.query else "")
    host = hosts[0] if len(hosts) == 1 else "unknown.invalid"
    return _Message(head.method, f"{head.scheme}://{host}{target}", _Fields(head.headers), target)
