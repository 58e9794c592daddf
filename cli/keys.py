"""API keys: who may call, and what for."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.usage import (
    DEFAULT_SERVER,
    ListFormat,
    Server,
    at_most,
    default_data_dir,
    duration,
    embedded_url,
    reporting_errors,
)

if TYPE_CHECKING:
    from cli.own import UpSettings
    from winnow.access.v1.api_key_pb2 import ApiKey

Json = dict[str, Any]

# What else is done with keys registers itself here (cli.main).
keys_app = typer.Typer(
    name="keys",
    no_args_is_help=True,
    help="API keys, which callers show (create, list, revoke), and the keys that seal reports "
    "(rotate, status).",
)


class RoleName(StrEnum):
    """What a key allows."""

    SUBMIT = "submit"
    READ = "read"
    RAW = "raw"
    MODERATE = "moderate"
    ADMIN = "admin"


@keys_app.command()
def create(
    name: Annotated[str, typer.Option(help="What it is for, e.g. 'ci of the shop'.")],
    role: Annotated[
        list[RoleName], typer.Option(help="What it allows; may be given several times.")
    ],
    expires: Annotated[
        str, typer.Option(help="How long it holds: 12h, 90d, 8w. Without: until it is revoked.")
    ] = "",
    direct: Annotated[
        bool,
        typer.Option(
            "--direct",
            help="Write it into the database (WINNOW_DATABASE_URL, or the one of the data "
            "directory), without a server: the first key, or the next after all were lost.",
        ),
    ] = False,
    tenant: Annotated[
        str,
        typer.Option(help="With --direct: whose reports it reaches. Else those of your own key."),
    ] = "",
    data_dir: Annotated[
        Path | None, typer.Option(help="With --direct: the data directory of `winnow up`.")
    ] = None,
    server: Server = DEFAULT_SERVER,
) -> None:
    """Make an API key. It is written to stdout, this once: nobody can show it again."""
    from cli.client import connect
    from cli.errors import ClientError

    with reporting_errors():
        span = duration(expires) if expires else None
        if expires and not span:
            raise ClientError(
                "--expires must read 12h, 90d or 8w: a whole number of hours, days or weeks"
            )
        roles = [one.value for one in role]
        if direct:
            given = _own_settings()
            url = (
                given.database_url.get_secret_value()
                if given.database_url
                else embedded_url((data_dir or default_data_dir()).expanduser().resolve())
            )
            secret = make_directly(url, tenant or given.tenant, name, roles, span)
        elif tenant or data_dir:
            raise ClientError(
                "--tenant and --data-dir go with --direct: a server makes keys of your own tenant"
            )
        else:
            wanted: Json = {"name": name, "roles": roles}
            if span:
                wanted["expires_in"] = int(span.total_seconds())
            try:
                secret = connect(server).create_key(wanted)["secret"]
            except ClientError as error:
                if error.reason != "PERMISSION_DENIED":
                    raise
                raise ClientError(
                    f"{error}; who can write the database makes any key, with --direct"
                ) from None
    typer.echo(f"winnow: keep it, it is not shown again; roles: {', '.join(roles)}", err=True)
    print(secret)


@keys_app.command("list")
def list_keys(
    server: Server = DEFAULT_SERVER,
    output: Annotated[ListFormat, typer.Option("--format")] = ListFormat.TABLE,
    limit: Annotated[int, at_most("Keys")] = 50,
) -> None:
    """List API keys, newest first, without their secrets."""
    from rich.table import Table

    from cli.client import connect
    from cli.terminal import console, dump, listed, plain

    with reporting_errors():
        answers = connect(server).keys(limit)
    if output is ListFormat.JSON:
        print(dump(answers))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("key", "name", "roles", "created", "last used", "state"):
        table.add_column(column, overflow="fold", no_wrap=column == "key")
    for key in answers:
        cells = (
            key["key_id"],
            key["name"],
            ", ".join(key["roles"]),
            _day(key["created_at"]),
            _minute(key["last_used_at"]) or "never",
            _state(key),
        )
        table.add_row(*map(plain, cells))
    listed(console(), table)


@keys_app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="What `winnow keys list` shows.")],
    server: Server = DEFAULT_SERVER,
) -> None:
    """End an API key: it is refused within seconds."""
    from cli.client import connect
    from cli.errors import ClientError
    from runtime import api_keys

    with reporting_errors():
        if not api_keys.KEY_ID.fullmatch(key_id):
            raise ClientError("ID is the 12 characters behind wnw_, never the whole key")
        key = connect(server).revoke_key(key_id)
    print(f"{key['key_id']}: revoked {_minute(key['revoked_at'])}")


def whoami(
    server: Server = DEFAULT_SERVER,
    as_json: Annotated[
        bool, typer.Option("--json", help="Write the answer of the REST API.")
    ] = False,
) -> None:
    """Show who the server takes you for, and what you may do."""
    from cli.client import connect
    from cli.terminal import dump, escape

    with reporting_errors():
        caller = connect(server).whoami()
    if as_json:
        print(dump(caller))
        return
    key = f" ({caller['key_id']})" if caller["key_id"] else ", without a key"
    print(escape(f"{caller['name']}{key}, tenant {caller['tenant_id']}"))
    print(f"may: {', '.join(caller['roles'])}")


def _own_settings() -> UpSettings:
    """The settings of this machine, as a service would read them."""
    from cli.errors import ClientError
    from cli.own import UpSettings
    from runtime import config

    try:
        return config.load(UpSettings)
    except config.ConfigError as error:
        raise ClientError(str(error)) from None


def make_directly(
    url: str,
    tenant: str,
    name: str,
    roles: list[str],
    expires_in: timedelta | None = None,
    *,
    unless: bool = False,
) -> str | None:
    """Makes a key in the database itself, as its operator, with its audit event.

    Args:
        url: the database.
        tenant: whose key it is.
        expires_in: None: it holds until it is revoked.
        unless: makes none if the tenant has a key that can make others.

    Returns:
        The key; None if none was made.

    Raises:
        ClientError: the database cannot be written; the message does not show its URL.
    """
    import psycopg
    import sqlalchemy

    from cli.errors import ClientError
    from orchestrator import store_access
    from orchestrator.service_decisions import mask
    from runtime import config, context
    from runtime.clock import now
    from runtime.database import Database
    from runtime.errors import WinnowError
    from winnow.access.v1.api_key_pb2 import Role

    try:
        context.enter([(context.TENANT_KEY, tenant)])
        engine = Database(url, connections=1).engine
        with engine.begin() as connection:
            if unless and store_access.has_admin(connection, tenant):
                return None
            made: tuple[ApiKey, str] = store_access.create(
                connection,
                tenant,
                mask(name)[:_NAME],
                [Role.Value(f"ROLE_{role.upper()}") for role in roles],
                now() + expires_in if expires_in else None,
                store_access.OPERATOR,
            )
    except WinnowError as error:
        raise ClientError(error.message) from None
    except config.ConfigError as error:
        raise ClientError(str(error)) from None
    except (sqlalchemy.exc.OperationalError, psycopg.OperationalError):
        raise ClientError("the database does not answer, or refuses the login") from None
    except sqlalchemy.exc.DBAPIError as error:
        raise ClientError(
            "the key cannot be written "
            f"(SQLSTATE {getattr(error.orig, 'sqlstate', None) or 'unknown'}): is the database of "
            "this version? (winnow migrate)"
        ) from None
    engine.dispose()
    return made[1]


_NAME = 128  # as in the contract


def register(app: typer.Typer) -> None:
    """Adds these commands to the `winnow` command."""
    app.add_typer(keys_app)
    app.command()(whoami)


def _state(key: Json) -> str:
    from datetime import datetime

    from runtime.clock import now

    if key["revoked_at"]:
        return f"revoked {_minute(key['revoked_at'])}"
    if not key["expires_at"]:
        return "holds"
    ended = datetime.fromisoformat(key["expires_at"]) <= now()
    return f"{'expired' if ended else 'holds until'} {_minute(key['expires_at'])}"


def _day(moment: str) -> str:
    return moment[:10]


def _minute(moment: str | None) -> str:
    return f"{moment[:16].replace('T', ' ')}Z" if moment else ""
