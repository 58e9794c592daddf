"""`winnow up`: the whole house on one machine, in one command.

Embedded PostgreSQL (or the server named by WINNOW_DATABASE_URL), migrations,
then each service as a process of its own, joined by Unix sockets in a directory
of mode 0700. A service that dies is started again; Ctrl-C drains, the gateway
first and the database last.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import fcntl
import os
import secrets
import shutil
import signal
import ssl
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from cli.own import UpSettings
from cli.postgres import Postgres, PostgresError
from cli.serve import bind, parse
from cli.usage import ADMIN_KEY_FILE, SERVER_FILE
from runtime import crash, matching, metrics
from runtime.channels import dial
from runtime.config import is_local
from runtime.errors import WinnowError
from runtime.log import get_logger
from runtime.server import healthy
from runtime.tls import Files

_log = get_logger()

# Started in this order (all dial lazily); stopped in the reverse one.
ORDER = ("audit", "moderator", "ingestor", "orchestrator", "gateway")
_KEYS = ("sealing_key", "fingerprint_key", "audit_signing_key")
_READY_SECONDS = 60.0
_DRAIN_SECONDS = 15.0
_DATABASE_SECONDS = 1.0
_SOCKET_PATH_LIMIT = 85
_IN_THE_CLEAR = "; other machines reach it, over plain HTTP: keys travel in the clear"


class UpError(Exception):
    """The system cannot start; the message says why and what to do."""


def migrate(url: str) -> str:
    """Brings a database to the newest revision, and returns that revision.

    Raises:
        UpError: it cannot be migrated; the message does not show the URL.
    """
    import sqlalchemy

    import migrations  # Alembic is heavy, and client commands never need it

    try:
        return migrations.upgrade(url)
    except WinnowError as error:
        raise UpError(error.message) from None
    except (sqlalchemy.exc.ArgumentError, ValueError):
        raise UpError(
            "WINNOW_DATABASE_URL is not a database URL (postgresql://user:password@host/name)"
        ) from None
    except sqlalchemy.exc.OperationalError:
        raise UpError(
            "the database named by WINNOW_DATABASE_URL does not answer, or refuses the login"
        ) from None
    except sqlalchemy.exc.DBAPIError as error:
        raise UpError(
            "the database named by WINNOW_DATABASE_URL cannot be migrated "
            f"(SQLSTATE {getattr(error.orig, 'sqlstate', None) or 'unknown'})"
        ) from None


def believing(certificate: Path | None) -> ssl.SSLContext:
    """A context that believes exactly this certificate, whatever host it is for."""
    context = ssl.create_default_context(cafile=certificate)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.check_hostname = certificate is None
    return context


def _write_secret(path: Path, value: str) -> None:
    """A new file that only its owner reads."""
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(value)


def _metrics_addresses(first: str | None) -> dict[str, dict[str, str]]:
    """The setting of each service: consecutive ports, or any free ones where the first is 0.

    Raises:
        cli.serve.ServeError: the address is none, or leaves no room for five.
    """
    if not first:
        return {}
    host, port = parse(first)
    ports = range(port, port + len(metrics.SERVICES)) if port else [0] * len(metrics.SERVICES)
    addresses = [f"{host}:{one}" for one in ports]
    parse(addresses[-1])
    return {
        name: {"WINNOW_METRICS_LISTEN": address}
        for name, address in zip(metrics.SERVICES, addresses, strict=True)
    }


class House:
    """Everything that `winnow up` runs.

    Args:
        data_dir: where the database, keys and sockets live.
        listen: the gateway's address, host:port.
        given: a server to use instead of the embedded one, and keys to use
            instead of made ones.

    Raises:
        cli.serve.ServeError: the address for metrics is none.
    """

    def __init__(self, data_dir: Path, listen: str, given: UpSettings) -> None:
        self._data_dir = data_dir
        self._listen = listen
        self._given = given
        self._postgres: Postgres | None = None
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._stopping = asyncio.Event()
        self._sockets = data_dir / "sockets"
        self._environment: dict[str, str] = {}
        self._lock_file: int | None = None
        self._keys_needed = False
        self._metrics = _metrics_addresses(given.metrics_listen)

    async def run(self, ready: Callable[[str], None]) -> None:
        """Starts everything, calls `ready`, runs until a signal.

        Args:
            ready: called once requests are served, with the URL and who is let in there.

        Raises:
            UpError: something does not start.
            runtime.config.ConfigError: the certificate cannot be used.
            cli.serve.ServeError: the address cannot be used.
            runtime.config.ConfigError: no keys are wanted where others can call.
            cli.postgres.PostgresError: the embedded database does not start.
        """
        self._keys_needed = self._given.keys_needed(self._listen)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        Files.of(self._given, "gateway_tls_certificate", "gateway_tls_key")  # told at once
        self._lock()
        # Bound here, so that a taken port is told at once and a gateway that is
        # started again finds its callers waiting.
        self._socket = bind(self._listen)
        for one in self._metrics.values():
            bind(one["WINNOW_METRICS_LISTEN"]).close()
        watchers: list[asyncio.Task[None]] = []
        try:
            await asyncio.to_thread(self._prepare)
            watchers = [asyncio.create_task(self._keep(name)) for name in ORDER]
            if self._postgres is not None:
                watchers.append(asyncio.create_task(self._keep_database(self._postgres)))
            await self._unless_one_fails(watchers, self._wait_ready())
            if not self._stopping.is_set():
                ready(f"{self.url} ({self._let_in()})")
            await self._unless_one_fails(watchers, self._stopping.wait())
        finally:
            self._stopping.set()
            await self._stop(watchers)

    @staticmethod
    async def _unless_one_fails(
        watchers: list[asyncio.Task[None]], work: Coroutine[Any, Any, Any]
    ) -> None:
        """Waits for `work`, or raises what ended a watcher before that."""
        task = asyncio.ensure_future(work)
        done, _ = await asyncio.wait([task, *watchers], return_when=asyncio.FIRST_COMPLETED)
        if task not in done:
            task.cancel()
        for one in done:
            one.result()

    @property
    def url(self) -> str:
        """Where the gateway answers."""
        host, port = self._socket.getsockname()[:2]
        host = "127.0.0.1" if host == "0.0.0.0" else "[::1]" if host == "::" else host  # noqa: S104
        scheme = "https" if self._given.gateway_tls_certificate else "http"
        return f"{scheme}://{f'[{host}]' if ':' in host and '[' not in host else host}:{port}"

    def _let_in(self) -> str:
        """Who is let in, in the words of the ready line; tells commands where the key is."""
        if not self._keys_needed:
            return "this machine only, one tenant, no key needed"
        port = self.url.rpartition(":")[2]
        names = [
            self.url,
            f"http://localhost:{port}",
            *(f"grpc://{self._address(name)}" for name in ("orchestrator", "audit")),
        ]
        (self._data_dir / SERVER_FILE).write_text("\n".join(names))
        file = self._data_dir / ADMIN_KEY_FILE
        made = f"; the first one: {file}" if file.exists() else ""
        clear = not is_local(self._listen) and not self._given.gateway_tls_certificate
        return f"API keys needed{made}{_IN_THE_CLEAR if clear else ''}"

    def _lock(self) -> None:
        """One `winnow up` a data directory."""
        self._data_dir.mkdir(parents=True, exist_ok=True)
        self._lock_file = os.open(self._data_dir / "lock", os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UpError(
                f"another winnow is running with the data directory {self._data_dir}; "
                "stop it, or give another --data-dir"
            ) from None

    def _prepare(self) -> None:
        keys = self._make_keys()
        if self._given.database_url is not None:
            url = self._given.database_url.get_secret_value()
        else:
            password = (keys / "postgres_password").read_text()
            self._postgres = Postgres(self._data_dir / "postgres", password)
            self._postgres.start()
            url = self._postgres.url
        migrate(url)
        (self._data_dir / SERVER_FILE).unlink(missing_ok=True)
        if self._keys_needed:
            self._make_first_api_key(url)
        if len(str(self._sockets)) > _SOCKET_PATH_LIMIT:
            self._sockets = Path(tempfile.mkdtemp(prefix="winnow-"))
        shutil.rmtree(self._sockets, ignore_errors=True)
        self._sockets.mkdir(mode=0o700)
        self._environment = {
            **os.environ,
            # Services are started with -m: without this, whatever lies in the directory
            # that we were called from could be imported in place of ours.
            "PYTHONSAFEPATH": "1",
            matching.CACHE: os.environ.get(matching.CACHE, str(self._data_dir / "cache")),
            "WINNOW_SECRETS_DIR": os.environ.get("WINNOW_SECRETS_DIR", str(keys)),
            "WINNOW_DATABASE_URL": url,
            "WINNOW_AUTH": "keys" if self._keys_needed else "none",
            "WINNOW_GATEWAY_LISTEN": self._listen,
            "WINNOW_AUDIT_CHECKPOINT_DIR": str(
                self._given.audit_checkpoint_dir or self._data_dir / "checkpoints"
            ),
            **{
                f"WINNOW_{name.upper()}_{role}": self._address(name)
                for name in ORDER
                if name != "gateway"
                for role in ("LISTEN", "ADDRESS")
            },
        }

    def _make_keys(self) -> Path:
        """The keys that are not given, made on first start; files of mode 0600 in a directory of 0700."""
        folder = self._data_dir / "keys"
        folder.mkdir(mode=0o700, exist_ok=True)
        # Files come before the TOML file: a key that stands there must not be hidden by one.
        made = {
            f"winnow_{name}": base64.b64encode(os.urandom(32)).decode()
            for name in _KEYS
            if getattr(self._given, name) is None
        }
        made["postgres_password"] = secrets.token_urlsafe(24)
        for name, value in made.items():
            with contextlib.suppress(FileExistsError):
                _write_secret(folder / name, value)
        return folder

    def _make_first_api_key(self, url: str) -> None:
        """A key that can make others, in a file, if the tenant has none."""
        from cli.keys import make_directly

        tenant, file = self._given.tenant, self._data_dir / ADMIN_KEY_FILE
        secret = make_directly(url, tenant, "first key of winnow up", ["admin"], unless=True)
        if secret is not None:
            # What an earlier database's key is.
            file.unlink(missing_ok=True)
            _write_secret(file, secret)

    async def _keep(self, name: str) -> None:
        """Runs one service, again and again if it dies."""
        wait = 0.2
        while not self._stopping.is_set():
            started = time.monotonic()
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "cli.main",
                "serve",
                name,
                "--parent",
                str(os.getpid()),
                *(("--fd", str(self._socket.fileno())) if name == "gateway" else ()),
                pass_fds=(self._socket.fileno(),) if name == "gateway" else (),
                env=self._environment | self._metrics.get(name, {}),
                stdin=asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )
            self._processes[name] = process
            code = await process.wait()
            if self._stopping.is_set():
                return
            # An armed crash point has done its work: the next life must be a life.
            self._environment.pop(crash.VARIABLE, None)
            # 2 is a refusal (settings, address in use): trying again cannot help.
            if code == 2:
                raise UpError(f"the {name} could not start; its message is above")
            wait = 0.2 if time.monotonic() - started > 10 else min(wait * 2, 5.0)
            _log.error("service.died", status="restarting", died=name, code=code)
            await asyncio.sleep(wait)

    async def _keep_database(self, postgres: Postgres) -> None:
        """Starts the embedded server again if it dies; it recovers what was committed."""
        while not self._stopping.is_set():
            await asyncio.sleep(_DATABASE_SECONDS)
            if self._stopping.is_set() or postgres.alive():
                continue
            _log.error("postgres.died", status="restarting")
            try:
                await asyncio.to_thread(postgres.start)
            except PostgresError as error:
                # Its processes may not all be gone yet.
                _log.error("postgres.failed", status="retrying", reason=str(error))

    async def _wait_ready(self) -> None:
        import httpx

        until = time.monotonic() + _READY_SECONDS
        names = [name for name in ORDER if name != "gateway"]
        channels = [dial(self._address(name)) for name in names]
        verify = believing(self._given.gateway_tls_certificate)
        async with httpx.AsyncClient(timeout=2.0, trust_env=False, verify=verify) as client:
            while time.monotonic() < until and not self._stopping.is_set():
                with contextlib.suppress(httpx.HTTPError):
                    if (
                        all([await healthy(channel) for channel in channels])
                        and (await client.get(f"{self.url}/readyz")).status_code == 200
                    ):
                        break
                await asyncio.sleep(0.05)
            else:
                if not self._stopping.is_set():
                    raise UpError(
                        f"the services did not become ready in {_READY_SECONDS:g} seconds"
                    )
        for channel in channels:
            await channel.close()

    def _address(self, name: str) -> str:
        return f"unix:{self._sockets / name}"

    async def _stop(self, watchers: list[asyncio.Task[None]]) -> None:
        for name in reversed(ORDER):
            process = self._processes.get(name)
            if process is None or process.returncode is not None:
                continue
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), _DRAIN_SECONDS)
            except TimeoutError:
                process.kill()
        for watcher in watchers:
            watcher.cancel()
        await asyncio.gather(*watchers, return_exceptions=True)
        shutil.rmtree(self._sockets, ignore_errors=True)
        (self._data_dir / SERVER_FILE).unlink(missing_ok=True)
        if self._postgres is not None:
            await asyncio.to_thread(self._postgres.stop)
        self._socket.close()
        if self._lock_file is not None:
            os.close(self._lock_file)
