"""The queue of durable work: jobs, and what has given up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.usage import DEFAULT_SERVER, Server, at_most, reporting_errors

if TYPE_CHECKING:
    from rich.table import Table

Json = dict[str, Any]

jobs_app = typer.Typer(name="jobs", invoke_without_command=True)


class State(StrEnum):
    """Where a job is."""

    WAITING = "waiting"
    RUNNING = "running"
    DEAD = "dead"


_AsJson = Annotated[bool, typer.Option("--json", help="Write the answer of the REST API.")]


@jobs_app.callback()
def jobs(
    context: typer.Context,
    state: Annotated[
        State | None,
        typer.Option(help="Only those in this state; the delayed are among the waiting."),
    ] = None,
    kind: Annotated[str, typer.Option(help="Only those of this kind, e.g. report.run.")] = "",
    limit: Annotated[int, at_most("Jobs")] = 50,
    as_json: _AsJson = False,
    server: Server = DEFAULT_SERVER,
) -> None:
    """List the jobs of durable work, newest first. What is done is gone."""
    if context.invoked_subcommand is not None:
        return
    from cli.client import connect
    from cli.terminal import console, dump, listed

    with reporting_errors():
        answers = connect(server).jobs(limit, state.value if state else "", kind)
    if as_json:
        print(dump(answers))
        return
    table = _table(
        ("job", "kind", "key", "state", "attempt", "failures", "due"),
        (
            (
                job["job_id"],
                job["kind"],
                job["key"],
                _where(job),
                job["attempt"],
                f"{job['failures']} of {job['max_failures']}",
                f"{job['due_at'][:19].replace('T', ' ')}Z",
            )
            for job in answers
        ),
    )
    listed(console(), table)
    if failed := [job for job in answers if job["error_reason"]]:
        print()
        _print(
            ("job", "last error"),
            ((job["job_id"], f"{job['error_message']} ({job['error_reason']})") for job in failed),
        )


@jobs_app.command()
def retry(
    job_id: Annotated[str, typer.Argument(metavar="ID", help="The dead job's id.")],
    as_json: _AsJson = False,
    server: Server = DEFAULT_SERVER,
) -> None:
    """Give a dead job another chance. The report of a run goes on where it stood."""
    from cli.client import connect
    from cli.terminal import dump

    with reporting_errors():
        job = connect(server).retry_job(job_id)
    print(dump(job) if as_json else f"{job['kind']} {job['key']}: {job['state']}")


@jobs_app.command()
def health(as_json: _AsJson = False, server: Server = DEFAULT_SERVER) -> None:
    """Show how much there is to do, and how it goes."""
    from cli.client import connect
    from cli.terminal import dump

    with reporting_errors():
        answer = connect(server).queue_health()
    if as_json:
        print(dump(answer))
        return
    _print(
        ("kind", "waiting", "delayed", "running", "retried", "dead", "oldest"),
        (
            (
                depth["kind"],
                *(depth[name] for name in ("waiting", "delayed", "running", "retried", "dead")),
                _span(depth["oldest_age"]) if depth["oldest_age"] else "",
            )
            for depth in answer["kinds"]
        ),
    )
    print()
    waiting = answer["outbox_audit"] or answer["outbox_transport"]
    print(
        f"outbox: {answer['outbox_audit']} events wait for the audit service, "
        f"{answer['outbox_transport']} for the event transport"
        + (f"; the oldest for {_span(answer['outbox_oldest_age'])}" if waiting else "")
    )
    print()
    _print(
        ("schedule", "cron", "zone", "due in"),
        (
            (state["name"], state["cron"], state["zone"], _span(state["due_in"]))
            for state in answer["schedules"]
        ),
    )
    print()
    _print(("events of a day", "number"), sorted(answer["events_of_a_day"].items()))


def register(app: typer.Typer) -> None:
    """Adds these commands to the `winnow` command."""
    app.add_typer(jobs_app)


def _print(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    from cli.terminal import console

    console().print(_table(columns, rows))


def _table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Table:
    from rich.table import Table

    from cli.terminal import plain

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        # Ids are to be copied.
        table.add_column(column, overflow="fold", no_wrap=column in ("job", "key"))
    for row in rows:
        table.add_row(*(plain(str(value)) for value in row))
    return table


def _where(job: Json) -> str:
    """A job's state in the words of `winnow jobs health`."""
    from runtime.clock import now

    later = job["state"] == State.WAITING and datetime.fromisoformat(job["due_at"]) > now()
    return "delayed" if later else str(job["state"])


def _span(duration: float) -> str:
    """A duration in its two largest units: 45 s, 3 min 20 s, 2 d 4 h."""
    seconds = abs(int(duration))
    units = (("d", 86_400, 0), ("h", 3600, 24), ("min", 60, 60), ("s", 1, 60))
    parts = [
        f"{number} {name}"
        for name, size, of in units
        if (number := seconds // size % of if of else seconds // size)
    ]
    return ("-" if duration < 0 else "") + (" ".join(parts[:2]) or "0 s")
