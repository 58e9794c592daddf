"""The orchestrator's SQL on findings, rejections and verdicts.

Written in batches, one statement each, in the order findings before their verdicts,
so that what is stored always says where to go on.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple

import msgspec
from psycopg.types.json import Jsonb
from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    Table,
    Text,
    and_,
    bindparam,
    delete,
    func,
    literal,
    select,
)
from sqlalchemy.sql.selectable import LateralFromClause

from orchestrator.standing import standing, standing_in
from orchestrator.tables import findings, rejections, reports, verdicts
from runtime import paging
from runtime.clock import now
from runtime.database import BulkInsert
from winnow.finding.v1.finding_batch_pb2 import FindingBatch
from winnow.finding.v1.finding_pb2 import Finding, FindingKind
from winnow.finding.v1.verdict_pb2 import Risk, Verdict, VerdictBatch, VerdictSource
from winnow.ingest.v1.rejected_pb2 import Rejected
from winnow.report.v1.report_finding_pb2 import ReportFinding, ReportFindingDetail
from winnow.report.v1.report_pb2 import RiskSummary
from winnow.report.v1.report_progress_pb2 import ReportProgress

_FINDINGS = BulkInsert(
    "orchestrator.findings",
    {
        "report_id": "uuid",
        "ordinal": "int8",
        "tenant_id": "text",
        "kind": "int2",
        "rule_id": "text",
        "path": "text",
        "line": "int8",
        "commit_id": "text",
        "validity": "int2",
        "value_preview": "text",
        "value_fingerprint": "bytea",
        "message": "bytea",
    },
)
_REJECTIONS = BulkInsert(
    "orchestrator.rejections",
    {"report_id": "uuid", "ordinal": "int8", "tenant_id": "text", "message": "bytea"},
)
_VERDICTS = BulkInsert(
    "orchestrator.verdicts",
    {
        "report_id": "uuid",
        "ordinal": "int8",
        "revision": "int2",
        "tenant_id": "text",
        "risk": "int2",
        "source": "int2",
        "confidence": "float8",
        "reason": "text",
        "inputs": "jsonb",
        "decided_at": "timestamptz",
        "message": "bytea",
    },
)

# How far back other scanners are looked for: reports of the tenant, findings of a value.
_REPORTS_BACK = 1_000
_FINDINGS_BACK = 64


class Filters(NamedTuple):
    """What a reader of findings asks for; zero values match all."""

    risk: Risk.ValueType = Risk.RISK_UNSPECIFIED
    rule: str = ""
    path: str = ""
    source: VerdictSource.ValueType = VerdictSource.VERDICT_SOURCE_UNSPECIFIED
    kind: FindingKind.ValueType = FindingKind.FINDING_KIND_UNSPECIFIED


def put(
    connection: Connection,
    report_id: uuid.UUID,
    tenant: str,
    batches: Iterable[FindingBatch],
    rejected: Iterable[Rejected],
    judged: Iterable[VerdictBatch],
) -> None:
    """Stores what arrived since the last call, in one transaction."""
    if batches:
        _FINDINGS.put(connection, _finding_rows(report_id, tenant, batches))
    if rejected:
        refused = ((report_id, item.ordinal, tenant, item.SerializeToString()) for item in rejected)
        _REJECTIONS.put(connection, refused)
    if judged:
        put_verdicts(connection, report_id, tenant, judged, {})


def put_verdicts(
    connection: Connection,
    report_id: uuid.UUID,
    tenant: str,
    judged: Iterable[VerdictBatch],
    revisions: Mapping[int, int],
) -> None:
    """Stores verdicts of the cascade; `revisions` by ordinal, 0 where none is given."""
    _VERDICTS.put(connection, _verdict_rows(report_id, tenant, judged, revisions))


def _finding_rows(
    report_id: uuid.UUID, tenant: str, batches: Iterable[FindingBatch]
) -> Iterator[tuple[Any, ...]]:
    for batch in batches:
        for finding in batch.findings:
            code = finding.code
            location = code.location
            yield (
                report_id,
                finding.ordinal,
                tenant,
                finding.kind,
                finding.rule_id,
                location.path,
                location.line or None,
                code.commit,
                finding.validity,
                finding.value_preview,
                finding.value_fingerprint or None,
                finding.SerializeToString(),
            )


def _verdict_rows(
    report_id: uuid.UUID,
    tenant: str,
    batches: Iterable[VerdictBatch],
    revisions: Mapping[int, int],
) -> Iterator[tuple[Any, ...]]:
    at = now()
    for batch in batches:
        shared = dict(batch.inputs)
        inputs = Jsonb(shared, dumps=msgspec.json.encode)
        for verdict in batch.verdicts:
            own = verdict.inputs
            yield (
                report_id,
                verdict.ordinal,
                revisions.get(verdict.ordinal, 0),
                tenant,
                verdict.risk,
                verdict.source,
                verdict.confidence if verdict.HasField("confidence") else None,
                verdict.reason,
                Jsonb({**shared, **own}, dumps=msgspec.json.encode) if own else inputs,
                at,
                verdict.SerializeToString(),
            )


def others_reported(
    connection: Connection, report_id: uuid.UUID, tenant: str, scanner_type: str
) -> bool:
    """Whether the reports before this one, as far as they are looked through, are also of
    other scanners than its own."""
    asked = {"tenant": tenant, "report": report_id, "scanner": scanner_type}
    return bool(connection.execute(_OTHERS, asked).scalar_one())


def seen_elsewhere(
    connection: Connection,
    report_id: uuid.UUID,
    tenant: str,
    scanner_type: str,
    values: Iterable[bytes],
) -> list[tuple[bytes, str, str, str]]:
    """Where reports of other scanners, before this one, hold the values.

    Of each value the newest findings only: one that stands in a million places costs
    no more than any other.

    Args:
        report_id, tenant, scanner_type: the report that asks.
        values: fingerprints.

    Returns:
        Fingerprint, path, scanner and rule of each.
    """
    # As one text: an array of bytes is written item by item, several times slower.
    given = {
        "report_id": report_id,
        "tenant": tenant,
        "scanner_type": scanner_type,
        "values": " ".join(map(bytes.hex, values)),
    }
    rows = connection.execute(_seen_elsewhere(), given)
    return [(bytes(value), *others) for value, *others in rows]


@cache
def _seen_elsewhere() -> Select[Any]:
    """Made once: composing it takes longer than most of its answers."""
    listed = func.string_to_array(bindparam("values", type_=Text), " ")
    value = func.decode(func.unnest(listed), "hex").label("value")
    wanted = select(value).subquery("wanted")
    newest = (
        select(findings.c.report_id, findings.c.path, findings.c.rule_id)
        .where(
            findings.c.tenant_id == bindparam("tenant"),
            findings.c.value_fingerprint == wanted.c.value,
            findings.c.report_id < bindparam("report_id"),
        )
        .order_by(findings.c.report_id.desc())
        .limit(_FINDINGS_BACK)
        .lateral("newest")
    )
    return (
        select(wanted.c.value, newest.c.path, reports.c.scanner_type, newest.c.rule_id)
        .select_from(wanted)
        .join(newest, literal(True))
        .join(reports, reports.c.report_id == newest.c.report_id)
        .where(_is_other(reports.c.scanner_type, bindparam("scanner_type", type_=Text)))
        .distinct()
    )


def _is_other(column: ColumnElement[str], scanner_type: ColumnElement[str]) -> ColumnElement[bool]:
    """SARIF is no scanner: who wrote it is not known."""
    return and_(column != scanner_type, column != "sarif")


_BEFORE = (
    select(reports.c.scanner_type)
    .where(reports.c.tenant_id == bindparam("tenant"), reports.c.report_id < bindparam("report"))
    .order_by(reports.c.report_id.desc())
    .limit(_REPORTS_BACK)
    .subquery("before")
)
_OTHERS = select(
    select(literal(1))
    .where(_is_other(_BEFORE.c.scanner_type, bindparam("scanner", type_=Text)))
    .exists()
)


def resume_point(connection: Connection, report_id: uuid.UUID) -> int:
    """The first ordinal that is not stored yet.

    Rejections are written no later than the findings that follow them, so those
    beyond the last finding are the only ones that will come again: they go.
    """
    last = connection.execute(
        select(func.max(findings.c.ordinal)).where(findings.c.report_id == report_id)
    ).scalar()
    following = 0 if last is None else int(last) + 1
    connection.execute(
        delete(rejections).where(
            rejections.c.report_id == report_id, rejections.c.ordinal >= following
        )
    )
    return following


def progress(
    connection: Connection, report_id: uuid.UUID, at: datetime | None = None
) -> ReportProgress:
    """How far a report has come, by what is stored; verdicts as they stand, at a moment or now."""
    row = connection.execute(select(reports).where(reports.c.report_id == report_id)).one()
    reached = ReportProgress(report_id=str(report_id), status=row.status)
    if row.ingested_at is None:
        reached.records.findings = _count(connection, findings, report_id)
        reached.records.rejected = _count(connection, rejections, report_id)
        reached.records.read = reached.records.findings + reached.records.rejected
    else:
        reached.records.read = row.records_read
        reached.records.findings = row.records_findings
        reached.records.merged = row.records_merged
        reached.records.rejected = row.records_rejected
    latest = standing_in(report_id, verdicts.c.risk, verdicts.c.source, at=at).subquery("latest")
    query = select(latest.c.risk, latest.c.source, func.count()).group_by(
        latest.c.risk, latest.c.source
    )
    for risk, source, count in connection.execute(query):
        add(reached, risk, source, count)
    return reached


def risk_name(risk: Risk.ValueType) -> str:
    """`high`, `medium`, `low`."""
    return Risk.Name(risk).removeprefix("RISK_").lower()


def source_name(source: VerdictSource.ValueType) -> str:
    """`heuristic`, `ml`, `llm`, `human`."""
    return VerdictSource.Name(source).removeprefix("VERDICT_SOURCE_").lower()


def add(
    progress: ReportProgress, risk: Risk.ValueType, source: VerdictSource.ValueType, count: int
) -> None:
    """Counts verdicts of one risk and judge."""
    progress.judged += count
    progress.judged_by[source_name(source)] += count
    match risk:
        case Risk.RISK_HIGH:
            progress.summary.high += count
        case Risk.RISK_MEDIUM:
            progress.summary.medium += count
        case Risk.RISK_LOW:
            progress.summary.low += count


def _count(connection: Connection, table: Table, report_id: uuid.UUID) -> int:
    query = select(func.count()).select_from(table).where(table.c.report_id == report_id)
    return connection.execute(query).scalar_one()


def account(progress: ReportProgress) -> dict[str, int]:
    """What a report has come to, as columns of `reports`."""
    records, summary = progress.records, progress.summary
    return {
        "records_read": records.read,
        "records_findings": records.findings,
        "records_merged": records.merged,
        "records_rejected": records.rejected,
        "risk_high": summary.high,
        "risk_medium": summary.medium,
        "risk_low": summary.low,
    }


def discard(connection: Connection, report_id: uuid.UUID) -> None:
    """Removes all that was read of a report that has not ended, to read it anew."""
    for table in (findings, rejections, verdicts):
        connection.execute(delete(table).where(table.c.report_id == report_id))


def rejected_page(
    connection: Connection, report_id: uuid.UUID, tenant: str, after: int, limit: int
) -> list[Rejected]:
    """Up to `limit` records that could not be read, above ordinal `after`."""
    query = (
        select(rejections.c.message)
        .where(
            rejections.c.report_id == report_id,
            rejections.c.tenant_id == tenant,
            rejections.c.ordinal > after,
        )
        .order_by(rejections.c.ordinal)
        .limit(limit)
    )
    return [Rejected.FromString(message) for (message,) in connection.execute(query)]


def unjudged(connection: Connection, report_id: uuid.UUID, after: int, limit: int) -> FindingBatch:
    """Stored findings without a verdict, by ordinal: where a cut run goes on."""
    query = (
        select(findings.c.message)
        .outerjoin(
            verdicts,
            and_(
                verdicts.c.report_id == findings.c.report_id,
                verdicts.c.ordinal == findings.c.ordinal,
            ),
        )
        .where(
            findings.c.report_id == report_id,
            findings.c.ordinal > after,
            verdicts.c.ordinal.is_(None),
        )
        .order_by(findings.c.ordinal)
        .limit(limit)
    )
    batch = FindingBatch()
    for (message,) in connection.execute(query):
        batch.findings.append(Finding.FromString(message))
    return batch


def risks(connection: Connection, report_id: uuid.UUID, at: datetime | None = None) -> RiskSummary:
    """Findings by the risk of the verdict that stands, at a moment or now."""
    latest = standing_in(report_id, verdicts.c.risk, at=at).subquery("latest")
    query = select(latest.c.risk, func.count()).group_by(latest.c.risk)
    counts = {row[0]: row[1] for row in connection.execute(query)}
    return RiskSummary(
        high=counts.get(Risk.RISK_HIGH, 0),
        medium=counts.get(Risk.RISK_MEDIUM, 0),
        low=counts.get(Risk.RISK_LOW, 0),
    )


def page(
    connection: Connection,
    report_id: uuid.UUID,
    tenant: str,
    filters: Filters,
    after: int,
    limit: int,
    full: bool,
) -> tuple[list[ReportFinding], int | None]:
    """Findings above ordinal `after` with the verdicts that stand: up to `limit`, and
    up to about 2 MiB, so that a page of long ones stays below gRPC's 4 MiB.

    Returns:
        The findings, and the ordinal to go on after; None on the last page.
    """
    query = _page_query(report_id, filters, after, limit + 1, full).where(
        findings.c.tenant_id == tenant
    )
    rows = connection.execute(query).all()
    prefix = f"{report_id}."
    found, more = paging.cut((_row_finding(prefix, row, full) for row in rows), limit)
    return found, rows[len(found) - 1].ordinal if more else None


def one(
    connection: Connection, report_id: uuid.UUID, tenant: str, ordinal: int
) -> tuple[ReportFinding, list[Verdict]] | None:
    """One finding in full, and its verdicts, the newest first; None if there is none."""
    there = select(reports.c.report_id).where(reports.c.report_id == report_id)
    if connection.execute(there).first() is None:
        # What a deleted report has left is not shown.
        return None
    found, _ = page(connection, report_id, tenant, Filters(), ordinal - 1, 1, full=True)
    if not found or found[0].detail.ordinal != ordinal:
        return None
    query = (
        select(verdicts)
        .where(verdicts.c.report_id == report_id, verdicts.c.ordinal == ordinal)
        .order_by(verdicts.c.revision.desc())
    )
    return found[0], [_verdict(row) for row in connection.execute(query)]


def _verdict(row: Any) -> Verdict:
    verdict = Verdict.FromString(row.message)
    verdict.ordinal = row.ordinal
    verdict.inputs.update(row.inputs)
    verdict.decided_at.FromDatetime(row.decided_at)
    return verdict


def _page_query(
    report_id: uuid.UUID, filters: Filters, after: int, limit: int, full: bool
) -> Select[Any]:
    latest = standing(
        verdicts.c.risk,
        verdicts.c.source,
        verdicts.c.reason,
        verdicts.c.confidence,
        *((verdicts.c.inputs, verdicts.c.message) if full else ()),
    )
    query = (
        select(
            findings.c.ordinal,
            findings.c.kind,
            findings.c.rule_id,
            findings.c.path,
            findings.c.line,
            findings.c.commit_id,
            findings.c.validity,
            findings.c.value_preview,
            latest.c.risk,
            latest.c.source,
            latest.c.reason,
            latest.c.confidence,
            *(
                (findings.c.message, latest.c.inputs, latest.c.message.label("verdict"))
                if full
                else ()
            ),
        )
        .outerjoin(latest, literal(True))
        .where(findings.c.report_id == report_id, findings.c.ordinal > after)
        .order_by(findings.c.ordinal)
        .limit(limit)
    )
    return filtered(query, filters, latest)


def filtered(query: Select[Any], filters: Filters, latest: LateralFromClause) -> Select[Any]:
    """The query with these filters on `findings` and on the verdict that stands."""
    if filters.risk:
        query = query.where(latest.c.risk == filters.risk)
    if filters.source:
        query = query.where(latest.c.source == filters.source)
    if filters.rule:
        query = query.where(findings.c.rule_id == filters.rule)
    if filters.path:
        query = query.where(findings.c.path.startswith(filters.path, autoescape=True))
    if filters.kind:
        query = query.where(findings.c.kind == filters.kind)
    return query


def _row_finding(prefix: str, row: Any, full: bool) -> ReportFinding:
    (ordinal, kind, rule, path, line, commit, validity, preview, risk, source, reason, sure) = row[
        :12
    ]
    return ReportFinding(
        id=f"{prefix}{ordinal}",
        path=path,
        line=line,
        kind=kind,
        value_preview=preview,
        risk=risk,
        reason=reason,
        source=source,
        confidence=sure,
        rule=rule,
        validity=validity,
        commit=commit,
        detail=_detail(row) if full else None,
    )


def _detail(row: Any) -> ReportFindingDetail:
    finding = Finding.FromString(row.message)
    verdict = Verdict.FromString(row.verdict or b"")
    return ReportFindingDetail(
        ordinal=finding.ordinal,
        tool=finding.tool,
        rule_name=finding.rule_name,
        severity=finding.severity,
        value_state=finding.value_state,
        value_fingerprint=finding.value_fingerprint.hex(),
        place_fingerprint=finding.place_fingerprint.hex(),
        occurrence_fingerprint=finding.occurrence_fingerprint.hex(),
        end_line=finding.code.location.end_line,
        raw_metadata=finding.raw_metadata,
        evidence=verdict.evidence,
        inputs=row.inputs or {},
        decided_by=verdict.decided_by,
        container=finding.code.container,
        triage=finding.triage,
        package=finding.package if finding.HasField("package") else None,
        aliases=finding.aliases,
        more_locations=finding.code.more_locations,
        native_id=finding.native_id,
    )
