"""Alembic migrations: one linear history over the schemas of all services.

The files in `versions/` are frozen once released: they never import a service's
tables, which go on changing.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

_LOCK = 0x57494E4E4F57  # "WINNOW": one migrator at a time


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    return config


def upgrade(url: str) -> str:
    """Brings a database to the newest revision, and returns that revision.

    Safe to call from several processes at once, and when there is nothing to do.
    """
    config = _config()
    head = ScriptDirectory.from_config(config).get_current_head() or ""
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"), hide_parameters=True)
    try:
        with engine.begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            # A migration that waits for a lock blocks everyone behind it.
            connection.execute(text("SET LOCAL lock_timeout = '4s'"))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    finally:
        engine.dispose()
    return head
