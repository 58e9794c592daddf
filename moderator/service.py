"""ModerateService: unpack, run the pipeline in its thread, pack.

Judging is CPU work and the matcher serves one thread at a time, so one thread
judges for all calls; the event loop stays free for the streams. A language
model, if there is one, is asked in tasks beside them: verdicts that do not wait
for it are not held up.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, TypeVar

import structlog

from moderator.pipeline import Doubt, Pipeline
from runtime import context, crash, metrics
from runtime.errors import WinnowError
from runtime.interceptors import validate
from runtime.keyring import Keyring
from runtime.sealing import EVIDENCE, Sealer
from winnow.finding.v1.finding_batch_pb2 import FindingBatch
from winnow.finding.v1.verdict_pb2 import Risk, Verdict, VerdictBatch
from winnow.moderate.v1 import moderate_service_pb2 as pb
from winnow.moderate.v1 import moderate_service_pb2_grpc as rpc

if TYPE_CHECKING:
    from moderator.stages.llm import Case, LanguageModel

_T = TypeVar("_T")
_READY = 8
_NOTHING: Mapping[int, Verdict] = {}
# A batch, an error, or None at the end.
_Ready = asyncio.Queue[VerdictBatch | Exception | None]


class ModerateService(rpc.ModerateServiceServicer):
    """The gRPC face of the moderator.

    Args:
        pipeline: the cascade of stages.
        keyring: opens the data keys of evidence.
        model: the language model to ask last, if there is one.
    """

    def __init__(
        self, pipeline: Pipeline, keyring: Keyring, model: LanguageModel | None = None
    ) -> None:
        self._pipeline = pipeline
        self._keyring = keyring
        self._model = model
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="judge")

    async def Moderate(
        self, request_iterator: AsyncIterator[pb.ModerateRequest], _context: Any
    ) -> AsyncIterator[pb.ModerateResponse]:
        first = await anext(aiter(request_iterator), None)
        if first is None or first.WhichOneof("payload") != "header":
            raise WinnowError(
                "STREAM_PROTOCOL", "the first message must be the header", expected="header"
            )
        validate(first.header)
        summary, used = pb.ModerateSummary(), pb.LlmUsage()
        async with aclosing(
            self._verdicts(first.header, _batches(request_iterator), used)
        ) as batches:
            async for verdicts in batches:
                _count(summary, verdicts)
                crash.point("moderator.judged")
                yield pb.ModerateResponse(verdicts=verdicts)
        _account(summary, used)
        yield pb.ModerateResponse(summary=summary)

    async def ModerateBatch(
        self, request: pb.ModerateBatchRequest, _context: Any
    ) -> pb.ModerateBatchResponse:
        response = pb.ModerateBatchResponse()
        recorded = {verdict.ordinal: verdict for verdict in request.recorded}
        used = pb.LlmUsage()
        verdicts_of = self._verdicts(request.header, _once(request.batch), used, recorded)
        async with aclosing(verdicts_of) as batches:
            async for verdicts in batches:
                response.verdicts.MergeFrom(verdicts)
        _count(response.summary, response.verdicts)
        _account(response.summary, used)
        return response

    async def _verdicts(
        self,
        header: pb.ModerateHeader,
        batches: AsyncIterator[FindingBatch],
        used: pb.LlmUsage,
        recorded: Mapping[int, Verdict] = _NOTHING,
    ) -> AsyncGenerator[VerdictBatch, None]:
        """Verdicts on every finding, in the order in which they are ready."""
        report_id = uuid.UUID(header.report_id)
        sealer = Sealer(self._keyring.open(report_id, header.data_key), report_id, EVIDENCE)
        if self._model is None or header.offline:
            judge = self._pipeline.judge
            async for batch in batches:
                with metrics.timed(metrics.MODERATE_SECONDS):
                    verdicts = await self._judging(judge, header, batch, sealer, recorded)
                yield verdicts
            return
        ready: _Ready = asyncio.Queue(_READY)
        reader = asyncio.create_task(self._read(self._model, header, sealer, batches, ready, used))
        try:
            while (item := await ready.get()) is not None:
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            reader.cancel()
            await asyncio.wait([reader])

    async def _read(
        self,
        model: LanguageModel,
        header: pb.ModerateHeader,
        sealer: Sealer,
        batches: AsyncIterator[FindingBatch],
        ready: _Ready,
        used: pb.LlmUsage,
    ) -> None:
        """Puts what is decided, at once, and what the model was asked about, later."""
        case = model.case(context.tenant.get(), used)
        waiting: set[asyncio.Task[None]] = set()
        try:
            # In every line about a call; tasks made here inherit it.
            structlog.contextvars.bind_contextvars(report_id=header.report_id)
            async for batch in batches:
                with metrics.timed(metrics.MODERATE_SECONDS):
                    decided, doubts = await self._judging(
                        self._pipeline.sift, header, batch, sealer, case
                    )
                if decided.verdicts:
                    await ready.put(decided)
                for doubt in doubts:
                    task = asyncio.create_task(self._settle(model, case, doubt, ready))
                    waiting.add(task)
                    task.add_done_callback(waiting.discard)
            await asyncio.gather(*waiting)
        except Exception as error:  # noqa: BLE001 -- the generator raises it
            await ready.put(error)
        else:
            await ready.put(None)
        finally:
            for task in waiting:
                task.cancel()

    async def _settle(
        self,
        model: LanguageModel,
        case: Case,
        doubt: Doubt,
        ready: _Ready,
    ) -> None:
        """Puts the verdict on one doubt."""
        said = self._pipeline.said(doubt)
        try:
            outcome = await model.settle(case, doubt.subject, said, self._judging)
            # In the thread, as all rendering: what it caches serves one thread.
            await ready.put(await self._judging(self._pipeline.settle, doubt, model, outcome))
        except Exception as error:  # noqa: BLE001 -- the generator raises it
            await ready.put(error)

    async def _judging(self, work: Callable[..., _T], *args: Any) -> _T:
        """The result of work that is done in the judging thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *args)


async def _batches(requests: AsyncIterator[pb.ModerateRequest]) -> AsyncIterator[FindingBatch]:
    async for request in requests:
        if request.WhichOneof("payload") != "batch":
            raise WinnowError(
                "STREAM_PROTOCOL", "after the header come batches only", expected="batch"
            )
        yield request.batch


async def _once(batch: FindingBatch) -> AsyncIterator[FindingBatch]:
    yield batch


def _count(summary: pb.ModerateSummary, batch: VerdictBatch) -> None:
    risks = [verdict.risk for verdict in batch.verdicts]
    summary.findings += len(risks)
    summary.high += risks.count(Risk.RISK_HIGH)
    summary.medium += risks.count(Risk.RISK_MEDIUM)
    summary.low += risks.count(Risk.RISK_LOW)


def _account(summary: pb.ModerateSummary, used: pb.LlmUsage) -> None:
    if used.calls or used.unanswered:
        summary.llm.CopyFrom(used)
    for risk in metrics.RISKS:
        metrics.VERDICTS.labels(risk).inc(getattr(summary, risk))
