"""API keys, and who the caller is taken for."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from gateway import answers, body, docs
from gateway.backends import ORCHESTRATOR, backends, calling
from gateway.query import bind
from gateway.translate import to_json
from runtime.channels import call
from winnow.access.v1.access_service_pb2 import (
    CreateApiKeyRequest,
    GetCallerRequest,
    ListApiKeysRequest,
    RevokeApiKeyRequest,
)

router = APIRouter()

_MOST_ID = 32


@router.post("/keys", **docs.CREATE_KEY)
async def create_key(request: Request) -> Response:
    wanted = CreateApiKeyRequest()
    await body.fill(request, wanted)
    with calling(ORCHESTRATOR):
        made = await backends(request).keys.CreateApiKey(wanted, **call())
    return answers.json(to_json(made), 201)


@router.get("/keys", **docs.LIST_KEYS)
async def list_keys(request: Request) -> Response:
    query = bind(ListApiKeysRequest, request.query_params.multi_items())
    with calling(ORCHESTRATOR):
        page = await backends(request).keys.ListApiKeys(query, **call())
    return answers.json(to_json(page))


@router.delete("/keys/{key_id}", **docs.REVOKE_KEY)
async def revoke_key(request: Request) -> Response:
    bind(RevokeApiKeyRequest, request.query_params.multi_items(), key_id="")
    revoked = RevokeApiKeyRequest(key_id=request.path_params["key_id"][:_MOST_ID])
    with calling(ORCHESTRATOR):
        ended = await backends(request).keys.RevokeApiKey(revoked, **call())
    return answers.json(to_json(ended))


@router.get("/whoami", **docs.WHOAMI)
async def whoami(request: Request) -> Response:
    query = bind(GetCallerRequest, request.query_params.multi_items())
    with calling(ORCHESTRATOR):
        caller = await backends(request).keys.GetCaller(query, **call())
    return answers.json(to_json(caller))
