"""What many tests need: a real PostgreSQL, started once a test process."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import migrations
from cli.postgres import Postgres
from runtime import matching
from runtime.database import Database

# A busy machine is slow, and no defect. The same examples each time: a red test must mean
# that the code has changed. `--hypothesis-profile=search` looks for new ones.
_PATIENT = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("winnow", derandomize=True, **_PATIENT)
settings.register_profile("search", max_examples=1_000, **_PATIENT)
settings.load_profile("winnow")

# Compiled once for all processes of all runs.
os.environ[matching.CACHE] = str(Path(__file__).parents[1] / ".pytest_cache" / "patterns")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """An embedded cluster of the same binaries that users run."""
    folder = Path(tempfile.mkdtemp(prefix="winnow-test-"))
    cluster = Postgres(folder / "postgres", "a password of the tests")
    cluster.start()
    yield cluster
    cluster.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def database_url(postgres: Postgres) -> str:
    """A migrated database."""
    migrations.upgrade(postgres.url)
    return postgres.url


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A pool on the migrated database; tests keep apart by tenants and ids of their own."""
    pool = Database(database_url, connections=4)
    yield pool
    await pool.close()
