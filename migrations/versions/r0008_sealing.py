"""A data key for each report, and when it was destroyed."""

from alembic import op

revision = "0008"
down_revision = "0005"

_UP = """
CREATE TABLE orchestrator.data_keys (
    report_id uuid PRIMARY KEY,
    tenant_id text NOT NULL,
    key_id text NOT NULL,
    wrapped bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX data_keys_by_key ON orchestrator.data_keys (key_id, report_id);

ALTER TABLE orchestrator.reports ADD COLUMN shredded_at timestamptz;
CREATE INDEX reports_readable ON orchestrator.reports (finished_at)
    WHERE shredded_at IS NULL AND finished_at IS NOT NULL;

-- Reports of older versions are sealed with the key-encryption key itself: they get a
-- data key, which is that one, wrapped.
INSERT INTO orchestrator.jobs
    (job_id, kind, key, tenant_id, request_id, payload, state, max_failures)
    SELECT gen_random_uuid(), 'sealing.rewrap', 'sealing', 'default', '', '{}', 1, 50
    WHERE EXISTS (SELECT FROM orchestrator.reports);
"""

_DOWN = """
DELETE FROM orchestrator.jobs WHERE kind IN ('sealing.rewrap', 'report.delete');
DROP INDEX orchestrator.reports_readable;
ALTER TABLE orchestrator.reports DROP COLUMN shredded_at;
DROP TABLE orchestrator.data_keys;
"""


def upgrade() -> None:
    op.execute(_UP)


def downgrade() -> None:
    op.execute(_DOWN)
