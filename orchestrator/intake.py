"""Receives a report's bytes and makes them durable.

Nothing of the report is in the tables under its own name until its last byte is
there: chunks are sealed and stored as they come, and one transaction writes the
report, its remaining chunks, its event and its idempotency key. An upload that is
cut leaves nothing, and so does one whose key or content has its report already.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import uuid
from collections.abc import AsyncIterator
from typing import NamedTuple

import zstandard
from sqlalchemy import Connection

from orchestrator import declaration, events, states, store, store_idempotency
from runtime import context, crash
from runtime.clock import uuid7
from runtime.database import Database
from runtime.errors import WinnowError
from runtime.interceptors import validate
from runtime.keyring import Keyring, new_data_key
from runtime.sealing import RAW_REPORT, Sealer
from winnow.ingest.v1.ingest_service_pb2 import IngestHeader
from winnow.report.v1.report_pb2 import Report
from winnow.report.v1.report_progress_pb2 import ReportProgress
from winnow.report.v1.report_service_pb2 import (
    DuplicateHandling,
    ReportDeclaration,
    SubmitReportEnd,
    SubmitReportHeader,
    SubmitReportRequest,
)
from winnow.seal.v1.data_key_pb2 import DataKey

CHUNK_BYTES = 1 << 20
# Level 1: the fastest; a report is written once and rarely read.
_LEVEL = 1
_KEY = re.compile(r"[!-~]{0,255}\Z")


class RawReport:
    """The raw bytes of one report, sealed in chunks of 1 MiB.

    Args:
        database: where the chunks are.
        report_id: whose bytes.
        key: the report's data key, 32 bytes.
    """

    def __init__(self, database: Database, report_id: uuid.UUID, key: bytes) -> None:
        self._database = database
        self._key = key
        self._sealer = Sealer(key, report_id, RAW_REPORT)
        self._report_id = report_id
        self._at_hand: bytes | None = None

    def seal(self, seq: int, chunk: bytes) -> tuple[int, bytes]:
        """A chunk as it is stored."""
        packed = zstandard.ZstdCompressor(level=_LEVEL).compress(chunk)
        return seq, self._sealer.seal(packed, seq)

    def wrapped(self, keyring: Keyring) -> DataKey:
        """The data key as it may be stored and sent."""
        return keyring.wrap(self._report_id, self._key)

    def keep(self, whole: bytes) -> None:
        """Holds a report of one chunk: reading it back would cost more than its memory."""
        self._at_hand = whole

    @property
    def at_hand(self) -> bool:
        """Whether it is held, and can be read before it is stored."""
        return self._at_hand is not None

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
        keyring: wraps their data keys.
        max_bytes: largest report accepted.
    """

    def __init__(self, database: Database, keyring: Keyring, max_bytes: int) -> None:
        self._database = database
        self._keyring = keyring
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
        _check(first.header)
        report_id = uuid7()
        raw = RawReport(self._database, report_id, new_data_key())
        upload = Upload(
            raw, self._database, self._keyring, report_id, self._max_bytes, first.header
        )
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


def _check(header: SubmitReportHeader) -> None:
    if not _KEY.match(header.request_id):
        raise WinnowError(
            "INVALID_ARGUMENT",
            "an idempotency key must have 1 to 255 visible ASCII characters",
            field="request_id",
            rule="key",
        )
    if header.wait_at_most.seconds < 0 or header.wait_at_most.nanos < 0:
        raise WinnowError(
            "INVALID_ARGUMENT", "wait_at_most must not be negative", field="wait_at_most"
        )
    validate(header)


class Earlier(NamedTuple):
    """The report that an upload turned out to be for.

    Args:
        report: as it stands.
        replayed: the upload's key stands for it.
        reused: it has the upload's content, and was to be used then.
        ended: how it ended, as it was kept for the key; None where it is not.
    """

    report: Report
    replayed: bool
    reused: bool
    ended: Report | WinnowError | None


class Upload:
    """Gathers chunks to 1 MiB, hashes, seals, stores."""

    def __init__(
        self,
        raw: RawReport,
        database: Database,
        keyring: Keyring,
        report_id: uuid.UUID,
        max_bytes: int,
        header: SubmitReportHeader,
    ) -> None:
        self.raw = raw
        # Wrapped at the upload's end, with the key that is current then.
        self.data_key = DataKey()
        self._keyring = keyring
        self.header = header
        self._database = database
        self._report_id = report_id
        self._max_bytes = max_bytes
        self._tenant = context.tenant.get()
        self._buffer = bytearray()
        self._digest = hashlib.sha256()
        self._size = 0
        self._stored = 0
        self._storing: asyncio.Future[None] | None = None
        self._said = ReportDeclaration()
        # What `create` found in the place of a new report.
        self.earlier: Earlier | None = None

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
            self._storing = asyncio.ensure_future(
                self._database.run(self._put, self._stored, piece)
            )
            await asyncio.shield(self._storing)
            self._stored += 1
            crash.point("intake.chunk")

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
        self.data_key = self.raw.wrapped(self._keyring)
        if not self._stored:
            self.raw.keep(bytes(self._buffer))

    def ingest_header(self) -> IngestHeader:
        """What the ingestor is told of it."""
        said = self._said
        return IngestHeader(
            report_id=str(self._report_id),
            scanner_type=said.scanner_type,
            report_format=said.report_format,
            data_key=self.data_key,
        )

    def create(self, connection: Connection) -> Report | None:
        """Makes the report durable, unless it turns out that there is one.

        Returns:
            The new report; None if there is none, and `earlier` then.

        Raises:
            WinnowError: IDEMPOTENCY_KEY_REUSED.
        """
        digest = self._digest.digest()
        reuse = self.header.duplicates == DuplicateHandling.DUPLICATE_HANDLING_REUSE
        if reuse:
            store_idempotency.one_at_a_time(connection, self._tenant, digest)
        first = store_idempotency.first_of(
            connection,
            self._tenant,
            digest,
            declaration.asset_key(self._said.source),
            self._said.scanner_type,
        )
        if reuse and first is not None:
            report = store.get(connection, first, self._tenant)
            self.earlier = Earlier(report, replayed=False, reused=True, ended=None)
        if self.header.request_id:
            self._claim(connection)
        if self.earlier is not None:
            store.drop_upload(connection, self._report_id)
            return None
        repeats = {} if first is None else {"duplicate_of": str(first)}
        created = events.run_event(
            events.REPORT_CREATED,
            self._report_id,
            self._tenant,
            ReportProgress(status=states.CREATED),
            scanner_type=self._said.scanner_type,
            size_bytes=self._size,
            sha256=digest.hex(),
            **repeats,
        )
        last = bytes(self._buffer)
        return store.create(
            connection,
            self._report_id,
            self._tenant,
            context.request_id.get(),
            self._said,
            digest,
            self._size,
            [self.raw.seal(self._stored, last)] if last else [],
            created,
            self.data_key,
            first,
        )

    def _claim(self, connection: Connection) -> None:
        """Makes the key stand for this upload's report, or finds what it stands for."""
        asked = hashlib.sha256(self._said.SerializeToString(deterministic=True))
        asked.update(self._digest.digest())
        reused = self.earlier.report if self.earlier else None
        known = store_idempotency.claim(
            connection,
            self._tenant,
            self.header.request_id,
            asked.digest(),
            uuid.UUID(reused.report_id) if reused else self._report_id,
            reused,
        )
        if known is None:
            return
        if known.request_digest != asked.digest():
            raise WinnowError(
                "IDEMPOTENCY_KEY_REUSED",
                "this key was sent with another report, or with another scanner, format, source "
                "or labels, within 24 hours; send another key with each report",
                report_id=str(known.report_id),
            )
        report = store.get(connection, known.report_id, self._tenant)
        self.earlier = Earlier(report, True, known.reused, known.ended)

    async def drop(self) -> None:
        """Removes what was stored of it: it becomes no report."""
        if self._storing is not None:
            # Cancelled, it was not waited for; its thread goes on.
            await asyncio.gather(self._storing, return_exceptions=True)
            await self._database.run(store.drop_upload, self._report_id)
