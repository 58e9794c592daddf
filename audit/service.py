"""AuditService: unpack, call the store or the log, pack."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import UTC
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy import Connection

from audit import log, notes, store
from audit.ledger import Ledger
from runtime import context, metrics, paging
from runtime.clock import now
from runtime.database import Database
from runtime.errors import WinnowError
from winnow.audit.v1 import audit_service_pb2 as pb
from winnow.audit.v1 import audit_service_pb2_grpc as rpc
from winnow.audit.v1.audit_event_pb2 import Checkpoint
from winnow.event.v1.envelope_pb2 import Envelope

_PAGE = 100
_WATCH_SECONDS = 0.5
_MAX_FIELD = 512
_MAX_EVENT_BYTES = 64 << 10


class AuditService(rpc.AuditServiceServicer):
    """The gRPC face of the audit log.

    Args:
        database: where the log is kept, as the caller's tenant sees it.
        whole: the same, as it is: a proof takes hashes of all tenants' events.
        ledger: appends to it.
        key: verifies its checkpoints.
    """

    def __init__(
        self, database: Database, whole: Database, ledger: Ledger, key: Ed25519PublicKey
    ) -> None:
        self._database = database
        self._whole = whole
        self._ledger = ledger
        self._key = key

    async def AppendEvents(
        self, request: pb.AppendEventsRequest, _context: Any
    ) -> pb.AppendEventsResponse:
        entries = [_entry(event) for event in request.events]
        sequences = await self._ledger.append(entries)
        oldest = min(event.occurred_at.ToDatetime(UTC) for event in request.events)
        metrics.observe(metrics.AUDIT_LAG, (now() - oldest).total_seconds())
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
        checkpoint, at = await self._ledger.newest()
        answer = Checkpoint(
            origin=notes.ORIGIN,
            tree_size=checkpoint.size,
            root_hash=checkpoint.root,
            note=checkpoint.note,
            public_key=notes.public_bytes(self._key),
        )
        answer.signed_at.FromDatetime(at)
        return pb.GetCheckpointResponse(checkpoint=answer)

    async def GetInclusionProof(
        self, request: pb.GetInclusionProofRequest, _context: Any
    ) -> pb.GetInclusionProofResponse:
        event_id, tenant = uuid.UUID(request.event_id), context.tenant.get()
        index = await self._database.run(store.index_of, event_id, tenant)

        def prove(connection: Connection) -> pb.GetInclusionProofResponse:
            size = store.size_of(connection, request.tree_size)
            if index >= size:
                raise WinnowError(
                    "AUDIT_NOT_FOUND", f"the event came after the tree of size {size}"
                )
            spans = [*log.inclusion_spans(index, size), (index, index + 1), (0, size)]
            *hashes, leaf_hash, root_hash = store.span_hashes(connection, spans)
            return pb.GetInclusionProofResponse(
                leaf_index=index,
                tree_size=size,
                hashes=hashes,
                leaf_hash=leaf_hash,
                root_hash=root_hash,
            )

        return await self._whole.run(prove)

    async def GetConsistencyProof(
        self, request: pb.GetConsistencyProofRequest, _context: Any
    ) -> pb.GetConsistencyProofResponse:
        def prove(connection: Connection) -> pb.GetConsistencyProofResponse:
            first, second = request.first, store.size_of(connection, request.second)
            if first > second:
                raise WinnowError("AUDIT_NOT_FOUND", f"the log has {second} events, not {first}")
            spans = [*log.consistency_spans(first, second), (0, first), (0, second)]
            *hashes, first_root, second_root = store.span_hashes(connection, spans)
            return pb.GetConsistencyProofResponse(
                first=first,
                second=second,
                hashes=hashes,
                first_root=first_root,
                second_root=second_root,
            )

        return await self._whole.run(prove)

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


def _entry(event: Envelope) -> store.Entry:
    """An event as it is appended, if it may stand in the log."""
    for field, value in (
        ("event_id", event.event_id),
        ("event_type", event.event_type),
        ("tenant_id", event.tenant_id),
        ("subject", event.subject),
    ):
        if not 0 < len(value) <= _MAX_FIELD or "\x00" in value:
            raise _wrong(field, f"must have 1 to {_MAX_FIELD} characters, none of them NUL")
    event_id = _uuid(event.event_id)
    # One id, one spelling: a leaf and its row's columns say the same, to the letter.
    if event_id is None or str(event_id) != event.event_id:
        raise _wrong("event_id", "must be a UUID in lower case, with hyphens")
    if event.ByteSize() > _MAX_EVENT_BYTES:
        raise _wrong("payload", f"an event has at most {_MAX_EVENT_BYTES} bytes")
    try:
        return store.Entry(event_id, log.members_of(event))
    except (ValueError, OverflowError):
        raise _wrong("payload", "numbers must be whole and below 2^53, the time a date") from None


def _uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


def _wrong(field: str, what: str) -> WinnowError:
    return WinnowError("INVALID_ARGUMENT", f"events.{field}: {what}", field=f"events.{field}")
