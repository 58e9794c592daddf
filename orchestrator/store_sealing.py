"""The orchestrator's SQL on data keys, and on the end of what they seal."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from datetime import timedelta

from sqlalchemy import (
    ColumnElement,
    Connection,
    Table,
    Uuid,
    bindparam,
    delete,
    func,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, insert

from orchestrator import states
from orchestrator.tables import (
    data_keys,
    decisions,
    findings,
    idempotency,
    raw_chunks,
    rejections,
    reports,
    run_events,
    verdicts,
)
from runtime.clock import now, uuid7
from winnow.report.v1.decision_pb2 import DecisionScope
from winnow.seal.v1.data_key_pb2 import DataKey

# What belongs to a report and grows with it, by the column that says whose it is; of
# what refers to what, the referring first.
_BELONGINGS: tuple[tuple[Table, str, str], ...] = (
    (verdicts, "report_id", "ordinal"),
    (findings, "report_id", "ordinal"),
    (rejections, "report_id", "ordinal"),
    (run_events, "run_id", "ordinal"),
    (raw_chunks, "report_id", "seq"),
)


def get(connection: Connection, report_id: uuid.UUID) -> DataKey | None:
    """A report's data key; None if it has none."""
    row = connection.execute(
        select(data_keys.c.key_id, data_keys.c.wrapped).where(data_keys.c.report_id == report_id)
    ).first()
    return None if row is None else DataKey(key_id=row.key_id, wrapped=row.wrapped)


def put(connection: Connection, report_id: uuid.UUID, tenant: str, data_key: DataKey) -> None:
    """Keeps the data key of a report that has none."""
    connection.execute(
        insert(data_keys)
        .values(
            report_id=report_id, tenant_id=tenant, key_id=data_key.key_id, wrapped=data_key.wrapped
        )
        .on_conflict_do_nothing()
    )


def hold(connection: Connection, report_id: uuid.UUID, tenant: str) -> bool:
    """Keeps a report as it is until the transaction ends; whether it is there and readable."""
    query = select(reports.c.report_id).where(
        reports.c.report_id == report_id,
        reports.c.tenant_id == tenant,
        reports.c.shredded_at.is_(None),
    )
    return connection.execute(query.with_for_update(read=True)).first() is not None


def without_key(
    connection: Connection, after: uuid.UUID, limit: int
) -> list[tuple[uuid.UUID, str]]:
    """Readable reports that have no data key, above an id: they are of an older version.

    Returns:
        Up to `limit` ids and tenants.
    """
    keyed = select(data_keys.c.report_id).where(data_keys.c.report_id == reports.c.report_id)
    query = (
        select(reports.c.report_id, reports.c.tenant_id)
        .where(reports.c.report_id > after, reports.c.shredded_at.is_(None), ~keyed.exists())
        .order_by(reports.c.report_id)
        .limit(limit)
    )
    return [(row.report_id, row.tenant_id) for row in connection.execute(query)]


def under(
    connection: Connection, key_ids: Collection[str], limit: int
) -> list[tuple[uuid.UUID, DataKey]]:
    """Up to `limit` data keys that are wrapped with one of these keys, locked."""
    query = (
        select(data_keys.c.report_id, data_keys.c.key_id, data_keys.c.wrapped)
        .where(data_keys.c.key_id.in_(key_ids))
        .order_by(data_keys.c.key_id, data_keys.c.report_id)
        .limit(limit)
        .with_for_update()
    )
    return [
        (row.report_id, DataKey(key_id=row.key_id, wrapped=row.wrapped))
        for row in connection.execute(query)
    ]


_REPLACE = text(
    "UPDATE orchestrator.data_keys AS kept SET key_id = :key_id, wrapped = made.wrapped"
    " FROM unnest(:ids, CAST(:wrapped AS bytea[])) AS made (report_id, wrapped)"
    " WHERE kept.report_id = made.report_id"
).bindparams(bindparam("ids", type_=ARRAY(Uuid)))


def replace(connection: Connection, key_id: str, made: Sequence[tuple[uuid.UUID, DataKey]]) -> None:
    """Puts data keys that are wrapped anew, all with the same key, in the place of those
    that there are."""
    connection.execute(
        _REPLACE,
        {
            "key_id": key_id,
            "ids": [report_id for report_id, _ in made],
            "wrapped": [data_key.wrapped for _, data_key in made],
        },
    )


def counts(connection: Connection) -> dict[str, int]:
    """Number of data keys by the key that wraps them."""
    query = select(data_keys.c.key_id, func.count()).group_by(data_keys.c.key_id)
    return {row[0]: row[1] for row in connection.execute(query)}


def shredded(connection: Connection) -> int:
    """Number of reports whose data keys were destroyed."""
    query = select(func.count()).select_from(reports).where(reports.c.shredded_at.is_not(None))
    return connection.execute(query).scalar_one()


def lock(connection: Connection, report_id: uuid.UUID, tenant: str) -> None:
    """Lets nobody else change a report before the transaction ends."""
    connection.execute(
        select(reports.c.report_id)
        .where(reports.c.report_id == report_id, reports.c.tenant_id == tenant)
        .with_for_update()
    )


def shred(connection: Connection, report_id: uuid.UUID) -> None:
    """Destroys a report's data key and raw bytes."""
    at = now()
    connection.execute(delete(data_keys).where(data_keys.c.report_id == report_id))
    connection.execute(delete(raw_chunks).where(raw_chunks.c.report_id == report_id))
    connection.execute(
        update(reports)
        .where(reports.c.report_id == report_id)
        .values(shredded_at=at, updated_at=at)
    )


def forget(connection: Connection, report_id: uuid.UUID, tenant: str, sha256: bytes) -> None:
    """Removes a report's row and key, and what points to it: from now on there is none.

    Decisions on a value stay, since they hold for other reports; those on a finding
    of this one go.
    """
    connection.execute(delete(data_keys).where(data_keys.c.report_id == report_id))
    connection.execute(delete(reports).where(reports.c.report_id == report_id))
    connection.execute(delete(idempotency).where(idempotency.c.report_id == report_id))
    connection.execute(
        delete(decisions).where(
            decisions.c.report_id == report_id,
            decisions.c.scope == DecisionScope.DECISION_SCOPE_FINDING,
        )
    )
    connection.execute(
        update(reports)
        .where(
            reports.c.tenant_id == tenant,
            reports.c.sha256 == sha256,
            reports.c.duplicate_of == report_id,
        )
        .values(duplicate_of=None)
    )


def clear(connection: Connection, report_id: uuid.UUID, limit: int) -> int:
    """Removes up to `limit` items (or parts, of each its verdicts) that a report left.

    Returns:
        Rows removed; 0 when nothing is left.
    """
    for table, owner, number in _BELONGINGS:
        mine: ColumnElement[bool] = table.c[owner] == report_id
        first = select(table.c[number]).where(mine).order_by(table.c[number]).limit(limit)
        last = select(func.max(first.subquery().c[number])).scalar_subquery()
        gone = connection.execute(delete(table).where(mine, table.c[number] <= last)).rowcount
        if gone:
            return int(gone)
    return 0


def older(
    connection: Connection, age: timedelta, limit: int, *, shredding: bool
) -> list[tuple[uuid.UUID, str]]:
    """Up to `limit` reports that ended longer ago than `age`, locked, but for those that
    somebody else is at.

    Args:
        shredding: only those that are readable.

    Returns:
        Ids and tenants, by id.
    """
    ended = [reports.c.finished_at < func.now() - age, reports.c.status.in_(states.ENDED)]
    query = select(reports.c.report_id, reports.c.tenant_id).limit(limit)
    if shredding:
        query = query.where(reports.c.shredded_at.is_(None), *ended)
        query = query.order_by(reports.c.finished_at)
    else:
        # An id says when its report was received, which is before it ended.
        received = reports.c.report_id < uuid7(age_seconds=int(age.total_seconds()))
        query = query.where(received, *ended).order_by(reports.c.report_id)
    rows = connection.execute(query.with_for_update(skip_locked=True))
    return sorted((row.report_id, row.tenant_id) for row in rows)
