"""IngestService: unpack, run the parser in a thread, pack.

Parsing is CPU work over a synchronous iterator, so it lives in a thread of its
own; two small bounded queues join it to the event loop, and a flag ends it when
the caller goes away.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ingestor.formats import known
from ingestor.parsing import IngestKeys, read_report
from runtime import crash, metrics
from runtime.errors import WinnowError
from runtime.interceptors import validate
from runtime.keyring import Keyring
from winnow.ingest.v1 import ingest_service_pb2 as pb
from winnow.ingest.v1 import ingest_service_pb2_grpc as rpc

_CHUNKS_AHEAD = 4
_RESPONSES_AHEAD = 4
_POLL_SECONDS = 0.5


class IngestService(rpc.IngestServiceServicer):
    """The gRPC face of the ingestor.

    Args:
        keyring: opens the data keys that seal the evidence.
        fingerprint_key: keys the fingerprints, 32 bytes.
        threads: reports read at once.
    """

    def __init__(self, keyring: Keyring, fingerprint_key: bytes, threads: int = 4) -> None:
        self._keyring = keyring
        self._fingerprint_key = fingerprint_key
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="parse")

    async def Ingest(
        self, request_iterator: AsyncIterator[pb.IngestRequest], _context: Any
    ) -> AsyncIterator[pb.IngestResponse]:
        first = await anext(aiter(request_iterator), None)
        if first is None or first.WhichOneof("payload") != "header":
            raise WinnowError(
                "STREAM_PROTOCOL", "the first message must be the header", expected="header"
            )
        header = first.header
        validate(header)
        data_key = self._keyring.open(uuid.UUID(header.report_id), header.data_key)
        keys = IngestKeys(data_key, self._fingerprint_key)
        bridge = _Bridge(asyncio.get_running_loop())
        feeding = asyncio.create_task(bridge.feed(request_iterator))
        parsing = asyncio.get_running_loop().run_in_executor(
            self._threads, bridge.parse, header, keys
        )
        # Whoever leaves early does not wait for the thread: nobody else may ask.
        parsing.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            while (response := await bridge.responses.get()) is not None:
                crash.point("ingestor.summary", response.HasField("summary"))
                yield response
                crash.point("ingestor.batch", response.HasField("batch"))
            await parsing
            if feeding.done():
                feeding.result()
        finally:
            bridge.stop.set()
            feeding.cancel()
            # The thread may be waiting to hand over one more response.
            while not bridge.responses.empty():
                bridge.responses.get_nowait()

    async def ListFormats(
        self, _request: pb.ListFormatsRequest, _context: Any
    ) -> pb.ListFormatsResponse:
        return pb.ListFormatsResponse(formats=known())


class _Stopped(Exception):
    """The caller went away."""


class _Bridge:
    """Between the event loop and the parsing thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._chunks: queue.Queue[bytes | WinnowError | None] = queue.Queue()
        self._room = asyncio.Semaphore(_CHUNKS_AHEAD)
        self.responses: asyncio.Queue[pb.IngestResponse | None] = asyncio.Queue(_RESPONSES_AHEAD)
        self.stop = threading.Event()

    async def feed(self, requests: AsyncIterator[pb.IngestRequest]) -> None:
        """Hands the request stream's chunks to the thread."""
        try:
            async for request in requests:
                if request.WhichOneof("payload") != "chunk":
                    raise WinnowError(
                        "STREAM_PROTOCOL", "after the header come chunks only", expected="chunk"
                    )
                await self._room.acquire()
                self._chunks.put(request.chunk)
            self._chunks.put(None)
        except WinnowError as error:
            self._chunks.put(error)
        except BaseException:
            self.stop.set()
            raise

    def _read(self) -> Iterator[bytes]:
        while True:
            try:
                chunk = self._chunks.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                if self.stop.is_set():
                    raise _Stopped from None
                continue
            if chunk is None:
                return
            if isinstance(chunk, WinnowError):
                raise chunk
            self._loop.call_soon_threadsafe(self._room.release)
            metrics.INGEST_BYTES.inc(len(chunk))
            yield chunk

    def parse(self, header: pb.IngestHeader, keys: IngestKeys) -> None:
        """Runs in the thread: reads the report, hands over responses, then None."""
        try:
            for response in _measured(read_report(self._read(), header, keys)):
                self._hand_over(response)
        except _Stopped:
            return
        finally:
            if not self.stop.is_set():
                self._hand_over(None)

    def _hand_over(self, response: pb.IngestResponse | None) -> None:
        handed = asyncio.run_coroutine_threadsafe(self.responses.put(response), self._loop)
        while True:
            try:
                handed.result(_POLL_SECONDS)
                return
            except TimeoutError:
                if self.stop.is_set():
                    handed.cancel()
                    raise _Stopped from None


def _measured(responses: Iterator[pb.IngestResponse]) -> Iterator[pb.IngestResponse]:
    """The responses; what each took, and what came of the report, is counted."""
    scanner = ""
    started = time.perf_counter()
    for response in responses:
        match response.WhichOneof("payload"):
            case "batch":
                metrics.INGEST_SECONDS.observe(time.perf_counter() - started)
            case "format":
                scanner = response.format.scanner_type
            case "summary":
                counted = response.summary
                for outcome, count in (
                    ("finding", counted.findings),
                    ("merged", counted.merged),
                    ("rejected", counted.rejected),
                ):
                    metrics.RECORDS.labels(scanner or "unknown", outcome).inc(count)
        yield response
        started = time.perf_counter()
