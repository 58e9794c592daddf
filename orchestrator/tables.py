"""The orchestrator's tables, schema `orchestrator`.

Columns are what queries touch; the protobuf message beside them is the whole
thing. Findings are immutable and verdicts append-only: what readers see is the
standing verdict (standing.py).
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Float,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, UUID

from runtime.consumers import inbox_table
from runtime.jobs import jobs_table
from runtime.schedules import schedules_table

SCHEMA = "orchestrator"

metadata = MetaData(schema=SCHEMA)

reports = Table(
    "reports",
    metadata,
    Column("report_id", UUID(as_uuid=True), primary_key=True),
    Column("tenant_id", Text, nullable=False),
    Column("status", SmallInteger, nullable=False),
    Column("scanner_type", Text, nullable=False),
    Column("report_format", Text, nullable=False),
    Column("parser", Text, nullable=False, server_default=""),
    Column("dialect", Text, nullable=False, server_default=""),
    # winnow.ingest.v1.Notice, as JSON.
    Column("notices", JSONB, nullable=False, server_default="[]"),
    Column("source", JSONB, nullable=False),
    Column("labels", JSONB, nullable=False),
    Column("asset_key", Text, nullable=False),
    Column("sha256", LargeBinary, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("records_read", BigInteger, nullable=False, server_default="0"),
    Column("records_findings", BigInteger, nullable=False, server_default="0"),
    Column("records_merged", BigInteger, nullable=False, server_default="0"),
    Column("records_rejected", BigInteger, nullable=False, server_default="0"),
    Column("risk_high", BigInteger, nullable=False, server_default="0"),
    Column("risk_medium", BigInteger, nullable=False, server_default="0"),
    Column("risk_low", BigInteger, nullable=False, server_default="0"),
    Column("error_reason", Text),
    Column("error_message", Text),
    Column("request_id", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False),
    Column("finished_at", DateTime(timezone=True)),
    # When every record had been read.
    Column("ingested_at", DateTime(timezone=True)),
    # The earliest report of the same bytes, asset and scanner.
    Column("duplicate_of", UUID(as_uuid=True)),
    # When its data key was destroyed.
    Column("shredded_at", DateTime(timezone=True)),
    # The newest of its run_events.
    Column("last_event", BigInteger, nullable=False, server_default="0"),
    # The id is a UUIDv7: newest first needs no second column.
    Index("reports_newest", "tenant_id", text("report_id DESC")),
    Index("reports_by_content", "tenant_id", "sha256"),
    Index(
        "reports_readable",
        "finished_at",
        postgresql_where=text("shredded_at IS NULL AND finished_at IS NOT NULL"),
    ),
)

data_keys = Table(
    "data_keys",
    metadata,
    Column("report_id", UUID(as_uuid=True), primary_key=True),
    Column("tenant_id", Text, nullable=False),
    # The key-encryption key, by its id, and the data key under it.
    Column("key_id", Text, nullable=False),
    Column("wrapped", LargeBinary, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Index("data_keys_by_key", "key_id", "report_id"),
)

raw_chunks = Table(
    "raw_chunks",
    metadata,
    Column("report_id", UUID(as_uuid=True), primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("tenant_id", Text, nullable=False),
    # zstd, then AES-256-GCM bound to report and seq.
    Column("sealed", LargeBinary, nullable=False),
)

findings = Table(
    "findings",
    metadata,
    Column("report_id", UUID(as_uuid=True), primary_key=True),
    Column("ordinal", BigInteger, primary_key=True),
    Column("tenant_id", Text, nullable=False),
    Column("kind", SmallInteger, nullable=False),
    Column("rule_id", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("line", BigInteger),
    Column("commit_id", Text, nullable=False),
    Column("validity", SmallInteger, nullable=False),
    Column("value_preview", Text, nullable=False),
    Column("value_fingerprint", LargeBinary),
    # winnow.finding.v1.Finding, with its sealed evidence.
    Column("message", LargeBinary, nullable=False),
    Index(
        "findings_by_value",
        "tenant_id",
        "value_fingerprint",
        "report_id",
        postgresql_where=text("value_fingerprint IS NOT NULL"),
    ),
)

rejections = Table(
    "rejections",
    metadata,
    Column("report_id", UUID(as_uuid=True), primary_key=True),
    Column("ordinal", BigInteger, primary_key=True),
    Column("tenant_id", Text, nullable=False),
    # winnow.ingest.v1.Rejected.
    Column("message", LargeBinary, nullable=False),
)

verdicts = Table(
    "verdicts",
    metadata,
    Column("report_id", UUID(as_uuid=True), primary_key=True),
    Column("ordinal", BigInteger, primary_key=True),
    Column("revision", SmallInteger, primary_key=True),
    Column("tenant_id", Text, nullable=False),
    Column("risk", SmallInteger, nullable=False),
    Column("source", SmallInteger, nullable=False),
    Column("confidence", Float),
    Column("reason", Text, nullable=False),
    # Digests of what the verdict was made from.
    Column("inputs", JSONB, nullable=False),
    Column("decided_at", DateTime(timezone=True), nullable=False),
    # winnow.finding.v1.Verdict: evidence and deciding stage.
    Column("message", LargeBinary, nullable=False),
    # A person's: it stands while its decision holds.
    Column("decision_id", UUID(as_uuid=True)),
    Index("verdicts_by_decision", "decision_id", postgresql_where=text("decision_id IS NOT NULL")),
)

decisions = Table(
    "decisions",
    metadata,
    Column("decision_id", UUID(as_uuid=True), primary_key=True),
    Column("tenant_id", Text, nullable=False),
    Column("outcome", SmallInteger, nullable=False),
    Column("scope", SmallInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("decided_at", DateTime(timezone=True), nullable=False),
    # The only thing that ever changes: an expiry, or when it was withdrawn or replaced.
    Column("ends_at", DateTime(timezone=True)),
    # Whether its end is in the reports' summaries.
    Column("settled", Boolean, nullable=False, server_default=text("false")),
    # The finding that it was made on, and the value, at which path, that it follows.
    Column("report_id", UUID(as_uuid=True), nullable=False),
    Column("ordinal", BigInteger, nullable=False),
    Column("value_fingerprint", LargeBinary),
    Column("path", Text, nullable=False),
    # The verdict that follows from it.
    Column("risk", SmallInteger, nullable=False),
    Column("confidence", Float),
    Column("stated", Text, nullable=False),
    Column("message", LargeBinary, nullable=False),
    Index("decisions_newest", "tenant_id", text("decision_id DESC")),
    Index(
        "decisions_by_value",
        "tenant_id",
        "value_fingerprint",
        postgresql_where=text("value_fingerprint IS NOT NULL"),
    ),
    Index("decisions_by_finding", "report_id", "ordinal"),
    Index(
        "decisions_unsettled",
        "ends_at",
        postgresql_where=text("NOT settled AND ends_at IS NOT NULL"),
    ),
)

outbox = Table(
    "outbox",
    metadata,
    Column("seq", BigInteger, Identity(always=True), primary_key=True),
    Column("tenant_id", Text, nullable=False),
    # winnow.event.v1.Envelope.
    Column("event", LargeBinary, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    # Whether the audit service and the event transport have it; with both it goes.
    Column("audited", Boolean, nullable=False, server_default=text("false")),
    Column("published", Boolean, nullable=False, server_default=text("false")),
    Index("outbox_unaudited", "seq", postgresql_where=text("NOT audited")),
    Index("outbox_unpublished", "seq", postgresql_where=text("NOT published")),
)

run_events = Table(
    "run_events",
    metadata,
    # What runs: a report.
    Column("run_id", UUID(as_uuid=True), primary_key=True),
    # From 1, without holes.
    Column("ordinal", BigInteger, primary_key=True),
    Column("tenant_id", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
    # winnow.event.v1.Envelope.
    Column("payload", LargeBinary, nullable=False),
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("tenant_id", Text, primary_key=True),
    # SHA-256 of the caller's key: a key is the caller's own text.
    Column("key_digest", LargeBinary, primary_key=True),
    # SHA-256 of declaration and bytes.
    Column("request_digest", LargeBinary, nullable=False),
    Column("report_id", UUID(as_uuid=True), nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    # google.protobuf.Any: a SubmitReportResponse, or the google.rpc.Status of a failure.
    Column("answer", LargeBinary, nullable=False),
    Index("idempotency_by_report", "report_id"),
    Index("idempotency_by_age", "created_at"),
)

activity = Table(
    "activity",
    metadata,
    Column("tenant_id", Text, primary_key=True),
    Column("hour", DateTime(timezone=True), primary_key=True),
    Column("event_type", Text, primary_key=True),
    Column("events", BigInteger, nullable=False),
)

jobs = jobs_table(metadata)
schedules = schedules_table(metadata)
inbox = inbox_table(metadata)
