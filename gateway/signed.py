"""Signed requests: their signature is looked at before anything is served, their body as it
comes.

Who has signed is the orchestrator's to say, which owns the keys and the nonces; what it
answers is shown in the place of a key by the calls that serve the request.
"""

from __future__ import annotations

from starlette.types import Message, Receive, Scope

from gateway.backends import ORCHESTRATOR, Backends, calling
from gateway.callers import Caller
from runtime import context
from runtime.channels import call
from runtime.signing import BodyDigest, Head, is_signed
from winnow.access.v1.access_service_pb2 import HeaderField, VerifySignatureRequest

# None of them is for the orchestrator, and no signature covers them here.
_WITHHELD = frozenset({"cookie", "proxy-authorization"})


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
