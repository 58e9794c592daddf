"""API keys, in a schema of their own: two services check them."""

from alembic import op

revision = "0006"
down_revision = "0005"

_UP = """
CREATE SCHEMA access;
CREATE TABLE access.api_keys (
    key_id text PRIMARY KEY,
    number bigint GENERATED ALWAYS AS IDENTITY,
    tenant_id text NOT NULL,
    name text NOT NULL,
    roles smallint[] NOT NULL,
    secret_sha256 bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL,
    expires_at timestamptz,
    revoked_at timestamptz,
    last_used_at timestamptz
);
CREATE INDEX api_keys_by_tenant ON access.api_keys (tenant_id, number);
"""


def upgrade() -> None:
    op.execute(_UP)


def downgrade() -> None:
    op.execute("DROP SCHEMA access CASCADE;")
