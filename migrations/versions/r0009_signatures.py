"""What keys sign with, sealed, and which nonces were used."""

from alembic import op

revision = "0009"
down_revision = "0008"

_UP = """
ALTER TABLE access.api_keys ADD COLUMN signing_key_id text, ADD COLUMN signing_key bytea;
CREATE TABLE access.nonces (
    key_id text NOT NULL,
    nonce text NOT NULL,
    kept_until timestamptz NOT NULL,
    grant_sha256 bytea NOT NULL,
    granted_until timestamptz NOT NULL,
    PRIMARY KEY (key_id, nonce)
);
CREATE UNIQUE INDEX nonces_by_grant ON access.nonces (grant_sha256);
CREATE INDEX nonces_by_end ON access.nonces (kept_until);
GRANT SELECT, INSERT, DELETE ON access.nonces TO winnow_background;
GRANT SELECT ON access.nonces TO winnow_ledger;
"""

_DOWN = """
DELETE FROM orchestrator.schedules WHERE name = 'nonces.sweep';
DELETE FROM orchestrator.jobs WHERE kind = 'nonces.sweep';
DROP TABLE access.nonces;
ALTER TABLE access.api_keys DROP COLUMN signing_key_id, DROP COLUMN signing_key;
"""


def upgrade() -> None:
    op.execute(_UP)


def downgrade() -> None:
    op.execute(_DOWN)
