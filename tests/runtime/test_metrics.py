"""Calls are counted however they end; facts are looked up when asked; the format."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import httpx
import pytest
from prometheus_client import Gauge, Histogram
from prometheus_client.samples import Sample

from cli.serve import bind
from runtime import metrics
from runtime.errors import MAPPINGS, WinnowError
from tests.runtime.conftest import Peer
from winnow.audit.v1 import audit_service_pb2 as pb


def samples(metric: Any, suffix: str = "") -> dict[tuple[str, ...], float]:
    """A metric's values by the values of its labels."""
    (family,) = metric.collect()
    found: list[Sample] = [one for one in family.samples if one.name == family.name + suffix]
    return {tuple(one.labels.values()): one.value for one in found}


def calls(method: str, outcome: str) -> float:
    return samples(metrics.RPCS, "_total").get((f"AuditService/{method}", outcome), -1)


def timed(method: str) -> float:
    return samples(metrics.RPC_SECONDS, "_count").get((f"AuditService/{method}",), 0)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.01)


async def test_a_call_that_ends_well(peer: Peer) -> None:
    inside: list[float] = []

    async def handle(_request: Any, _context: Any) -> pb.ListEventsResponse:
        inside.append(samples(metrics.RPCS_IN_FLIGHT)[()])
        return pb.ListEventsResponse()

    peer.servicer.ListEvents = handle
    counted, took, open_ = (
        calls("ListEvents", "ok"),
        timed("ListEvents"),
        samples(metrics.RPCS_IN_FLIGHT)[()],
    )
    await peer.stub.ListEvents(pb.ListEventsRequest())
    assert inside == [open_ + 1]
    assert calls("ListEvents", "ok") == counted + 1
    assert timed("ListEvents") == took + 1
    assert samples(metrics.RPCS_IN_FLIGHT)[()] == open_


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [("AUDIT_NOT_FOUND", "refused"), ("AUDIT_INCONSISTENT", "failed"), ("OVERLOADED", "failed")],
)
async def test_a_call_that_is_refused(peer: Peer, reason: str, outcome: str) -> None:
    async def handle(_request: Any, _context: Any) -> None:
        raise WinnowError(reason, "no")

    peer.servicer.ListEvents = handle
    counted = calls("ListEvents", outcome)
    refused = samples(metrics.REFUSALS, "_total")[reason,]
    with pytest.raises(grpc.aio.AioRpcError):
        await peer.stub.ListEvents(pb.ListEventsRequest())
    assert calls("ListEvents", outcome) == counted + 1
    assert samples(metrics.REFUSALS, "_total")[reason,] == refused + 1


async def test_a_watcher_that_leaves_is_counted_and_not_timed(peer: Peer) -> None:
    async def watch(_request: Any, _context: Any) -> AsyncIterator[pb.WatchEventsResponse]:
        while True:
            yield pb.WatchEventsResponse()
            await asyncio.sleep(0.01)

    peer.servicer.WatchEvents = watch
    counted, open_ = calls("WatchEvents", "cancelled"), samples(metrics.RPCS_IN_FLIGHT)[()]
    call = peer.stub.WatchEvents(pb.WatchEventsRequest())
    await anext(aiter(call))
    assert samples(metrics.RPCS_IN_FLIGHT)[()] == open_ + 1
    call.cancel()
    await until(lambda: calls("WatchEvents", "cancelled") == counted + 1)
    assert samples(metrics.RPCS_IN_FLIGHT)[()] == open_
    assert timed("WatchEvents") == 0


async def test_every_rpc_is_there_from_the_start(peer: Peer) -> None:
    assert {calls("GetConsistencyProof", outcome) for outcome in metrics.OUTCOMES} == {0}


async def served(
    facts: metrics.Facts | None = None, path: str = "metrics", **headers: str
) -> httpx.Response:
    exposition = metrics.Exposition("audit", bind("127.0.0.1:0"), facts)
    try:
        async with httpx.AsyncClient(timeout=10, trust_env=False) as client:
            return await client.get(f"http://127.0.0.1:{exposition.port}/{path}", headers=headers)
    finally:
        await asyncio.to_thread(exposition.close)


async def test_the_format_and_the_path() -> None:
    plain = await served()
    assert plain.headers["content-type"].startswith("text/plain; version=")
    assert "# EOF" not in plain.text
    assert "winnow_build_info{" in plain.text
    assert "process_resident_memory_bytes " in plain.text
    # What is another service's is not served, not even at zero.
    assert "winnow_llm_calls" not in plain.text
    rich = await served(Accept="application/openmetrics-text; version=1.0.0")
    assert rich.headers["content-type"].startswith("application/openmetrics-text")
    assert rich.text.endswith("# EOF\n")
    assert (await served(path="else")).status_code == 404


async def test_a_trace_is_the_exemplar_of_what_it_took(monkeypatch: pytest.MonkeyPatch) -> None:
    histogram = Histogram("one", "One.", registry=None, buckets=(1.0, 2.0))
    metrics.observe(histogram, 0.5)
    monkeypatch.setattr(metrics.tracing, "trace_id", lambda: "ab" * 16)
    metrics.observe(histogram, 1.5)
    (family,) = histogram.collect()
    exemplars = [one.exemplar for one in family.samples if one.name == "one_bucket"]
    assert exemplars[0] is None
    assert (exemplars[1].labels, exemplars[1].value) == ({"trace_id": "ab" * 16}, 1.5)


async def test_facts_are_looked_up_once_in_a_while() -> None:
    gauge = Gauge("seen", "Seen.", registry=None)

    async def read() -> None:
        gauge.inc()

    facts = metrics.Facts(read, fresh_seconds=60)
    for _ in range(3):
        assert (await served(facts)).status_code == 200
    assert samples(gauge)[()] == 1
    old = metrics.Facts(read, fresh_seconds=0)
    await asyncio.gather(old.refresh(), old.refresh())
    assert samples(gauge)[()] == 3


@pytest.mark.parametrize("failure", [WinnowError("DATABASE_UNAVAILABLE", "gone"), TimeoutError()])
async def test_without_facts_the_rest_is_told(failure: Exception) -> None:
    async def read() -> None:
        raise failure

    assert (await served(metrics.Facts(read))).status_code == 200
    assert samples(metrics.FACTS_FRESH)[()] == 0

    async def better() -> None:
        pass

    await metrics.Facts(better).refresh()
    assert samples(metrics.FACTS_FRESH)[()] == 1


def test_labels_are_few_and_names_are_conventional() -> None:
    for row in metrics.TABLE:
        assert row.name.startswith("winnow_")
        assert row.name.endswith("_total") == (row.kind == "counter")
        assert not set(row.labels) & {"service", "job", "instance", "le", "tenant", "report_id"}
        assert row.help.endswith(".")
    assert len({row.name for row in metrics.TABLE}) == len(metrics.TABLE)
    assert set(samples(metrics.REFUSALS, "_total")) == {(reason,) for reason in MAPPINGS}
