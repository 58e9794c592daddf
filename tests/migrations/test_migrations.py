"""The migrations make the schema that the services' tables say, and can be repeated."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import MetaData, create_engine, text

import audit.tables
import migrations
import orchestrator.tables
import runtime.access
from cli.postgres import Postgres
from runtime.database import Database


@pytest.mark.parametrize(
    "metadata",
    [orchestrator.tables.metadata, audit.tables.metadata, runtime.access.metadata],
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
    # Checkpoints speak of the whole log; messages and due times are the house's.
    assert set(without) == {
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
