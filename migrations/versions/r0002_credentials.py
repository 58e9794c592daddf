"""Credentials over reports, and what is said about how a report was read."""

from alembic import op

revision = "0002"
down_revision = "0001"

_UP = """
ALTER TABLE orchestrator.reports
    ADD COLUMN dialect text NOT NULL DEFAULT '',
    ADD COLUMN notices jsonb NOT NULL DEFAULT '[]';
CREATE INDEX findings_by_value ON orchestrator.findings (tenant_id, value_fingerprint, report_id)
    WHERE value_fingerprint IS NOT NULL;
"""

_DOWN = """
DROP INDEX orchestrator.findings_by_value;
ALTER TABLE orchestrator.reports DROP COLUMN dialect, DROP COLUMN notices;
"""


def upgrade() -> None:
    op.execute(_UP)


def downgrade() -> None:
    op.execute(_DOWN)
