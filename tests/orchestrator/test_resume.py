"""What happens when a part dies: nothing is lost, nothing is twice.

The ingestor and the moderator here are scripted peers over real sockets, so
that a failure comes exactly where it is wanted; the rest is real.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc
import pytest
from sqlalchemy import func, text, update

import orchestrator.app
from orchestrator import declaration, events, states, store, store_findings, tables
from orchestrator.run import RUN
from runtime.clock import uuid7
from runtime.errors import WinnowError, from_rpc
from runtime.jobs import MAX_FAILURES, Queue
from runtime.keyring import Keyring, new_data_key
from runtime.server import Service
from tests.harness import SEALING_KEY, serving, settings
from tests.orchestrator.conftest import upload
from winnow.audit.v1 import audit_service_pb2 as audit_pb
from winnow.audit.v1 import audit_service_pb2_grpc as audit_rpc
from winnow.finding.v1.finding_batch_pb2 import FindingBatch
from winnow.finding.v1.finding_pb2 import Finding, FindingKind
from winnow.finding.v1.verdict_pb2 import Risk, Verdict, VerdictBatch, VerdictSource
from winnow.ingest.v1 import ingest_service_pb2 as ingest_pb
from winnow.ingest.v1 import ingest_service_pb2_grpc as ingest_rpc
from winnow.ingest.v1.format_pb2 import DetectedFormat
from winnow.ingest.v1.rejected_pb2 import Rejected, RejectedBatch, RejectReason
from winnow.moderate.v1 import moderate_service_pb2 as moderate_pb
from winnow.moderate.v1 import moderate_service_pb2_grpc as moderate_rpc
from winnow.report.v1 import report_service_pb2 as report_pb
from winnow.report.v1.report_pb2 import ReportStatus
from winnow.report.v1.report_progress_pb2 import ReportProgress
from winnow.report.v1.report_service_pb2_grpc import ReportServiceStub

BATCHES, SIZE = 40, 5


class Ingestor(ingest_rpc.IngestServiceServicer):
    """Emits BATCHES batches of SIZE findings, with a rejection before each; may break off."""

    def __init__(self) -> None:
        self.calls: list[ingest_pb.IngestHeader] = []
        self.break_after: list[int] = []
        self.open = 0
        self.sent = 0
        self.fingerprint = b""
        self.hold: asyncio.Event | None = None

    async def Ingest(self, request_iterator: Any, _context: Any) -> AsyncIterator[Any]:
        self.open += 1
        try:
            header = (await anext(aiter(request_iterator))).header
            self.calls.append(header)
            if header.start_ordinal and header.parser != "scripted/1":
                raise WinnowError("PARSER_CHANGED", "another parser")
            async for _ in request_iterator:
                pass
            if self.hold is not None:
                await self.hold.wait()
            limit = self.break_after.pop(0) if self.break_after else None
            yield ingest_pb.IngestResponse(
                format=DetectedFormat(scanner_type="scripted", parser="scripted/1")
            )
            for number in range(BATCHES):
                if number == limit:
                    raise WinnowError("DATABASE_UNAVAILABLE", "broken off by the test")
                first = number * (SIZE + 1)
                if first + SIZE < header.start_ordinal:
                    continue
                if first >= header.start_ordinal:
                    rejected = Rejected(ordinal=first, reason=RejectReason.REJECT_REASON_SYNTAX)
                    yield ingest_pb.IngestResponse(rejected=RejectedBatch(rejected=[rejected]))
                batch = FindingBatch()
                for ordinal in range(first + 1, first + 1 + SIZE):
                    if ordinal >= header.start_ordinal:
                        batch.findings.append(
                            Finding(
                                ordinal=ordinal,
                                kind=FindingKind.FINDING_KIND_CODE,
                                rule_id="scripted",
                                value_fingerprint=self.fingerprint,
                                value_preview="abc… (40 characters)",
                            )
                        )
                self.sent += len(batch.findings)
                yield ingest_pb.IngestResponse(batch=batch)
            yield ingest_pb.IngestResponse(
                summary=ingest_pb.IngestSummary(
                    records_read=BATCHES * (SIZE + 1),
                    findings=BATCHES * SIZE,
                    rejected=BATCHES,
                )
            )
        finally:
            self.open -= 1


class Moderator(moderate_rpc.ModerateServiceServicer):
    """Judges everything low; may break off after some batches, hang, or be slow."""

    def __init__(self) -> None:
        self.judged: list[int] = []
        self.break_after: list[int] = []
        self.received = 0
        self.hold: asyncio.Event | None = None
        self.open = 0
        self.summary = True
        self.end_after: int | None = None
        self.altered: Callable[[VerdictBatch], None] = lambda _verdicts: None
        self.defect_after: int | None = None

    async def Moderate(self, request_iterator: Any, _context: Any) -> AsyncIterator[Any]:
        self.open += 1
        try:
            limit = self.break_after.pop(0) if self.break_after else None
            count = 0
            async for request in request_iterator:
                if request.WhichOneof("payload") == "header":
                    continue
                if count == limit:
                    raise WinnowError("UPSTREAM_UNAVAILABLE", "broken off by the test")
                if count == self.end_after:
                    break
                if count == self.defect_after:
                    raise ValueError("a defect of the test's")
                count += 1
                self.received += len(request.batch.findings)
                if self.hold is not None:
                    await self.hold.wait()
                ordinals = [finding.ordinal for finding in request.batch.findings]
                self.judged += ordinals
                verdicts = VerdictBatch(
                    verdicts=[
                        Verdict(
                            ordinal=ordinal,
                            risk=Risk.RISK_LOW,
                            reason="scripted",
                            source=VerdictSource.VERDICT_SOURCE_HEURISTIC,
                        )
                        for ordinal in ordinals
                    ]
                )
                self.altered(verdicts)
                yield moderate_pb.ModerateResponse(verdicts=verdicts)
            if self.summary:
                yield moderate_pb.ModerateResponse(summary=moderate_pb.ModerateSummary())
        finally:
            self.open -= 1


class Audit(audit_rpc.AuditServiceServicer):
    """Remembers what is appended."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    async def AppendEvents(self, request: Any, _context: Any) -> audit_pb.AppendEventsResponse:
        known = {event.event_id for event in self.events}
        self.events += [event for event in request.events if event.event_id not in known]
        return audit_pb.AppendEventsResponse(sequences=range(len(request.events)))


class Rig:
    """An orchestrator between scripted peers."""

    def __init__(self, stub: Any) -> None:
        self.reports = stub
        self.channel: Any = None
        self.ingestor = Ingestor()
        self.moderator = Moderator()
        self.audit = Audit()

    async def submit(self, *, wait: bool = True) -> Any:
        return (await self.reports.SubmitReport(upload(b"{}", wait=wait))).report


@asynccontextmanager
async def started(rig: Rig, database_url: str) -> AsyncIterator[Rig]:
    """Peers and orchestrator up; `rig.reports` is set."""
    peers = {
        "ingestor": (
            ingest_pb.DESCRIPTOR.services_by_name["IngestService"],
            lambda server: ingest_rpc.add_IngestServiceServicer_to_server(rig.ingestor, server),
        ),
        "moderator": (
            moderate_pb.DESCRIPTOR.services_by_name["ModerateService"],
            lambda server: moderate_rpc.add_ModerateServiceServicer_to_server(
                rig.moderator, server
            ),
        ),
        "audit": (
            audit_pb.DESCRIPTOR.services_by_name["AuditService"],
            lambda server: audit_rpc.add_AuditServiceServicer_to_server(rig.audit, server),
        ),
    }
    async with AsyncExitStack() as stack:
        addresses = {}
        for name, (descriptor, register) in peers.items():
            peer = Service("127.0.0.1:0", [descriptor], register)
            address, _ = await stack.enter_async_context(serving(peer))
            addresses[f"{name}_address"] = address
        given = settings(orchestrator.app.OrchestratorSettings, database_url, **addresses)
        _, channel = await stack.enter_async_context(serving(orchestrator.app.build(given)))
        rig.channel = channel
        rig.reports = ReportServiceStub(channel)
        yield rig


@pytest.fixture
async def rig(database_url: str) -> AsyncIterator[Rig]:
    async with started(Rig(None), database_url) as made:
        yield made


async def _stored(database, report_id: str) -> tuple[list[int], list[int], list[int]]:
    def read(connection):
        return tuple(
            [
                row[0]
                for row in connection.execute(
                    text(
                        f"SELECT ordinal FROM orchestrator.{table}"
                        " WHERE report_id = :id ORDER BY ordinal"
                    ),
                    {"id": uuid.UUID(report_id)},
                )
            ]
            for table in ("findings", "verdicts", "rejections")
        )

    return await database.run(read)


def tenant() -> tuple[tuple[str, str], ...]:
    """Somebody with no other reports in this test."""
    return (("x-winnow-tenant", "of-the-early"),)


ORDINALS = [n for n in range(BATCHES * (SIZE + 1)) if n % (SIZE + 1)]
REJECTIONS = [n for n in range(BATCHES * (SIZE + 1)) if n % (SIZE + 1) == 0]


@pytest.mark.parametrize("limit", [0, 1, 7, 39])
async def test_an_ingestor_that_breaks_off_is_resumed_where_it_stopped(
    rig, database, limit: int
) -> None:
    rig.ingestor.break_after = [limit]
    report = await rig.submit()
    assert report.status == ReportStatus.REPORT_STATUS_DONE
    assert await _stored(database, report.report_id) == (ORDINALS, ORDINALS, REJECTIONS)
    assert len(rig.ingestor.calls) == 2
    assert rig.ingestor.calls[1].start_ordinal <= limit * (SIZE + 1)
    assert sorted(set(rig.moderator.judged)) == ORDINALS


async def test_what_is_read_before_it_is_durable_is_left_where_it_becomes_no_report(
    rig, database
) -> None:
    """Bytes that were there before are found while the ingestor reads them already."""
    first = (await rig.reports.SubmitReport(upload(b"{}"), metadata=tenant())).report
    rig.ingestor.hold = asyncio.Event()

    async def again() -> AsyncIterator[report_pb.SubmitReportRequest]:
        async for request in upload(b"{}"):
            if request.HasField("header"):
                request.header.duplicates = report_pb.DuplicateHandling.DUPLICATE_HANDLING_REUSE
            yield request

    answer = await rig.reports.SubmitReport(again(), metadata=tenant())
    assert (answer.reused, answer.report.report_id) == (True, first.report_id)
    async with asyncio.timeout(10):
        while rig.ingestor.open or rig.moderator.open:
            await asyncio.sleep(0.02)
    assert {call.report_id for call in rig.ingestor.calls} >= {first.report_id}
    for call in rig.ingestor.calls:
        if call.report_id != first.report_id:
            assert await _stored(database, call.report_id) == ([], [], [])


@pytest.mark.parametrize("limit", [0, 3, 20])
async def test_a_moderator_that_breaks_off_is_asked_only_for_what_is_missing(
    rig, database, limit: int
) -> None:
    rig.moderator.break_after = [limit]
    report = await rig.submit()
    assert report.status == ReportStatus.REPORT_STATUS_DONE
    assert await _stored(database, report.report_id) == (ORDINALS, ORDINALS, REJECTIONS)
    assert report.summary.low == len(ORDINALS)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.worker._BACKOFF_MOST_SECONDS", 0.01)
    monkeypatch.setattr("runtime.worker._POLL_SECONDS", 0.01)


@pytest.mark.usefixtures("impatient")
async def test_a_peer_that_stays_broken_fails_the_report_with_its_reason(rig) -> None:
    rig.moderator.break_after = [0] * MAX_FAILURES
    with pytest.raises(Exception, match="broken off") as caught:
        await rig.submit()
    assert "UNAVAILABLE" in str(caught.value)
    async with asyncio.timeout(10):
        while "REPORT_FAILED" not in [event.event_type for event in rig.audit.events]:
            await asyncio.sleep(0.05)


@pytest.mark.usefixtures("impatient")
async def test_a_stream_without_summary_is_not_taken_for_complete(rig) -> None:
    rig.moderator.summary = False
    with pytest.raises(Exception, match="without a summary"):
        await rig.submit()


@pytest.mark.usefixtures("impatient")
async def test_a_moderator_that_ends_early_is_not_taken_for_done(rig) -> None:
    """It sends its summary before it has judged anything."""
    rig.moderator.end_after = 0
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await rig.submit()
    # Which of the two depends on whether a write was under way.
    failure = from_rpc(caught.value, "orchestrator")
    assert failure.reason in ("STREAM_CUT_SHORT", "UPSTREAM_UNAVAILABLE")


async def test_credits_hold_back_what_a_slow_moderator_has_not_answered(rig) -> None:
    rig.moderator.hold = asyncio.Event()
    report = await rig.submit(wait=False)
    await asyncio.sleep(1.0)
    assert rig.moderator.received <= 16 * SIZE
    # The ingestor is held back too, by the queues between: far from everything.
    rig.moderator.hold.set()
    watched = [
        answer.progress
        async for answer in rig.reports.WatchReport(
            report_pb.WatchReportRequest(report_id=report.report_id)
        )
    ]
    assert watched[-1].status == ReportStatus.REPORT_STATUS_DONE


async def test_a_cancelled_report_ends_and_both_streams_close(rig, database) -> None:
    rig.moderator.hold = asyncio.Event()
    report = await rig.submit(wait=False)
    while not rig.moderator.received:
        await asyncio.sleep(0.02)
    answer = await rig.reports.CancelReport(
        report_pb.CancelReportRequest(report_id=report.report_id)
    )
    assert answer.report.status == ReportStatus.REPORT_STATUS_ERROR
    assert answer.report.error.reason == "REPORT_CANCELLED"
    # What it says of itself is what readers of its findings see.
    records = answer.report.records
    stored = await _stored(database, report.report_id)
    assert (records.findings, records.rejected) == (len(stored[0]), len(stored[2]))
    assert records.read == records.findings + records.rejected
    for _ in range(100):
        if rig.ingestor.open == rig.moderator.open == 0:
            break
        await asyncio.sleep(0.05)
    assert (rig.ingestor.open, rig.moderator.open) == (0, 0)


async def test_a_caller_that_goes_away_changes_nothing(rig, database) -> None:
    rig.moderator.hold = asyncio.Event()
    call = rig.reports.SubmitReport(upload(b"{}"))
    while not rig.moderator.received:
        await asyncio.sleep(0.02)
    call.cancel()
    await asyncio.sleep(0.1)
    rig.moderator.hold.set()
    newest = report_pb.ListReportsRequest(page_size=1)
    for _ in range(100):
        report = (await rig.reports.ListReports(newest)).reports[0]
        if report.status == ReportStatus.REPORT_STATUS_DONE:
            break
        await asyncio.sleep(0.05)
    assert report.status == ReportStatus.REPORT_STATUS_DONE


@pytest.mark.parametrize("parser", ["scripted/1", "scripted/0"])
async def test_a_report_of_an_earlier_life_is_taken_up_at_start(
    database, database_url, parser: str
) -> None:
    """Stored with some findings and some verdicts, then the process died."""
    report_id = uuid7()
    made = Rig(None)

    def half_done(connection) -> None:
        said = declaration.clean(report_pb.ReportDeclaration())
        created = events.run_event(
            events.REPORT_CREATED, report_id, "default", ReportProgress(status=states.CREATED)
        )
        key = Keyring((SEALING_KEY,)).wrap(report_id, new_data_key())
        store.create(
            connection, report_id, "default", "request", said, b"\0" * 32, 0, [], created, key
        )
        earlier = Queue(tables.jobs, "earlier")
        assert earlier.put(connection, RUN, str(report_id), tenant="default", claimed=True)
        connection.execute(
            update(tables.jobs).where(tables.jobs.c.key == str(report_id)).values(due_at=func.now())
        )
        store.set_format(connection, report_id, "scripted", parser)
        batch = FindingBatch(
            findings=[
                Finding(ordinal=ordinal, kind=FindingKind.FINDING_KIND_CODE, rule_id="scripted")
                for ordinal in ORDINALS[:12]
            ]
        )
        verdicts = VerdictBatch(
            verdicts=[
                Verdict(
                    ordinal=ordinal,
                    risk=Risk.RISK_HIGH,
                    reason="earlier",
                    source=VerdictSource.VERDICT_SOURCE_HEURISTIC,
                )
                for ordinal in ORDINALS[:7]
            ]
        )
        rejected = [Rejected(ordinal=ordinal) for ordinal in REJECTIONS[:4]]
        store_findings.put(connection, report_id, "default", [batch], rejected, [verdicts])

    await database.run(half_done)
    async with started(made, database_url):
        for _ in range(200):
            report = await database.run(store.get, report_id, "default")
            if report.status == ReportStatus.REPORT_STATUS_DONE:
                break
            await asyncio.sleep(0.05)
    assert await _stored(database, str(report_id)) == (ORDINALS, ORDINALS, REJECTIONS)
    if parser == "scripted/1":
        # What was judged in the earlier life was not judged again.
        assert sorted(made.moderator.judged) == ORDINALS[7:]
        assert (report.summary.high, report.summary.low) == (7, len(ORDINALS) - 7)
    else:
        # Another parser reads now: everything is read and judged anew.
        assert (report.summary.high, report.summary.low) == (0, len(ORDINALS))
