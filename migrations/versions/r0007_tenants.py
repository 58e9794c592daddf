"""Row-level security: roles of the services, what each may do, and whose rows it sees."""

from alembic import op
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from runtime.errors import WinnowError

revision = "0007"
down_revision = "0005"

# By role: its schema, and what it may do with which tables.
_GRANTS: dict[str, tuple[str, dict[str, str]]] = {
    # Works for one tenant at a time: answers its callers, runs its reports.
    "winnow_orchestrator": (
        "orchestrator",
        {
            "activity": "SELECT",
            "decisions": "SELECT, INSERT, UPDATE",
            "findings": "SELECT, INSERT, DELETE",
            "idempotency": "SELECT, INSERT, UPDATE",
            "jobs": "SELECT, INSERT, UPDATE, DELETE",
            "outbox": "SELECT, INSERT",
            "raw_chunks": "SELECT, INSERT, DELETE",
            "rejections": "SELECT, INSERT, DELETE",
            "reports": "SELECT, INSERT, UPDATE",
            "run_events": "SELECT, INSERT",
            "schedules": "SELECT",
            "verdicts": "SELECT, INSERT, DELETE",
        },
    ),
    # Works for all of them: claims jobs, ships events, tells watchers, sweeps.
    "winnow_background": (
        "orchestrator",
        {
            "activity": "SELECT, INSERT, UPDATE, DELETE",
            "decisions": "SELECT, UPDATE",
            "findings": "SELECT",
            "idempotency": "SELECT, UPDATE, DELETE",
            "inbox": "SELECT, INSERT, DELETE",
            "jobs": "SELECT, INSERT, UPDATE, DELETE",
            "outbox": "SELECT, INSERT, UPDATE, DELETE",
            "raw_chunks": "SELECT, DELETE",
            "rejections": "SELECT",
            "reports": "SELECT, UPDATE",
            "run_events": "SELECT, INSERT",
            "schedules": "SELECT, INSERT, UPDATE, DELETE",
            "verdicts": "SELECT, INSERT",
        },
    ),
    # Reads the events of one tenant.
    "winnow_audit": ("audit", {"events": "SELECT"}),
    # Appends those of all; no event is ever changed or removed.
    "winnow_ledger": (
        "audit",
        {
            "checkpoints": "SELECT, INSERT, UPDATE, DELETE",
            "events": "SELECT, INSERT",
            "tiles": "SELECT, INSERT, UPDATE",
        },
    ),
}
# A statement asks once, not once a row.
_OWN = "tenant_id = (SELECT current_setting('winnow.tenant', true))"
_POLICIES = {
    "winnow_orchestrator": _OWN,
    "winnow_background": "true",
    "winnow_audit": _OWN,
    "winnow_ledger": "true",
}
# Tables whose rows are nobody's: messages taken, due times, hashes of the whole log.
_NOBODYS = ("inbox", "schedules", "tiles", "checkpoints")

# Databases of one server share its roles, and may be migrated at once.
_MAKE = """
DO $$ BEGIN
    CREATE ROLE {role} NOLOGIN;
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
END $$
"""
_MAY_ACT_AS = text("SELECT pg_has_role(oid, 'USAGE') FROM pg_roles WHERE rolname = :role")


def upgrade() -> None:
    for role in _GRANTS:
        _have(role)
    for role, (schema, rights) in _GRANTS.items():
        op.execute(f"GRANT USAGE ON SCHEMA {schema} TO {role}")
        for table, right in rights.items():
            op.execute(f"GRANT {right} ON {schema}.{table} TO {role}")
            if table not in _NOBODYS:
                op.execute(f"ALTER TABLE {schema}.{table} ENABLE ROW LEVEL SECURITY")
                using = _POLICIES[role]
                op.execute(f"CREATE POLICY {role} ON {schema}.{table} TO {role} USING ({using})")


def _have(role: str) -> None:
    """Makes a role, unless it is there, and joins it, unless that is so.

    Raises:
        WinnowError: DATABASE_UNAVAILABLE if the migrating user may not.
    """
    connection = op.get_bind()
    may = connection.execute(_MAY_ACT_AS, {"role": role}).scalar()
    try:
        with connection.begin_nested():
            if may is None:
                connection.execute(text(_MAKE.format(role=role)))
            if not may:
                connection.execute(text(f"GRANT {role} TO CURRENT_USER"))
    except ProgrammingError:
        make = "; ".join(f"CREATE ROLE {role} NOLOGIN" for role in _GRANTS)
        raise WinnowError(
            "DATABASE_UNAVAILABLE",
            f"the database's user may not make the role {role}, or not act as it; have an "
            f"administrator run, where they are missing: {make}; and then: "
            f"GRANT {', '.join(_GRANTS)} TO the user; and migrate again",
        ) from None


def downgrade() -> None:
    for role, (schema, rights) in _GRANTS.items():
        for table in rights:
            if table not in _NOBODYS:
                op.execute(f"DROP POLICY {role} ON {schema}.{table}")
                op.execute(f"ALTER TABLE {schema}.{table} DISABLE ROW LEVEL SECURITY")
        op.execute(f"REVOKE ALL ON ALL TABLES IN SCHEMA {schema} FROM {role}")
        op.execute(f"REVOKE ALL ON SCHEMA {schema} FROM {role}")
    # The roles stay: other databases of the server may have given them rights.
