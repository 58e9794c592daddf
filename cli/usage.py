"""What the commands share: exit codes, options, errors, files."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, BinaryIO

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
DEFAULT_SERVER = "http://127.0.0.1:8080"


def default_data_dir() -> Path:
    """Where `winnow up` keeps everything if it is not told."""
    if os.geteuid() == 0:
        return Path("/var/lib/winnow")
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "winnow"


def complain(message: str) -> None:
    """One line on stderr."""
    from cli.terminal import escape

    typer.echo(f"winnow: {escape(message)}", err=True)


@contextmanager
def reporting_errors() -> Iterator[None]:
    """Ends the command with one line where a server or a file cannot be used."""
    from cli.client import ClientError

    try:
        yield
    except ClientError as error:
        complain(str(error))
        raise typer.Exit(ERROR) from None


@contextmanager
def opened(file: str) -> Iterator[BinaryIO]:
    """A file that the user named; - is stdin."""
    from cli.client import ClientError

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
