"""The orchestrator's SQL on people's decisions.

A decision is one row; the verdicts that follow from it are rows of their own, on
every finding that it reaches. They stand while it holds, so that its end needs
no change to them. The reports' summaries are moved by the difference.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Connection,
    Row,
    Select,
    Text,
    and_,
    bindparam,
    cast,
    delete,
    func,
    insert,
    literal,
    or_,
    select,
    tuple_,
    update,
)

from orchestrator import states
from orchestrator.standing import lock_standing, standing
from orchestrator.store_findings import Filters, filtered, put_verdicts
from orchestrator.tables import decisions, findings, reports, verdicts
from runtime.clock import now, uuid7
from winnow.finding.v1.verdict_pb2 import Risk, Verdict, VerdictBatch, VerdictSource
from winnow.report.v1.decision_pb2 import Decision, DecisionOutcome, DecisionScope

_CREDENTIAL = DecisionScope.DECISION_SCOPE_CREDENTIAL
_PLACE = DecisionScope.DECISION_SCOPE_PLACE
_FINDING = DecisionScope.DECISION_SCOPE_FINDING
_INSTANT = timedelta(microseconds=1)
_COLUMNS = {
    Risk.RISK_HIGH: reports.c.risk_high,
    Risk.RISK_MEDIUM: reports.c.risk_medium,
    Risk.RISK_LOW: reports.c.risk_low,
}

_TARGET = (
    findings.c.report_id,
    findings.c.ordinal,
    findings.c.value_fingerprint,
    findings.c.path,
    findings.c.value_preview,
)

# Findings by report and risk.
_Counts = Counter[tuple[uuid.UUID, int]]


class Target(NamedTuple):
    """A finding that is decided, and how far the decision on it reaches.

    `fingerprint` is its value's, None if it has none; `preview` its masked value.
    """

    report_id: uuid.UUID
    ordinal: int
    fingerprint: bytes | None
    path: str
    preview: str
    scope: DecisionScope.ValueType = _FINDING

    @property
    def reach(self) -> tuple[object, ...]:
        """Equal for targets whose decisions reach the same findings."""
        if self.scope == _CREDENTIAL:
            return (self.fingerprint,)
        if self.scope == _PLACE:
            return (self.fingerprint, self.path)
        return (self.report_id, self.ordinal)


class Given(NamedTuple):
    """What a person decides, checked."""

    outcome: DecisionOutcome.ValueType
    scope: DecisionScope.ValueType
    reason: str
    actor: str
    ends_at: datetime | None
    verdict: Verdict


def target(
    connection: Connection, tenant: str, report_id: uuid.UUID, ordinal: int
) -> Target | None:
    """One finding as a target; None if there is none."""
    query = (
        select(*_TARGET)
        .join(reports, reports.c.report_id == findings.c.report_id)
        .where(
            findings.c.report_id == report_id,
            findings.c.ordinal == ordinal,
            findings.c.tenant_id == tenant,
        )
    )
    row = connection.execute(query).first()
    return None if row is None else Target(*row)


def targets(
    connection: Connection, tenant: str, report_id: uuid.UUID, filters: Filters, most: int
) -> list[Target]:
    """Findings of a report that a filter matches, by ordinal; up to `most` + 1."""
    latest = standing(verdicts.c.risk, verdicts.c.source)
    query = (
        select(*_TARGET)
        .outerjoin(latest, literal(True))
        .where(findings.c.report_id == report_id, findings.c.tenant_id == tenant)
        .order_by(findings.c.ordinal)
        .limit(most + 1)
    )
    return [Target(*row) for row in connection.execute(filtered(query, filters, latest))]


def reached(connection: Connection, tenant: str, chosen: Sequence[Target]) -> int:
    """Findings that decisions on these targets would decide now."""
    query = select(func.count()).select_from(findings).where(_reach(tenant, chosen))
    return connection.execute(query).scalar_one()


def decide(
    connection: Connection, tenant: str, chosen: Sequence[Target], given: Given, at: datetime
) -> tuple[list[Decision], int]:
    """Makes one decision for each target at `at`, as `expired` says; what they replace ends.

    Returns:
        The decisions, and how many findings they decide now.
    """
    before = _counts(connection, _reach(tenant, chosen), at)
    _end_replaced(connection, tenant, chosen, at)
    rows = [
        {
            "decision_id": uuid7(),
            "tenant_id": tenant,
            "outcome": given.outcome,
            "scope": one.scope,
            "reason": given.reason,
            "actor": given.actor,
            "decided_at": at,
            "ends_at": given.ends_at,
            "report_id": one.report_id,
            "ordinal": one.ordinal,
            "value_fingerprint": one.fingerprint,
            "path": one.path,
            "risk": given.verdict.risk,
            "confidence": (
                given.verdict.confidence if given.verdict.HasField("confidence") else None
            ),
            "stated": given.verdict.reason,
            "message": given.verdict.SerializeToString(),
        }
        for one in chosen
    ]
    connection.execute(insert(decisions), rows)
    made = decisions.c.decision_id.in_([row["decision_id"] for row in rows])
    ended = findings.c.report_id.in_(
        select(reports.c.report_id).where(
            reports.c.tenant_id == tenant, reports.c.status.in_(states.ENDED)
        )
    )
    _put_verdicts(connection, at, made, ended)
    after = _counts(connection, _reach(tenant, chosen), at)
    _shift(connection, before, after)
    rows_made = connection.execute(select(decisions).where(made))
    return [_decision(row) for row in rows_made], sum(after.values())


def _holding(tenant: Any, report_id: Any, at: Any) -> ColumnElement[bool]:
    """Decisions that reach into a report when it ends."""
    return and_(
        decisions.c.tenant_id == tenant,
        or_(decisions.c.scope.in_((_CREDENTIAL, _PLACE)), decisions.c.report_id == report_id),
        or_(decisions.c.ends_at.is_(None), decisions.c.ends_at > at),
    )


_ANY_HOLDS = (
    select(literal(1))
    .where(_holding(bindparam("tenant"), bindparam("report"), bindparam("at")))
    .limit(1)
)


def apply(connection: Connection, report_id: uuid.UUID, tenant: str) -> tuple[datetime, bool]:
    """Gives a report's findings the verdicts of the decisions that follow their values,
    and of those that were made on them while the report ran.

    Called in the transaction that ends the report, before its risks are counted.

    Returns:
        The moment to count them as of: what expires later is still to be settled; and
        whether there were any.
    """
    lock_standing(connection, tenant, shared=True)
    at = now()
    asked = {"tenant": tenant, "report": report_id, "at": at}
    found = connection.execute(_ANY_HOLDS, asked).first() is not None
    if found:
        holding = _holding(tenant, report_id, at)
        _put_verdicts(connection, at, holding, findings.c.report_id == report_id)
    return at, found


def lift(connection: Connection, report_id: uuid.UUID, tenant: str) -> None:
    """Takes back the verdicts that decisions gave a report which is to go on: its findings
    are to be judged all the same, and `apply` gives them again at its end."""
    lock_standing(connection, tenant, shared=True)
    connection.execute(
        delete(verdicts).where(
            verdicts.c.report_id == report_id, verdicts.c.decision_id.is_not(None)
        )
    )


def withdraw(
    connection: Connection, tenant: str, decision_id: uuid.UUID, at: datetime
) -> tuple[Decision, int] | None:
    """Ends a decision at `at`, as `expired` says.

    Returns:
        The decision, and how many findings it decided; None if it had ended
        already, or there is none.
    """
    row = connection.execute(
        update(decisions)
        .where(
            decisions.c.decision_id == decision_id,
            decisions.c.tenant_id == tenant,
            or_(decisions.c.ends_at.is_(None), decisions.c.ends_at > at),
        )
        .values(ends_at=at, settled=True)
        .returning(decisions)
    ).first()
    if row is None:
        return None
    return _decision(row), _settle(connection, [decision_id], at)


def overdue(connection: Connection) -> list[str]:
    """Tenants with expired decisions that are not settled."""
    query = (
        select(decisions.c.tenant_id)
        .distinct()
        .where(~decisions.c.settled, decisions.c.ends_at <= now())
    )
    return list(connection.execute(query).scalars())


def expired(connection: Connection, tenant: str) -> tuple[list[Decision], datetime]:
    """Settles a tenant's decisions that have expired: moves the summaries of their reports.

    Before anything else changes what stands: the difference that an expiry made can
    be told only while no later verdict stands on its findings.

    Returns:
        The decisions, and the moment up to which they are settled: the transaction's.
    """
    lock_standing(connection, tenant)
    at = now()
    rows = connection.execute(
        update(decisions)
        .where(decisions.c.tenant_id == tenant, ~decisions.c.settled, decisions.c.ends_at <= at)
        .values(settled=True)
        .returning(decisions)
    ).all()
    # Those that end in the same moment make one difference together.
    together: dict[datetime, list[uuid.UUID]] = {}
    for row in rows:
        together.setdefault(row.ends_at, []).append(row.decision_id)
    for moment, ids in together.items():
        _settle(connection, ids, moment)
    return [_decision(row) for row in rows], at


def get(connection: Connection, tenant: str, decision_id: uuid.UUID) -> Decision | None:
    """A decision; None if there is none."""
    query = select(decisions).where(
        decisions.c.decision_id == decision_id, decisions.c.tenant_id == tenant
    )
    row = connection.execute(query).first()
    return None if row is None else _decision(row)


def page(
    connection: Connection,
    tenant: str,
    before: uuid.UUID | None,
    limit: int,
    about: Target | None,
    active: bool,
) -> list[Decision]:
    """Up to `limit` decisions, newest first, older than `before`.

    Args:
        about: only those that reach this finding.
        active: only those that hold.
    """
    query = (
        select(decisions)
        .where(decisions.c.tenant_id == tenant)
        .order_by(decisions.c.decision_id.desc())
        .limit(limit)
    )
    if before is not None:
        query = query.where(decisions.c.decision_id < before)
    if active:
        query = query.where(or_(decisions.c.ends_at.is_(None), decisions.c.ends_at > now()))
    if about is not None:
        on_it: ColumnElement[bool] = and_(
            decisions.c.report_id == about.report_id, decisions.c.ordinal == about.ordinal
        )
        if about.fingerprint is not None:
            by_value = and_(
                decisions.c.value_fingerprint == about.fingerprint,
                or_(
                    decisions.c.scope == _CREDENTIAL,
                    and_(decisions.c.scope == _PLACE, decisions.c.path == about.path),
                ),
            )
            on_it = or_(on_it, by_value)
        query = query.where(on_it)
    return [_decision(row) for row in connection.execute(query)]


def _reach(tenant: str, chosen: Sequence[Target]) -> ColumnElement[bool]:
    """The findings that decisions on these targets decide."""
    values = {one.fingerprint for one in chosen if one.scope == _CREDENTIAL}
    places = {(one.fingerprint, one.path) for one in chosen if one.scope == _PLACE}
    alone = [(one.report_id, one.ordinal) for one in chosen if one.scope == _FINDING]
    reach: ColumnElement[bool] = findings.c.value_fingerprint.in_(values)
    if places:
        reach = or_(reach, _one_of(findings.c.value_fingerprint, findings.c.path, places))
    if alone:
        reach = or_(reach, _one_of(findings.c.report_id, findings.c.ordinal, alone))
    return and_(findings.c.tenant_id == tenant, reach)


def _one_of(
    left: ColumnElement[Any], right: ColumnElement[Any], pairs: Collection[tuple[Any, Any]]
) -> ColumnElement[bool]:
    """Whether two columns are one of many pairs: as two arrays, since PostgreSQL takes
    a list of rows for a tree of conditions, too deep from some thousands on.
    """
    lefts, rights = zip(*pairs, strict=True)
    rows = select(
        func.unnest(cast(list(lefts), ARRAY(left.type))),
        func.unnest(cast(list(rights), ARRAY(right.type))),
    )
    return tuple_(left, right).in_(rows)


def _end_replaced(
    connection: Connection, tenant: str, chosen: Sequence[Target], at: datetime
) -> None:
    """Ends the decisions that reach no further than the new ones."""
    values = {one.fingerprint for one in chosen if one.scope == _CREDENTIAL}
    places = {(one.fingerprint, one.path) for one in chosen if one.scope == _PLACE}
    alone = [(one.report_id, one.ordinal) for one in chosen]
    narrower: ColumnElement[bool] = decisions.c.value_fingerprint.in_(values)
    if places:
        narrower = or_(
            narrower,
            and_(
                decisions.c.scope.in_((_PLACE, _FINDING)),
                _one_of(decisions.c.value_fingerprint, decisions.c.path, places),
            ),
        )
    narrower = or_(
        narrower,
        and_(
            decisions.c.scope == _FINDING,
            _one_of(decisions.c.report_id, decisions.c.ordinal, alone),
        ),
    )
    connection.execute(
        update(decisions)
        .where(
            decisions.c.tenant_id == tenant,
            or_(decisions.c.ends_at.is_(None), decisions.c.ends_at > at),
            narrower,
        )
        .values(ends_at=at, settled=True)
    )


def _put_verdicts(
    connection: Connection, at: datetime, chosen: Any, where: ColumnElement[bool]
) -> None:
    """Writes the verdicts of the chosen decisions on the findings that they reach."""
    following = (
        select(func.coalesce(func.max(verdicts.c.revision) + 1, 0))
        .where(
            verdicts.c.report_id == findings.c.report_id,
            verdicts.c.ordinal == findings.c.ordinal,
        )
        .scalar_subquery()
    )
    # Several may reach one finding: the newest has the last word.
    nth = func.row_number().over(
        partition_by=(findings.c.report_id, findings.c.ordinal), order_by=decisions.c.decision_id
    )
    row: Select[Any] = select(
        findings.c.report_id,
        findings.c.ordinal,
        following + nth - 1,
        findings.c.tenant_id,
        decisions.c.risk,
        literal(VerdictSource.VERDICT_SOURCE_HUMAN),
        decisions.c.confidence,
        decisions.c.stated,
        func.jsonb_build_object("decision", cast(decisions.c.decision_id, Text)),
        literal(at),
        decisions.c.message,
        decisions.c.decision_id,
    )
    columns = [
        "report_id",
        "ordinal",
        "revision",
        "tenant_id",
        "risk",
        "source",
        "confidence",
        "reason",
        "inputs",
        "decided_at",
        "message",
        "decision_id",
    ]
    by_value = and_(
        or_(
            decisions.c.scope == _CREDENTIAL,
            and_(decisions.c.scope == _PLACE, decisions.c.path == findings.c.path),
        ),
        decisions.c.tenant_id == findings.c.tenant_id,
        decisions.c.value_fingerprint == findings.c.value_fingerprint,
    )
    by_place = and_(
        decisions.c.scope == _FINDING,
        decisions.c.report_id == findings.c.report_id,
        decisions.c.ordinal == findings.c.ordinal,
    )
    for joined in (by_value, by_place):
        query = row.join_from(findings, decisions, joined).where(chosen, where)
        connection.execute(insert(verdicts).from_select(columns, query))


def add_verdicts(
    connection: Connection,
    report_id: uuid.UUID,
    tenant: str,
    made: VerdictBatch,
    at: datetime,
) -> None:
    """Adds verdicts as the newest of the cascade, and moves the report's summary; `at` as
    `expired` says."""
    ordinals = [verdict.ordinal for verdict in made.verdicts]
    query = (
        select(verdicts.c.ordinal, func.max(verdicts.c.revision) + 1)
        .where(verdicts.c.report_id == report_id, verdicts.c.ordinal.in_(ordinals))
        .group_by(verdicts.c.ordinal)
    )
    on_them = and_(findings.c.report_id == report_id, findings.c.ordinal.in_(ordinals))
    before = _counts(connection, on_them, at)
    following: dict[int, int] = {row[0]: row[1] for row in connection.execute(query)}
    put_verdicts(connection, report_id, tenant, [made], following)
    _shift(connection, before, _counts(connection, on_them, at))


def _settle(connection: Connection, ids: Sequence[uuid.UUID], at: datetime) -> int:
    """Moves the summaries by what the end of decisions at `at` changed."""
    on_them = tuple_(findings.c.report_id, findings.c.ordinal).in_(
        select(verdicts.c.report_id, verdicts.c.ordinal).where(verdicts.c.decision_id.in_(ids))
    )
    before = _counts(connection, on_them, at - _INSTANT)
    _shift(connection, before, _counts(connection, on_them, at))
    return sum(before.values())


def _counts(connection: Connection, reach: ColumnElement[bool], at: datetime) -> _Counts:
    """Findings by report and the risk that stands at a moment, in reports that have ended."""
    latest = standing(verdicts.c.risk, at=at)
    query = (
        select(findings.c.report_id, latest.c.risk, func.count())
        .join_from(findings, latest, literal(True))
        .join(reports, reports.c.report_id == findings.c.report_id)
        .where(reach, reports.c.status.in_(states.ENDED))
        .group_by(findings.c.report_id, latest.c.risk)
    )
    counts: _Counts = Counter()
    for report_id, risk, number in connection.execute(query):
        counts[report_id, risk] = number
    return counts


def _shift(connection: Connection, before: _Counts, after: _Counts) -> None:
    """Moves the reports' summaries from one count to the other."""
    changes: dict[uuid.UUID, dict[str, Any]] = {}
    for report_id, risk in before.keys() | after.keys():
        difference = after[report_id, risk] - before[report_id, risk]
        if difference and (column := _COLUMNS.get(Risk.ValueType(risk))) is not None:
            changes.setdefault(report_id, {})[column.name] = column + difference
    for report_id in sorted(changes):
        connection.execute(
            update(reports).where(reports.c.report_id == report_id).values(**changes[report_id])
        )


def _decision(row: Row[Any]) -> Decision:
    decision = Decision(
        decision_id=str(row.decision_id),
        outcome=row.outcome,
        scope=row.scope,
        reason=row.reason,
        actor=row.actor,
        finding_id=f"{row.report_id}.{row.ordinal}",
        fingerprint="" if row.scope == _FINDING else bytes(row.value_fingerprint).hex(),
    )
    decision.decided_at.FromDatetime(row.decided_at)
    if row.ends_at is not None:
        decision.ends_at.FromDatetime(row.ends_at)
    return decision
