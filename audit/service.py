"""AuditService: unpack, call the store or the log, pack."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit import log, store
from runtime import context, paging
from runtime.database import Database
from runtime.errors import WinnowError
from winnow.audit.v1 import audit_service_pb2 as pb
from winnow.audit.v1 import audit_service_pb2_grpc as rpc

_PAGE = 100
_WATCH_SECONDS = 0.5


class AuditService(rpc.AuditServiceServicer):
    """The gRPC face of the audit log.

    Args:
        database: where the log is kept.
        key: signs checkpoints.
    """

    def __init__(self, database: Database, key: Ed25519PrivateKey) -> None:
        self._database = database
        self._key = key

    async def AppendEvents(
        self, request: pb.AppendEventsRequest, _context: Any
    ) -> pb.AppendEventsResponse:
        for event in request.events:
            _check(event.event_id)
        sequences = await self._database.run(store.append, list(request.events))
        return pb.AppendEventsResponse(sequences=sequences)

    async def ListEvents(
        self, request: pb.ListEventsRequest, _context: Any
    ) -> pb.ListEventsResponse:
        tenant = context.tenant.get()
        query = (tenant, request.report_id, request.event_type)
        after = int(paging.decode(request.page_token, *query) or -1)
        size = request.page_size or _PAGE
        subject = f"reports/{request.report_id}" if request.report_id else ""
        found = await self._database.run(
            store.page, tenant, subject, request.event_type, after, size + 1
        )
        response = pb.ListEventsResponse(events=found[:size])
        if len(found) > size:
            response.next_page_token = paging.encode(str(found[size - 1].sequence), *query)
        return response

    async def GetCheckpoint(
        self, _request: pb.GetCheckpointRequest, _context: Any
    ) -> pb.GetCheckpointResponse:
        return pb.GetCheckpointResponse(
            checkpoint=await self._database.run(store.checkpoint, self._key)
        )

    async def GetInclusionProof(
        self, request: pb.GetInclusionProofRequest, _context: Any
    ) -> pb.GetInclusionProofResponse:
        index = await self._database.run(
            store.index_of, uuid.UUID(request.event_id), context.tenant.get()
        )
        leaves = await self._database.run(store.leaf_hashes, request.tree_size)
        if index >= len(leaves):
            raise WinnowError(
                "AUDIT_NOT_FOUND", f"the event came after the tree of size {len(leaves)}"
            )
        return pb.GetInclusionProofResponse(
            leaf_index=index,
            tree_size=len(leaves),
            hashes=log.inclusion_proof(leaves, index),
            leaf_hash=leaves[index],
            root_hash=log.root(leaves),
        )

    async def GetConsistencyProof(
        self, request: pb.GetConsistencyProofRequest, _context: Any
    ) -> pb.GetConsistencyProofResponse:
        leaves = await self._database.run(store.leaf_hashes, request.second)
        if request.first > len(leaves):
            raise WinnowError(
                "AUDIT_NOT_FOUND", f"the log has {len(leaves)} events, not {request.first}"
            )
        return pb.GetConsistencyProofResponse(
            first=request.first,
            second=len(leaves),
            hashes=log.consistency_proof(leaves, request.first),
            first_root=log.root(leaves[: request.first]),
            second_root=log.root(leaves),
        )

    async def WatchEvents(
        self, request: pb.WatchEventsRequest, _context: Any
    ) -> AsyncIterator[pb.WatchEventsResponse]:
        tenant, after = context.tenant.get(), request.from_sequence - 1
        while True:
            found = await self._database.run(store.page, tenant, "", "", after, _PAGE)
            for event in found:
                after = event.sequence
                yield pb.WatchEventsResponse(event=event)
            if len(found) < _PAGE:
                await asyncio.sleep(_WATCH_SECONDS)


def _check(event_id: str) -> None:
    try:
        uuid.UUID(event_id)
    except ValueError:
        raise WinnowError(
            "INVALID_ARGUMENT", "events.event_id: must be a UUID", field="events.event_id"
        ) from None
