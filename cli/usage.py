"""What the commands share: exit codes, options, errors, files."""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from enum import StrEnum
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer

FOUND = 1
ERROR = 2
UNENDED = 3


class ListFormat(StrEnum):
    """How a list is written."""

    TABLE = "table"
    JSON = "json"


class Risk(StrEnum):
    """How much a finding matters."""

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


class ServiceName(StrEnum):
    """What `winnow serve` can run."""

    AUDIT = "audit"
    GATEWAY = "gateway"
    INGESTOR = "ingestor"
    MODERATOR = "moderator"
    ORCHESTRATOR = "orchestrator"


Server = Annotated[
    str,
    typer.Option(
        envvar="WINNOW_SERVER",
        help="http://host:port or https://host (REST), or grpc://host:port (orchestrator).",
    ),
]
KeyFile = Annotated[
    Path | None,
    typer.Option(help="File with the API key to show, where WINNOW_API_KEY is not set."),
]
# In the data directory of `winnow up`: its first key, and where it is called while it runs.
ADMIN_KEY_FILE = "keys/admin_api_key"
SERVER_FILE = "server"
_DURATION = re.compile(r"(\d{1,5})([hdw])")
_HOURS = {"h": 1, "d": 24, "w": 168}
DEFAULT_SERVER = "http://127.0.0.1:8080"


def use_key_file(key_file: Path | None) -> None:
    """Makes a file's API key the one to show."""
    if key_file is not None:
        os.environ["WINNOW_API_KEY_FILE"] = str(key_file)


def keyed(command: Callable[..., None]) -> Callable[..., None]:
    """The command with an option more: --key-file, as `winnow` itself has it."""
    known = inspect.signature(command, eval_str=True)
    option = inspect.Parameter(
        "key_file", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=KeyFile
    )

    @wraps(command)
    def run(*, key_file: Path | None = None, **arguments: Any) -> None:
        use_key_file(key_file)
        command(**arguments)

    parameters = [*known.parameters.values(), option]
    run.__signature__ = known.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    return run


def at_most(what: str) -> Any:
    """The option that bounds a list: 1 or more."""

    def checked(number: int) -> int:
        if number < 1:
            raise typer.BadParameter("must be 1 or more")
        return number

    return typer.Option(callback=checked, help=f"{what} at most.")


def default_data_dir() -> Path:
    """Where `winnow up` keeps everything if it is not told."""
    if os.geteuid() == 0:
        return Path("/var/lib/winnow")
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "winnow"


def embedded_url(home: Path) -> str:
    """Where the database of `winnow up` in a data directory is.

    Raises:
        ClientError: there is none.
    """
    from cli.errors import ClientError
    from cli.postgres import Postgres

    try:
        password = (home / "keys" / "postgres_password").read_text()
    except OSError:
        raise ClientError(
            f"no database of `winnow up` in {home}; name it with --database-url, "
            "or the directory with --data-dir"
        ) from None
    return Postgres(home / "postgres", password).url


def api_key(server: str) -> str:
    """The API key to show to a server; empty for none.

    It stands in WINNOW_API_KEY, in the file that --key-file names, or, if the server is
    the `winnow up` of this machine, where that one has put its first key.

    Raises:
        ClientError: what was given is no key; the message does not show it.
    """
    from cli.errors import ClientError
    from runtime import api_keys

    key, source = os.environ.get("WINNOW_API_KEY", ""), "WINNOW_API_KEY"
    if not key and (file := os.environ.get("WINNOW_API_KEY_FILE")):
        source = "the file of --key-file, or WINNOW_API_KEY_FILE,"
        try:
            with opened(file) as data:
                key = data.read(1024).decode("utf-8", "replace").strip()
        except ClientError as error:
            raise ClientError(f"{source} {error}") from None
        if not key:
            raise ClientError(f"{source} is empty")
    if not key:
        home = default_data_dir()
        try:
            if server.rstrip("/") in (home / SERVER_FILE).read_text().splitlines():
                key, source = (home / ADMIN_KEY_FILE).read_text(), f"{home / ADMIN_KEY_FILE}"
        except OSError:
            return ""
    if key and api_keys.parse(key.strip()) is None:
        raise ClientError(f"{source} holds no API key: it must read wnw_…, in full")
    return key.strip()


def duration(text: str) -> timedelta | None:
    """12h, 90d or 8w; None for anything else."""
    match = _DURATION.fullmatch(text.strip().lower())
    return timedelta(hours=int(match[1]) * _HOURS[match[2]]) if match else None


def complain(message: str) -> None:
    """One line on stderr."""
    from cli.terminal import escape

    typer.echo(f"winnow: {escape(message)}", err=True)


@contextmanager
def reporting_errors() -> Iterator[None]:
    """Ends the command with one line where a server or a file cannot be used."""
    from cli.errors import ClientError

    try:
        yield
    except ClientError as error:
        complain(str(error))
        raise typer.Exit(ERROR) from None


@contextmanager
def opened(file: str) -> Iterator[BinaryIO]:
    """A file that the user named; - is stdin."""
    from cli.errors import ClientError

    if file == "-":
        yield sys.stdin.buffer
        return
    try:
        data = Path(file).open("rb")  # noqa: SIM115 -- closed below; only opening may fail here
    except OSError as error:
        raise ClientError(
            f"cannot be read: {(error.strerror or 'unknown error').lower()}"
        ) from None
    with data:
        yield data
