"""A data key for each report, and when it was destroyed."""

from alembic import op

revision = "0008"
down_revision = "0007"

_UP = """
CREATE TABLE orchestrator.data_keys (
    report_id uuid PRIMARY KEY,
    tenant_id text NOT NULL,
    key_id text NOT NULL,
    wrapped bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX data_keys_by_key ON orchestrator.data_keys (key_id, report_id);
ALTER TABLE orchestrator.data_keys ENABLE ROW LEVEL SECURITY;
GRANT SELECT, INSERT, DELETE ON orchestrator.data_keys TO winnow_orchestrator;
CREATE POLICY winnow_orchestrator ON orchestrator.data_keys TO winnow_orchestrator
    USING (tenant_id = (SELECT current_setting('winnow.tenant', true)));
GRANT SELECT, INSERT, UPDATE, DELETE ON orchestrator.data_keys TO winnow_background;
CREATE POLICY winnow_background ON orchestrator.data_keys TO winnow_background USING (true);

ALTER TABLE orchestrator.reports ADD COLUMN shredded_at timestamptz;
CREATE INDEX reports_readable ON orchestrator.reports (finished_at)
    WHERE shredded_at IS NULL AND finished_at IS NOT NULL;

-- Reports come to an end: on request, or when they are old.
GRANT DELETE ON orchestrator.reports, orchestrator.decisions, orchestrator.idempotency,
    orchestrator.run_events TO winnow_orchestrator;
GRANT DELETE ON orchestrator.reports, orchestrator.decisions TO winnow_background;

-- Reports of older versions are sealed with the key-encryption key itself: they get a
-- data key, which is that one, wrapped.
INSERT INTO orchestrator.jobs
    (job_id, kind, key, tenant_id, request_id, payload, state, max_failures)
    SELECT gen_random_uuid(), 'sealing.rewrap', 'sealing', 'default', '', '{}', 1, 50
    WHERE EXISTS (SELECT FROM orchestrator.reports);
"""

_DOWN = """
REVOKE DELETE ON orchestrator.reports, orchestrator.decisions, orchestrator.idempotency,
    orchestrator.run_events FROM winnow_orchestrator;
REVOKE DELETE ON orchestrator.reports, orchestrator.decisions FROM winnow_background;
DELETE FROM orchestrator.jobs WHERE kind IN ('sealing.rewrap', 'report.clear', 'retention.sweep');
DROP INDEX orchestrator.reports_readable;
ALTER TABLE orchestrator.reports DROP COLUMN shredded_at;
DROP TABLE orchestrator.data_keys;
"""


def upgrade() -> None:
    op.execute(_UP)


def downgrade() -> None:
    op.execute(_DOWN)
