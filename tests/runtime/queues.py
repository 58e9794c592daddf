"""Tables of jobs and schedules of a test's own; as a program, workers on them.

`python -m tests.runtime.queues URL SCHEMA` starts one process more for each line of
its input, and says its id. They work until they are killed.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import uuid
from collections.abc import AsyncIterator
from typing import NamedTuple

import pytest
from sqlalchemy import Column, Connection, MetaData, Table, Text, insert, select, text, update
from sqlalchemy.schema import CreateSchema, DropSchema

from runtime import context
from runtime.database import Database
from runtime.jobs import Job, Queue, jobs_table
from runtime.schedules import schedules_table
from runtime.worker import Kind, Worker, transaction

COUNTED = "counted"


class Scratch(NamedTuple):
    """A schema with tables of its own."""

    database: Database
    jobs: Table
    schedules: Table
    # A row for each effect of a job: no key keeps a second one out.
    effects: Table

    def queue(self, worker: str = "w", lease_seconds: float = 10.0) -> Queue:
        return Queue(self.jobs, worker, lease_seconds)

    async def put(
        self, kind: str, *keys: str, max_failures: int = 20, tenant: str = "", line: str = ""
    ) -> list[Job]:
        """Jobs that wait, put with the key `line` of a tenant."""
        queue = self.queue()

        def put(connection: Connection) -> list[Job]:
            context.caller.set(context.LOCAL._replace(key_id=line))
            made = [
                queue.put(connection, kind, key, max_failures=max_failures, tenant=tenant)
                for key in keys
            ]
            return [job for job in made if job is not None]

        return await self.database.run(put)

    async def row(self, key: str) -> dict[str, object] | None:
        """A job's row."""

        def read(connection: Connection) -> dict[str, object] | None:
            row = connection.execute(select(self.jobs).where(self.jobs.c.key == key)).first()
            return None if row is None else dict(row._mapping)

        return await self.database.run(read)

    async def done(self) -> list[str]:
        """The keys of all effects, sorted."""

        def read(connection: Connection) -> list[str]:
            return sorted(connection.execute(select(self.effects.c.key)).scalars())

        return await self.database.run(read)

    async def lapse(self, *keys: str) -> None:
        """Ends the leases of these jobs, or of all, as if their time had passed."""

        def lapse(connection: Connection) -> None:
            jobs = self.jobs
            statement = update(jobs).values(due_at=text("now() - interval '1 second'"))
            connection.execute(statement.where(jobs.c.key.in_(keys)) if keys else statement)

        await self.database.run(lapse)

    def effect(self, connection: Connection, job: Job) -> None:
        connection.execute(insert(self.effects).values(key=job.key))


def tables(database: Database, schema: str) -> Scratch:
    """The tables of a schema, which need not be there yet."""
    metadata = MetaData(schema=schema)
    effects = Table("effects", metadata, Column("key", Text, nullable=False))
    return Scratch(database, jobs_table(metadata), schedules_table(metadata), effects)


@pytest.fixture
async def scratch(database: Database) -> AsyncIterator[Scratch]:
    schema = f"scratch_{uuid.uuid4().hex[:12]}"
    made = tables(database, schema)

    def create(connection: Connection) -> None:
        connection.execute(CreateSchema(schema))
        made.jobs.metadata.create_all(connection)

    await database.run(create)
    yield made
    await database.run(lambda connection: connection.execute(DropSchema(schema, cascade=True)))


async def _work(url: str, schema: str) -> None:
    scratch = tables(Database(url, connections=3), schema)
    queue = scratch.queue(str(os.getpid()), lease_seconds=1.0)

    def effect(connection: Connection, job: Job) -> None:
        scratch.effect(connection, job)
        # Long enough that a process dies in the middle of it.
        connection.execute(text("SELECT pg_sleep(0.005)"))

    run = transaction(scratch.database, queue, effect)
    await Worker(scratch.database, queue, [Kind(COUNTED, run, at_once=6)]).run()


if __name__ == "__main__":
    # Forked: what takes long to start is there already.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for _ in iter(sys.stdin.readline, ""):
        if (pid := os.fork()) == 0:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            asyncio.run(_work(*sys.argv[1:]))
        print(pid, flush=True)
