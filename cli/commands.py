"""The commands that talk to a server: submit, show, reports, events, credentials.

stdout carries the result and nothing else; progress and errors go to stderr.
What they need is imported when they run, so that starting a service does not
pay for it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

if TYPE_CHECKING:
    from cli.client import Client, Declaration

Json = dict[str, Any]

FOUND = 1
ERROR = 2


class Format(StrEnum):
    """How a result is written."""

    TABLE = "table"
    JSON = "json"
    SARIF = "sarif"


class ListFormat(StrEnum):
    """How a list is written."""

    TABLE = "table"
    JSON = "json"


class Risk(StrEnum):
    """How much a finding matters."""

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


Server = Annotated[
    str,
    typer.Option(
        envvar="WINNOW_SERVER",
        help="http://host:port or https://host (REST), or grpc://host:port (orchestrator).",
    ),
]
_Limit = Annotated[int, typer.Option(min=0, help="Rows of the table at most; 0 for all.")]
DEFAULT_SERVER = "http://127.0.0.1:8080"


def submit(
    files: Annotated[list[str], typer.Argument(metavar="FILE…", help="Reports; - for stdin.")],
    scanner: Annotated[
        str, typer.Option(help="Which scanner wrote them; found out by content if not given.")
    ] = "",
    server: Server = DEFAULT_SERVER,
    output: Annotated[
        Format, typer.Option("--format", help="json is the API's answer (several: an array).")
    ] = Format.TABLE,
    fail_on: Annotated[
        Risk | None, typer.Option(help="Exit with 1 if a finding has this risk or a higher one.")
    ] = None,
    repository: Annotated[str, typer.Option(help="Repository that was scanned.")] = "",
    ref: Annotated[str, typer.Option(help="Branch or tag that was scanned.")] = "",
    commit: Annotated[str, typer.Option(help="Commit that was scanned.")] = "",
    label: Annotated[list[str] | None, typer.Option(help="name=value; may be repeated.")] = None,
    allow_rejected: Annotated[
        bool, typer.Option("--allow-rejected", help="Records that cannot be read are no error.")
    ] = False,
    limit: _Limit = 100,
) -> None:
    """Submit reports, wait for their verdicts, show them.

    Exit codes: 0 clean, 1 findings at or above --fail-on, 2 an error. With --fail-on,
    records that could not be read are an error too: nobody knows what they held.
    """
    from cli.client import ClientError, Declaration, connect
    from cli.terminal import console

    with reporting_errors():
        declared = Declaration(scanner, repository, ref, commit, _labels(label or []))
        client = connect(server)
    answers: list[tuple[str, Json]] = []
    failed = False
    for file in files:
        name = "stdin" if file == "-" else file
        try:
            report_id = _submitted(client, file, name, declared)
            answers.append((name, _whole(client, report_id, output)))
        except ClientError as error:
            complain(f"{name}: {error}")
            failed = True
    if answers or not failed:
        _write(console(), answers, output, limit)
    if failed:
        raise typer.Exit(ERROR)
    if fail_on is not None:
        if any(_reaches(answer, fail_on) for _, answer in answers):
            raise typer.Exit(FOUND)
        unread = sum(answer.get("records", {}).get("rejected", 0) for _, answer in answers)
        if unread and not allow_rejected:
            complain(f"{unread} records could not be read (--allow-rejected accepts that)")
            raise typer.Exit(ERROR)


def show(
    report_id: Annotated[
        str, typer.Argument(metavar="ID", help="A report, or one finding of it (REPORT.NUMBER).")
    ],
    server: Server = DEFAULT_SERVER,
    output: Annotated[Format, typer.Option("--format")] = Format.TABLE,
    risk: Annotated[Risk | None, typer.Option(help="Only findings of this risk.")] = None,
    limit: _Limit = 100,
) -> None:
    """Show a report and its findings, or one finding with all its evidence."""
    from cli.client import connect
    from cli.terminal import console

    if "." in report_id:
        _show_finding(report_id, server, output)
        return
    with reporting_errors():
        answer = _whole(connect(server), report_id, output, risk.value if risk else "")
    _write(console(), [("report", answer)], output, limit)
    if error := answer.get("error"):
        complain(f"the report failed: {error['message']} ({error['reason']})")
        raise typer.Exit(ERROR)


def _show_finding(finding_id: str, server: str, output: Format) -> None:
    from cli import render
    from cli.client import connect
    from cli.terminal import console, dump

    with reporting_errors():
        answer = connect(server).finding(finding_id)
    if output is Format.TABLE:
        render.finding(console(), answer)
    else:
        print(dump(answer))


def reports(
    server: Server = DEFAULT_SERVER,
    output: Annotated[ListFormat, typer.Option("--format")] = ListFormat.TABLE,
    limit: Annotated[int, typer.Option(min=1, help="Reports at most.")] = 50,
) -> None:
    """List reports, newest first."""
    from cli import render
    from cli.client import connect
    from cli.terminal import console, dump

    with reporting_errors():
        answers = connect(server).reports(limit)
    if output is ListFormat.JSON:
        print(dump(answers))
    else:
        render.reports(console(), answers)


def events(
    report_id: Annotated[str, typer.Argument(metavar="ID", help="The report's id.")],
    server: Server = DEFAULT_SERVER,
    output: Annotated[ListFormat, typer.Option("--format")] = ListFormat.TABLE,
) -> None:
    """Show a report's audit trail."""
    from cli import render
    from cli.client import connect
    from cli.terminal import console, dump

    with reporting_errors():
        answers = connect(server).events(report_id)
    if output is ListFormat.JSON:
        print(dump(answers))
    else:
        render.events(console(), answers)


def rejected(
    report_id: Annotated[str, typer.Argument(metavar="ID", help="The report's id.")],
    server: Server = DEFAULT_SERVER,
    output: Annotated[ListFormat, typer.Option("--format")] = ListFormat.TABLE,
) -> None:
    """Show the records of a report that could not be read, and why."""
    from cli import render
    from cli.client import connect
    from cli.terminal import console, dump

    with reporting_errors():
        answers = connect(server).rejected(report_id)
    if output is ListFormat.JSON:
        print(dump(answers))
    else:
        render.rejected(console(), answers)


def credentials(
    fingerprint: Annotated[
        str | None, typer.Argument(metavar="[FINGERPRINT]", help="Show where this one was seen.")
    ] = None,
    report: Annotated[str, typer.Option(help="Only those that this report holds.")] = "",
    min_reports: Annotated[
        int, typer.Option(min=0, help="Only those that so many reports hold.")
    ] = 0,
    server: Server = DEFAULT_SERVER,
    output: Annotated[ListFormat, typer.Option("--format")] = ListFormat.TABLE,
    limit: Annotated[int, typer.Option(min=1, help="Rows at most.")] = 50,
) -> None:
    """List credentials over all reports, or every place where one was seen."""
    from cli import render
    from cli.client import connect
    from cli.terminal import console, dump

    with reporting_errors():
        client = connect(server)
        if fingerprint:
            one = client.credential(fingerprint, limit)
        else:
            answers = client.credentials(limit, report, min_reports)
    if output is ListFormat.JSON:
        print(dump(one if fingerprint else answers))
    elif fingerprint:
        render.sightings(console(), one)
    else:
        render.credentials(console(), answers)


def register(app: typer.Typer) -> None:
    """Adds these commands to the `winnow` command."""
    for command in (submit, show, reports, events, rejected, credentials):
        app.command()(command)


def complain(message: str) -> None:
    from cli.terminal import escape

    typer.echo(f"winnow: {escape(message)}", err=True)


@contextmanager
def reporting_errors() -> Iterator[None]:
    from cli.client import ClientError

    try:
        yield
    except ClientError as error:
        complain(str(error))
        raise typer.Exit(ERROR) from None


def _labels(given: list[str]) -> dict[str, str]:
    from cli.client import ClientError

    labels = {}
    for label in given:
        name, equals, value = label.partition("=")
        if not (name and equals):
            raise ClientError("--label must read name=value")
        labels[name] = value
    return labels


@contextmanager
def opened(file: str) -> Iterator[BinaryIO]:
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


def _submitted(client: Client, file: str, name: str, declared: Declaration) -> str:
    """Sends one file and follows it to its end; the report's id."""
    from cli.client import ClientError

    with opened(file) as data, _progress(name, data) as (sent, judged):
        report_id = client.submit(data, declared, sent)
        last: Json = {}
        for last in client.watch(report_id):
            judged(last)
    if error := last.get("error"):
        raise ClientError(f"{error['message']} ({error['reason']}); report {report_id}")
    if last.get("status") != "done":
        raise ClientError(f"the server stopped telling how far report {report_id} is; try: show")
    return report_id


@contextmanager
def _progress(
    name: str, data: BinaryIO
) -> Iterator[tuple[Callable[[int], None], Callable[[Json], None]]]:
    """A bar on stderr for the bytes sent, then for the findings judged."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from cli.terminal import console, escape

    target = console(stderr=True)
    size = os.fstat(data.fileno()).st_size if isinstance(data, BufferedReader) else 0
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns, console=target, transient=True, disable=not target.is_terminal
    ) as progress:
        task = progress.add_task(f"{escape(name)}: sending bytes", total=size or None)

        def sent(count: int) -> None:
            progress.advance(task, count)

        def judged(snapshot: Json) -> None:
            found = snapshot.get("records", {}).get("findings", 0)
            progress.update(
                task,
                description=f"{escape(name)}: judging findings",
                total=found or None,
                completed=snapshot["judged"],
            )

        yield sent, judged


def _whole(client: Client, report_id: str, output: Format, risk: str = "") -> Json:
    full = output is Format.SARIF
    answer = client.report(report_id)
    answer["findings"] = list(client.findings(answer["report_id"], risk=risk, full=full))
    return answer


def _reaches(answer: Json, bar: Risk) -> bool:
    ranks = [risk.value for risk in Risk]
    at_least = ranks[: ranks.index(bar.value) + 1]
    return any(answer.get("summary", {}).get(risk, 0) for risk in at_least)


def _write(console: Any, answers: list[tuple[str, Json]], output: Format, limit: int) -> None:
    from cli import render
    from cli.sarif import sarif
    from cli.terminal import dump

    if output is Format.TABLE:
        for name, answer in answers:
            render.report(console, answer, name, limit)
    elif output is Format.SARIF:
        print(dump(sarif(answer for _, answer in answers)))
    else:
        found = [answer for _, answer in answers]
        print(dump(found[0] if len(found) == 1 else found))
