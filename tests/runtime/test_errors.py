"""One error, as gRPC status and back, over a real socket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.channels import dial
from runtime.errors import MAPPINGS, WinnowError, from_rpc, to_status
from tests.runtime.conftest import Logged, Peer
from winnow.audit.v1 import audit_service_pb2 as pb
from winnow.error.v1.error_reason_pb2 import ErrorReason

CANARY = "canary-a8f3"


def test_every_reason_has_a_mapping() -> None:
    names = {name.removeprefix("ERROR_REASON_") for name, _ in ErrorReason.items()}
    assert names - {"UNSPECIFIED"} == set(MAPPINGS)


def test_an_undocumented_reason_is_refused() -> None:
    with pytest.raises(ValueError, match="not a documented reason"):
        WinnowError("SOMETHING", "x")


@pytest.mark.parametrize("reason", MAPPINGS)
async def test_round_trip(peer: Peer, reason: str) -> None:
    sent = WinnowError(
        reason, f"what is wrong: {reason}", retry_after=1.5, report_id="7", field="a"
    )

    async def fail(_request: Any, _context: Any) -> None:
        raise sent

    peer.servicer.ListEvents = fail
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await peer.stub.ListEvents(pb.ListEventsRequest())
    assert caught.value.code() is sent.grpc_code
    got = from_rpc(caught.value, "peer")
    assert (got.reason, got.message, got.metadata) == (reason, sent.message, sent.metadata)
    assert got.retry_after == 1.5
    assert (got.http_status, got.title, got.retryable) == (
        sent.http_status,
        sent.title,
        sent.retryable,
    )


async def test_round_trip_from_a_stream(peer: Peer) -> None:
    async def fail(_request: Any, _context: Any) -> AsyncIterator[pb.WatchEventsResponse]:
        yield pb.WatchEventsResponse()
        raise WinnowError("STREAM_CUT_SHORT", "half of it is missing")

    peer.servicer.WatchEvents = fail
    got = []
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for one in peer.stub.WatchEvents(pb.WatchEventsRequest()):
            got.append(one)  # noqa: PERF401 -- what came before the error counts
    assert len(got) == 1
    error = from_rpc(caught.value, "peer")
    assert (error.reason, error.retry_after) == ("STREAM_CUT_SHORT", None)


@pytest.mark.parametrize("streaming", [False, True])
async def test_a_defect_tells_an_id_and_nothing_else(
    peer: Peer, streaming: bool, logged: Logged
) -> None:
    async def unary(_request: Any, _context: Any) -> None:
        raise KeyError(CANARY)

    async def stream(_request: Any, _context: Any) -> AsyncIterator[Any]:
        raise KeyError(CANARY)
        yield

    peer.servicer.ListEvents, peer.servicer.WatchEvents = unary, stream
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        if streaming:
            await anext(aiter(peer.stub.WatchEvents(pb.WatchEventsRequest())))
        else:
            await peer.stub.ListEvents(pb.ListEventsRequest())
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert CANARY not in repr(caught.value)
    error = from_rpc(caught.value, "peer")
    assert error.reason == "INTERNAL"
    error_id = error.metadata["error_id"]
    assert error.message == f"internal error {error_id}; the log has it"
    lines = logged()
    assert CANARY not in repr(lines)
    (defect,) = [line for line in lines if line["action"] == "rpc.defect"]
    assert (defect["error_id"], defect["error_type"]) == (error_id, "KeyError")


async def test_nobody_there() -> None:
    async with dial("127.0.0.1:9") as channel:
        call = channel.unary_unary("/x/y")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(b"", timeout=5)
    error = from_rpc(caught.value, "auditor")
    assert (error.reason, error.message) == ("UPSTREAM_UNAVAILABLE", "the auditor does not answer")
    assert error.retry_after == 1.0
    assert error.retryable


async def test_a_bare_internal_is_the_transports_and_may_pass(peer: Peer) -> None:
    async def fail(_request: Any, servicer_context: Any) -> None:
        await servicer_context.abort(grpc.StatusCode.INTERNAL, CANARY)

    peer.servicer.ListEvents = fail
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await peer.stub.ListEvents(pb.ListEventsRequest())
    error = from_rpc(caught.value, "peer")
    assert (error.reason, error.message) == ("UPSTREAM_UNAVAILABLE", "the peer does not answer")
    assert CANARY not in repr((error.message, error.metadata))


@given(
    st.sampled_from(sorted(MAPPINGS)),
    st.text(max_size=200),
    st.none() | st.floats(0, 10**6),
    st.dictionaries(
        st.from_regex(r"[a-z_]{1,20}", fullmatch=True), st.text(max_size=50), max_size=4
    ),
)
def test_any_error_fits_a_status(
    reason: str, message: str, retry_after: float | None, metadata: dict[str, str]
) -> None:
    metadata = {k: v for k, v in metadata.items() if k not in ("reason", "message", "self")}
    metadata.pop("retry_after", None)
    status = to_status(WinnowError(reason, message, retry_after=retry_after, **metadata))
    rpc_error = grpc.aio.AioRpcError(
        grpc.StatusCode.UNKNOWN,
        grpc.aio.Metadata(),
        grpc.aio.Metadata(("grpc-status-details-bin", status.SerializeToString())),
    )
    got = from_rpc(rpc_error, "peer")
    assert (got.reason, got.message, got.metadata) == (reason, message, metadata)
    assert (got.retry_after is None) == (retry_after is None)
    assert abs((got.retry_after or 0) - (retry_after or 0)) <= 0.001
