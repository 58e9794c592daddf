"""The orchestrator's SQL on what was submitted before: by key, and by content.

A key stands for the report of the first transaction that writes it; whoever comes
later, or loses the race, finds that report here. How the report ended is kept with
the key, so that an answer given again is the answer that was given.
"""

from __future__ import annotations

import hashlib
import uuid
from datetime import timedelta
from typing import Any, NamedTuple

from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from sqlalchemy import ColumnElement, Connection, Row, bindparam, func, select, text, update
from sqlalchemy.dialects.postgresql import insert

from orchestrator import states
from orchestrator.tables import idempotency, reports
from runtime.errors import MAPPINGS, WinnowError, to_status
from winnow.report.v1.report_pb2 import Report
from winnow.report.v1.report_service_pb2 import SubmitReportResponse

KEPT = timedelta(hours=24)


_FIRST = (
    select(reports.c.report_id)
    .where(
        reports.c.tenant_id == bindparam("tenant"),
        reports.c.sha256 == bindparam("sha256"),
        reports.c.asset_key == bindparam("asset"),
        reports.c.status != states.ERROR,
    )
    .order_by(reports.c.report_id)
    .limit(1)
)
_FIRST_OF_SCANNER = _FIRST.where(reports.c.scanner_type == bindparam("scanner"))


class Known(NamedTuple):
    """What a key stands for.

    Args:
        request_digest: of the declaration and the bytes that it was first sent with.
        report_id: the report.
        reused: whether that report was there before the key.
        ended: how the report ended; None before, and where it is not kept.
    """

    request_digest: bytes
    report_id: uuid.UUID
    reused: bool
    ended: Report | WinnowError | None


def claim(
    connection: Connection,
    tenant: str,
    key: str,
    request_digest: bytes,
    report_id: uuid.UUID,
    earlier: Report | None = None,
) -> Known | None:
    """Makes a key stand for a report for 24 hours, unless it stands for one.

    Waits for a transaction that is about to claim the same key.

    Args:
        earlier: the report as it is, if it was there before.

    Returns:
        None if the key stands for `report_id` now; else what it stands for.
    """
    response = SubmitReportResponse(reused=earlier is not None)
    if earlier is not None and earlier.status in states.ENDED:
        response.report.CopyFrom(earlier)
    values = {
        "request_digest": request_digest,
        "report_id": report_id,
        "created_at": func.now(),
        "answer": _packed(response),
    }
    statement = (
        insert(idempotency)
        .values(tenant_id=tenant, key_digest=_digest(key), **values)
        .on_conflict_do_update(
            index_elements=[idempotency.c.tenant_id, idempotency.c.key_digest],
            set_=values,
            where=idempotency.c.created_at < func.now() - KEPT,
        )
        .returning(idempotency.c.report_id)
    )
    # The row that is in the way may be swept before it is read.
    while connection.execute(statement).first() is None:
        if known := find(connection, tenant, key):
            return known
    return None


def find(connection: Connection, tenant: str, key: str) -> Known | None:
    """What a key stands for."""
    row = connection.execute(select(idempotency).where(_is(tenant, _digest(key)))).first()
    return None if row is None else _known(row)


def keep_answer(connection: Connection, report: Report, cause: WinnowError | None = None) -> None:
    """Keeps how a report ended for the keys that stand for it.

    Args:
        cause: why it failed, with the metadata that the report's row has no place for.
    """
    failed = cause or failure(report)
    query = select(idempotency).where(idempotency.c.report_id == uuid.UUID(report.report_id))
    for row in connection.execute(query).all():
        answer: Message
        if failed is None:
            answer = SubmitReportResponse(report=report, reused=_known(row).reused)
        else:
            answer = to_status(failed)
        connection.execute(
            update(idempotency)
            .where(_is(row.tenant_id, row.key_digest))
            .values(answer=_packed(answer))
        )


def failure(report: Report) -> WinnowError | None:
    """Why a report failed; None if it did not."""
    if report.status != states.ERROR:
        return None
    reason = report.error.reason if report.error.reason in MAPPINGS else "INTERNAL"
    return WinnowError(reason, report.error.message)


def first_of(
    connection: Connection, tenant: str, sha256: bytes, asset_key: str, scanner_type: str
) -> uuid.UUID | None:
    """The earliest report of the same bytes and asset that did not fail.

    Args:
        scanner_type: as declared; a report of another scanner is another report.
            Empty: the content says, and is the same.
    """
    query = _FIRST_OF_SCANNER if scanner_type else _FIRST
    asked = {"tenant": tenant, "sha256": sha256, "asset": asset_key, "scanner": scanner_type}
    found: uuid.UUID | None = connection.execute(query, asked).scalar()
    return found


def one_at_a_time(connection: Connection, tenant: str, sha256: bytes) -> None:
    """Lets no other transaction that asks this go on with the same bytes before this one ends."""
    number = hashlib.sha256(tenant.encode() + b"\0" + sha256).digest()[:8]
    connection.execute(
        text("SELECT pg_advisory_xact_lock(:number)"),
        {"number": int.from_bytes(number, "big", signed=True)},
    )


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def _is(tenant: str, key_digest: bytes) -> ColumnElement[bool]:
    return (idempotency.c.tenant_id == tenant) & (idempotency.c.key_digest == key_digest)


def _packed(answer: Message) -> bytes:
    packed = Packed()
    packed.Pack(answer)
    return packed.SerializeToString()


def _known(row: Row[Any]) -> Known:
    response, status = SubmitReportResponse(), Status()
    ended: Report | WinnowError | None = None
    packed = Packed.FromString(row.answer)
    if packed.Unpack(status):
        ended = _kept(status)
    elif packed.Unpack(response) and response.HasField("report"):
        ended = response.report
    return Known(bytes(row.request_digest), row.report_id, response.reused, ended)


def _kept(status: Status) -> WinnowError:
    info = ErrorInfo()
    status.details[0].Unpack(info)
    return WinnowError(info.reason, status.message, **info.metadata)
