"""Reports, findings, verdicts, outbox; the audit log.

Every row carries its tenant from here on.
"""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_STATEMENTS = """
CREATE SCHEMA orchestrator;

CREATE TABLE orchestrator.reports (
    report_id uuid PRIMARY KEY,
    tenant_id text NOT NULL,
    status smallint NOT NULL,
    scanner_type text NOT NULL,
    report_format text NOT NULL,
    parser text NOT NULL DEFAULT '',
    source jsonb NOT NULL,
    labels jsonb NOT NULL,
    asset_key text NOT NULL,
    sha256 bytea NOT NULL,
    size_bytes bigint NOT NULL,
    records_read bigint NOT NULL DEFAULT 0,
    records_findings bigint NOT NULL DEFAULT 0,
    records_merged bigint NOT NULL DEFAULT 0,
    records_rejected bigint NOT NULL DEFAULT 0,
    risk_high bigint NOT NULL DEFAULT 0,
    risk_medium bigint NOT NULL DEFAULT 0,
    risk_low bigint NOT NULL DEFAULT 0,
    error_reason text,
    error_message text,
    request_id text NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    finished_at timestamptz
);
CREATE INDEX reports_newest ON orchestrator.reports (tenant_id, report_id DESC);
CREATE INDEX reports_unfinished ON orchestrator.reports (report_id) WHERE status NOT IN (4, 5);

CREATE TABLE orchestrator.raw_chunks (
    report_id uuid NOT NULL,
    seq integer NOT NULL,
    tenant_id text NOT NULL,
    sealed bytea NOT NULL,
    PRIMARY KEY (report_id, seq)
);
-- Sealed bytes do not compress again.
ALTER TABLE orchestrator.raw_chunks ALTER COLUMN sealed SET STORAGE EXTERNAL;

CREATE TABLE orchestrator.findings (
    report_id uuid NOT NULL,
    ordinal bigint NOT NULL,
    tenant_id text NOT NULL,
    kind smallint NOT NULL,
    rule_id text NOT NULL,
    path text NOT NULL,
    line bigint,
    commit_id text NOT NULL,
    validity smallint NOT NULL,
    value_preview text NOT NULL,
    value_fingerprint bytea,
    message bytea NOT NULL,
    PRIMARY KEY (report_id, ordinal)
);
ALTER TABLE orchestrator.findings ALTER COLUMN message SET STORAGE EXTERNAL;

CREATE TABLE orchestrator.rejections (
    report_id uuid NOT NULL,
    ordinal bigint NOT NULL,
    tenant_id text NOT NULL,
    message bytea NOT NULL,
    PRIMARY KEY (report_id, ordinal)
);

CREATE TABLE orchestrator.verdicts (
    report_id uuid NOT NULL,
    ordinal bigint NOT NULL,
    revision smallint NOT NULL,
    tenant_id text NOT NULL,
    risk smallint NOT NULL,
    source smallint NOT NULL,
    confidence double precision,
    reason text NOT NULL,
    inputs jsonb NOT NULL,
    decided_at timestamptz NOT NULL,
    message bytea NOT NULL,
    PRIMARY KEY (report_id, ordinal, revision)
);

CREATE TABLE orchestrator.outbox (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id text NOT NULL,
    event bytea NOT NULL
);

CREATE SCHEMA audit;

CREATE TABLE audit.events (
    sequence bigint PRIMARY KEY CHECK (sequence >= 0),
    event_id uuid NOT NULL UNIQUE,
    tenant_id text NOT NULL,
    subject text NOT NULL,
    event_type text NOT NULL,
    recorded_at timestamptz NOT NULL,
    leaf bytea NOT NULL,
    leaf_hash bytea NOT NULL CHECK (octet_length(leaf_hash) = 32)
);
CREATE INDEX events_by_subject ON audit.events (tenant_id, subject, sequence);

CREATE TABLE audit.checkpoints (
    tree_size bigint PRIMARY KEY,
    root_hash bytea NOT NULL,
    note text NOT NULL,
    signed_at timestamptz NOT NULL
);
"""


def upgrade() -> None:
    op.execute(_STATEMENTS)


def downgrade() -> None:
    op.execute("DROP SCHEMA orchestrator CASCADE; DROP SCHEMA audit CASCADE;")
