"""Which verdict on a finding stands: a person's while the decision holds, the
newest one of the cascade otherwise.
"""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, or_, select, text
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.sql.selectable import LateralFromClause

from orchestrator.tables import decisions, findings, verdicts
from runtime.clock import now


def _standing(*columns: ColumnElement[Any], at: datetime | None) -> Select[Any]:
    """Verdicts that hold at a moment, unordered."""
    # Not the database's now(): that is when the transaction began, perhaps before a lock.
    moment = now() if at is None else at
    return (
        select(*columns)
        .outerjoin(decisions, decisions.c.decision_id == verdicts.c.decision_id)
        .where(
            or_(
                verdicts.c.decision_id.is_(None),
                decisions.c.ends_at.is_(None),
                decisions.c.ends_at > moment,
            )
        )
    )


# A person's first, and of each kind the newest.
_FIRST = (verdicts.c.decision_id.is_(None), verdicts.c.revision.desc())


def standing(*columns: ColumnElement[Any], at: datetime | None = None) -> LateralFromClause:
    """These columns of the verdict that stands on the finding of the enclosing query.

    Args:
        columns: of `verdicts`.
        at: the moment that is asked about; now, if not given.
    """
    return (
        _standing(*columns, at=at)
        .where(
            verdicts.c.report_id == findings.c.report_id,
            verdicts.c.ordinal == findings.c.ordinal,
        )
        .order_by(*_FIRST)
        .limit(1)
        .lateral("standing")
    )


def standing_in(
    report_id: uuid.UUID, *columns: ColumnElement[Any], at: datetime | None = None
) -> Select[Any]:
    """These columns of the verdicts that stand on a report's findings, one row each:
    faster than asking for each finding.
    """
    return (
        _standing(*columns, at=at)
        .ext(distinct_on(verdicts.c.ordinal))
        .where(verdicts.c.report_id == report_id)
        .order_by(verdicts.c.ordinal, *_FIRST)
    )


_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended(:what, 0))")
_LOCK_SHARED = text("SELECT pg_advisory_xact_lock_shared(hashtextextended(:what, 0))")


def lock_standing(connection: Connection, tenant: str, *, shared: bool = False) -> None:
    """Until the transaction's end nobody else changes what stands for this tenant;
    with `shared`, others who ask so may end their reports meanwhile.
    """
    connection.execute(_LOCK_SHARED if shared else _LOCK, {"what": f"decisions/{tenant}"})
