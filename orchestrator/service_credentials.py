"""CredentialService: unpack, ask the store, pack."""

from __future__ import annotations

import uuid
from typing import Any

from orchestrator import store_credentials
from runtime import context, paging
from runtime.database import Database
from runtime.errors import WinnowError
from winnow.report.v1 import credential_service_pb2 as pb
from winnow.report.v1 import credential_service_pb2_grpc as rpc

_CREDENTIALS_PAGE = 50
_SIGHTINGS_PAGE = 100
_FINGERPRINT_BYTES = 32


class CredentialService(rpc.CredentialServiceServicer):
    """Credentials over all reports of the caller's tenant."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def ListCredentials(
        self, request: pb.ListCredentialsRequest, _context: Any
    ) -> pb.ListCredentialsResponse:
        tenant = context.tenant.get()
        query = (tenant, "credentials", request.report_id, request.min_reports)
        after = paging.after_text(request.page_token, *query)
        found, more = await self._database.run(
            store_credentials.page,
            tenant,
            bytes.fromhex(after),
            request.page_size or _CREDENTIALS_PAGE,
            uuid.UUID(request.report_id) if request.report_id else None,
            request.min_reports,
        )
        token = paging.encode(found[-1].fingerprint, *query) if more else ""
        return pb.ListCredentialsResponse(credentials=found, next_page_token=token)

    async def GetCredential(
        self, request: pb.GetCredentialRequest, _context: Any
    ) -> pb.GetCredentialResponse:
        tenant = context.tenant.get()
        fingerprint = _fingerprint(request.fingerprint)
        query = (tenant, "sightings", request.fingerprint)
        after = paging.after_text(request.page_token, *query)
        before = None
        if after:
            report_id, _, ordinal = after.partition(".")
            before = uuid.UUID(report_id), int(ordinal)
        credential = await self._database.run(store_credentials.get, tenant, fingerprint)
        if credential is None:
            raise _unknown(request.fingerprint)
        found, more = await self._database.run(
            store_credentials.sightings,
            tenant,
            fingerprint,
            before,
            request.page_size or _SIGHTINGS_PAGE,
        )
        token = paging.encode(found[-1].finding_id, *query) if more else ""
        return pb.GetCredentialResponse(
            credential=credential, sightings=found, next_page_token=token
        )


def _fingerprint(text: str) -> bytes:
    try:
        fingerprint = bytes.fromhex(text)
    except ValueError:
        fingerprint = b""
    if len(fingerprint) != _FINGERPRINT_BYTES:
        raise _unknown("")
    return fingerprint


def _unknown(fingerprint: str) -> WinnowError:
    return WinnowError(
        "CREDENTIAL_NOT_FOUND",
        "no finding has this fingerprint of its value; it has 64 hex digits",
        fingerprint=fingerprint,
    )
