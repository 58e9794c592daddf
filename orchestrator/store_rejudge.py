"""The orchestrator's SQL on judging a report once more."""

from __future__ import annotations

import uuid
from typing import NamedTuple

from sqlalchemy import Connection, literal, select

from orchestrator.tables import findings, verdicts
from winnow.finding.v1.finding_pb2 import Finding
from winnow.finding.v1.verdict_pb2 import Verdict


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
