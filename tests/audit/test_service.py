"""AuditService over a socket, on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import UTC

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy import text

from audit import log, notes
from audit.app import AuditSettings, build
from runtime.clock import uuid7
from runtime.errors import from_rpc
from tests.harness import serving, settings
from winnow.audit.v1 import audit_service_pb2 as pb
from winnow.audit.v1.audit_event_pb2 import AuditEvent
from winnow.audit.v1.audit_service_pb2_grpc import AuditServiceStub
from winnow.event.v1.envelope_pb2 import Envelope


@pytest.fixture
async def audit_channel(database_url: str) -> AsyncIterator[grpc.aio.Channel]:
    async with serving(build(settings(AuditSettings, database_url))) as (_, channel):
        yield channel


@pytest.fixture
def stub(audit_channel: grpc.aio.Channel) -> AuditServiceStub:
    return AuditServiceStub(audit_channel)


def _event(report_id: uuid.UUID, event_type: str = "REPORT_CREATED") -> Envelope:
    event = Envelope(
        event_id=str(uuid7()),
        event_type=event_type,
        tenant_id="default",
        subject=f"reports/{report_id}",
        service="orchestrator",
        schema="report.created/1",
    )
    event.occurred_at.GetCurrentTime()
    event.occurred_at.nanos -= event.occurred_at.nanos % 1000
    event.payload.update({"report_id": str(report_id), "size_bytes": 12})
    return event


def _leaf_hash(item: AuditEvent) -> bytes:
    """As anyone computes it from what the service answers."""
    recorded_at = item.recorded_at.ToDatetime(tzinfo=UTC)
    return log.leaf_hash(log.leaf_of(log.members_of(item.event), recorded_at))


async def test_events_are_numbered_without_holes_and_come_back_in_order(stub) -> None:
    report = uuid7()
    events = [_event(report, kind) for kind in ("REPORT_CREATED", "REPORT_DONE")]
    answer = await stub.AppendEvents(pb.AppendEventsRequest(events=events))
    assert answer.sequences[1] == answer.sequences[0] + 1
    listed = await stub.ListEvents(pb.ListEventsRequest(report_id=str(report)))
    assert [item.event for item in listed.events] == events
    for item in listed.events:
        assert item.leaf_hash == _leaf_hash(item)


async def test_appending_again_changes_nothing(stub) -> None:
    report = uuid7()
    event = _event(report)
    first = await stub.AppendEvents(pb.AppendEventsRequest(events=[event, event]))
    again = await stub.AppendEvents(pb.AppendEventsRequest(events=[event]))
    assert list(first.sequences) == [again.sequences[0]] * 2
    listed = await stub.ListEvents(pb.ListEventsRequest(report_id=str(report)))
    assert len(listed.events) == 1


async def test_the_same_id_with_other_content_is_refused_and_appends_nothing(stub) -> None:
    report = uuid7()
    event = _event(report)
    await stub.AppendEvents(pb.AppendEventsRequest(events=[event]))
    other = Envelope()
    other.CopyFrom(event)
    other.event_type = "REPORT_DONE"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.AppendEvents(pb.AppendEventsRequest(events=[_event(report), other]))
    assert from_rpc(caught.value, "audit").reason == "EVENT_CONFLICT"
    listed = await stub.ListEvents(pb.ListEventsRequest(report_id=str(report)))
    assert len(listed.events) == 1


async def test_concurrent_appends_leave_no_hole(stub, database) -> None:
    reports = [uuid7() for _ in range(8)]
    await asyncio.gather(
        *(
            stub.AppendEvents(pb.AppendEventsRequest(events=[_event(report) for _ in range(5)]))
            for report in reports
        )
    )
    holes = await database.run(
        lambda connection: connection.execute(
            text("SELECT max(sequence) + 1 - count(*) FROM audit.events")
        ).scalar()
    )
    assert holes == 0


async def test_pages_neither_miss_nor_repeat(stub) -> None:
    report = uuid7()
    events = [_event(report) for _ in range(7)]
    await stub.AppendEvents(pb.AppendEventsRequest(events=events))
    seen, token = [], ""
    while True:
        page = await stub.ListEvents(
            pb.ListEventsRequest(report_id=str(report), page_size=3, page_token=token)
        )
        seen += [item.event.event_id for item in page.events]
        token = page.next_page_token
        if not token:
            break
    assert seen == [event.event_id for event in events]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.ListEvents(pb.ListEventsRequest(page_token="AAAA"))
    assert from_rpc(caught.value, "audit").reason == "PAGE_TOKEN_INVALID"


async def test_other_tenants_see_nothing(stub) -> None:
    report = uuid7()
    await stub.AppendEvents(pb.AppendEventsRequest(events=[_event(report)]))
    listed = await stub.ListEvents(
        pb.ListEventsRequest(report_id=str(report)), metadata=(("x-winnow-tenant", "other"),)
    )
    assert not listed.events


@pytest.mark.parametrize(
    "spoil",
    [
        lambda event: event.payload.update({"n": float("nan")}),
        lambda event: event.payload.update({"n": 2.0**60}),
        lambda event: event.payload.update({"n": "x" * 70_000}),
        lambda event: setattr(event.occurred_at, "seconds", 10**15),
        lambda event: setattr(event, "subject", "a\0b"),
        lambda event: setattr(event, "tenant_id", ""),
        lambda event: setattr(event, "event_type", "x" * 513),
        lambda event: setattr(event, "event_id", "7"),
        lambda event: setattr(event, "event_id", event.event_id.upper()),
        lambda event: setattr(event, "ordinal", 2**53),
    ],
)
async def test_an_event_that_may_not_stand_in_the_log_is_refused(stub, spoil) -> None:
    event = _event(uuid7())
    spoil(event)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.AppendEvents(pb.AppendEventsRequest(events=[event]))
    assert from_rpc(caught.value, "audit").reason == "INVALID_ARGUMENT"


async def test_large_events_are_paged_below_the_message_limit(stub) -> None:
    report = uuid7()
    for _ in range(4):
        batch = [_event(report) for _ in range(15)]
        for event in batch:
            event.payload.update({"text": "x" * 60_000})
        await stub.AppendEvents(pb.AppendEventsRequest(events=batch))
    seen, token = 0, ""
    while True:
        page = await stub.ListEvents(
            pb.ListEventsRequest(report_id=str(report), page_size=1000, page_token=token)
        )
        seen += len(page.events)
        token = page.next_page_token
        if not token:
            break
    assert seen == 60


@pytest.mark.parametrize("number", [2**63, 2**64 - 1])
async def test_numbers_beyond_the_database_are_refused(stub, number) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.GetConsistencyProof(pb.GetConsistencyProofRequest(first=1, second=number))
    assert from_rpc(caught.value, "audit").reason in ("INVALID_ARGUMENT", "AUDIT_NOT_FOUND")


async def test_bytes_that_are_no_message_are_an_invalid_argument(stub, audit_channel) -> None:
    garbage = audit_channel.unary_unary("/winnow.audit.v1.AuditService/ListEvents")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await garbage(b"\xff\xff\xff")
    assert from_rpc(caught.value, "audit").reason == "INVALID_ARGUMENT"


async def test_checkpoint_and_proofs_fit_each_other(stub) -> None:
    event = _event(uuid7())
    before = (await stub.GetCheckpoint(pb.GetCheckpointRequest())).checkpoint
    await stub.AppendEvents(pb.AppendEventsRequest(events=[event]))
    after = (await stub.GetCheckpoint(pb.GetCheckpointRequest())).checkpoint
    proof = await stub.GetInclusionProof(pb.GetInclusionProofRequest(event_id=event.event_id))
    report_id = event.subject.removeprefix("reports/")
    listed = await stub.ListEvents(pb.ListEventsRequest(report_id=report_id))
    assert proof.leaf_hash == _leaf_hash(listed.events[0])
    assert proof.tree_size >= after.tree_size > before.tree_size
    key = Ed25519PublicKey.from_public_bytes(after.public_key)
    signed = notes.verify(after.note, key)
    assert (signed.size, signed.root) == (after.tree_size, after.root_hash)
    assert log.verify_inclusion(
        proof.leaf_hash, proof.leaf_index, proof.tree_size, list(proof.hashes), proof.root_hash
    )
    consistent = await stub.GetConsistencyProof(
        pb.GetConsistencyProofRequest(first=before.tree_size, second=after.tree_size)
    )
    assert consistent.second_root == after.root_hash
    assert log.verify_consistency(
        before.tree_size,
        after.tree_size,
        list(consistent.hashes),
        before.root_hash,
        after.root_hash,
    )


async def test_proofs_hold_for_every_earlier_size(stub) -> None:
    events = [_event(uuid7()) for _ in range(300)]
    sequences = (await stub.AppendEvents(pb.AppendEventsRequest(events=events))).sequences
    for event, sequence in list(zip(events, sequences, strict=True))[::37]:
        for size in {sequence + 1, sequence + 2, sequences[-1] + 1}:
            proof = await stub.GetInclusionProof(
                pb.GetInclusionProofRequest(event_id=event.event_id, tree_size=size)
            )
            assert log.verify_inclusion(
                proof.leaf_hash, sequence, size, list(proof.hashes), proof.root_hash
            )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.GetInclusionProof(
            pb.GetInclusionProofRequest(event_id=events[-1].event_id, tree_size=sequences[-1])
        )
    assert from_rpc(caught.value, "audit").reason == "AUDIT_NOT_FOUND"


async def test_watching_shows_what_was_there_and_what_comes(stub) -> None:
    first, second = _event(uuid7()), _event(uuid7())
    start = (await stub.AppendEvents(pb.AppendEventsRequest(events=[first]))).sequences[0]
    watch = stub.WatchEvents(pb.WatchEventsRequest(from_sequence=start))
    stream = aiter(watch)
    assert (await anext(stream)).event.event == first
    await stub.AppendEvents(pb.AppendEventsRequest(events=[second]))
    seen = []
    while second.event_id not in seen:
        seen.append((await asyncio.wait_for(anext(stream), 10)).event.event.event_id)
    watch.cancel()


async def test_a_broken_limit_names_the_field_and_not_the_value(stub) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.ListEvents(pb.ListEventsRequest(report_id="not an id at all"))
    error = from_rpc(caught.value, "audit")
    assert (error.reason, error.metadata["field"]) == ("INVALID_ARGUMENT", "report_id")
    assert "not an id" not in error.message
