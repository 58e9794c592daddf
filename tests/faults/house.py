"""The whole house as processes of its own, each of which can be killed, stopped and armed.

Like `winnow up`, but every process is at hand: one that dies is started again, without
its crash point, unless it is kept away. Names with a number behind are further
processes of a service, e.g. `orchestrator2`.
"""

from __future__ import annotations

import base64
import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import psycopg

import migrations
from cli.postgres import Postgres, PostgresError
from runtime import crash
from tests.e2e.house import environment
from tests.runtime.transport.servers import Broker, nats_server, valkey_server

SERVICES = ("audit", "moderator", "ingestor", "orchestrator", "gateway")
TRANSPORTS = ("postgres", "valkey", "nats")
# Short, so that a dead worker's jobs come back while a test waits.
LEASE_SECONDS = 2

_READY_SECONDS = 60.0
_LOOK_SECONDS = 0.02
_AGAIN_SECONDS = 0.1


class Death(NamedTuple):
    """A process that ended without being asked to."""

    name: str
    code: int
    at: float


class House:
    """A running house.

    Args:
        folder: for the database, sockets and logs; entered by the database's user.
        settings: environment variables of all services.
    """

    def __init__(
        self,
        folder: Path,
        **settings: str,
    ) -> None:
        self.folder = folder
        self.deaths: list[Death] = []
        self._postgres = Postgres(folder / "postgres", secrets.token_urlsafe(24))
        self._postgres.start()
        self.database_url = self._postgres.url
        migrations.upgrade(self.database_url)
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=2048)
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        # The current one, and another that is accepted.
        self.sealing_keys = (os.urandom(32), os.urandom(32))
        current, other = (base64.b64encode(key).decode() for key in self.sealing_keys)
        self._environment = {
            **environment(),
            "WINNOW_DATABASE_URL": self.database_url,
            "WINNOW_EVENT_TRANSPORT": "postgres",
            "WINNOW_LEASE_SECONDS": str(LEASE_SECONDS),
            "WINNOW_SEALING_KEY": current,
            "WINNOW_SEALING_KEYS_ACCEPTED": other,
            **{
                f"WINNOW_{name}": base64.b64encode(os.urandom(32)).decode()
                for name in ("FINGERPRINT_KEY", "AUDIT_SIGNING_KEY")
            },
            **{
                f"WINNOW_{name.upper()}_{role}": self.address(name)
                for name in SERVICES
                if name != "gateway"
                for role in ("LISTEN", "ADDRESS")
            },
            **settings,
        }
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._away: set[str] = set()
        self._changing = threading.RLock()
        self._ending = threading.Event()
        self._keeper = threading.Thread(target=self._keep, daemon=True)
        for name in SERVICES:
            self._spawn(name)
        self._keeper.start()
        for name in SERVICES:
            self.wait_for(name)

    def address(self, name: str) -> str:
        """Where a service listens, as gRPC names it."""
        return f"unix:{self.folder / name}"

    def connect(self) -> psycopg.Connection[Any]:
        """A connection of the observer's own."""
        return psycopg.connect(self.database_url, autocommit=True, connect_timeout=5)

    def process(self, name: str) -> subprocess.Popen[bytes]:
        """The running process of a service."""
        return self._processes[name]

    def kill(self, name: str, *, point: str = "") -> None:
        """SIGKILL; the service is started again, with a crash point armed if one is named."""
        with self._changing:
            self._end(name)
            if name not in self._away:
                self._spawn(name, point)
        if name not in self._away:
            self.wait_for(name)

    def send_away(self, name: str) -> None:
        """SIGKILL, and it stays gone until `bring`."""
        with self._changing:
            self._away.add(name)
            self._end(name)

    def bring(self, name: str) -> None:
        """Starts a process that was sent away, or a further one of a service."""
        with self._changing:
            self._away.discard(name)
            self._spawn(name)
        self.wait_for(name)

    def travel(self, transport: str, url: str = "") -> None:
        """Changes how events travel; the server's address is named unless it is the database."""
        if transport == self._environment["WINNOW_EVENT_TRANSPORT"]:
            return
        self._environment["WINNOW_EVENT_TRANSPORT"] = transport
        self._environment.pop("WINNOW_EVENT_TRANSPORT_URL", None)
        if url:
            self._environment["WINNOW_EVENT_TRANSPORT_URL"] = url
        self.kill("orchestrator")

    @contextlib.contextmanager
    def stopped(self, name: str) -> Iterator[None]:
        """SIGSTOP, and SIGCONT at the end: a process that hangs, and knows nothing of it."""
        process = self._processes[name]
        process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            process.send_signal(signal.SIGCONT)

    def kill_database(self) -> None:
        """Kills the server's processes, as a crash of the machine would."""
        pid = int((self.folder / "postgres/data/postmaster.pid").read_text().splitlines()[0])
        with contextlib.suppress(psutil.NoSuchProcess):
            postmaster = psutil.Process(pid)
            victims = [postmaster, *postmaster.children(recursive=True)]
            for victim in victims:
                with contextlib.suppress(psutil.NoSuchProcess):
                    victim.kill()
            psutil.wait_procs(victims, timeout=10)

    def start_database(self) -> None:
        """Starts the server if it is gone; it recovers what was committed."""
        until = time.monotonic() + _READY_SECONDS
        while True:
            try:
                self._postgres.start()
                return
            except PostgresError:
                # Its shared memory is freed a moment after its processes.
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)

    def wait_for(self, name: str) -> None:
        """Waits until a service takes connections.

        Raises:
            AssertionError: it does not, within a minute.
        """
        if name == "gateway":
            return  # its socket is ours: callers wait in line
        until = time.monotonic() + _READY_SECONDS
        while True:
            try:
                with socket.socket(socket.AF_UNIX) as probe:
                    probe.connect(str(self.folder / name))
                return
            except OSError:
                assert time.monotonic() < until, f"the {name} does not start; see its log"
                time.sleep(_LOOK_SECONDS)

    def stop(self) -> None:
        """Ends everything, without ceremony."""
        self._ending.set()
        self._keeper.join()
        for name in self._processes:
            self._end(name)
        self._socket.close()
        self.kill_database()

    def _spawn(self, name: str, point: str = "") -> None:
        service = name.rstrip("0123456789")
        environment = dict(self._environment)
        if point:
            environment[crash.VARIABLE] = point
        if service == "orchestrator":
            environment["WINNOW_ORCHESTRATOR_LISTEN"] = self.address(name)
        inherited = (self._socket.fileno(),) if service == "gateway" else ()
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [
                    *(sys.executable, "-m", "cli.main", "serve", service),
                    *("--parent", str(os.getpid())),
                    *(("--fd", str(self._socket.fileno())) if inherited else ()),
                ],
                pass_fds=inherited,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _end(self, name: str) -> None:
        process = self._processes[name]
        process.kill()
        process.wait()

    def _keep(self) -> None:
        """Starts what died again."""
        while not self._ending.wait(_LOOK_SECONDS):
            for name in list(self._processes):
                with self._changing:
                    code = self._processes[name].poll()
                    if code is None or name in self._away:
                        continue
                    self.deaths.append(Death(name, code, time.monotonic()))
                    time.sleep(_AGAIN_SECONDS)
                    self._spawn(name)


@contextlib.contextmanager
def broker(transport: str) -> Iterator[Broker | None]:
    """The server of a transport, if it needs one beside the database."""
    if transport == "postgres":
        yield None
        return
    with {"valkey": valkey_server, "nats": nats_server}[transport]() as server:
        yield server
