"""Receives a report's bytes and makes them durable.

Nothing of the report is in the tables under its own name until its last byte is
there: chunks are sealed and stored as they come, and one transaction writes the
report, its remaining chunks and its event. An upload that is cut leaves nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import AsyncIterator

import zstandard
from sqlalchemy import Connection

from orchestrator import declaration, events, states, store
from runtime import context
from runtime.clock import uuid7
from runtime.database import Database
from runtime.errors import WinnowError
from runtime.sealing import RAW_REPORT, Sealer
from winnow.report.v1.report_pb2 import Report
from winnow.report.v1.report_progress_pb2 import ReportProgress
from winnow.report.v1.report_service_pb2 import (
    ReportDeclaration,
    SubmitReportEnd,
    SubmitReportHeader,
    SubmitReportRequest,
)

CHUNK_BYTES = 1 << 20
# Level 1: the fastest; a report is written once and rarely read.
_LEVEL = 1


class RawReport:
    """The raw bytes of one report, sealed in chunks of 1 MiB.

    Args:
        database: where the chunks are.
        key: the sealing key, 32 bytes.
        report_id: whose bytes.
    """

    def __init__(self, database: Database, key: bytes, report_id: uuid.UUID) -> None:
        self._database = database
        self._sealer = Sealer(key, report_id, RAW_REPORT)
        self._report_id = report_id
        self._at_hand: bytes | None = None

    def seal(self, seq: int, chunk: bytes) -> tuple[int, bytes]:
        """A chunk as it is stored."""
        packed = zstandard.ZstdCompressor(level=_LEVEL).compress(chunk)
        return seq, self._sealer.seal(packed, seq)

    def keep(self, whole: bytes) -> None:
        """Holds a report of one chunk: reading it back would cost more than its memory."""
        self._at_hand = whole

    async def chunks(self) -> AsyncIterator[bytes]:
        """The bytes in order, in pieces of at most 1 MiB."""
        if self._at_hand is not None:
            if self._at_hand:
                yield self._at_hand
            return
        seq = 0
        while True:
            sealed = await self._database.run(store.chunk, self._report_id, seq)
            if sealed is None:
                return
            packed = self._sealer.open(sealed, seq)
            yield zstandard.ZstdDecompressor().decompress(packed, max_output_size=CHUNK_BYTES)
            seq += 1


class Intake:
    """Takes uploads.

    Args:
        database: where reports go.
        key: the sealing key, 32 bytes.
        max_bytes: largest report accepted.
    """

    def __init__(self, database: Database, key: bytes, max_bytes: int) -> None:
        self._database = database
        self._key = key
        self._max_bytes = max_bytes

    async def receive(self, requests: AsyncIterator[SubmitReportRequest]) -> Upload:
        """Reads one upload to its end; `Upload.create` then makes the report durable.

        Raises:
            WinnowError: STREAM_PROTOCOL, UPLOAD_INCOMPLETE, REPORT_TOO_LARGE,
                INVALID_ARGUMENT.
        """
        first = await anext(aiter(requests), None)
        if first is None or first.WhichOneof("payload") != "header":
            raise WinnowError(
                "STREAM_PROTOCOL", "the first message must be the header", expected="header"
            )
        report_id = uuid7()
        raw = RawReport(self._database, self._key, report_id)
        upload = Upload(raw, self._database, report_id, self._max_bytes, first.header)
        complete = False
        try:
            async for request in requests:
                payload = request.WhichOneof("payload")
                if complete or payload not in ("chunk", "end"):
                    raise WinnowError(
                        "STREAM_PROTOCOL",
                        "after the header come chunks, then one end, then nothing",
                        expected="chunk or end",
                    )
                if payload == "chunk":
                    await upload.add(request.chunk)
                else:
                    complete = True
                    upload.finish(request.end)
            if not complete:
                raise WinnowError(
                    "UPLOAD_INCOMPLETE", "the upload ended before its end message; nothing is kept"
                )
        except BaseException:
            await asyncio.shield(upload.drop())
            raise
        return upload


class Upload:
    """Gathers chunks to 1 MiB, hashes, seals, stores."""

    def __init__(
        self,
        raw: RawReport,
        database: Database,
        report_id: uuid.UUID,
        max_bytes: int,
        header: SubmitReportHeader,
    ) -> None:
        self.raw = raw
        self.header = header
        self._database = database
        self._report_id = report_id
        self._max_bytes = max_bytes
        self._tenant = context.tenant.get()
        self._buffer = bytearray()
        self._digest = hashlib.sha256()
        self._size = 0
        self._stored = 0
        self._said = ReportDeclaration()

    async def add(self, chunk: bytes) -> None:
        self._size += len(chunk)
        if self._size > self._max_bytes:
            raise WinnowError(
                "REPORT_TOO_LARGE",
                f"the report is larger than {self._max_bytes} bytes; split it, or raise "
                "max_report_bytes",
                limit_bytes=str(self._max_bytes),
            )
        self._digest.update(chunk)
        self._buffer += chunk
        while len(self._buffer) > CHUNK_BYTES:
            piece = bytes(self._buffer[:CHUNK_BYTES])
            del self._buffer[:CHUNK_BYTES]
            await self._database.run(self._put, self._stored, piece)
            self._stored += 1

    def _put(self, connection: Connection, seq: int, piece: bytes) -> None:
        sealed = self.raw.seal(seq, piece)
        store.put_chunks(connection, self._report_id, self._tenant, [sealed])

    def finish(self, end: SubmitReportEnd) -> None:
        """Checks that the upload is whole, and takes what was said of the report.

        Raises:
            WinnowError: UPLOAD_INCOMPLETE, INVALID_ARGUMENT.
        """
        if end.size_bytes != self._size:
            raise WinnowError(
                "UPLOAD_INCOMPLETE",
                f"{self._size} bytes arrived and {end.size_bytes} were announced; nothing is kept",
            )
        said = declaration.merge(self.header.declaration, end.declaration)
        self._said = declaration.clean(said)
        if not self._stored:
            self.raw.keep(bytes(self._buffer))

    def create(self, connection: Connection) -> Report:
        """Makes the report durable."""
        created = events.run_event(
            events.REPORT_CREATED,
            self._report_id,
            self._tenant,
            ReportProgress(status=states.CREATED),
            scanner_type=self._said.scanner_type,
            size_bytes=self._size,
            sha256=self._digest.hexdigest(),
        )
        last = bytes(self._buffer)
        return store.create(
            connection,
            self._report_id,
            self._tenant,
            context.request_id.get(),
            self._said,
            self._digest.digest(),
            self._size,
            [self.raw.seal(self._stored, last)] if last else [],
            created,
        )

    async def drop(self) -> None:
        """Removes what was stored of it: it becomes no report."""
        if self._stored:
            await self._database.run(store.drop_upload, self._report_id)
