"""What is sealed, and the keys of it: raw, shred, delete, keys rotate, keys status."""

from __future__ import annotations

import base64
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from cli.keys import keys_app
from cli.usage import (
    DEFAULT_SERVER,
    ERROR,
    Server,
    complain,
    default_data_dir,
    reporting_errors,
)

if TYPE_CHECKING:
    from cli.client import Client

Json = dict[str, Any]

CURRENT, ACCEPTED = "winnow_sealing_key", "winnow_sealing_keys_accepted"
_LOOK_SECONDS = 0.5
_PATIENCE_SECONDS = 600.0
# Longer than a service wraps with a key that is no longer the current one.
_SETTLED_SECONDS = 15.0

_Report = Annotated[str, typer.Argument(metavar="ID", help="The report's id.")]
_Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


def raw(
    report_id: _Report,
    output: Annotated[
        str, typer.Option("-o", "--output", help="File to write, for you alone; - for stdout.")
    ],
    force: Annotated[
        bool, typer.Option("--force", help="Replace the file; write to a terminal.")
    ] = False,
    server: Server = DEFAULT_SERVER,
) -> None:
    """Get a report's bytes as they were submitted, secrets among them.

    The audit log says each time that it was done.
    """
    from cli.client import connect
    from cli.errors import ClientError

    with reporting_errors():
        if output == "-":
            if sys.stdout.isatty() and not force:
                raise ClientError(
                    "a report may hold secrets and control characters: not written to a "
                    "terminal without --force"
                )
            for chunk in connect(server).raw(report_id):
                sys.stdout.buffer.write(chunk)
            return
        target = Path(output)
        if target.exists() and not force:
            raise ClientError(f"{output} is there already; --force replaces it")
        chunks = connect(server).raw(report_id)
        with _replacing(target) as file:
            for chunk in chunks:
                file.write(chunk)


def shred(report_id: _Report, yes: _Yes = False, server: Server = DEFAULT_SERVER) -> None:
    """Make a report's bytes and the values in it unreadable for good.

    What was found in it, and its audit trail, stay.
    """
    from cli.client import connect

    _ask(f"destroy the data key of report {report_id}? Nobody can undo it", yes)
    with reporting_errors():
        report = connect(server).shred(report_id)
    print(f"{report['report_id']}: shredded at {report['shredded_at']}")


def delete(report_id: _Report, yes: _Yes = False, server: Server = DEFAULT_SERVER) -> None:
    """Remove a report with everything that belongs to it. Its audit trail stays."""
    from cli.client import connect

    _ask(f"delete report {report_id}? Nobody can undo it", yes)
    with reporting_errors():
        connect(server).delete(report_id)
    print(f"{report_id}: deleted")


def status(
    as_json: Annotated[bool, typer.Option("--json", help="The answer of the REST API.")] = False,
    server: Server = DEFAULT_SERVER,
) -> None:
    """Show which key-encryption keys are in use, and for how many reports."""
    from cli.client import connect
    from cli.terminal import dump

    with reporting_errors():
        answer = connect(server).sealing()
    if as_json:
        print(dump(answer))
    else:
        _print(answer)


def rotate(
    drop_retired: Annotated[
        bool,
        typer.Option(
            "--drop-retired",
            help="Then remove the retired keys from this machine: no report needs them any "
            "more. A backup of the database that is older does.",
        ),
    ] = False,
    rewrap: Annotated[
        bool,
        typer.Option(
            "--rewrap",
            help="Make no new key: only wrap again with the key that is current.",
        ),
    ] = False,
    data_dir: Annotated[
        Path | None, typer.Option(help="Data directory of the `winnow up` on this machine.")
    ] = None,
    server: Server = DEFAULT_SERVER,
) -> None:
    """Wrap the data keys of all reports with a new key-encryption key; nothing stops.

    With a `winnow up` on this machine the new key is made here; elsewhere put it in
    place first (docs/sealing.md), and then say --rewrap. Ends when no report needs
    another key any more.
    """
    from cli.client import connect
    from cli.errors import ClientError

    folder = (data_dir or default_data_dir()).expanduser().resolve() / "keys"
    with reporting_errors():
        client = connect(server)
        ours = _is_ours(folder, client)
        if drop_retired and not ours:
            raise ClientError(
                f"the server's keys are not those in {folder}; remove retired ones where they "
                "are kept, once `winnow keys status` shows no report for them"
            )
        if not rewrap:
            if not ours:
                raise ClientError(
                    f"no new key was made: the server's current key is not the one in {folder}. "
                    "Name the data directory of its `winnow up` with --data-dir; if its keys are "
                    "kept elsewhere, put a new one in place there, then say --rewrap"
                )
            _replace_key(folder)
        begun = client.rotate_sealing()
        complain(f"the current key is {begun['key_id']}")
        answer = _settled(client)
        if drop_retired:
            answer = _drop(folder, client)
        _print(answer)


def register(app: typer.Typer) -> None:
    """Adds these commands to the `winnow` command."""
    for command in (raw, shred, delete):
        app.command()(command)
    keys_app.command()(rotate)
    keys_app.command()(status)


def _ask(question: str, yes: bool) -> None:
    if not yes and not (sys.stdin.isatty() and typer.confirm(question, err=True)):
        complain("nothing was done; --yes does it without asking")
        raise typer.Exit(ERROR)


def _print(answer: Json) -> None:
    from rich.table import Table

    from cli.terminal import console, plain

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("key", "state", "reports"):
        table.add_column(column)
    for key in answer["keys"]:
        state = "current" if key["current"] else "accepted" if key["held"] else "not held"
        table.add_row(plain(key["key_id"]), state, str(key["reports"]))
    console().print(table)
    shredded = answer["shredded"]
    told = [f"{shredded} report{' is' if shredded == 1 else 's are'} shredded"]
    if answer["rotating"]:
        told.append("data keys are being wrapped again")
    print("; ".join(told))


def _settled(client: Client) -> Json:
    """How it stands once no report needs another key than the current one."""
    from cli.errors import ClientError

    until, last = time.monotonic() + _PATIENCE_SECONDS, -1
    while True:
        answer = client.sealing()
        outstanding = sum(key["reports"] for key in answer["keys"] if not key["current"])
        if not outstanding and not answer["rotating"]:
            return answer
        if outstanding != last:
            keys = "data key is" if outstanding == 1 else "data keys are"
            complain(f"{outstanding} {keys} to be wrapped again")
            last, until = outstanding, time.monotonic() + _PATIENCE_SECONDS
        if time.monotonic() > until:
            raise ClientError(
                "some data keys are not wrapped again; `winnow keys status` and "
                "`winnow jobs` say more"
            )
        time.sleep(_LOOK_SECONDS)
        if not answer["rotating"]:
            # A process that did not know of the new key yet wrapped some with the old one.
            client.rotate_sealing()


def _is_ours(folder: Path, client: Client) -> bool:
    """Whether the keys of a folder are those of the server."""
    from runtime.keyring import key_id

    try:
        name = key_id(base64.b64decode((folder / CURRENT).read_text()))
    except (OSError, ValueError):
        return False
    return any(key["key_id"] == name and key["current"] for key in client.sealing()["keys"])


def _accepted(folder: Path) -> list[str]:
    try:
        return [key for key in (folder / ACCEPTED).read_text().split(",") if key]
    except FileNotFoundError:
        return []


def _replace_key(folder: Path) -> None:
    """Makes a new current key. Whenever this is cut, what was sealed can be opened: the
    old key is among the accepted ones before another takes its place."""
    old = (folder / CURRENT).read_text()
    if old not in (accepted := _accepted(folder)):
        _write(folder / ACCEPTED, ",".join([old, *accepted]))
    _write(folder / CURRENT, base64.b64encode(os.urandom(32)).decode())


def _drop(folder: Path, client: Client) -> Json:
    """Removes the retired keys; how it stands then."""
    from cli.errors import ClientError
    from runtime.keyring import key_id

    names = sorted(key_id(base64.b64decode(key)) for key in _accepted(folder))
    if not names:
        complain("there are no retired keys to remove")
        return client.sealing()
    # Whoever wrapped with an old key a moment ago must be counted.
    pause = max(0.0, (folder / CURRENT).stat().st_mtime + _SETTLED_SECONDS - time.time())
    complain(f"retired keys are removed in {pause:.0f} seconds, once no process wraps with them")
    time.sleep(pause)
    answer = _settled(client)
    if any(key["reports"] for key in answer["keys"] if key["key_id"] in names):
        raise ClientError("reports need a retired key again; none was removed")
    _write(folder / ACCEPTED, "")
    complain(f"removed from {folder}: {', '.join(names)}")
    return client.sealing()


def _write(target: Path, text: str) -> None:
    with _replacing(target) as file:
        file.write(text.encode())


@contextlib.contextmanager
def _replacing(target: Path) -> Iterator[BinaryIO]:
    """A new file of mode 0600, which takes the target's place once it is whole and durable."""
    # mkstemp makes it for its owner alone.
    descriptor, made = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(made, target)
    except BaseException:
        os.unlink(made)
        raise
    directory = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
