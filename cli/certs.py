"""`winnow certs`: certificates for services that run apart (docs/tls.md)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.usage import ERROR, FOUND, complain

if TYPE_CHECKING:
    from cli.certificates import Issued

certs_app = typer.Typer(
    name="certs",
    no_args_is_help=True,
    help="Make and renew certificates for services that run apart.",
)

_EXPIRED = "expired"
# Below two days hours are counted.
_HOURS = 48
_NEW_CA = "docs/tls.md says how another takes its place"
_Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The folder of the certificates.")]
_Days = Annotated[int, typer.Option(min=1, max=3650, help="How long the certificates are good.")]


@certs_app.command()
def init(
    folder: _Folder,
    host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[SERVICE=]NAME",
            help="A DNS name or IP address where services are reached; again for more.",
        ),
    ] = None,
    tool: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A caller that is no service; again for more."),
    ] = None,
    days: _Days = 365,
    ca_days: Annotated[
        int, typer.Option(min=1, max=36500, help="How long the CA is believed.")
    ] = 3650,
    keep: Annotated[
        bool, typer.Option("--keep", help="Make what is missing in a folder that has some.")
    ] = False,
) -> None:
    """Make a private CA, and a certificate for each service. Nothing is overwritten."""
    from cli import certificates

    with _reporting():
        made = certificates.init(folder, host or (), tool or (), days, ca_days, keep=keep)
    if not made:
        print(f"nothing is missing in {folder}")
        return
    _list(made)
    print(
        f"\nGive each process its folder, and nobody {folder / certificates.CA / 'ca.key'}: "
        "move it to a place\nwhere no service runs; it is needed for `winnow certs renew` only."
    )


@certs_app.command()
def renew(
    folder: _Folder,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="Services, or tool/NAME; all if none is named."),
    ] = None,
    days: _Days = 365,
) -> None:
    """Issue new keys and certificates for the same names. Running services take them up."""
    from cli import certificates

    with _reporting():
        made = certificates.renew(folder, names or (), days)
    _list(made)


@certs_app.command()
def show(folder: _Folder) -> None:
    """List the certificates of a folder; those that end soon are told on stderr.

    Soon: a quarter of the time that a certificate is good is left, and no more than 30 days.

    Exit codes: 0 all are good, 1 one has expired, or is missing beside its key, 2 an error.
    """
    from cli import certificates

    with _reporting():
        found = certificates.issued(folder)
    _list(found)
    for one in found:
        if one.lifetime.soon:
            left = _left(one.lifetime.left)
            when = "has expired" if left == _EXPIRED else f"ends in {left}"
            renewal = f"winnow certs renew {folder} {one.name}"
            complain(f"{one.name} {when}; " + (_NEW_CA if one.name == certificates.CA else renewal))
    halves = certificates.halves(folder)
    for name in halves:
        complain(
            f"{name} has a key.pem and no cert.pem; `winnow certs init {folder} --keep`, with the "
            "same --host and --tool as before, makes both anew"
        )
    if halves or any(one.lifetime.left <= timedelta(0) for one in found):
        raise typer.Exit(FOUND)


def _list(found: list[Issued]) -> None:
    from rich.table import Table

    from cli.terminal import console, plain

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("certificate", "until", "left", "hosts"):
        table.add_column(column, overflow="fold", no_wrap=column != "hosts")
    for one in found:
        until = f"{one.lifetime.ends:%Y-%m-%d}"
        cells = (one.identity, until, _left(one.lifetime.left), " ".join(one.hosts))
        table.add_row(*map(plain, cells))
    console().print(table)


def _left(time: timedelta) -> str:
    """As 29 days, or 5 hours where that is more to the point."""
    if time <= timedelta(0):
        return _EXPIRED
    hours = time // timedelta(hours=1)
    return f"{hours} hours" if hours < _HOURS else f"{time.days} days"


@contextmanager
def _reporting() -> Iterator[None]:
    from cli.certificates import CertificateError

    try:
        yield
    except CertificateError as error:
        complain(str(error))
        raise typer.Exit(ERROR) from None


def register(app: typer.Typer) -> None:
    """Adds this group to the `winnow` command."""
    app.add_typer(certs_app)
