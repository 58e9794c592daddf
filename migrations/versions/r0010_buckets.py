"""Buckets of rates, where processes share them in PostgreSQL."""

from alembic import op

revision = "0010"
down_revision = "0009"

# Unlogged: runtime/buckets.py says why. No index on full_at, and room on each page: then a
# take changes its row in place (HOT). The sweep reads the whole table, which is small.
_UP = """
CREATE UNLOGGED TABLE access.buckets (
    name_sha256 bytea PRIMARY KEY,
    full_at timestamptz NOT NULL
) WITH (fillfactor = 50);
GRANT SELECT, INSERT, UPDATE, DELETE ON access.buckets TO winnow_background;
GRANT SELECT, INSERT, UPDATE ON access.buckets TO winnow_ledger;
"""

_DOWN = """
DELETE FROM orchestrator.schedules WHERE name = 'buckets.sweep';
DELETE FROM orchestrator.jobs WHERE kind = 'buckets.sweep';
DROP TABLE access.buckets;
"""


def upgrade() -> None:
    op.execute(_UP)


def downgrade() -> None:
    op.execute(_DOWN)
