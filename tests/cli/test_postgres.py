"""The embedded server under its supervisor."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from cli.postgres import Postgres, PostgresError

PASSWORD = "a password with 'quotes' / and %"


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="winnow-test-", ignore_cleanup_errors=True) as name:
        path = Path(name)
        path.chmod(0o711)
        yield path


@pytest.fixture
def cluster(folder: Path) -> Iterator[Postgres]:
    made = Postgres(folder / "postgres", PASSWORD)
    made.start()
    yield made
    made.stop()


def one(url: str, statement: str, *values: Any) -> Any:
    with psycopg.connect(url) as connection:
        row = connection.execute(statement, values).fetchone()
    return row and row[0]


def setting(url: str, name: str) -> Any:
    return one(url, "SELECT current_setting(%s)", name)


def test_it_is_safe_by_default(cluster: Postgres, folder: Path) -> None:
    assert setting(cluster.url, "data_checksums") == "on"
    assert setting(cluster.url, "fsync") == "on"
    assert setting(cluster.url, "listen_addresses") == ""
    assert setting(cluster.url, "server_encoding") == "UTF8"
    assert (folder / "postgres").stat().st_mode & 0o777 == 0o700
    assert not (folder / "postgres" / "password").exists()
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(
            host=str(folder / "postgres"), user="winnow", dbname="winnow", password="another"
        )


def test_what_is_committed_outlives_stop_and_kill(folder: Path) -> None:
    first = Postgres(folder / "postgres", PASSWORD)
    first.start()
    with psycopg.connect(first.url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS value")
    first.stop()
    assert not first.alive()
    first.start()
    assert one(first.url, "SELECT value FROM kept") == 7

    pid = int((folder / "postgres/data/postmaster.pid").read_text().split()[0])
    os.kill(pid, signal.SIGKILL)
    while first.alive():
        pass
    for attempt in range(50):
        try:
            first.start()
            break
        except PostgresError:  # its processes are still going
            assert attempt < 49
    assert one(first.url, "SELECT value FROM kept") == 7
    first.stop()


def test_the_next_owner_takes_over_a_running_server(cluster: Postgres, folder: Path) -> None:
    pid = one(cluster.url, "SELECT pg_postmaster_start_time()::text")
    second = Postgres(folder / "postgres", PASSWORD)
    second.start()
    assert one(second.url, "SELECT pg_postmaster_start_time()::text") == pid
    second.stop()
    assert not cluster.alive()


def test_a_long_path_has_its_socket_elsewhere(folder: Path) -> None:
    deep = folder / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)
    cluster = Postgres(deep / "postgres", PASSWORD)
    cluster.start()
    try:
        assert one(cluster.url, "SELECT 1") == 1
        # A second owner finds the socket by the server's own record.
        second = Postgres(deep / "postgres", PASSWORD)
        second.start()
        assert second.url == cluster.url
    finally:
        cluster.stop()


def test_no_foreign_process_is_stopped(folder: Path) -> None:
    """A crash leaves its pid behind, and the number may be another process's by now."""
    stopped = threading.Event()
    before = signal.signal(signal.SIGINT, lambda *_: stopped.set())
    try:
        (folder / "postgres" / "data").mkdir(parents=True)
        (folder / "postgres" / "data" / "postmaster.pid").write_text(f"{os.getpid()}\n")
        cluster = Postgres(folder / "postgres", PASSWORD)
        assert not cluster.alive()
        cluster.stop()
    finally:
        signal.signal(signal.SIGINT, before)
    assert not stopped.is_set()


def test_a_server_that_cannot_start_names_its_log(cluster: Postgres, folder: Path) -> None:
    cluster.stop()
    (folder / "postgres/data/postgresql.conf").write_text("no_such_setting = 1\n")
    with pytest.raises(PostgresError, match=r"its log is .*/postgres\.log"):
        cluster.start()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs it as another user")
def test_root_is_told_which_directory_is_in_the_way(folder: Path) -> None:
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    (closed / "inner").mkdir()
    with pytest.raises(PostgresError) as caught:
        Postgres(closed / "inner" / "postgres", PASSWORD).start()
    assert str(closed) in str(caught.value)
    assert "Choose another --data-dir" in str(caught.value)
    assert closed.stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs it as another user")
def test_binaries_that_the_other_user_cannot_reach_are_copied(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a virtual environment below a private home."""
    reachable = str(folder)
    monkeypatch.setattr(
        "cli.postgres._may_enter", lambda path, _user: reachable.startswith(str(path))
    )
    cluster = Postgres(folder / "postgres", PASSWORD)
    cluster.start()
    try:
        assert one(cluster.url, "SELECT 1") == 1
        (copied,) = (folder / "postgres").glob("binaries-*")
        assert list(copied.rglob("bin/postgres"))
    finally:
        cluster.stop()
