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
from winnow.event.v1.envelope_pb2 import Envelope

_PAGE = 100
_WATCH_SECONDS = 0.5
_MAX_FIELD = 512
_MAX_EVENT_BYTES = 64 << 10


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
        leaves = [(event, _leaf(event)) for event in request.events]
        sequences = await self._database.run(store.append, leaves)
        return pb.AppendEventsResponse(sequences=sequences)

    async def ListEvents(
        self, request: pb.ListEventsRequest, _context: Any
    ) -> pb.ListEventsResponse:
        tenant = context.tenant.get()
        query = (tenant, request.report_id, request.event_type)
        after = paging.after_number(request.page_token, *query)
        size = request.page_size or _PAGE
        subject = f"reports/{request.report_id}" if request.report_id else ""
        found = await self._database.run(
            store.page, tenant, subject, request.event_type, after, size + 1
        )
        page, more = paging.cut(found, size)
        token = paging.encode(str(page[-1].sequence), *query) if more else ""
        return pb.ListEventsResponse(events=page, next_page_token=token)

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


def _leaf(event: Envelope) -> bytes:
    """An event's canonical bytes, if it may stand in the log."""
    for field, value in (
        ("event_id", event.event_id),
        ("event_type", event.event_type),
        ("tenant_id", event.tenant_id),
        ("subject", event.subject),
    ):
        if not 0 < len(value) <= _MAX_FIELD or "\x00" in value:
            raise _wrong(field, f"must have 1 to {_MAX_FIELD} characters, none of them NUL")
    try:
        uuid.UUID(event.event_id)
    except ValueError:
        raise _wrong("event_id", "must be a UUID") from None
    if event.ByteSize() > _MAX_EVENT_BYTES:
        raise _wrong("payload", f"an event has at most {_MAX_EVENT_BYTES} bytes")
    try:
        return log.leaf_of(event)
    except (ValueError, OverflowError):
        raise _wrong("payload", "numbers must be whole and below 2^53, the time a date") from None


def _wrong(field: str, what: str) -> WinnowError:
    return WinnowError("INVALID_ARGUMENT", f"events.{field}: {what}", field=f"events.{field}")
