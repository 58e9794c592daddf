"""Spans go on from one another, over RPCs and over processes; without a setting there are none."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from runtime import context, metrics, tracing
from runtime.config import ConfigError, Settings, load
from runtime.jobs import Job
from runtime.worker import Kind, Worker
from tests.runtime.collector import Collector, collecting
from tests.runtime.conftest import Peer
from tests.runtime.queues import Scratch
from tests.runtime.queues import scratch as scratch
from tests.runtime.test_worker import working
from winnow.audit.v1 import audit_service_pb2 as pb

TRACE = "0af7651916cd43dd8448eb211c80319c"
GIVEN = f"00-{TRACE}-b7ad6b7169203331-01"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as found:
        tracing.configure("test", found.url)
        try:
            yield found
        finally:
            tracing.stop()


def sent(collector: Collector) -> list[Any]:
    """All spans that have ended; nothing is traced after that."""
    tracing.stop()
    return collector.spans


def test_without_a_setting_there_is_nothing() -> None:
    span = tracing.begin("work", parent=GIVEN)
    assert (tracing.traceparent(), tracing.trace_id(), tracing.carrier()) == ("", "", {})
    span.end()
    assert dict(context.outgoing()).keys() == {"x-request-id", "x-winnow-tenant"}


def test_without_a_setting_opentelemetry_costs_nothing() -> None:
    code = "import sys, runtime.server; print([m for m in sys.modules if m.startswith('opentelemetry.sdk')])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"


def test_without_opentelemetry_the_setting_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(ConfigError, match=r"winnow\[tracing\]"):
        tracing.configure("test", "http://127.0.0.1:9")


def test_the_endpoint_is_a_url() -> None:
    with pytest.raises(ConfigError, match=r"^WINNOW_OTLP_ENDPOINT: String should match"):
        load(Settings, otlp_endpoint="127.0.0.1:4318")
    assert load(Settings, otlp_endpoint="http://127.0.0.1:4318").otlp_endpoint


def test_a_collector_that_is_not_there_holds_nothing_up() -> None:
    tracing.configure("test", "http://127.0.0.1:9")
    tracing.begin("work").end()
    started = time.monotonic()
    tracing.stop()
    assert time.monotonic() - started < 20


def test_spans_within_each_other_and_beside(collector: Collector) -> None:
    outer = tracing.begin("outer", parent=GIVEN, report_id="r", attempt=2)
    inner = tracing.begin("inner")
    assert tracing.trace_id() == TRACE
    inner.end("failed", reason="INTERNAL")
    assert tracing.traceparent() == outer.traceparent
    outer.end(name="better")
    assert tracing.traceparent() == ""
    tracing.begin("alone", links=[GIVEN]).end()
    first, second, third = sent(collector)
    assert [one.name for one in (first, second, third)] == ["inner", "better", "alone"]
    assert (first.trace_id, first.parent_span_id) == (second.trace_id, second.span_id)
    assert second.trace_id.hex() == TRACE
    assert second.parent_span_id.hex() == "b7ad6b7169203331"
    said = {one.key: one.value for one in second.attributes}
    assert said["winnow.report_id"].string_value == "r"
    assert said["winnow.attempt"].int_value == 2
    assert first.status.code == 2
    assert third.trace_id != second.trace_id
    assert [link.trace_id.hex() for link in third.links] == [TRACE]


@pytest.mark.parametrize(
    "nonsense", ["", "x", "00-zz-zz-01", f"00-{'0' * 32}-{'0' * 16}-01", "\N{SNOWMAN}"]
)
def test_what_is_no_context_begins_a_trace(collector: Collector, nonsense: str) -> None:
    tracing.begin("work", parent=nonsense).end()
    (span,) = sent(collector)
    assert span.parent_span_id == b""


def test_a_caller_may_say_that_a_trace_is_not_kept(collector: Collector) -> None:
    span = tracing.begin("work", parent=GIVEN[:-2] + "00")
    # It goes on all the same, so that nobody behind keeps half of it.
    assert tracing.traceparent().endswith("-00")
    assert tracing.trace_id() == ""
    span.end()
    assert sent(collector) == []


async def test_an_rpc_goes_on_with_its_callers_trace(peer: Peer, collector: Collector) -> None:
    seen: list[str] = []

    async def handle(_request: Any, _context: Any) -> pb.ListEventsResponse:
        seen.append(tracing.trace_id())
        return pb.ListEventsResponse()

    peer.servicer.ListEvents = handle
    outer = tracing.begin("caller")
    await peer.stub.ListEvents(pb.ListEventsRequest(), metadata=context.outgoing())
    outer.end()
    spans = {span.name: span for span in sent(collector)}
    caller, called = spans["caller"], spans["AuditService/ListEvents"]
    assert called.trace_id == caller.trace_id
    assert called.parent_span_id == caller.span_id
    assert seen == [caller.trace_id.hex()]


async def test_a_job_goes_on_with_its_trace_wherever_it_is_done(
    scratch: Scratch, collector: Collector
) -> None:
    span = tracing.begin("asked", parent=GIVEN)
    await scratch.put("work", "k")
    span.end()
    row = await scratch.row("k")
    assert row is not None
    assert row["payload"] == {"traceparent": span.traceparent}
    done = asyncio.Event()

    async def run(job: Job) -> None:
        await scratch.database.run(scratch.queue("other").finish, job)
        done.set()

    before = metrics.JOBS.labels("work", "done")._value.get()
    # As another process has it: nothing of the caller's is there but the row.
    worker = Worker(scratch.database, scratch.queue("other"), [Kind("work", run)])
    async with working(worker), asyncio.timeout(10):
        await done.wait()
    assert metrics.JOBS.labels("work", "done")._value.get() == before + 1
    sent(collector)
    work, asked = collector.named("work"), collector.named("asked")
    assert work.trace_id.hex() == TRACE
    assert work.parent_span_id == asked.span_id
