"""The migrations make the schema that the services' tables say, and can be repeated."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import MetaData, create_engine, text
from sqlalchemy.engine import make_url

import audit.tables
import migrations
import orchestrator.tables
import runtime.buckets
from cli.postgres import Postgres
from runtime.database import Database
from runtime.errors import WinnowError


@pytest.mark.parametrize(
    "metadata",
    [orchestrator.tables.metadata, audit.tables.metadata, runtime.buckets.metadata],
    ids=lambda m: m.schema,
)
async def test_the_migrated_schema_is_the_one_that_the_code_knows(
    database: Database, metadata: MetaData
) -> None:
    def compare(connection) -> list:
        context = MigrationContext.configure(
            connection,
            opts={
                "include_schemas": True,
                "compare_type": True,
                "include_name": lambda name, kind, _: kind != "schema" or name == metadata.schema,
            },
        )
        return compare_metadata(context, metadata)

    assert await database.run(compare) == []


async def test_every_table_carries_its_tenant(database: Database) -> None:
    query = text(
        "SELECT table_schema || '.' || table_name FROM information_schema.tables AS t"
        " WHERE table_schema IN ('orchestrator', 'audit', 'access') AND NOT EXISTS"
        " (SELECT FROM information_schema.columns AS c WHERE c.table_schema = t.table_schema"
        "  AND c.table_name = t.table_name AND c.column_name = 'tenant_id')"
    )
    without = await database.run(lambda connection: connection.execute(query).scalars().all())
    # Checkpoints speak of the whole log; messages and due times are the house's; a nonce
    # and a bucket are their key's, whose tenant is the key's.
    assert set(without) == {
        "access.buckets",
        "access.nonces",
        "audit.checkpoints",
        "audit.tiles",
        "orchestrator.inbox",
        "orchestrator.schedules",
    }


def test_there_is_one_line_of_history() -> None:
    scripts = ScriptDirectory.from_config(migrations._config())
    assert len(scripts.get_heads()) == 1
    assert len(scripts.get_bases()) == 1


def test_migrating_again_and_by_several_at_once_changes_nothing(postgres: Postgres) -> None:
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE migrated_at_once")
    url = postgres.url.replace("@/winnow?", "@/migrated_at_once?")
    with ThreadPoolExecutor(4) as pool:
        heads = list(pool.map(migrations.upgrade, [url] * 4))
    assert len(set(heads)) == 1
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.connect() as connection:
        found = connection.execute(text("SELECT version_num FROM alembic_version")).scalars().all()
    engine.dispose()
    assert found == [heads[0]]


@pytest.fixture
def empty_url(postgres: Postgres) -> Iterator[str]:
    """A database without tables, for one test."""
    name = f"empty_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres.url, autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name}")
        yield postgres.url.replace("@/winnow?", f"@/{name}?")
        server.execute(f"DROP DATABASE {name} WITH (FORCE)")


def run(url: str, step: Callable[[Config], object]) -> None:
    """A step of Alembic's, as `upgrade` does it."""
    config = migrations._config()
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        step(config)
    engine.dispose()


def test_tenants_are_kept_apart_in_a_database_with_data_and_not_after_a_step_back(
    empty_url: str,
) -> None:
    run(empty_url, lambda config: command.upgrade(config, "0006"))
    asked = (
        "SELECT (SELECT count(*) FROM orchestrator.jobs),"
        " (SELECT count(*) FROM pg_policies), (SELECT count(*) FROM pg_class WHERE relrowsecurity)"
    )
    with psycopg.connect(empty_url, autocommit=True) as owner:
        for tenant in ("one", "one", "other"):
            owner.execute(
                "INSERT INTO orchestrator.jobs (job_id, kind, key, tenant_id, request_id, payload,"
                " state, max_failures) VALUES (gen_random_uuid(), 'none',"
                " gen_random_uuid()::text, %s, '', '{}', 1, 1)",
                [tenant],
            )
        plain = owner.execute(asked).fetchone()
        migrations.upgrade(empty_url)
        migrations.upgrade(empty_url)
        secured = owner.execute(asked).fetchone()
        with owner.transaction(force_rollback=True):
            owner.execute("SET LOCAL ROLE winnow_orchestrator; SET LOCAL winnow.tenant = 'one'")
            seen = owner.execute("SELECT count(*) FROM orchestrator.jobs").fetchone()
        run(empty_url, lambda config: command.downgrade(config, "0006"))
        assert owner.execute(asked).fetchone() == plain == (3, 0, 0)
        assert secured is not None
        assert secured[0] == 3
        assert min(secured[1:]) > 0
        assert seen == (2,)
        # Nothing is left for the roles, and the way up is open again.
        rights = "SELECT count(*) FROM information_schema.role_table_grants WHERE grantee LIKE %s"
        assert owner.execute(rights, ["winnow\\_%"]).fetchone() == (0,)
        migrations.upgrade(empty_url)


def test_who_may_not_make_roles_is_told_what_an_administrator_must_do(
    empty_url: str, database_url: str
) -> None:
    name = f"u{uuid.uuid4().hex[:12]}"
    own = make_url(empty_url).set(username=name, password="of-the-tests")
    url = own.render_as_string(hide_password=False)
    roles = "winnow_orchestrator, winnow_background, winnow_audit, winnow_ledger"
    with psycopg.connect(database_url, autocommit=True) as server:
        server.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'of-the-tests'")
        server.execute(f"ALTER DATABASE {own.database} OWNER TO {name}")
        with pytest.raises(WinnowError, match=f"GRANT {roles} TO the user"):
            migrations.upgrade(url)
        server.execute(f"GRANT {roles} TO {name}")
        migrations.upgrade(url)
        with psycopg.connect(url) as connection:
            connection.execute("SET ROLE winnow_ledger")
            connection.execute("SELECT count(*) FROM audit.events")
        server.execute(f"ALTER DATABASE {own.database} OWNER TO winnow")
        with psycopg.connect(empty_url, autocommit=True) as owner:
            owner.execute(f"DROP OWNED BY {name} CASCADE; DROP ROLE {name}")
