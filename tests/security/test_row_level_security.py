"""PostgreSQL itself keeps tenants apart: the roles that services act as, the policies of
every table, and the connections that go from one tenant to the next.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import Connection, event, func, select, text
from sqlalchemy.engine import make_url

import audit.tables
import orchestrator.tables
from orchestrator.tables import jobs
from runtime import access, context
from runtime.clock import now
from runtime.database import Database
from runtime.errors import WinnowError
from runtime.jobs import Queue

ROLES = ("winnow_orchestrator", "winnow_background", "winnow_audit", "winnow_ledger")
SCHEMAS = ("orchestrator", "audit", "access")
# Whose rows are nobody's, and why.
NOBODYS = {
    "orchestrator.inbox": "ids of messages that a consumer has taken; background only",
    "orchestrator.schedules": "when the house's own sweeps are due",
    "access.nonces": "random texts that keys have signed with, looked up by who works for all",
    "access.buckets": "digests of keys' ids and when their buckets are full; nobody's report",
    "audit.tiles": "hashes of the whole log; ledger only",
    "audit.checkpoints": "what was signed of the whole log; ledger only",
}
HINT = (
    "a new table needs a tenant_id, ENABLE ROW LEVEL SECURITY, a policy for each role that uses "
    "it and no right beyond what that one does (docs/tenants.md), or a line here"
)
TENANT_TABLES = sorted(
    f"{table.schema}.{table.name}"
    for metadata in (orchestrator.tables.metadata, audit.tables.metadata, access.metadata)
    for table in metadata.tables.values()
    if "tenant_id" in table.c
)
FILLED = {"ARRAY": [1], "uuid": uuid.UUID(int=7), "bytea": b"\x00" * 32, "jsonb": "{}", "text": "x"}


@pytest.fixture
def connection(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    """The owner's, whose transaction is rolled back."""
    with psycopg.connect(database_url) as connected:
        yield connected
        connected.rollback()


@contextmanager
def acting(
    connection: psycopg.Connection[Any], role: str, tenant: str | None
) -> Iterator[psycopg.Connection[Any]]:
    """As a role and for a tenant; all is taken back."""
    with connection.transaction(force_rollback=True):
        connection.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(role)))
        if tenant is not None:
            connection.execute("SELECT set_config('winnow.tenant', %s, true)", [tenant])
        yield connection


def role_of(table: str) -> str:
    """Who works for one tenant at a time in a table's schema."""
    return "winnow_audit" if table.startswith("audit.") else "winnow_orchestrator"


def insert(connection: psycopg.Connection[Any], table: str, tenant: str) -> None:
    """A row of a tenant, made up from the table's columns."""
    schema, name = table.split(".")
    columns = connection.execute(
        "SELECT column_name, data_type FROM information_schema.columns"
        " WHERE table_schema = %s AND table_name = %s AND is_nullable = 'NO'"
        " AND is_identity = 'NO'",
        [schema, name],
    ).fetchall()
    values = {
        column: tenant
        if column == "tenant_id"
        else now()
        if kind.startswith("timestamp")
        else False
        if kind == "boolean"
        else FILLED.get(kind, 1 << 13)
        for column, kind in columns
    }
    # Of a table that many tests fill, a row that none of them has.
    values |= {key: uuid.uuid4() for key in values.keys() & {"event_id", "run_id", "job_id"}}
    if table == "audit.events":
        values["sequence"] = uuid.uuid4().int >> 66
    connection.execute(
        sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
            sql.Identifier(schema, name),
            sql.SQL(", ").join(map(sql.Identifier, values)),
            sql.SQL(", ").join(sql.Placeholder() * len(values)),
        ),
        list(values.values()),
    )


def count(connection: psycopg.Connection[Any], table: str, tenant: str) -> int:
    """Rows of a tenant that can be seen; the condition is not what hides the others'."""
    query = sql.SQL("SELECT count(*) FILTER (WHERE tenant_id = %s), count(*) FROM {}").format(
        sql.Identifier(*table.split("."))
    )
    own, seen = connection.execute(query, [tenant]).fetchone() or (0, 0)
    assert seen == own, "rows of other tenants are to be seen"
    return int(own)


def test_every_table_has_a_policy_or_a_reason(connection: psycopg.Connection[Any]) -> None:
    found = connection.execute(
        "SELECT n.nspname || '.' || c.relname, c.relrowsecurity,"
        " EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid"
        "  AND a.attname = 'tenant_id' AND NOT a.attisdropped),"
        " ARRAY(SELECT polroles::regrole[]::text[] FROM pg_policy p WHERE p.polrelid = c.oid)"
        " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.relkind IN ('r', 'p') AND n.nspname = ANY(%s)",
        [list(SCHEMAS)],
    ).fetchall()
    without = {table for table, secured, tenant, _ in found if not (secured and tenant)}
    assert without == set(NOBODYS), HINT
    policies = {table: {role for roles in many for role in roles} for table, _, _, many in found}
    for role in ROLES:
        for table in TENANT_TABLES:
            allowed = connection.execute(
                "SELECT has_table_privilege(%s, %s, 'SELECT')", [role, table]
            ).fetchone()
            assert allowed is not None
            assert allowed[0] == (role in policies[table]), (role, table, HINT)


def test_only_the_owner_passes_by(connection: psycopg.Connection[Any]) -> None:
    flags = connection.execute(
        "SELECT rolname FROM pg_roles WHERE rolname = ANY(%s)"
        " AND NOT (rolsuper OR rolbypassrls OR rolcanlogin OR rolcreaterole OR rolcreatedb)",
        [list(ROLES)],
    ).fetchall()
    assert {name for (name,) in flags} == set(ROLES)
    owned = connection.execute(
        "SELECT count(*) FROM pg_class WHERE pg_get_userbyid(relowner) = ANY(%s)", [list(ROLES)]
    ).fetchone()
    assert owned == (0,)


def changed(connection: psycopg.Connection[Any], statement: str, table: str, *given: str) -> int:
    """How many rows a statement without a condition reaches; none, if it is not allowed."""
    query = sql.SQL(statement).format(sql.Identifier(*table.split(".")))  # type: ignore[arg-type]
    try:
        with connection.transaction():
            return connection.execute(query, given).rowcount
    except psycopg.errors.InsufficientPrivilege:
        return 0


@pytest.mark.parametrize("table", TENANT_TABLES)
def test_a_table_has_for_a_tenant_its_own_rows_only(
    connection: psycopg.Connection[Any], table: str
) -> None:
    role, one = role_of(table), f"t{uuid.uuid4().hex[:12]}"
    insert(connection, table, one)
    with acting(connection, role, one):
        assert count(connection, table, one) == 1
        # Nor can it give its rows away.
        assert changed(connection, "UPDATE {} SET tenant_id = %s", table, "another") == 0
    for stranger in ("another", "", None):
        with acting(connection, role, stranger):
            assert count(connection, table, stranger or "") == 0
            assert changed(connection, "UPDATE {} SET tenant_id = tenant_id", table) == 0
            assert changed(connection, "DELETE FROM {}", table) == 0
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                insert(connection, table, one)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    "statement", ["UPDATE {} SET leaf = leaf", "DELETE FROM {}", "TRUNCATE {}"]
)
def test_no_role_changes_the_audit_log(
    connection: psycopg.Connection[Any], role: str, statement: str
) -> None:
    query = sql.SQL(statement).format(sql.Identifier("audit", "events"))  # type: ignore[arg-type]
    with (
        acting(connection, role, "default"),
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(query)


@pytest.mark.parametrize(
    ("role", "table"),
    [
        ("winnow_orchestrator", "audit.events"),
        ("winnow_background", "audit.events"),
        ("winnow_audit", "orchestrator.reports"),
        ("winnow_ledger", "orchestrator.reports"),
    ],
)
def test_no_service_reads_the_tables_of_another(
    connection: psycopg.Connection[Any], role: str, table: str
) -> None:
    with (
        acting(connection, role, "default"),
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        count(connection, table, "default")


@pytest.fixture
async def pooled(database_url: str) -> AsyncIterator[Database]:
    """One connection, as the orchestrator has them: whoever comes next gets the same."""
    pool = Database(database_url, 1, role="winnow_orchestrator", one_tenant=True)
    yield pool
    await pool.close()


_SEEN = text(
    "SELECT array_agg(DISTINCT tenant_id), current_setting('winnow.tenant'), pg_backend_pid()"
    " FROM orchestrator.jobs"
)


def work(connection: Connection) -> Any:
    """Leaves a row, and looks whose rows there are: without any condition."""
    Queue(jobs, "nobody").put(connection, "none", uuid.uuid4().hex)
    return connection.execute(_SEEN).one()


async def as_tenant(pooled: Database, tenant: str, what: Any = work) -> Any:
    set_before = context.tenant.set(tenant)
    try:
        return await pooled.run(what)
    finally:
        context.tenant.reset(set_before)


async def test_a_connection_goes_from_tenant_to_tenant(pooled: Database) -> None:
    one, other = (f"t{uuid.uuid4().hex[:12]}" for _ in range(2))
    seen = [await as_tenant(pooled, tenant) for tenant in (one, other, other, one)]
    assert [row[:2] for row in seen] == [([t], t) for t in (one, other, other, one)]
    assert len({row[2] for row in seen}) == 1


def fails(_connection: Connection) -> None:
    raise WinnowError("REPORT_STATE", "no")


def refused(connection: Connection) -> None:
    connection.execute(text("SELECT 1 / 0"))


def cut(connection: Connection) -> None:
    connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))


@pytest.mark.parametrize("failure", [fails, refused, cut])
async def test_what_is_rolled_back_leaves_no_tenant_behind(pooled: Database, failure: Any) -> None:
    one, other = (f"t{uuid.uuid4().hex[:12]}" for _ in range(2))
    await as_tenant(pooled, one)
    # The session goes back to the tenant before: who comes then must not be taken for it.
    with pytest.raises(WinnowError):
        await as_tenant(pooled, other, failure)
    for tenant in (other, one, other):
        assert (await as_tenant(pooled, tenant))[:2] == ([tenant], tenant)


async def test_the_tenant_is_set_when_it_changes_and_not_otherwise(pooled: Database) -> None:
    said: list[str] = []
    event.listen(pooled.engine, "before_cursor_execute", lambda *given: said.append(given[2]))
    for tenant in ("one", "one", "one", "other", "other"):
        await as_tenant(pooled, tenant, lambda connection: connection.execute(text("SELECT 7")))
    assert [("set_config" in statement) for statement in said] == [
        *(True, False, False, False),
        *(True, False, False),
    ]


async def test_the_background_sees_all_tenants(database_url: str, pooled: Database) -> None:
    tenants = [f"t{uuid.uuid4().hex[:12]}" for _ in range(2)]
    for tenant in tenants:
        await as_tenant(pooled, tenant)
    background = Database(database_url, 1, role="winnow_background")
    try:
        own = select(func.count(jobs.c.tenant_id.distinct())).where(jobs.c.tenant_id.in_(tenants))
        assert await background.run(lambda connection: connection.execute(own).scalar()) == 2
    finally:
        await background.close()


async def test_a_user_that_may_not_act_as_the_role_is_told_what_to_do(
    database_url: str, connection: psycopg.Connection[Any]
) -> None:
    name = f"u{uuid.uuid4().hex[:12]}"
    with psycopg.connect(database_url, autocommit=True) as owner:
        owner.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'of the tests'")
        try:
            url = make_url(database_url).set(username=name, password="of the tests")
            pool = Database(
                url.render_as_string(hide_password=False), 1, role="winnow_orchestrator"
            )
            with pytest.raises(WinnowError, match="GRANT winnow_orchestrator to that user"):
                await pool.run(lambda connection: connection.execute(text("SELECT 1")))
            owner.execute(f"GRANT winnow_orchestrator TO {name}")
            await pool.run(lambda connection: connection.execute(text("SELECT 1")))
            await pool.close()
        finally:
            owner.execute(f"DROP ROLE {name}")
