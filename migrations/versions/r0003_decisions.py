"""People's decisions, and the verdicts that follow from them."""

from alembic import op

revision = "0003"
down_revision = "0002"

_UP = """
CREATE TABLE orchestrator.decisions (
    decision_id uuid PRIMARY KEY,
    tenant_id text NOT NULL,
    outcome smallint NOT NULL,
    scope smallint NOT NULL,
    reason text NOT NULL,
    actor text NOT NULL,
    decided_at timestamptz NOT NULL,
    ends_at timestamptz,
    settled boolean NOT NULL DEFAULT false,
    report_id uuid NOT NULL,
    ordinal bigint NOT NULL,
    value_fingerprint bytea,
    path text NOT NULL,
    risk smallint NOT NULL,
    confidence double precision,
    stated text NOT NULL,
    message bytea NOT NULL
);
CREATE INDEX decisions_newest ON orchestrator.decisions (tenant_id, decision_id DESC);
CREATE INDEX decisions_by_value ON orchestrator.decisions (tenant_id, value_fingerprint)
    WHERE value_fingerprint IS NOT NULL;
CREATE INDEX decisions_by_finding ON orchestrator.decisions (report_id, ordinal);
CREATE INDEX decisions_unsettled ON orchestrator.decisions (ends_at)
    WHERE NOT settled AND ends_at IS NOT NULL;
ALTER TABLE orchestrator.verdicts ADD COLUMN decision_id uuid;
CREATE INDEX verdicts_by_decision ON orchestrator.verdicts (decision_id)
    WHERE decision_id IS NOT NULL;
"""

_DOWN = """
DELETE FROM orchestrator.verdicts WHERE decision_id IS NOT NULL;
ALTER TABLE orchestrator.verdicts DROP COLUMN decision_id;
DROP TABLE orchestrator.decisions;
"""


def upgrade() -> None:
    op.execute(_UP)


def downgrade() -> None:
    op.execute(_DOWN)
