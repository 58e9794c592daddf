"""PostgreSQL for the services that own tables: one engine, work in threads.

Stores are synchronous: psycopg encodes rows on the CPU, which must not happen on
the event loop. `Database.run` moves a store's method to a thread with a connection
of its own in one transaction, and turns the driver's errors into `WinnowError`;
their texts quote rows, so they go nowhere.

Row-level security keeps tenants apart (docs/decisions/0023-tenants.md): a pool has a
role, and one that works for a tenant says which, before the first statement of a
transaction.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from types import NoneType
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar

import psycopg
from psycopg.adapt import Dumper
from psycopg.pq import Format
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from runtime import context, metrics
from runtime.config import PREFIX, ConfigError
from runtime.errors import WinnowError
from runtime.log import get_logger

_log = get_logger()
_P = ParamSpec("_P")
_T = TypeVar("_T")

STATEMENT_TIMEOUT_MS = 30_000
LOCK_TIMEOUT_MS = 5_000
# A process that stands still within a transaction must not hold its locks for ever.
IDLE_IN_TRANSACTION_MS = 15_000
# How long work waits for a connection before it is refused.
PATIENCE_SECONDS = 10.0
# States of a session that the driver counts among its internal errors: cut since it was
# idle in a transaction, or read-only since the server is being replaced.
_SESSION = "25"

_SET_TENANT = text("SELECT set_config('winnow.tenant', :tenant, false)")
# Where a connection remembers the tenant that its session is set to.
_TENANT = "tenant"


def _parsed(url: str) -> URL:
    try:
        return make_url(url).set(drivername="postgresql+psycopg")
    except (ArgumentError, ValueError):
        raise ConfigError(
            f"{PREFIX}DATABASE_URL is not a database URL (postgresql://user:password@host/name)"
        ) from None


class Database:
    """A pool of connections and the threads that use them.

    Args:
        url: `postgresql://…`; the psycopg 3 driver is chosen here.
        connections: size of the pool, and of the thread pool.
        role: the PostgreSQL role to act as, which the URL's user must be a member of;
            the URL's user itself where none is named.
        one_tenant: whether each transaction is for the tenant of the calling context.
        name: of the pool, for metrics.

    Raises:
        runtime.config.ConfigError: the URL is none; the message does not show it.
    """

    def __init__(
        self,
        url: str,
        connections: int = 8,
        *,
        role: str = "",
        one_tenant: bool = False,
        name: str = "main",
    ) -> None:
        self._role = role
        self._one_tenant = one_tenant
        metrics.DATABASE_SIZE.labels(name).set(connections)
        self._busy = metrics.DATABASE_BUSY.labels(name)
        self._waited = metrics.DATABASE_WAIT.labels(name)
        self._took = metrics.DATABASE_SECONDS.labels(name)
        self.engine = create_engine(
            _parsed(url),
            pool_size=connections,
            max_overflow=0,
            pool_timeout=5.0,
            hide_parameters=True,
            connect_args={
                "options": f"-c statement_timeout={STATEMENT_TIMEOUT_MS} "
                f"-c lock_timeout={LOCK_TIMEOUT_MS} "
                f"-c idle_in_transaction_session_timeout={IDLE_IN_TRANSACTION_MS} "
                "-c timezone=UTC" + (f" -c role={role}" if role else ""),
                "connect_timeout": 5,
                # A server that is gone without a word is noticed within half a minute.
                "keepalives_idle": 10,
                "keepalives_interval": 5,
                "keepalives_count": 3,
                "tcp_user_timeout": 30_000,
                # Statements repeat; server-side preparation pays from the second on.
                "prepare_threshold": 2,
            },
        )
        self._threads = ThreadPoolExecutor(connections, thread_name_prefix="database")
        self._free = asyncio.Semaphore(connections)

    async def run(
        self,
        work: Callable[Concatenate[Connection, _P], _T],
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> _T:
        """Runs `work(connection, …)` in a thread, in one transaction.

        Raises:
            WinnowError: OVERLOADED if no connection became free in time,
                DATABASE_UNAVAILABLE if PostgreSQL does not answer,
                INVALID_ARGUMENT if a value is none of its own, INTERNAL if it
                refuses otherwise (a defect of ours).
        """
        if self._free.locked():
            await self._wait()
        else:
            await self._free.acquire()
        # Events and log lines made in the thread carry the caller's request id too.
        caller = copy_context()
        loop = asyncio.get_running_loop()
        running = self._threads.submit(caller.run, lambda: self._do(work, *args, **kwargs))
        self._busy.inc()
        # A cancelled caller leaves its thread at work: the connection is free after that.
        running.add_done_callback(lambda _: self._free_again(loop))
        return await asyncio.wrap_future(running)

    def _free_again(self, loop: asyncio.AbstractEventLoop) -> None:
        self._busy.dec()
        _in(loop, self._free.release)

    async def _wait(self) -> None:
        """Waits for a connection; who waits for ever helps nobody."""
        started = time.perf_counter()
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self._free.acquire()
        except TimeoutError:
            _log.warning("database.overloaded", status="error")
            raise WinnowError(
                "OVERLOADED", "all connections to the database are busy", retry_after=2.0
            ) from None
        finally:
            metrics.observe(self._waited, time.perf_counter() - started)

    def _do(
        self,
        work: Callable[Concatenate[Connection, _P], _T],
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> _T:
        started = time.perf_counter()
        try:
            with self.engine.connect() as connection:
                session = connection.info
                # Known again once it is committed: a rollback takes it back.
                known = session.pop(_TENANT, None)
                with connection.begin():
                    if self._one_tenant and known != (tenant := context.tenant.get()):
                        connection.execute(_SET_TENANT, {"tenant": tenant})
                        known = tenant
                    done = work(connection, *args, **kwargs)
                session[_TENANT] = known
                return done
        except (OperationalError, PoolTimeoutError, psycopg.OperationalError) as error:
            if self._role and f'role "{self._role}"' in str(error):
                _log.error("database.role", status="error", role=self._role)
                raise WinnowError(
                    "DATABASE_UNAVAILABLE",
                    f"the database's user may not act as the role {self._role}, or there is "
                    f"none: run `winnow migrate`, then GRANT {self._role} to that user",
                    retry_after=5.0,
                ) from None
            _log.warning("database.unavailable", status="error", code=_sqlstate(error))
            raise WinnowError(
                "DATABASE_UNAVAILABLE", "the database does not answer", retry_after=1.0
            ) from None
        except (DataError, psycopg.DataError) as error:
            _log.error("database.refused", status="error", code=_sqlstate(error))
            raise WinnowError(
                "INVALID_ARGUMENT",
                "a value cannot be kept or looked for: a NUL character, or a number out of range",
                field="unknown",
                rule="database",
            ) from None
        except (DBAPIError, psycopg.Error) as error:
            if _sqlstate(error).startswith(_SESSION):
                _log.warning("database.unavailable", status="error", code=_sqlstate(error))
                raise WinnowError(
                    "DATABASE_UNAVAILABLE", "the database does not answer", retry_after=1.0
                ) from None
            _log.error("database.refused", status="error", code=_sqlstate(error))
            raise WinnowError(
                "INTERNAL", f"the database refused a statement (SQLSTATE {_sqlstate(error)})"
            ) from None
        finally:
            self._took.observe(time.perf_counter() - started)

    async def close(self) -> None:
        """Waits for running work, then closes all connections."""
        await asyncio.to_thread(self._threads.shutdown)
        self.engine.dispose()


class BulkInsert:
    """An INSERT of many rows in one statement, a binary array for each column.

    PostgreSQL has no COPY into tables with row-level security. This takes one to four
    µs a row longer, and half as long as executemany.

    Args:
        table: schema and name.
        columns: names, with their PostgreSQL types, in the order of a row's values.
    """

    def __init__(self, table: str, columns: Mapping[str, str]) -> None:
        self._types = list(columns.values())
        arrays = ", ".join(f"%b::{type_}[]" for type_ in self._types)
        self._statement = (
            f"INSERT INTO {table} ({', '.join(columns)}) SELECT * FROM unnest({arrays})"  # noqa: S608 -- names of ours
        )

    def put(self, connection: Connection, rows: Iterable[Sequence[Any]]) -> None:
        """Inserts rows; their keys are made by the caller."""
        columns = list(zip(*rows, strict=True))
        if not columns:
            return
        driver: Any = connection.connection.driver_connection
        arrays = [
            _array(driver, type_, values)
            for type_, values in zip(self._types, columns, strict=True)
        ]
        with driver.cursor() as cursor:
            cursor.execute(self._statement, arrays, prepare=True)


class _Array(NamedTuple):
    """An array in PostgreSQL's binary format (array_send)."""

    parts: list[bytes]


class _ArrayDumper(Dumper):
    # Without an oid: the statement's cast says what it is.
    format = Format.BINARY

    def dump(self, obj: _Array) -> bytes:
        return b"".join(obj.parts)


psycopg.adapters.register_dumper(_Array, _ArrayDumper)

_LENGTH = struct.Struct(">i").pack
_HEADER = struct.Struct(">iiIii").pack
_NULL = _LENGTH(-1)


def _array(driver: Any, type_: str, values: Sequence[Any]) -> _Array:
    """The values of a column; psycopg's own lists take twice as long, and their types
    follow the values."""
    oid = driver.adapters.types[type_].oid
    dump = driver.adapters.get_dumper_by_oid(oid, Format.BINARY)(NoneType, driver).dump
    # One dimension, with NULLs, from 1.
    parts = [_HEADER(1, 1, oid, len(values), 1)]
    before, item = None, _NULL
    for value in values:
        # Many rows share their report, tenant and moment.
        if value is not before:
            raw = b"" if value is None else dump(value)
            before, item = value, _NULL if value is None else _LENGTH(len(raw)) + raw
        parts.append(item)
    return _Array(parts)


def _in(loop: asyncio.AbstractEventLoop, call: Callable[[], object]) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
        loop.call_soon_threadsafe(call)


def _sqlstate(error: Exception) -> str:
    # A BulkInsert goes past SQLAlchemy: its errors are the driver's own.
    cause = getattr(error, "orig", None) or error
    return getattr(cause, "sqlstate", None) or type(error).__name__
