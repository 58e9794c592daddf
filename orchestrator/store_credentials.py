"""The orchestrator's SQL on credentials: findings of one value, over all reports."""

from __future__ import annotations

import uuid
from typing import Any

from sqlalchemy import Connection, Select, and_, func, literal, select

from orchestrator.standing import standing
from orchestrator.tables import findings, reports, verdicts
from runtime import paging
from winnow.finding.v1.verdict_pb2 import Risk
from winnow.report.v1.credential_pb2 import Credential, Sighting

_MOST_NAMES = 32


def page(
    connection: Connection,
    tenant: str,
    after: bytes,
    limit: int,
    report_id: uuid.UUID | None,
    min_reports: int,
) -> tuple[list[Credential], bool]:
    """Up to `limit` credentials by fingerprint, above `after`.

    Returns:
        The credentials, and whether others follow.
    """
    query = _grouped(tenant).where(findings.c.value_fingerprint > after).limit(limit + 1)
    if report_id is not None:
        held = select(findings.c.value_fingerprint).where(
            findings.c.report_id == report_id, findings.c.tenant_id == tenant
        )
        query = query.where(findings.c.value_fingerprint.in_(held))
    if min_reports > 1:
        query = query.having(func.count(findings.c.report_id.distinct()) >= min_reports)
    return paging.cut(_credentials(connection, tenant, query), limit)


def get(connection: Connection, tenant: str, fingerprint: bytes) -> Credential | None:
    """One credential; None if no finding has this fingerprint."""
    query = _grouped(tenant).where(findings.c.value_fingerprint == fingerprint)
    return next(iter(_credentials(connection, tenant, query)), None)


def sightings(
    connection: Connection,
    tenant: str,
    fingerprint: bytes,
    before: tuple[uuid.UUID, int] | None,
    limit: int,
) -> tuple[list[Sighting], bool]:
    """Where a credential was seen: newest report first, then by ordinal.

    Args:
        before: report and ordinal of the last sighting of the page before.

    Returns:
        Up to `limit` sightings, and whether others follow.
    """
    latest = standing(verdicts.c.risk)
    query = (
        select(
            findings.c.report_id,
            findings.c.ordinal,
            reports.c.created_at,
            reports.c.asset_key,
            reports.c.scanner_type,
            findings.c.rule_id,
            findings.c.path,
            findings.c.line,
            findings.c.commit_id,
            findings.c.validity,
            latest.c.risk,
        )
        .join_from(findings, reports, reports.c.report_id == findings.c.report_id)
        .outerjoin(latest, literal(True))
        .where(findings.c.tenant_id == tenant, findings.c.value_fingerprint == fingerprint)
        .order_by(findings.c.report_id.desc(), findings.c.ordinal)
        .limit(limit + 1)
    )
    if before is not None:
        report_id, ordinal = before
        query = query.where(
            (findings.c.report_id < report_id)
            | and_(findings.c.report_id == report_id, findings.c.ordinal > ordinal)
        )
    return paging.cut((_sighting(row) for row in connection.execute(query)), limit)


def _grouped(tenant: str) -> Select[Any]:
    return (
        select(
            findings.c.value_fingerprint,
            func.count().label("findings"),
            func.count(findings.c.report_id.distinct()).label("reports"),
            func.count(findings.c.path.distinct()).label("paths"),
            # Of equal values, the one that is no remark in brackets.
            func.max(findings.c.value_preview.collate("C")).label("preview"),
            func.array_agg(reports.c.scanner_type.distinct()).label("tools"),
            func.array_agg(findings.c.rule_id.distinct()).label("rules"),
            func.min(reports.c.created_at).label("first"),
            func.max(reports.c.created_at).label("last"),
        )
        .join(reports, reports.c.report_id == findings.c.report_id)
        .where(findings.c.tenant_id == tenant, findings.c.value_fingerprint.is_not(None))
        .group_by(findings.c.value_fingerprint)
        .order_by(findings.c.value_fingerprint)
    )


def _credentials(connection: Connection, tenant: str, query: Select[Any]) -> list[Credential]:
    rows = connection.execute(query).all()
    risks = _risks(connection, tenant, [row.value_fingerprint for row in rows])
    found = []
    for row in rows:
        credential = Credential(
            fingerprint=bytes(row.value_fingerprint).hex(),
            value_preview=row.preview,
            findings=row.findings,
            reports=row.reports,
            paths=row.paths,
            tools=row.tools[:_MOST_NAMES],
            rules=row.rules[:_MOST_NAMES],
            risk=risks.get(bytes(row.value_fingerprint), Risk.RISK_UNSPECIFIED),
        )
        credential.first_seen_at.FromDatetime(row.first)
        credential.last_seen_at.FromDatetime(row.last)
        found.append(credential)
    return found


def _risks(
    connection: Connection, tenant: str, fingerprints: list[bytes]
) -> dict[bytes, Risk.ValueType]:
    """The highest risk among the verdicts that stand on each credential."""
    latest = standing(verdicts.c.risk)
    # High is 1 and low is 3.
    query = (
        select(findings.c.value_fingerprint, func.min(latest.c.risk))
        .join_from(findings, latest, literal(True))
        .where(findings.c.tenant_id == tenant, findings.c.value_fingerprint.in_(fingerprints))
        .group_by(findings.c.value_fingerprint)
    )
    return {bytes(fingerprint): risk for fingerprint, risk in connection.execute(query)}


def _sighting(row: Any) -> Sighting:
    sighting = Sighting(
        finding_id=f"{row.report_id}.{row.ordinal}",
        report_id=str(row.report_id),
        asset_key=row.asset_key,
        scanner_type=row.scanner_type,
        rule=row.rule_id,
        path=row.path,
        line=row.line,
        commit=row.commit_id,
        validity=row.validity,
        risk=row.risk,
    )
    sighting.seen_at.FromDatetime(row.created_at)
    return sighting
