"""ModerateService: unpack, run the pipeline in its thread, pack.

Judging is CPU work and the matcher serves one thread at a time, so one thread
judges for all calls; the event loop stays free for the streams.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from moderator.pipeline import Pipeline
from runtime.errors import WinnowError
from runtime.interceptors import validate
from runtime.sealing import EVIDENCE, Sealer
from winnow.finding.v1.finding_batch_pb2 import FindingBatch
from winnow.finding.v1.verdict_pb2 import Risk, VerdictBatch
from winnow.moderate.v1 import moderate_service_pb2 as pb
from winnow.moderate.v1 import moderate_service_pb2_grpc as rpc


class ModerateService(rpc.ModerateServiceServicer):
    """The gRPC face of the moderator.

    Args:
        pipeline: the cascade of stages.
        sealing_key: opens evidence, 32 bytes.
    """

    def __init__(self, pipeline: Pipeline, sealing_key: bytes) -> None:
        self._pipeline = pipeline
        self._key = sealing_key
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="judge")

    async def Moderate(
        self, request_iterator: AsyncIterator[pb.ModerateRequest], _context: Any
    ) -> AsyncIterator[pb.ModerateResponse]:
        first = await anext(aiter(request_iterator), None)
        if first is None or first.WhichOneof("payload") != "header":
            raise WinnowError(
                "STREAM_PROTOCOL", "the first message must be the header", expected="header"
            )
        header = first.header
        validate(header)
        sealer = self._sealer(header)
        summary = pb.ModerateSummary()
        async for request in request_iterator:
            if request.WhichOneof("payload") != "batch":
                raise WinnowError(
                    "STREAM_PROTOCOL", "after the header come batches only", expected="batch"
                )
            verdicts = await self._judge(header, request.batch, sealer)
            _count(summary, verdicts)
            yield pb.ModerateResponse(verdicts=verdicts)
        yield pb.ModerateResponse(summary=summary)

    async def ModerateBatch(
        self, request: pb.ModerateBatchRequest, _context: Any
    ) -> pb.ModerateBatchResponse:
        verdicts = await self._judge(request.header, request.batch, self._sealer(request.header))
        response = pb.ModerateBatchResponse(verdicts=verdicts)
        _count(response.summary, verdicts)
        return response

    def _sealer(self, header: pb.ModerateHeader) -> Sealer:
        return Sealer(self._key, uuid.UUID(header.report_id), EVIDENCE)

    async def _judge(
        self, header: pb.ModerateHeader, batch: FindingBatch, sealer: Sealer
    ) -> VerdictBatch:
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, self._pipeline.judge, header, batch, sealer
        )


def _count(summary: pb.ModerateSummary, batch: VerdictBatch) -> None:
    risks = [verdict.risk for verdict in batch.verdicts]
    summary.findings += len(risks)
    summary.high += risks.count(Risk.RISK_HIGH)
    summary.medium += risks.count(Risk.RISK_MEDIUM)
    summary.low += risks.count(Risk.RISK_LOW)
