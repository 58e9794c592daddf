"""Durable work: jobs, schedules, the inbox, reports' events, idempotency keys."""

from alembic import op

revision = "0004"
down_revision = "0003"

_UP = """
CREATE TABLE orchestrator.jobs (
    job_id uuid PRIMARY KEY,
    kind text NOT NULL,
    key text NOT NULL,
    tenant_id text NOT NULL,
    request_id text NOT NULL,
    payload jsonb NOT NULL,
    state smallint NOT NULL,
    attempt integer NOT NULL DEFAULT 0,
    failures integer NOT NULL DEFAULT 0,
    max_failures integer NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    due_at timestamptz NOT NULL DEFAULT now(),
    worker text NOT NULL DEFAULT '',
    error_reason text NOT NULL DEFAULT '',
    error_message text NOT NULL DEFAULT '',
    UNIQUE (kind, key)
);
CREATE INDEX jobs_due ON orchestrator.jobs (kind, due_at, job_id) WHERE state <> 3;
CREATE INDEX jobs_dead ON orchestrator.jobs (job_id DESC) WHERE state = 3;

CREATE TABLE orchestrator.schedules (
    name text PRIMARY KEY,
    kind text NOT NULL,
    cron text NOT NULL,
    zone text NOT NULL,
    catch_up smallint NOT NULL,
    next_at timestamptz NOT NULL
);

CREATE TABLE orchestrator.inbox (
    consumer text NOT NULL,
    message_id uuid NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (consumer, message_id)
);
CREATE INDEX inbox_by_age ON orchestrator.inbox (at);

CREATE TABLE orchestrator.activity (
    tenant_id text NOT NULL,
    hour timestamptz NOT NULL,
    event_type text NOT NULL,
    events bigint NOT NULL,
    PRIMARY KEY (tenant_id, hour, event_type)
);

CREATE TABLE orchestrator.run_events (
    run_id uuid NOT NULL,
    ordinal bigint NOT NULL,
    tenant_id text NOT NULL,
    type text NOT NULL,
    at timestamptz NOT NULL,
    payload bytea NOT NULL,
    PRIMARY KEY (run_id, ordinal)
);

CREATE TABLE orchestrator.idempotency (
    tenant_id text NOT NULL,
    key_digest bytea NOT NULL,
    request_digest bytea NOT NULL,
    report_id uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    answer bytea NOT NULL,
    PRIMARY KEY (tenant_id, key_digest)
);
CREATE INDEX idempotency_by_report ON orchestrator.idempotency (report_id);
CREATE INDEX idempotency_by_age ON orchestrator.idempotency (created_at);

ALTER TABLE orchestrator.reports
    ADD COLUMN duplicate_of uuid,
    ADD COLUMN last_event bigint NOT NULL DEFAULT 0,
    ADD COLUMN ingested_at timestamptz;
CREATE INDEX reports_by_content ON orchestrator.reports (tenant_id, sha256);

ALTER TABLE orchestrator.outbox
    ADD COLUMN at timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN audited boolean NOT NULL DEFAULT false,
    ADD COLUMN published boolean NOT NULL DEFAULT false;
CREATE INDEX outbox_unaudited ON orchestrator.outbox (seq) WHERE NOT audited;
CREATE INDEX outbox_unpublished ON orchestrator.outbox (seq) WHERE NOT published;

-- Reports that an older version left unfinished.
UPDATE orchestrator.reports SET ingested_at = updated_at WHERE status IN (2, 3, 4);
INSERT INTO orchestrator.jobs
    (job_id, kind, key, tenant_id, request_id, payload, state, max_failures)
    SELECT report_id, 'report.run', report_id::text, tenant_id, request_id, '{}', 1, 50
    FROM orchestrator.reports WHERE status NOT IN (4, 5);
DROP INDEX orchestrator.reports_unfinished;
"""

_DOWN = """
CREATE INDEX reports_unfinished ON orchestrator.reports (report_id) WHERE status NOT IN (4, 5);
ALTER TABLE orchestrator.outbox DROP COLUMN at, DROP COLUMN audited, DROP COLUMN published;
DROP INDEX orchestrator.reports_by_content;
ALTER TABLE orchestrator.reports
    DROP COLUMN duplicate_of, DROP COLUMN last_event, DROP COLUMN ingested_at;
DROP TABLE orchestrator.idempotency, orchestrator.run_events, orchestrator.activity,
    orchestrator.inbox, orchestrator.schedules, orchestrator.jobs;
"""


def upgrade() -> None:
    op.execute(_UP)


def downgrade() -> None:
    op.execute(_DOWN)
