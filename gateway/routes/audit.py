"""The audit log's checkpoints and proofs: what it takes to check it without us."""

from __future__ import annotations

import uuid

from fastapi import APIRouter, Request, Response

from gateway import answers, docs
from gateway.backends import AUDIT, backends, calling
from gateway.query import bind
from gateway.translate import to_json
from runtime.channels import call
from runtime.errors import WinnowError
from winnow.audit.v1.audit_service_pb2 import (
    GetCheckpointRequest,
    GetConsistencyProofRequest,
    GetInclusionProofRequest,
    WatchEventsRequest,
)

router = APIRouter()


@router.get("/audit/checkpoint", **docs.GET_CHECKPOINT)
async def get_checkpoint(request: Request) -> Response:
    query = bind(GetCheckpointRequest, request.query_params.multi_items())
    with calling(AUDIT):
        made = await backends(request).audit.GetCheckpoint(query, **call())
    return answers.json(to_json(made))


@router.get("/audit/events/{event_id}/proof", **docs.GET_EVENT_PROOF)
async def get_event_proof(request: Request) -> Response:
    try:
        event_id = str(uuid.UUID(request.path_params["event_id"]))
    except ValueError:
        raise WinnowError("AUDIT_NOT_FOUND", "no event has this id; it is a UUID") from None
    wanted = bind(GetInclusionProofRequest, request.query_params.multi_items(), event_id=event_id)
    audit = backends(request).audit
    with calling(AUDIT):
        made = await audit.GetCheckpoint(GetCheckpointRequest(), **call())
        wanted.tree_size = wanted.tree_size or made.checkpoint.tree_size
        proof = await audit.GetInclusionProof(wanted, **call())
        watch = audit.WatchEvents(WatchEventsRequest(from_sequence=proof.leaf_index), **call())
        try:
            first = await anext(aiter(watch))
        finally:
            watch.cancel()
    return answers.json({**to_json(first), "proof": to_json(proof), **to_json(made)})


@router.get("/audit/consistency", **docs.GET_CONSISTENCY_PROOF)
async def get_consistency_proof(request: Request) -> Response:
    query = bind(GetConsistencyProofRequest, request.query_params.multi_items())
    with calling(AUDIT):
        proof = await backends(request).audit.GetConsistencyProof(query, **call())
    return answers.json(to_json(proof))
