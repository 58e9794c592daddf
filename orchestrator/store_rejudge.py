"""The orchestrator's SQL on judging a report once more."""

from __future__ import annotations

import uuid
from typing import NamedTuple

from sqlalchemy import Connection, func, literal, select, update

from orchestrator import store_findings
from orchestrator.standing import lock_standing
from orchestrator.tables import findings, reports, verdicts
from winnow.finding.v1.finding_pb2 import Finding
from winnow.finding.v1.verdict_pb2 import Verdict, VerdictBatch
from winnow.report.v1.report_pb2 import RiskSummary


class Judged(NamedTuple):
    """A stored finding and the cascade's newest verdict on it, with what that was made from."""

    ordinal: int
    finding: Finding
    verdict: Verdict
    inputs: dict[str, str]


def page(
    connection: Connection, report_id: uuid.UUID, tenant: str, after: int, limit: int
) -> list[Judged]:
    """Up to `limit` findings above ordinal `after`."""
    newest = (
        select(verdicts.c.message, verdicts.c.inputs)
        .where(
            verdicts.c.report_id == findings.c.report_id,
            verdicts.c.ordinal == findings.c.ordinal,
            verdicts.c.decision_id.is_(None),
        )
        .order_by(verdicts.c.revision.desc())
        .limit(1)
        .lateral("newest")
    )
    query = (
        select(findings.c.ordinal, findings.c.message, newest.c.message, newest.c.inputs)
        .join_from(findings, newest, literal(True))
        .where(
            findings.c.report_id == report_id,
            findings.c.tenant_id == tenant,
            findings.c.ordinal > after,
        )
        .order_by(findings.c.ordinal)
        .limit(limit)
    )
    return [
        Judged(ordinal, Finding.FromString(finding), Verdict.FromString(verdict), inputs)
        for ordinal, finding, verdict, inputs in connection.execute(query)
    ]


def add(connection: Connection, report_id: uuid.UUID, tenant: str, made: VerdictBatch) -> None:
    """Adds verdicts as the newest of the cascade."""
    lock_standing(connection, tenant)
    ordinals = [verdict.ordinal for verdict in made.verdicts]
    query = (
        select(verdicts.c.ordinal, func.max(verdicts.c.revision) + 1)
        .where(verdicts.c.report_id == report_id, verdicts.c.ordinal.in_(ordinals))
        .group_by(verdicts.c.ordinal)
    )
    following: dict[int, int] = dict(connection.execute(query).tuples().all())
    store_findings.put_verdicts(connection, report_id, tenant, [made], following)


def recount(connection: Connection, report_id: uuid.UUID, tenant: str) -> RiskSummary:
    """Writes the risks that stand into the report's summary."""
    lock_standing(connection, tenant)
    summary = store_findings.risks(connection, report_id)
    connection.execute(
        update(reports)
        .where(reports.c.report_id == report_id)
        .values(risk_high=summary.high, risk_medium=summary.medium, risk_low=summary.low)
    )
    return summary
