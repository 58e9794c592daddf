"""The `winnow` command."""

from __future__ import annotations

import asyncio
import os
import sys
from enum import StrEnum
from importlib.metadata import version
from inspect import signature
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from cli import (
    auditing,
    certs,
    commands,
    deciding,
    evaluate,
    judging,
    keys,
    load,
    probing,
    queue,
    reading,
    sealing,
    signing,
    watching,
)
from cli.usage import KeyFile, ServiceName, default_data_dir, keyed, use_key_file


class _Commands(TyperGroup):
    """The commands; what is wrong with an argument is said without Python's own words."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            error.message = error.message.removeprefix("Value error, ")
            raise


app = typer.Typer(
    name="winnow",
    cls=_Commands,
    help="Separates what matters in a scanner's report from chaff, and keeps the record.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
)
commands.register(app)
reading.register(app)
watching.register(app)
deciding.register(app)
judging.register(app)
evaluate.register(app)
auditing.register(app)
queue.register(app)
certs.register(app)
keys.register(app)
signing.register(app)
sealing.register(app)
probing.register(app)
load.register(app)


def _offer_key_file(group: typer.Typer) -> None:
    """Every command that asks a server takes the key's file behind its name too."""
    asking: list[Any] = [*group.registered_commands]
    if group.registered_callback:
        # Of a group that answers by itself, without a command below it.
        asking.append(group.registered_callback)
    for one in asking:
        if one.callback and "server" in signature(one.callback).parameters:
            one.callback = keyed(one.callback)
    for below in group.registered_groups:
        if below.typer_instance:
            _offer_key_file(below.typer_instance)


_offer_key_file(app)
dev = typer.Typer(no_args_is_help=True, help="Tools for developing and trying out.")
app.add_typer(dev, name="dev")

_ERROR = 2


def _fail(message: str) -> None:
    typer.echo(f"winnow: {message}", err=True)
    raise typer.Exit(_ERROR)


class Auth(StrEnum):
    """Whether callers must show an API key."""

    NONE = "none"
    KEYS = "keys"


@app.command()
def up(
    listen: Annotated[
        str, typer.Option(help="Address of the REST API, host:port; port 0 takes a free one.")
    ] = "127.0.0.1:8080",
    data_dir: Annotated[
        Path | None,
        typer.Option(
            help="Where the database, keys and sockets live "
            r"\[default: ~/.local/share/winnow, as root /var/lib/winnow]."
        ),
    ] = None,
    auth: Annotated[
        Auth | None,
        typer.Option(
            help="Whether callers must show an API key: none, for this machine only, or keys; "
            "keys on any other than a loopback address."
        ),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Serve metrics for Prometheus: the gateway's there, the other services' "
            "on the four ports after it.",
        ),
    ] = None,
) -> None:
    """Run everything on this machine: database, services, REST API. Ctrl-C drains and stops.

    Uses the PostgreSQL server named by WINNOW_DATABASE_URL if that is set, and an
    embedded one in the data directory otherwise.
    """
    from cli.errors import ClientError
    from cli.own import UpSettings
    from cli.postgres import PostgresError
    from cli.serve import SETTINGS, ServeError
    from cli.up import House, UpError
    from runtime import config, log

    folder = (data_dir or default_data_dir()).expanduser().resolve()
    try:
        config.check_names(SETTINGS.values())
        said = {"auth": auth.value if auth else None, "metrics_listen": metrics}
        given = config.load(UpSettings, **{name: one for name, one in said.items() if one})
        log.configure("up", given.log_level)
        house = House(folder, listen, given)
        asyncio.run(house.run(lambda line: print(f"winnow is ready: {line}", flush=True)))
    except (UpError, ServeError, PostgresError, ClientError, config.ConfigError) as error:
        _fail(str(error))
    except PermissionError as error:
        _fail(f"no permission for {error.filename}; choose another --data-dir")


@app.command()
def serve(
    service: Annotated[ServiceName, typer.Argument(help="Which service.")],
    parent: Annotated[int | None, typer.Option(hidden=True)] = None,
    fd: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """Run one service in this process, for compose and Kubernetes.

    Everything is set by WINNOW_… variables or the TOML file named by
    WINNOW_CONFIG; `winnow settings` lists them.
    """
    from cli.serve import ServeError
    from cli.serve import serve as run
    from runtime import config

    try:
        run(service.value, parent, fd)
    except (ServeError, config.ConfigError) as error:
        _fail(str(error))


@app.command()
def migrate() -> None:
    """Bring the database named by WINNOW_DATABASE_URL to the newest revision."""
    from cli import up
    from cli.own import UpSettings
    from runtime import config

    try:
        url = config.load(UpSettings).database_url
        if url is None:
            raise up.UpError("set WINNOW_DATABASE_URL to the database to migrate")
        typer.echo(f"at revision {up.migrate(url.get_secret_value())}")
    except (up.UpError, config.ConfigError) as error:
        _fail(str(error))


@app.command()
def settings() -> None:
    """List every setting: variable, default, meaning."""
    from cli.serve import SETTINGS
    from runtime import config

    seen: dict[str, str] = {}
    for service, settings_class in SETTINGS.items():
        for name, field in settings_class.model_fields.items():
            default = config.default(settings_class, name) or "(required)"
            seen.setdefault(
                name, f"WINNOW_{name.upper():<22} {default:<18} {field.description or service}"
            )
    for name in sorted(seen):
        typer.echo(seen[name])


@dev.command("fake-llm")
def fake_llm(
    listen: Annotated[
        str, typer.Option(help="Address, host:port; port 0 takes a free one.")
    ] = "127.0.0.1:8099",
    script: Annotated[
        str, typer.Option(help="Behaviours, one a request, joined by commas; the last one stays.")
    ] = "ok",
) -> None:
    """Run a local stand-in for the language model's API, bad days included.

    A moderator with WINNOW_LLM_BASE_URL set to its address, and any
    WINNOW_LLM_API_KEY, asks it. The model fake-NAME behaves as NAME.
    """
    import uvicorn

    from cli.fake_llm import FakeLlm
    from cli.serve import ServeError, bind

    try:
        server = FakeLlm([name.strip() for name in script.split(",")])
        bound = bind(listen)
    except (ValueError, ServeError) as error:
        _fail(str(error))
        return
    host, port = bound.getsockname()[:2]
    print(f"fake-llm is ready: http://{host}:{port}", flush=True)
    # An answer that is cut on purpose is no error to log.
    config = uvicorn.Config(server, log_level="critical", timeout_graceful_shutdown=1)
    asyncio.run(uvicorn.Server(config).serve(sockets=[bound]))


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"winnow {version('winnow')}")
        raise typer.Exit


@app.callback()
def options(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
    key_file: KeyFile = None,
) -> None:
    """Separates what matters in a scanner's report from chaff, and keeps the record."""
    use_key_file(key_file)


def main() -> None:
    """Entry point: what slips through says what it is and no more.

    Exit codes: 1 is kept for findings at or above the bar, so errors exit with 2,
    and a reader that went away (`| head`) with 141, as the shell has it.
    """
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # The interpreter would complain once more when it flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        typer.echo(f"winnow: {error.strerror or type(error).__name__}{where}", err=True)
        sys.exit(_ERROR)
    except Exception as error:  # noqa: BLE001 -- a traceback helps nobody who runs a command
        typer.echo(f"winnow: internal error ({type(error).__name__})", err=True)
        sys.exit(_ERROR)


if __name__ == "__main__":
    main()
