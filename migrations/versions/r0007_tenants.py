"""Row-level security: roles of the services, what each may do, and whose rows it sees."""

from collections.abc import Iterable

from alembic import op
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from runtime.errors import WinnowError

revision = "0007"
down_revision = "0006"

# By role, what it may do with which tables.
_GRANTS: dict[str, dict[str, str]] = {
    # Works for one tenant at a time: answers its callers, runs its reports.
    "winnow_orchestrator": {
        "access.api_keys": "SELECT, INSERT, UPDATE",
        "orchestrator.activity": "SELECT",
        "orchestrator.decisions": "SELECT, INSERT, UPDATE",
        "orchestrator.findings": "SELECT, INSERT, DELETE",
        "orchestrator.idempotency": "SELECT, INSERT, UPDATE",
        "orchestrator.jobs": "SELECT, INSERT, UPDATE, DELETE",
        "orchestrator.outbox": "SELECT, INSERT",
        "orchestrator.raw_chunks": "SELECT, INSERT, DELETE",
        "orchestrator.rejections": "SELECT, INSERT, DELETE",
        "orchestrator.reports": "SELECT, INSERT, UPDATE",
        "orchestrator.run_events": "SELECT, INSERT",
        "orchestrator.schedules": "SELECT",
        "orchestrator.verdicts": "SELECT, INSERT, DELETE",
    },
    # Works for all of them: claims jobs, ships events, tells watchers, sweeps; looks up
    # whose a key is.
    "winnow_background": {
        "access.api_keys": "SELECT, UPDATE",
        "orchestrator.activity": "SELECT, INSERT, UPDATE, DELETE",
        "orchestrator.decisions": "SELECT, UPDATE",
        "orchestrator.findings": "SELECT",
        "orchestrator.idempotency": "SELECT, UPDATE, DELETE",
        "orchestrator.inbox": "SELECT, INSERT, DELETE",
        "orchestrator.jobs": "SELECT, INSERT, UPDATE, DELETE",
        "orchestrator.outbox": "SELECT, INSERT, UPDATE, DELETE",
        "orchestrator.raw_chunks": "SELECT, DELETE",
        "orchestrator.rejections": "SELECT",
        "orchestrator.reports": "SELECT, UPDATE",
        "orchestrator.run_events": "SELECT, INSERT",
        "orchestrator.schedules": "SELECT, INSERT, UPDATE, DELETE",
        "orchestrator.verdicts": "SELECT, INSERT",
    },
    # Reads the events of one tenant.
    "winnow_audit": {"audit.events": "SELECT"},
    # Appends those of all; no event is ever changed or removed. Looks up whose a key is.
    "winnow_ledger": {
        "access.api_keys": "SELECT",
        "audit.checkpoints": "SELECT, INSERT, UPDATE, DELETE",
        "audit.events": "SELECT, INSERT",
        "audit.tiles": "SELECT, INSERT, UPDATE",
    },
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
_NOBODYS = ("orchestrator.inbox", "orchestrator.schedules", "audit.tiles", "audit.checkpoints")

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
    for role, rights in _GRANTS.items():
        for schema in _schemas(rights):
            op.execute(f"GRANT USAGE ON SCHEMA {schema} TO {role}")
        for table, right in rights.items():
            op.execute(f"GRANT {right} ON {table} TO {role}")
            if table not in _NOBODYS:
                op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
                using = _POLICIES[role]
                op.execute(f"CREATE POLICY {role} ON {table} TO {role} USING ({using})")


def _schemas(rights: Iterable[str]) -> list[str]:
    return sorted({table.partition(".")[0] for table in rights})


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
    for role, rights in _GRANTS.items():
        for table in rights:
            if table not in _NOBODYS:
                op.execute(f"DROP POLICY {role} ON {table}")
                op.execute(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")
        for schema in _schemas(rights):
            op.execute(f"REVOKE ALL ON ALL TABLES IN SCHEMA {schema} FROM {role}")
            op.execute(f"REVOKE ALL ON SCHEMA {schema} FROM {role}")
    # The roles stay: other databases of the server may have given them rights.
