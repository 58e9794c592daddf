"""Whose turn a job is: the key that it was put with, and indexes that find the next one."""

from alembic import op

revision = "0011"
down_revision = "0010"

_UP = """
ALTER TABLE orchestrator.jobs ADD COLUMN line text NOT NULL DEFAULT '';
DROP INDEX orchestrator.jobs_due;
CREATE INDEX jobs_due ON orchestrator.jobs (kind, tenant_id, line, due_at, job_id)
    WHERE state <> 3;
CREATE INDEX jobs_running ON orchestrator.jobs (kind, tenant_id, line) WHERE state = 2;
"""

_DOWN = """
DROP INDEX orchestrator.jobs_running;
DROP INDEX orchestrator.jobs_due;
CREATE INDEX jobs_due ON orchestrator.jobs (kind, due_at, job_id) WHERE state <> 3;
ALTER TABLE orchestrator.jobs DROP COLUMN line;
"""


def upgrade() -> None:
    op.execute(_UP)


def downgrade() -> None:
    op.execute(_DOWN)
