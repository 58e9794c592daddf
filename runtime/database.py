"""PostgreSQL for the services that own tables: one engine, work in threads.

Stores are synchronous: psycopg's COPY encodes rows on the CPU, which must not
happen on the event loop. `Database.run` moves a store's method to a thread with
a connection of its own in one transaction, and turns the driver's errors into
`WinnowError`; their texts quote rows, so they go nowhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, Concatenate, ParamSpec, TypeVar

import psycopg
from sqlalchemy import Connection, create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DataError, DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from runtime import metrics
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


class Database:
    """A pool of connections and the threads that use them.

    Args:
        url: `postgresql://…`; the psycopg 3 driver is chosen here.
        connections: size of the pool, and of the thread pool.
        name: of the pool, for metrics.
    """

    def __init__(self, url: str, connections: int = 8, name: str = "main") -> None:
        metrics.DATABASE_SIZE.labels(name).set(connections)
        self._busy = metrics.DATABASE_BUSY.labels(name)
        self._waited = metrics.DATABASE_WAIT.labels(name)
        self._took = metrics.DATABASE_SECONDS.labels(name)
        self.engine = create_engine(
            make_url(url).set(drivername="postgresql+psycopg"),
            pool_size=connections,
            max_overflow=0,
            pool_timeout=5.0,
            hide_parameters=True,
            connect_args={
                "options": f"-c statement_timeout={STATEMENT_TIMEOUT_MS} "
                f"-c lock_timeout={LOCK_TIMEOUT_MS} "
                f"-c idle_in_transaction_session_timeout={IDLE_IN_TRANSACTION_MS} "
                "-c timezone=UTC",
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
            with self.engine.begin() as connection:
                return work(connection, *args, **kwargs)
        except (OperationalError, PoolTimeoutError, psycopg.OperationalError) as error:
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


def copy_rows(connection: Connection, statement: str, types: list[str], rows: Any) -> None:
    """Bulk insert by `COPY … FROM STDIN (FORMAT BINARY)`.

    Measured six times faster than executemany. Keys are made by the caller.

    Args:
        statement: the COPY statement.
        types: PostgreSQL type of each column, in order.
        rows: sequences of column values.
    """
    driver: Any = connection.connection.driver_connection
    with driver.cursor() as cursor, cursor.copy(statement) as copy:
        copy.set_types(types)
        write = copy.write_row
        for row in rows:
            write(row)


def _in(loop: asyncio.AbstractEventLoop, call: Callable[[], object]) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
        loop.call_soon_threadsafe(call)


def _sqlstate(error: Exception) -> str:
    # COPY goes past SQLAlchemy: its errors are the driver's own.
    cause = getattr(error, "orig", None) or error
    return getattr(cause, "sqlstate", None) or type(error).__name__
