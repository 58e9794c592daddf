"""The orchestrator's SQL on reports: the only place where rows and messages meet.

Functions take the connection that `Database.run` opened; each call is one
transaction, and a state change and its events are always in the same one.
Findings and verdicts are in store_findings.py.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

from google.protobuf.json_format import MessageToDict, ParseDict
from sqlalchemy import Connection, Row, bindparam, delete, insert, select, update

from orchestrator import declaration as declared
from orchestrator import states, store_events, store_outbox
from orchestrator.tables import data_keys, raw_chunks, reports
from runtime.clock import now
from runtime.errors import WinnowError
from winnow.event.v1.envelope_pb2 import Envelope
from winnow.ingest.v1.notice_pb2 import Notice
from winnow.report.v1.report_pb2 import (
    RecordCounts,
    Report,
    ReportError,
    ReportSource,
    ReportStatus,
    RiskSummary,
)
from winnow.report.v1.report_service_pb2 import ReportDeclaration
from winnow.seal.v1.data_key_pb2 import DataKey

# Made once: SQLAlchemy takes longer to put a statement together than to send it.
_GIVEN = (
    *("report_id", "tenant_id", "status", "scanner_type", "report_format", "source", "labels"),
    *("asset_key", "sha256", "size_bytes", "request_id", "created_at", "updated_at"),
    *("last_event", "duplicate_of"),
)
# A report's row and its data key: one round trip. Parameters have names of their own: one
# that is a column's would be taken for that column of both tables.
_CREATE = (
    insert(reports)
    .values({name: bindparam(f"its_{name}") for name in _GIVEN})
    .add_cte(
        insert(data_keys)
        .values(
            report_id=bindparam("key_of"),
            tenant_id=bindparam("key_tenant"),
            key_id=bindparam("key_wrapper"),
            wrapped=bindparam("key_wrapped"),
        )
        .cte("key")
    )
    .returning(reports)
)
_PUT_CHUNKS = insert(raw_chunks)
_MOVE = (
    update(reports)
    .where(
        reports.c.report_id == bindparam("moved"),
        reports.c.status.in_(bindparam("origins", expanding=True)),
    )
    .values(last_event=reports.c.last_event + bindparam("more_events"))
    .returning(reports)
)


def create(
    connection: Connection,
    report_id: uuid.UUID,
    tenant: str,
    request_id: str,
    said: ReportDeclaration,
    sha256: bytes,
    size: int,
    chunks: Iterable[tuple[int, bytes]],
    created: Envelope,
    data_key: DataKey,
    duplicate_of: uuid.UUID | None = None,
) -> Report:
    """Makes a report durable: its row and key, the rest of its sealed chunks, its first event."""
    put_chunks(connection, report_id, tenant, chunks)
    at = now()
    row = connection.execute(
        _CREATE,
        {
            "its_report_id": report_id,
            "its_tenant_id": tenant,
            "its_status": states.CREATED,
            "its_scanner_type": said.scanner_type,
            "its_report_format": said.report_format,
            "its_source": MessageToDict(said.source),
            "its_labels": dict(said.labels),
            "its_asset_key": declared.asset_key(said.source),
            "its_sha256": sha256,
            "its_size_bytes": size,
            "its_request_id": request_id,
            "its_created_at": at,
            "its_updated_at": at,
            "its_last_event": 1,
            "its_duplicate_of": duplicate_of,
            "key_of": report_id,
            "key_tenant": tenant,
            "key_wrapper": data_key.key_id,
            "key_wrapped": data_key.wrapped,
        },
    ).one()
    store_events.send(connection, report_id, [created], 1)
    return report_of(row)


def put_chunks(
    connection: Connection, report_id: uuid.UUID, tenant: str, chunks: Iterable[tuple[int, bytes]]
) -> None:
    """Stores sealed chunks, by their number from 0."""
    rows = [
        {"report_id": report_id, "seq": seq, "tenant_id": tenant, "sealed": sealed}
        for seq, sealed in chunks
    ]
    if rows:
        connection.execute(_PUT_CHUNKS, rows)


def chunk(connection: Connection, report_id: uuid.UUID, seq: int) -> bytes | None:
    """One sealed chunk; None past the end."""
    found = connection.execute(
        select(raw_chunks.c.sealed).where(
            raw_chunks.c.report_id == report_id, raw_chunks.c.seq == seq
        )
    ).scalar()
    return None if found is None else bytes(found)


def drop_upload(connection: Connection, report_id: uuid.UUID) -> None:
    """Removes the chunks of an upload that was cut."""
    connection.execute(delete(raw_chunks).where(raw_chunks.c.report_id == report_id))


def drop_orphans(connection: Connection, before: uuid.UUID) -> int:
    """Removes chunks of uploads begun before `before` that never became a report.

    Returns:
        How many chunks.
    """
    known = select(reports.c.report_id).where(reports.c.report_id == raw_chunks.c.report_id)
    gone = connection.execute(
        delete(raw_chunks).where(raw_chunks.c.report_id < before, ~known.exists())
    )
    return int(gone.rowcount)


def get(connection: Connection, report_id: uuid.UUID, tenant: str) -> Report:
    """A report.

    Raises:
        WinnowError: REPORT_NOT_FOUND, also for another tenant's.
    """
    row = connection.execute(
        select(reports).where(reports.c.report_id == report_id, reports.c.tenant_id == tenant)
    ).first()
    if row is None:
        raise WinnowError("REPORT_NOT_FOUND", "no report has this id", report_id=str(report_id))
    return report_of(row)


def view(connection: Connection, report_id: uuid.UUID, tenant: str, event: Envelope) -> Report:
    """A report, and the event that it was looked at."""
    report = get(connection, report_id, tenant)
    store_outbox.put(connection, [event])
    return report


def newest(
    connection: Connection,
    tenant: str,
    status: ReportStatus.ValueType,
    scanner_type: str,
    before: uuid.UUID | None,
    limit: int,
) -> list[Report]:
    """Up to `limit` reports, newest first, older than `before`."""
    query = (
        select(reports)
        .where(reports.c.tenant_id == tenant)
        .order_by(reports.c.report_id.desc())
        .limit(limit)
    )
    if status:
        query = query.where(reports.c.status == status)
    if scanner_type:
        query = query.where(reports.c.scanner_type == scanner_type)
    if before is not None:
        query = query.where(reports.c.report_id < before)
    return [report_of(row) for row in connection.execute(query)]


def set_format(
    connection: Connection, report_id: uuid.UUID, scanner_type: str, parser: str
) -> None:
    """Writes down what the ingestor recognised."""
    connection.execute(
        update(reports)
        .where(reports.c.report_id == report_id)
        .values(scanner_type=scanner_type, parser=parser)
    )


def advance(
    connection: Connection,
    report_id: uuid.UUID,
    path: Sequence[ReportStatus.ValueType],
    events: Iterable[Envelope],
    **values: Any,
) -> Report:
    """Moves a report along `path`, from its first state to its last, with its events.

    Raises:
        WinnowError: REPORT_STATE if there is no such way, or if the report is not
            where the path begins any more (it was cancelled, say).
    """
    for now_, to in pairwise(path):
        states.advance(now_, to)
    return _move(connection, report_id, path[:1], path[-1], events, **values)


def fail(
    connection: Connection,
    report_id: uuid.UUID,
    error: WinnowError,
    events: Iterable[Envelope],
    **values: Any,
) -> Report:
    """Ends a report as error, wherever it is.

    Raises:
        WinnowError: REPORT_STATE if it has ended already.
    """
    return _move(
        connection,
        report_id,
        states.UNFINISHED,
        states.ERROR,
        events,
        error_reason=error.reason,
        error_message=error.message,
        **values,
    )


def reopen(connection: Connection, report_id: uuid.UUID, event: Envelope) -> Report:
    """Takes a report that failed up again, where it stood, with its event.

    Raises:
        WinnowError: REPORT_STATE if it has not failed, REPORT_SHREDDED.
    """
    read = connection.execute(
        select(reports.c.ingested_at).where(reports.c.report_id == report_id).with_for_update()
    ).scalar()
    there = states.CREATED if read is None else states.PROCESSING
    reopened = _move(
        connection,
        report_id,
        [states.ERROR],
        there,
        [event],
        finished_at=None,
        error_reason=None,
        error_message=None,
    )
    return readable(reopened)


def readable(report: Report) -> Report:
    """A report whose data key is there.

    Raises:
        WinnowError: REPORT_SHREDDED.
    """
    if report.HasField("shredded_at"):
        raise WinnowError(
            "REPORT_SHREDDED",
            "the report's data key was destroyed: its bytes and the values in it cannot be "
            "read any more",
            report_id=report.report_id,
        )
    return report


def _move(
    connection: Connection,
    report_id: uuid.UUID,
    origins: Iterable[ReportStatus.ValueType],
    to: ReportStatus.ValueType,
    events: Iterable[Envelope],
    **values: Any,
) -> Report:
    at, events = now(), list(events)
    values.setdefault("finished_at", at if to in (states.DONE, states.ERROR) else None)
    row = connection.execute(
        _MOVE,
        {
            "moved": report_id,
            "origins": list(origins),
            "more_events": len(events),
            "status": to,
            "updated_at": at,
            **values,
        },
    ).first()
    if row is None:
        raise WinnowError(
            "REPORT_STATE", "the report is in another state already", report_status="other"
        )
    store_events.send(connection, report_id, events, row.last_event)
    return report_of(row)


def report_of(row: Row[Any]) -> Report:
    """A row as its contract says."""
    report = Report(
        report_id=str(row.report_id),
        status=row.status,
        scanner_type=row.scanner_type,
        report_format=row.report_format,
        source=ReportSource(**row.source),
        labels=row.labels,
        asset_key=row.asset_key,
        sha256=bytes(row.sha256).hex(),
        size_bytes=row.size_bytes,
        parser=row.parser,
        dialect=row.dialect,
        duplicate_of=str(row.duplicate_of or ""),
        notices=[ParseDict(notice, Notice()) for notice in row.notices],
        tenant_id=row.tenant_id,
        records=RecordCounts(
            read=row.records_read,
            findings=row.records_findings,
            merged=row.records_merged,
            rejected=row.records_rejected,
        ),
        summary=RiskSummary(high=row.risk_high, medium=row.risk_medium, low=row.risk_low),
        error=(
            ReportError(reason=row.error_reason, message=row.error_message)
            if row.error_reason
            else None
        ),
    )
    report.created_at.FromDatetime(row.created_at)
    report.updated_at.FromDatetime(row.updated_at)
    if row.finished_at is not None:
        report.finished_at.FromDatetime(row.finished_at)
    if row.shredded_at is not None:
        report.shredded_at.FromDatetime(row.shredded_at)
    return report
