"""`winnow watch`: a report's events as they happen, over lost connections too."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.usage import DEFAULT_SERVER, ERROR, UNENDED, Server, complain, reporting_errors

if TYPE_CHECKING:
    from cli.client import Client

Json = dict[str, Any]

_RETRIES = 20
_PAUSE_SECONDS = 0.25
_PAUSE_MOST_SECONDS = 10.0


def watch(
    report_id: Annotated[str, typer.Argument(metavar="ID", help="The report's id.")],
    after: Annotated[
        int, typer.Option(min=0, help="Ordinal of the last event that is known already.")
    ] = 0,
    server: Server = DEFAULT_SERVER,
    json: Annotated[bool, typer.Option("--json", help="Events as NDJSON.")] = False,
) -> None:
    """Follow a report to its end: what has happened, then what happens.

    A connection that is lost is made again, for about two minutes.

    Exit codes: 0 the report is done, 2 it failed, or an error, 3 the server stayed away
    before it had ended, 130 Ctrl-C.
    """
    from cli.client import connect
    from cli.errors import ClientError
    from cli.terminal import console, dump_line, plain

    target = console()
    last: Json = {}
    with reporting_errors():
        try:
            for last in following(connect(server), report_id, after):
                if json:
                    print(dump_line(last), flush=True)
                else:
                    target.print(plain(_line(last)), soft_wrap=True)
        except ClientError as error:
            if not (last and error.may_pass):
                raise
            complain(f"{error}; to go on: winnow watch {report_id} --after {last['ordinal']}")
            raise typer.Exit(UNENDED) from None
    if last.get("event_type") == "REPORT_FAILED":
        complain(f"the report failed ({last['payload']['reason']})")
        raise typer.Exit(ERROR)


def register(app: typer.Typer) -> None:
    """Adds this command to the `winnow` command."""
    app.command()(watch)


def following(
    client: Client, report_id: str, after: int = 0, *, begun: bool = False
) -> Iterator[Json]:
    """A report's events after an ordinal, to its end, as REST answers an Envelope.

    A connection that is lost is made again, and goes on after the last event.

    Args:
        begun: the server is known to have the report: its silence may pass.

    Raises:
        ClientError: the server does not answer, at once or for about two minutes.
    """
    from cli.errors import ClientError

    failures = 0
    while True:
        try:
            for event in client.watch(report_id, after):
                failures, begun, after = 0, True, event["ordinal"]
                yield event
            return
        except ClientError as error:
            if not (begun and error.may_pass and failures < _RETRIES):
                raise
        pause = min(_PAUSE_SECONDS * 2.0**failures, _PAUSE_MOST_SECONDS)
        time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 -- not all in step
        failures += 1


def _line(event: Json) -> str:
    """An event for people: when, what, and how far the report is."""
    progress = event["payload"]["progress"]
    risks = " · ".join(f"{progress['summary'][risk]} {risk}" for risk in ("high", "medium", "low"))
    found = progress["records"]["findings"]
    what = event["event_type"].removeprefix("REPORT_").replace("_", " ").lower()
    return (
        f"{event['occurred_at'][11:19]}Z  {what:<18}  {progress['judged']}/{found} judged: {risks}"
    )
