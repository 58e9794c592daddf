"""Signed requests: their signature is looked at before anything is served, their body as it
comes.

Who has signed is the orchestrator's to say, which owns the keys and the nonces; what it
answers is shown in the place of a key by the calls that serve the request.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

from starlette.types import Message, Receive, Scope

from gateway.backends import ORCHESTRATOR, Backends, calling
from gateway.callers import Caller
from runtime import context
from runtime.channels import call
from runtime.message_signatures import digests
from runtime.signing import CONTENT_DIGEST, DIGEST, HEX, SIGNATURE, Head, invalid, is_signed
from winnow.access.v1.access_service_pb2 import HeaderField, VerifySignatureRequest

# None of them is for the orchestrator, and no signature covers them here.
_WITHHELD = frozenset({"cookie", "proxy-authorization"})
_HASHES = {"sha-256": hashlib.sha256, "sha-512": hashlib.sha512}


def head(scope: Scope) -> Head | None:
    """The head of a signed request; None of one that is not signed."""
    headers = tuple(
        (name.decode("latin-1").lower(), value.decode("latin-1"))
        for name, value in scope["headers"]
    )
    if not is_signed(headers):
        return None
    return Head(
        scope.get("method", "GET"),
        scope["scheme"].replace("ws", "http"),
        scope["raw_path"].decode("latin-1"),
        scope["query_string"].decode("latin-1"),
        headers,
    )


async def admit(signed: Head, backends: Backends) -> Caller:
    """Whose a signed request is. Sets what is shown in the place of a key, if the signature holds and is the first of
    its kind.

    Raises:
        WinnowError: why it does not, or why nobody can say so.
    """
    wanted = VerifySignatureRequest(
        method=signed.method,
        scheme=signed.scheme,
        path=signed.path,
        query=signed.query,
        headers=[
            HeaderField(name=name, value=value)
            for name, value in signed.headers
            if name not in _WITHHELD
        ],
    )
    with calling(ORCHESTRATOR):
        made = await backends.keys.VerifySignature(wanted, **call())
    context.authorization.set(f"Grant {made.grant}")
    # The key's own; which that is, the services know.
    context.tenant.set("")
    return Caller(made.tenant_id, made.key_id)


def checked(receive: Receive, signed: Head) -> Receive:
    """The request's body as it comes, whose end comes only if the digest fits.

    Raises:
        WinnowError: SIGNATURE_INVALID, from here or where the body is read.
    """
    digest = BodyDigest(signed)

    async def take() -> Message:
        message = await receive()
        if message["type"] == "http.request":
            digest.add(message.get("body", b""))
            if not message.get("more_body", False):
                digest.end()
        return message

    return take


class BodyDigest:
    """Compares a body, as it comes, with the digests that its signed head announces.

    Args:
        head: of a signed request.

    Raises:
        WinnowError: SIGNATURE_INVALID if it announces none that can be read.
    """

    def __init__(self, head: Head) -> None:
        self._announced: list[tuple[Any, bytes]] = []
        self._where = DIGEST if head.has(SIGNATURE) else CONTENT_DIGEST
        if head.has(SIGNATURE):
            given = head.only(DIGEST, "the SHA-256 of the body, in hex")
            if not HEX.fullmatch(given):
                raise invalid(DIGEST, "must be a SHA-256 in hex: 64 characters of 0-9 a-f")
            self._announced.append((hashlib.sha256(), bytes.fromhex(given)))
        elif head.has(CONTENT_DIGEST):
            self._announced += [(_HASHES[name](), value) for name, value in digests(head, _HASHES)]

    def add(self, chunk: bytes) -> None:
        """Takes the body's next bytes.

        Raises:
            WinnowError: SIGNATURE_INVALID if nothing was announced.
        """
        if chunk and not self._announced:
            raise invalid(self._where, "a body needs its digest, and the signature must cover it")
        for made, _ in self._announced:
            made.update(chunk)

    def end(self) -> None:
        """Returns if the body was the one that was announced.

        Raises:
            WinnowError: SIGNATURE_INVALID.
        """
        for made, announced in self._announced:
            if not hmac.compare_digest(made.digest(), announced):
                raise invalid(self._where, "is not the digest of the body that came")
