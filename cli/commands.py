"""The commands that talk to a server: submit, show, reports, events, credentials.

stdout carries the result and nothing else; progress and errors go to stderr.
What they need is imported when they run, so that starting a service does not
pay for it.
"""

from __future__ import annotations

import os
import random
import re
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from io import BufferedReader
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, NamedTuple

import typer

from cli.usage import (
    DEFAULT_SERVER,
    ERROR,
    FOUND,
    UNENDED,
    ListFormat,
    Risk,
    Server,
    at_most,
    complain,
    opened,
    reporting_errors,
)

if TYPE_CHECKING:
    from cli.client import Client
    from cli.wire import Declaration, Terms

Json = dict[str, Any]

_PAUSE_SECONDS = 0.5
_PAUSE_MOST_SECONDS = 10.0
_KEY = re.compile(r"[!-~]{1,255}")


class Format(StrEnum):
    """How a result is written."""

    TABLE = "table"
    JSON = "json"
    SARIF = "sarif"


class _Answer(NamedTuple):
    """A report, and what is told beside it.

    Args:
        name: what the user knows it by.
        content: as the server answers it.
        replayed: whether its key had been answered before.
    """

    name: str
    content: Json
    replayed: bool = False


_Limit = Annotated[int, typer.Option(min=0, help="Rows of the table at most; 0 for all.")]


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
    at_once: Annotated[
        bool, typer.Option("--async", help="Do not wait for verdicts: tell the report's id.")
    ] = False,
    wait: Annotated[
        int | None,
        typer.Option(
            min=1, max=86_400, metavar="SECONDS", help="Wait no longer; then exit with 3."
        ),
    ] = None,
    reuse: Annotated[
        bool,
        typer.Option(
            "--reuse", help="A report that was submitted before is not processed again, but shown."
        ),
    ] = False,
    idempotency_key: Annotated[
        str | None, typer.Option(help="Of one report: sent again with it, it makes no second one.")
    ] = None,
    retries: Annotated[
        int,
        typer.Option(
            min=0,
            max=100,
            help="Attempts more if the connection fails, or a 503; "
            "8 go on for about a minute, pauses of up to 15 seconds between them.",
        ),
    ] = 8,
    limit: _Limit = 100,
) -> None:
    """Submit reports, wait for their verdicts, show them.

    Exit codes: 0 clean, 1 findings at or above --fail-on, 2 an error, 3 not ended within
    --wait or before the server stayed away, or the key may not read how it ended. With
    --fail-on, records that could not be read are an error too: nobody knows what they held.
    """
    from cli.client import connect
    from cli.errors import ClientError
    from cli.terminal import console, counted
    from cli.wire import Declaration, Terms

    with reporting_errors():
        declared = Declaration(scanner, repository, ref, commit, _labels(label or []))
        if at_once and (fail_on or wait or output is Format.SARIF):
            raise ClientError("--async waits for nothing: no --fail-on, --wait or --format sarif")
        _check_key(idempotency_key, files)
        client = connect(server)
    answers: list[_Answer] = []
    failed = False
    for file in files:
        name = "stdin" if file == "-" else file
        terms = Terms(idempotency_key or str(uuid.uuid4()), wait or 0, reuse)
        try:
            until = time.monotonic() + terms.wait
            with opened(file) as data:
                answer = _submitted(client, data, name, declared, terms, retries)
            replayed = answer.pop("replayed", False)
            if not at_once:
                answer = _ended(client, answer, name, output, until if wait else None, fail_on)
            answers.append(_Answer(name, answer, replayed))
        except ClientError as error:
            complain(f"{name}: {error}")
            failed = True
    if answers or not failed:
        _write(console(), answers, output, limit)
    if failed:
        raise typer.Exit(ERROR)
    if fail_on is not None:
        if any(_reaches(answer.content, fail_on) for answer in answers):
            raise typer.Exit(FOUND)
        unread = sum(one.content.get("records", {}).get("rejected", 0) for one in answers)
        if unread and not allow_rejected:
            complain(
                f"{counted(unread, 'record')} could not be read (--allow-rejected accepts that)"
            )
            raise typer.Exit(ERROR)
    if not at_once and any("findings" not in answer.content for answer in answers):
        raise typer.Exit(UNENDED)


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
    _write(console(), [_Answer("report", answer)], output, limit)
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
    limit: Annotated[int, at_most("Reports")] = 50,
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
    limit: Annotated[int, at_most("Rows")] = 50,
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


def _check_key(key: str | None, files: list[str]) -> None:
    """Refuses a key that the server would refuse, and an empty one: a variable that is
    not set would silently mean that there is none."""
    from cli.errors import ClientError

    if key is None:
        return
    if not _KEY.fullmatch(key):
        raise ClientError("--idempotency-key must have 1 to 255 visible ASCII characters")
    if len(files) > 1:
        raise ClientError("--idempotency-key is for one report")


def _labels(given: list[str]) -> dict[str, str]:
    from cli.errors import ClientError

    labels = {}
    for label in given:
        name, equals, value = label.partition("=")
        if not (name and equals):
            raise ClientError("--label must read name=value")
        labels[name] = value
    return labels


def _submitted(
    client: Client, data: BinaryIO, name: str, declared: Declaration, terms: Terms, retries: int
) -> Json:
    """Sends one report, again under the same key if that failed and may pass."""
    from cli.errors import ClientError

    for attempt in range(retries + 1):
        try:
            with _progress(name, data) as (sent, _):
                answer = client.submit(data, declared, terms, sent)
        except ClientError as error:
            # What came through a pipe is gone, and is not kept on disk to be sent again.
            if attempt == retries or not (error.may_pass and data.seekable()):
                raise
            complain(f"{name}: {error}; trying again")
            pause = max(error.after, min(_PAUSE_SECONDS * 2**attempt, _PAUSE_MOST_SECONDS))
            time.sleep(pause * random.uniform(1.0, 1.5))  # noqa: S311 -- not all in step
            data.seek(0)
            continue
        if attempt:
            # What was answered before was this submission.
            answer.pop("replayed", None)
        if answer.get("reused"):
            complain(f"{name}: was submitted before, as report {answer['report_id']}")
        return answer
    raise AssertionError("the last attempt answers or raises")


def _ended(
    client: Client,
    answer: Json,
    name: str,
    output: Format,
    until: float | None,
    judge: Risk | None,
) -> Json:
    """A durable report with its findings, once it has ended; as it was answered if it has
    not within the wait, if the server stays away, or if the key may not read it.

    Args:
        answer: what came of the submission.
        until: when the wait is over, in seconds of time.monotonic; None for no such moment.
        judge: what a finding is held against.

    Raises:
        ClientError: the report failed or cannot be seen; the message has its id.
    """
    from cli.errors import ClientError

    report_id = answer["report_id"]
    try:
        if until is None:
            _followed(client, name, report_id)
        elif answer["status"] != "done" and not _awaited(client, report_id, until):
            return answer
        return _whole(client, report_id, output)
    except ClientError as error:
        if error.may_pass:
            complain(f"{name}: {error}; the report goes on: winnow show {report_id}")
            return answer
        if error.reason != "PERMISSION_DENIED":
            known = report_id in str(error)
            raise error if known else ClientError(f"{error}; submitted as {report_id}") from None
        told = f"submitted as {report_id}; to see its result the key needs the role read"
        if judge is not None:
            raise ClientError(f"{told}, and --fail-on cannot be judged") from None
        complain(f"{name}: {told}")
        return answer


def _followed(client: Client, name: str, report_id: str) -> None:
    """Waits for a report's end, showing how far it is."""
    from cli.watching import following

    with _progress(name) as (_, judged):
        for event in following(client, report_id, begun=True):
            judged(event["payload"]["progress"])
    _check_end(client.report(report_id))


def _awaited(client: Client, report_id: str, until: float) -> bool:
    """Whether a report ends before a moment: the server that was to wait may stop, and start."""
    from cli.errors import ClientError

    pause = _PAUSE_SECONDS
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(pause, left))
        pause = min(pause * 2, _PAUSE_MOST_SECONDS)
        try:
            report = client.report(report_id)
        except ClientError as error:
            if not error.may_pass:
                raise
            continue
        _check_end(report)
        if report["status"] == "done":
            return True
    return False


def _check_end(report: Json) -> None:
    """Raises `ClientError` if a report has failed."""
    from cli.errors import ClientError

    if error := report.get("error"):
        raise ClientError(f"{error['message']} ({error['reason']}); report {report['report_id']}")


@contextmanager
def _progress(
    name: str, data: BinaryIO | None = None
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
        task = progress.add_task(
            f"{escape(name)}: {'sending bytes' if data else 'judging findings'}", total=size or None
        )

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


def _write(console: Any, answers: list[_Answer], output: Format, limit: int) -> None:
    from cli import render
    from cli.sarif import sarif
    from cli.terminal import dump

    found = [answer.content for answer in answers]
    if output is Format.TABLE:
        for name, answer, replayed in answers:
            if "findings" in answer:
                render.report(console, answer, name, limit, replayed=replayed)
            else:
                render.unended(console, answer, name, replayed=replayed)
    elif output is Format.SARIF:
        print(dump(sarif(answer for answer in found if "findings" in answer)))
    else:
        print(dump(found[0] if len(found) == 1 else found))
