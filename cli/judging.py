"""Judging once more: replay and remoderate."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cli.usage import DEFAULT_SERVER, FOUND, ListFormat, Server, complain, reporting_errors

Json = dict[str, Any]

_Report = Annotated[str, typer.Argument(metavar="ID", help="The report's id.")]
_Output = Annotated[ListFormat, typer.Option("--format")]
_Limit = Annotated[int, typer.Option(min=1, max=1000, help="Changes that are listed at most.")]


def replay(
    report_id: _Report,
    server: Server = DEFAULT_SERVER,
    output: _Output = ListFormat.TABLE,
    limit: _Limit = 100,
) -> None:
    """Derive every verdict of a report again, from what is stored, and compare.

    A language model's verdicts are derived from its stored answers; nobody is
    asked. Exit codes: 0 all the same, bit for bit; 1 some came out otherwise; 2
    an error.
    """
    from cli.terminal import counted

    answer = _judged(report_id, "replay", server, output, limit)
    if answer["other_inputs"]:
        complain(
            f"{counted(answer['other_inputs'], 'verdict')} made by other rules or models than "
            "this server's: only with those could it come out the same"
        )
    if answer["changed"]:
        raise typer.Exit(FOUND)


def remoderate(
    report_id: _Report,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would change, and change nothing.")
    ] = False,
    server: Server = DEFAULT_SERVER,
    output: _Output = ListFormat.TABLE,
    limit: _Limit = 100,
) -> None:
    """Judge a report again by the server's present rules and models.

    Verdicts that come out otherwise are added to those that are stored; what
    people decided stands.
    """
    _judged(report_id, "preview" if dry_run else "apply", server, output, limit)


def _judged(report_id: str, mode: str, server: str, output: ListFormat, limit: int) -> Json:
    from cli import render
    from cli.client import connect
    from cli.terminal import console, dump

    with reporting_errors():
        answer = connect(server).rejudge(report_id, mode, limit)
    if output is ListFormat.JSON:
        print(dump(answer))
    else:
        render.rejudged(console(), answer, mode)
    return answer


def register(app: typer.Typer) -> None:
    """Adds these commands to the `winnow` command."""
    for command in (replay, remoderate):
        app.command()(command)
