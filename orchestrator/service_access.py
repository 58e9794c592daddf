"""AccessService: unpack, check, ask the store, pack."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from orchestrator import store_access
from orchestrator.outbox import Outbox
from orchestrator.service_decisions import mask
from runtime import api_keys, context, limits, paging
from runtime.access import Access
from runtime.buckets import PostgresStore
from runtime.clock import now
from runtime.database import Database
from runtime.errors import WinnowError
from runtime.keyring import Keyring
from runtime.signatures import Signatures
from runtime.signing import Head
from winnow.access.v1 import access_service_pb2 as pb
from winnow.access.v1 import access_service_pb2_grpc as rpc
from winnow.access.v1.api_key_pb2 import Role

_PAGE = 50
_LONGEST = timedelta(days=3650)


class AccessService(rpc.AccessServiceServicer):
    """API keys of the caller's tenant.

    Args:
        database: the orchestrator's.
        outbox: rung after each commit that wrote events.
        access: checks keys; told of those that were revoked here.
        signatures: looks at signed requests.
        keyring: seals what keys sign with.
        buckets: which gateways share.
    """

    def __init__(
        self,
        database: Database,
        outbox: Outbox,
        access: Access,
        signatures: Signatures,
        keyring: Keyring,
        buckets: PostgresStore,
    ) -> None:
        self._database = database
        self._outbox = outbox
        self._access = access
        self._signatures = signatures
        self._keyring = keyring
        self._buckets = buckets

    async def CreateApiKey(
        self, request: pb.CreateApiKeyRequest, _context: Any
    ) -> pb.CreateApiKeyResponse:
        known = set(Role.values()) - {Role.ROLE_UNSPECIFIED}
        if not set(request.roles) <= known:
            raise _invalid("roles", "each must be one of the roles that there are")
        # Or whoever may make keys could do anything.
        if beyond := set(request.roles) - context.caller.get().roles:
            name = Role.Name(min(beyond)).removeprefix("ROLE_").lower()
            raise WinnowError(
                "PERMISSION_DENIED",
                f"a key gives no role that it does not allow itself: {name}",
                role=name,
            )
        expires_at = None
        if request.HasField("expires_in"):
            # Not ToTimedelta: what does not fit raises there, as a defect would.
            seconds = request.expires_in.seconds
            if not 0 < seconds <= _LONGEST.total_seconds():
                raise _invalid("expires_in", f"must be 1 second to {_LONGEST.days} days")
            expires_at = now() + timedelta(seconds=seconds)
        key, secret = await self._database.run(
            store_access.create,
            context.tenant.get(),
            mask(request.name),
            list(request.roles),
            expires_at,
            _maker(),
            self._keyring,
        )
        self._outbox.ring()
        return pb.CreateApiKeyResponse(key=key, secret=secret)

    async def ListApiKeys(
        self, request: pb.ListApiKeysRequest, _context: Any
    ) -> pb.ListApiKeysResponse:
        tenant = context.tenant.get()
        query = (tenant, "keys")
        before = paging.after_number(request.page_token, *query)
        size = request.page_size or _PAGE
        found = await self._database.run(store_access.page, tenant, before, size + 1)
        page = found[:size]
        token = paging.encode(str(page[-1][0]), *query) if len(found) > size else ""
        return pb.ListApiKeysResponse(keys=[key for _, key in page], next_page_token=token)

    async def RevokeApiKey(
        self, request: pb.RevokeApiKeyRequest, _context: Any
    ) -> pb.RevokeApiKeyResponse:
        key = await self._database.run(
            store_access.revoke, context.tenant.get(), request.key_id, _maker()
        )
        if key is None:
            raise WinnowError(
                "API_KEY_NOT_FOUND",
                "no API key of this tenant has this id",
                # What is no id may be a key, pasted by mistake.
                key_id=request.key_id if api_keys.KEY_ID.fullmatch(request.key_id) else "",
            )
        self._access.forget(request.key_id)
        self._outbox.ring()
        return pb.RevokeApiKeyResponse(key=key)

    async def GetCaller(self, _request: pb.GetCallerRequest, _context: Any) -> pb.GetCallerResponse:
        caller = context.caller.get()
        return pb.GetCallerResponse(
            tenant_id=context.tenant.get(),
            key_id=caller.key_id,
            name=caller.name,
            roles=sorted(caller.roles),
        )

    async def VerifySignature(
        self, request: pb.VerifySignatureRequest, _context: Any
    ) -> pb.VerifySignatureResponse:
        head = Head(
            request.method,
            request.scheme,
            request.path,
            request.query,
            tuple((field.name, field.value) for field in request.headers),
        )
        made = await self._signatures.verify(head)
        answer = pb.VerifySignatureResponse(
            grant=made.grant, key_id=made.known.caller.key_id, tenant_id=made.known.tenant
        )
        answer.expires_at.FromDatetime(made.until)
        return answer

    async def TakeTokens(
        self, request: pb.TakeTokensRequest, _context: Any
    ) -> pb.TakeTokensResponse:
        key_id = context.caller.get().key_id
        bucket = limits.bucket_of(key_id) if key_id else f"other {request.bucket}"
        taken, full = await self._buckets.take(
            bucket, request.span_us / 1e6, request.most_us / 1e6, owed=request.owed
        )
        return pb.TakeTokensResponse(taken=taken, full_us=round(full * 1e6))


def _maker() -> str:
    """Who makes or ends a key: another key, or whoever is at the machine."""
    return context.caller.get().key_id or store_access.OPERATOR


def _invalid(field: str, words: str) -> WinnowError:
    return WinnowError("INVALID_ARGUMENT", f"{field}: {words}", field=field, rule=words)
