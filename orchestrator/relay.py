"""Joins two streams: the ingestor's responses are the moderator's requests.

The orchestrator is in the path and stores what passes: findings before they are
judged, verdicts after their findings. Credits bound what is unanswered, bounded
queues what is unwritten, and both calls are cancelled in `finally`, whatever
happened (measured: without it the ingestor's call stays open).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from queue import SimpleQueue
from typing import Any, NamedTuple

import grpc
from sqlalchemy import Connection

from orchestrator import events, store, store_events, store_findings
from orchestrator.agreement import Agreement
from runtime import crash, metrics
from runtime.breaker import GuardedChannel
from runtime.channels import PeerStatus, call
from runtime.database import Database
from runtime.errors import WinnowError, from_rpc
from runtime.jobs import Job, Queue
from runtime.streams import Credits, idle
from winnow.finding.v1.finding_batch_pb2 import FindingBatch
from winnow.finding.v1.verdict_pb2 import VerdictBatch
from winnow.ingest.v1.format_pb2 import DetectedFormat
from winnow.ingest.v1.ingest_service_pb2 import (
    IngestHeader,
    IngestRequest,
    IngestResponse,
    IngestSummary,
)
from winnow.ingest.v1.rejected_pb2 import Rejected
from winnow.moderate.v1.moderate_service_pb2 import (
    LlmUsage,
    ModerateHeader,
    ModerateRequest,
    ModerateResponse,
)
from winnow.report.v1.report_progress_pb2 import ReportProgress

UNANSWERED_BATCHES = 16
# A parser on a slow disk, a model on a busy machine: silence this long is death.
IDLE_SECONDS = 60.0
# It also waits for the ingestor, and may ask a language model.
JUDGED_SECONDS = 180.0
_QUEUED = 8
_GATHER_SECONDS = 0.03
_TELL_SECONDS = 0.5
_RESUMED_AT_ONCE = 256


class Legs:
    """The two calls that a relay joins.

    `IngestResponse.batch` and `ModerateRequest.batch` have the same number and
    type, so the bytes of a response that carries a batch are those of the request
    that hands it on: they are forwarded as they came, and parsed once, to be stored.

    Args:
        ingestor, moderator: channels to the two services.
    """

    def __init__(self, ingestor: GuardedChannel, moderator: GuardedChannel) -> None:
        self._breakers = (ingestor.breaker, moderator.breaker)
        self.ingest: Any = ingestor.stream_stream(
            "/winnow.ingest.v1.IngestService/Ingest",
            request_serializer=IngestRequest.SerializeToString,
            response_deserializer=_Arrived.parse,
        )
        self.moderate: Any = moderator.stream_stream(
            "/winnow.moderate.v1.ModerateService/Moderate",
            request_serializer=bytes,
            response_deserializer=ModerateResponse.FromString,
        )

    def check(self) -> None:
        """Returns if it makes sense to call them: a run is tried again later otherwise.

        Raises:
            WinnowError: UPSTREAM_UNAVAILABLE.
        """
        for breaker in self._breakers:
            if breaker.open:
                raise breaker.refusal()


class _Arrived(NamedTuple):
    """A response of the ingestor, and the bytes that it was."""

    response: IngestResponse
    raw: bytes

    @classmethod
    def parse(cls, raw: bytes) -> _Arrived:
        return cls(IngestResponse.FromString(raw), raw)


class Source(NamedTuple):
    """Where a relay reads: the report's bytes, and what is stored already."""

    header: IngestHeader
    chunks: AsyncIterator[bytes]


class Reading:
    """A report on its way through the ingestor: begun when made, read once, then closed.

    Args:
        legs: the calls to join.
        source: where from.
    """

    def __init__(self, legs: Legs, source: Source) -> None:
        self._stream = legs.ingest(**call(None))
        self._status = PeerStatus(self._stream)
        self._feeder = asyncio.create_task(self._feed(source))

    async def responses(self) -> AsyncIterator[_Arrived]:
        """What the ingestor answers.

        Raises:
            WinnowError: what the ingestor raised, UPSTREAM_UNAVAILABLE.
        """
        try:
            async for arrived in idle(self._stream, IDLE_SECONDS, "ingestor"):
                yield arrived
        except grpc.aio.AioRpcError as error:
            # If reading the stored bytes failed, the ingestor only saw a cut.
            feeder = self._feeder
            if feeder.done() and not feeder.cancelled() and (cause := feeder.exception()):
                raise cause from None
            raise from_rpc(self._status.of(error), "ingestor") from None

    def cancel(self) -> None:
        """Ends what is left of it."""
        self._stream.cancel()
        self._feeder.cancel()

    async def close(self) -> None:
        """Ends what is left of it, and waits for that."""
        self.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await self._feeder

    async def _feed(self, source: Source) -> None:
        stream = self._stream
        try:
            await stream.write(IngestRequest(header=source.header))
            async for chunk in source.chunks:
                await stream.write(IngestRequest(chunk=chunk))
            await stream.done_writing()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return  # the call has ended; its reader knows why
        except BaseException:
            stream.cancel()
            raise


# Names of a risk and of who judged.
_Judged = tuple[str, str]
# Work in the same transaction as what was queued before it, e.g. a state change.
Step = Callable[[Connection], object]
# What one transaction stores, as it arrives; None at its end.
_Items = SimpleQueue[Any]


class Writer:
    """Stores what passes, in order, as much a transaction as has arrived.

    Each transaction begins with the job's fence, counts what it stores, and tells
    of it now and then.

    Args:
        database: where to.
        job: the run, whose key is the report's id.
        queue: where the job is.
        progress: counted up by what is stored.
        ring: told after each commit.
        most: records that a report may have.
    """

    def __init__(
        self,
        database: Database,
        job: Job,
        queue: Queue,
        progress: ReportProgress,
        ring: Callable[[uuid.UUID], None],
        most: int,
    ) -> None:
        self._database = database
        self._job = job
        self._jobs = queue
        self._progress = progress
        self._ring = ring
        self._most = most
        self._records = progress.records.findings + progress.records.rejected
        self.report_id = uuid.UUID(job.key)
        self._queue: asyncio.Queue[Any] = asyncio.Queue(_QUEUED)
        self._ending = False
        # Who wrote the report, once that is known; for metrics.
        self.scanner = "unknown"
        self._told = time.monotonic()
        # What the report was recognised as, until that is stored.
        self._format: DetectedFormat | None = None

    def read_by(self, detected: DetectedFormat) -> None:
        """Stores with the first findings who read them: a resumed run asks."""
        self._format = detected

    async def put(self, item: FindingBatch | VerdictBatch | list[Rejected] | Step) -> None:
        """Queues an item; waits while the database is behind.

        Raises:
            WinnowError: TOO_MANY_RECORDS.
        """
        if isinstance(item, list):
            self._records += len(item)
        elif isinstance(item, FindingBatch):
            self._records += len(item.findings)
        if self._records > self._most:
            raise WinnowError(
                "TOO_MANY_RECORDS",
                f"the report has more than {self._most} records; split it, or raise max_records",
                limit_records=str(self._most),
            )
        await self._queue.put(item)

    async def done(self, *items: VerdictBatch | Step) -> None:
        """Queues the last items and waits until they and all before them are committed."""
        self._ending = True
        for item in items:
            await self._queue.put(item)
        await self._queue.join()

    async def run(self) -> None:
        """Stores until cancelled."""
        while True:
            items: _Items = SimpleQueue()
            items.put(await self._queue.get())
            # It stores the first while the others are still judged.
            writing = asyncio.ensure_future(self._database.run(self._store, items))
            try:
                with metrics.timed(metrics.WRITE_SECONDS):
                    stored = await self._gather(items)
                    rejected, judged = await asyncio.shield(writing)
            except asyncio.CancelledError:
                # Its thread goes on: whoever cancelled must not look at the tables
                # before what is under way is committed or gone.
                await asyncio.gather(writing, return_exceptions=True)
                raise
            crash.point("writer.stored")
            metrics.REJECTED.labels(self.scanner).inc(rejected)
            for (risk, source), count in judged.items():
                metrics.FINDINGS.labels(self.scanner, risk, source).inc(count)
            self._ring(self.report_id)
            for _ in range(stored):
                self._queue.task_done()

    def agreement(self) -> Agreement:
        """Who else saw what passes."""
        return Agreement(self._database, self.report_id, self._job.tenant)

    async def _gather(self, items: _Items) -> int:
        """Adds to a transaction that has its first item, and ends it: a commit costs more
        than a moment's patience, and the parts of a small report come within one.

        Returns:
            How many items it has.
        """
        count = 1
        try:
            async with asyncio.timeout(_GATHER_SECONDS):
                while count < _QUEUED and not (self._ending and self._queue.empty()):
                    items.put(await self._queue.get())
                    count += 1
        except TimeoutError:
            pass
        finally:
            items.put(None)
        return count

    def _store(self, connection: Connection, items: _Items) -> tuple[int, Counter[_Judged]]:
        """Stores items; how many records were rejected, and how many findings judged how."""
        self._jobs.hold(connection, self._job)
        stepped, refused, counted = False, 0, Counter[_Judged]()
        for arrived in _arriving(items):
            found = [item for item in arrived if isinstance(item, FindingBatch)]
            rejected = [one for item in arrived if isinstance(item, list) for one in item]
            judged = [item for item in arrived if isinstance(item, VerdictBatch)]
            store_findings.put(
                connection, self.report_id, self._job.tenant, found, rejected, judged
            )
            refused += len(rejected)
            counted += self._count(found, rejected, judged)
            for step in arrived:
                if callable(step):
                    stepped = True
                    step(connection)
        if not stepped:
            self._tell(connection)
        self._format = None
        crash.point("writer.storing")
        return refused, counted

    def _tell(self, connection: Connection) -> None:
        """What a change of state would have said."""
        if self._format is not None:
            parser = self._format.parser
            store.set_format(connection, self.report_id, self._format.scanner_type, parser)
        if time.monotonic() - self._told > _TELL_SECONDS:
            self._told = time.monotonic()
            event = events.run_event(
                events.REPORT_PROGRESS, self.report_id, self._job.tenant, self._progress
            )
            store_events.append(connection, self.report_id, [event])

    def _count(
        self, found: list[FindingBatch], rejected: list[Rejected], judged: list[VerdictBatch]
    ) -> Counter[_Judged]:
        progress = self._progress
        progress.records.findings += sum(len(batch.findings) for batch in found)
        progress.records.rejected += len(rejected)
        kinds = Counter(
            (verdict.risk, verdict.source) for batch in judged for verdict in batch.verdicts
        )
        for (risk, source), count in kinds.items():
            store_findings.add(progress, risk, source, count)
        return Counter(
            {
                (store_findings.risk_name(risk), store_findings.source_name(source)): count
                for (risk, source), count in kinds.items()
            }
        )


class Relay:
    """One pass over a report: bytes to findings to verdicts.

    Args:
        legs: the calls to join.
        writer: stores what passes.
    """

    def __init__(self, legs: Legs, writer: Writer) -> None:
        self._legs = legs
        self._writer = writer
        # Ordinals of a batch, and the batch as a serialised ModerateRequest.
        self._to_judge: asyncio.Queue[tuple[list[int], bytes] | None] = asyncio.Queue(2)
        # Sent and not answered.
        self._asked: set[int] = set()
        self._credits = Credits(UNANSWERED_BATCHES)
        self._scanner_type = ""
        self._all_sent = False
        # What asking a language model took; None where none was asked.
        self.llm: LlmUsage | None = None

    async def read(self, reading: Reading) -> tuple[DetectedFormat, IngestSummary]:
        """Reads the report through the ingestor to its summary.

        `judge` must run meanwhile: it takes the findings off this one's hands.

        Raises:
            WinnowError: what the ingestor raised, STREAM_CUT_SHORT,
                UPSTREAM_UNAVAILABLE.
        """
        agreement = self._writer.agreement()
        detected = summary = None
        try:
            async for response, raw in reading.responses():
                match response.WhichOneof("payload"):
                    case "batch":
                        if await agreement.complete(response.batch):
                            raw = response.SerializeToString()
                        await self._writer.put(response.batch)
                        await self._to_judge.put((_ordinals(response.batch), raw))
                    case "rejected":
                        await self._writer.put(list(response.rejected.rejected))
                    case "format":
                        detected = response.format
                        self._scanner_type = detected.scanner_type
                        self._writer.read_by(detected)
                        agreement.begin(detected.scanner_type)
                        self._writer.scanner = detected.scanner_type or "unknown"
                    case "summary":
                        summary = response.summary
        finally:
            await reading.close()
            await agreement.end()
        if detected is None or summary is None:
            raise WinnowError(
                "STREAM_CUT_SHORT", "the ingestor ended without a summary", service="ingestor"
            )
        return detected, summary

    async def resume(self, batches: AsyncIterator[FindingBatch]) -> None:
        """Sends findings that an earlier run stored and did not judge."""
        async for batch in batches:
            handed_on = ModerateRequest(batch=batch).SerializeToString()
            await self._to_judge.put((_ordinals(batch), handed_on))

    async def finish(self) -> None:
        """Says that no more findings come."""
        await self._to_judge.put(None)

    async def judge(self, header: ModerateHeader) -> VerdictBatch | None:
        """Has everything judged until `finish`; stores verdicts as they come.

        Returns:
            The last verdicts, not stored yet: they go with the report's end, in
            one transaction. None if there was nothing to judge.

        Raises:
            WinnowError: what the moderator raised, STREAM_CUT_SHORT,
                UPSTREAM_UNAVAILABLE.
        """
        stream = self._legs.moderate(**call(None))
        status = PeerStatus(stream)
        feeder = asyncio.create_task(self._feed_findings(stream, header))
        last: VerdictBatch | None = None
        complete = False
        try:
            async for response in idle(stream, JUDGED_SECONDS, "moderator"):
                if response.WhichOneof("payload") == "summary":
                    complete = True
                    self.llm = response.summary.llm if response.summary.HasField("llm") else None
                    continue
                verdicts = response.verdicts
                self._answered(verdicts)
                self._credits.give(len(verdicts.verdicts))
                if last is not None:
                    await self._writer.put(last)
                last = verdicts
        except grpc.aio.AioRpcError as error:
            raise from_rpc(status.of(error), "moderator") from None
        finally:
            stream.cancel()
            feeder.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await feeder
            self._credits.close()
        if not (complete and self._all_sent):
            raise WinnowError(
                "STREAM_CUT_SHORT", "the moderator ended without a summary", service="moderator"
            )
        if self._asked:
            raise WinnowError(
                "STREAM_CUT_SHORT", "the moderator left findings out", service="moderator"
            )
        return last

    def _answered(self, verdicts: VerdictBatch) -> None:
        """Each finding is judged once, and nothing but what was asked."""
        ordinals = {verdict.ordinal for verdict in verdicts.verdicts}
        if (
            len(ordinals) != len(verdicts.verdicts)
            or not ordinals <= self._asked
            or not all(verdict.risk for verdict in verdicts.verdicts)
        ):
            raise WinnowError(
                "INTERNAL", "the moderator's verdicts are not those of the findings it was sent"
            )
        self._asked -= ordinals

    async def _feed_findings(self, stream: Any, header: ModerateHeader) -> None:
        try:
            # The first findings wait for the format, so the header can name it.
            batch = await self._to_judge.get()
            if self._scanner_type:
                header.scanner_type = self._scanner_type
            await stream.write(ModerateRequest(header=header).SerializeToString())
            while batch is not None:
                ordinals, raw = batch
                await self._credits.take(len(ordinals))
                self._asked.update(ordinals)
                await stream.write(raw)
                batch = await self._to_judge.get()
            self._all_sent = True
            await stream.done_writing()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return  # the call has ended; its reader knows why


def _arriving(items: _Items) -> Iterator[list[Any]]:
    """All that is there, again and again until the end."""
    while True:
        arrived = [items.get()]
        while not items.empty():
            arrived.append(items.get())
        yield [item for item in arrived if item is not None]
        if arrived[-1] is None:
            return


def _ordinals(batch: FindingBatch) -> list[int]:
    return [finding.ordinal for finding in batch.findings]


async def stored_unjudged(database: Database, report_id: uuid.UUID) -> AsyncIterator[FindingBatch]:
    """Batches of stored findings that have no verdict yet."""
    after = -1
    while True:
        batch = await database.run(store_findings.unjudged, report_id, after, _RESUMED_AT_ONCE)
        if not batch.findings:
            return
        after = batch.findings[-1].ordinal
        yield batch
