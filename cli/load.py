"""`winnow load`: sends what a scenario says to a running server, and tells how it went."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from cli.usage import (
    DEFAULT_SERVER,
    ListFormat,
    Server,
    complain,
    opened,
    reporting_errors,
)

if TYPE_CHECKING:
    from cli.loading.emitter import Run
    from cli.loading.plan import Shot
    from cli.loading.scenario import Scenario
    from cli.loading.telemetry import Telemetry
    from runtime.api_keys import Shown

Json = dict[str, Any]

MISSED = 1
# Requests a second that need no leave.
MOST_RATE = 200.0
_TICK_SECONDS = 0.25
_KEY_SECONDS = 3600
_READY_SECONDS = 10.0


def load(
    file: Annotated[
        Path, typer.Argument(metavar="SCENARIO", help="A YAML file; five are in deploy/scenarios.")
    ],
    server: Server = DEFAULT_SERVER,
    out: Annotated[
        Path | None, typer.Option(help="Folder for telemetry.jsonl and summary.json.")
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, help="The same seed plans the same requests and reports.")
    ] = 1,
    duration: Annotated[
        str, typer.Option(metavar="TIME", help="Instead of the scenario's: 30s, 5m, 1h.")
    ] = "",
    key: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LABEL=FILE",
            help="A key of the scenario; those not given are made, and revoked at the end.",
        ),
    ] = None,
    pid: Annotated[
        int | None, typer.Option(min=1, help="Of `winnow up`: its memory is measured too.")
    ] = None,
    allow_remote: Annotated[
        str, typer.Option(metavar="HOST", help="The server's host, where that is not this machine.")
    ] = "",
    allow_rate: Annotated[
        float, typer.Option(metavar="RATE", help="Requests a second that the scenario may reach.")
    ] = MOST_RATE,
    output: Annotated[ListFormat, typer.Option("--format")] = ListFormat.TABLE,
) -> None:
    """Run a load scenario: made-up reports, sent at the planned moments, good and bad ones.

    Exit codes: 0 what the scenario expects holds, 1 something of it does not, or was not
    measured, 2 an error.
    """
    from cli.errors import ClientError
    from cli.loading import render, scenario
    from cli.loading.memory import resident
    from cli.terminal import console, dump

    with reporting_errors():
        override = scenario.seconds(duration) if duration else None
        if override == 0.0:
            raise ClientError("--duration must read 30s, 5m or 1h")
        try:
            wanted = scenario.load(file, override)
            _check_bounds(wanted, server, allow_remote, allow_rate)
            if pid is not None:
                resident(pid)
            with _keys(wanted, server, key or []) as keys, _written(out) as telemetry:
                found = asyncio.run(_run(wanted, server, keys, seed, pid, telemetry))
        except scenario.ScenarioError as error:
            raise ClientError(str(error)) from None
        except LookupError:
            raise ClientError("--pid: there is no such process") from None
    if out is not None:
        (out / "summary.json").write_text(dump(found) + "\n")
    if output is ListFormat.JSON:
        print(dump(found))
    else:
        render.summary(console(), wanted.name, found)
    if not all(one["held"] for one in found["expectations"]):
        raise typer.Exit(MISSED)


def register(app: typer.Typer) -> None:
    """Adds this command to the `winnow` command."""
    app.command()(load)


def _check_bounds(scenario: Scenario, server: str, remote: str, rate: float) -> None:
    """Returns if the server may be loaded, this much, and is ready.

    Raises:
        ClientError: why not.
    """
    import ipaddress
    from urllib.parse import urlsplit

    import httpx

    from cli.errors import ClientError

    try:
        parts = urlsplit(server)
        host = parts.hostname or ""
    except ValueError:
        host = ""
    if not host or parts.scheme not in ("http", "https") or parts.query or parts.username:
        raise ClientError("--server must read http://host:port or https://host")
    try:
        local = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = False
    if not local and remote.lower() != host:
        raise ClientError(
            f"{host} is another machine: load it only if it is yours, with --allow-remote {host}"
        )
    if scenario.peak > rate:
        raise ClientError(
            f"the scenario reaches {scenario.peak:g} requests a second, and {rate:g} are allowed: "
            f"lower it, or give --allow-rate {scenario.peak:g}"
        )
    try:
        ready = httpx.get(f"{server.rstrip('/')}/readyz", timeout=_READY_SECONDS, trust_env=False)
    except (httpx.HTTPError, httpx.InvalidURL):
        raise ClientError(f"{host} does not answer; is `winnow up` running?") from None
    if not ready.is_success:
        raise ClientError(f"{host} is not ready (status {ready.status_code} of /readyz)")


@contextlib.contextmanager
def _keys(scenario: Scenario, server: str, given: list[str]) -> Iterator[dict[str, Shown]]:
    """The scenario's keys by label: those of files, and new ones, which end with the run.

    Raises:
        ClientError: a label or a file is wrong, or keys cannot be made.
    """
    from cli.client import connect
    from cli.errors import ClientError
    from runtime import api_keys

    keys: dict[str, Shown] = {}
    made: list[str] = []
    for one in given:
        label, _, file = one.partition("=")
        if label not in scenario.keys or not file:
            raise ClientError("--key must read LABEL=FILE, with a label of the scenario")
        with opened(file) as data:
            shown = api_keys.parse(data.read(1024).decode("utf-8", "replace").strip())
        if shown is None:
            raise ClientError(f"the file of --key {label} holds no API key: it must read wnw_…")
        keys[label] = shown
    client = connect(server)
    lasting = int(scenario.duration + scenario.settle) + _KEY_SECONDS
    try:
        for label in scenario.keys:
            if label in keys:
                continue
            wanted = {"name": f"load {label}", "roles": ["submit", "read"], "expires_in": lasting}
            answer = client.create_key(wanted)
            made.append(answer["key"]["key_id"])
            shown = api_keys.parse(answer["secret"])
            if shown is None:
                raise ClientError("the server made a key that is none")
            keys[label] = shown
        yield keys
    finally:
        for key_id in made:
            try:
                client.revoke_key(key_id)
            except ClientError as error:
                complain(f"key {key_id} was made for this run and is not revoked: {error}")


@contextlib.contextmanager
def _written(folder: Path | None) -> Iterator[Telemetry]:
    """Telemetry that goes into a folder, if there is one."""
    from cli.loading.telemetry import Telemetry

    if folder is None:
        yield Telemetry()
        return
    folder.mkdir(parents=True, exist_ok=True)
    file: TextIO
    with (folder / "telemetry.jsonl").open("w") as file:
        yield Telemetry(file)


async def _run(
    scenario: Scenario,
    server: str,
    keys: dict[str, Shown],
    seed: int,
    pid: int | None,
    telemetry: Telemetry,
) -> Json:
    import uuid

    from cli.loading.corpus import Corpus
    from cli.loading.emitter import Run
    from cli.loading.plan import Bodies, shots
    from cli.loading.summary import summarize

    plans = {one.name: shots(one, scenario.duration, seed) for one in scenario.emitters}
    bodies = Bodies(Corpus(seed), seed)
    async with Run(scenario, server, keys, bodies, uuid.uuid4().hex[:12], telemetry) as run:
        beside = asyncio.create_task(_beside(run, plans, pid))
        try:
            await run.emit(plans)
            await run.settle()
        finally:
            beside.cancel()
            await asyncio.gather(beside, return_exceptions=True)
    return summarize(telemetry, sum(map(len, plans.values())), scenario.expect)


async def _beside(run: Run, plans: dict[str, list[Shot]], pid: int | None) -> None:
    """Shows on stderr how far it is, and measures memory, until it is cancelled."""
    from collections import Counter

    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from cli.loading.memory import resident
    from cli.loading.telemetry import Memory
    from cli.terminal import console

    target = console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns, console=target, transient=True, disable=not target.is_terminal
    ) as progress:
        tasks = {name: progress.add_task(name, total=len(plan)) for name, plan in plans.items()}
        state = progress.add_task("", total=None)
        while True:
            sent = run.telemetry.sent
            for name, count in Counter(one.emitter for one in sent).items():
                progress.update(tasks[name], completed=count)
            refused = sum(bool(one.status) and not one.accepted for one in sent)
            waits = f", waiting for the end of {run.unended}" if run.unended else ""
            progress.update(
                state, description=f"{run.under_way} under way, {refused} refused{waits}"
            )
            if pid is not None:
                with contextlib.suppress(LookupError):
                    run.telemetry.add(Memory(run.now, resident(pid)))
            await asyncio.sleep(_TICK_SECONDS)
