"""People decide last: decide, decisions, withdraw, feedback."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.usage import (
    DEFAULT_SERVER,
    ERROR,
    ListFormat,
    Risk,
    Server,
    at_most,
    complain,
    duration,
    reporting_errors,
)

if TYPE_CHECKING:
    from cli.client import Client

Json = dict[str, Any]

_MOST_EXPORTED = 1_000_000
_LABELS = {"true_positive": True, "false_positive": False}

feedback_app = typer.Typer(name="feedback", help="What people decided, as labelled records.")


class Outcome(StrEnum):
    """What a person decides."""

    TRUE_POSITIVE = "true_positive"
    FALSE_POSITIVE = "false_positive"
    ACCEPTED_RISK = "accepted_risk"


class Scope(StrEnum):
    """How far a decision reaches."""

    CREDENTIAL = "credential"
    PLACE = "place"
    FINDING = "finding"


_Actor = Annotated[
    str, typer.Option(envvar="WINNOW_ACTOR", help="Who decides; your user name if not given.")
]


def decide(
    target: Annotated[
        str,
        typer.Argument(metavar="ID", help="A finding (REPORT.NUMBER), or with filters a report."),
    ],
    outcome: Annotated[Outcome, typer.Argument(help="What you decide.")],
    reason: Annotated[str, typer.Option(help="Why; what looks like a credential is masked.")] = "",
    scope: Annotated[
        Scope | None,
        typer.Option(
            help="credential: every finding of the same value, now and later; place: those at the "
            "same path; finding: this one. credential if not given, but place where a short "
            "value is cleared."
        ),
    ] = None,
    expires: Annotated[
        str, typer.Option(help="When it ends: 12h, 90d, 8w, or a time. Accepted risks need one.")
    ] = "",
    rule: Annotated[str, typer.Option(help="With a report: only findings of this rule.")] = "",
    path: Annotated[str, typer.Option(help="With a report: only paths that begin so.")] = "",
    risk: Annotated[Risk | None, typer.Option(help="With a report: only this risk.")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="With a report: all of its findings.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask after the preview.")] = False,
    actor: _Actor = "",
    server: Server = DEFAULT_SERVER,
) -> None:
    """Decide a finding, or all findings of a report that a filter matches.

    Many at once are shown first, and asked about.
    """
    from cli.client import connect
    from cli.errors import ClientError

    ruling: Json = {"outcome": outcome.value, "reason": reason, "actor": actor or _user()}
    with reporting_errors():
        if scope is not None:
            ruling["scope"] = scope.value
        if expires:
            ruling["expires_at"] = _moment(expires)
        elif outcome is Outcome.ACCEPTED_RISK:
            raise ClientError("an accepted risk must have an end: --expires 90d, for example")
        client = connect(server)
        filters = {"rule": rule, "path": path, "risk": risk.value if risk else None}
        if "." in target:
            if any(filters.values()) or everything:
                raise ClientError("filters go with a report's id, not with a finding's")
            _say(client.decide(target, ruling))
        elif not (any(filters.values()) or everything):
            raise ClientError("a report needs a filter (--rule, --path, --risk), or --all")
        else:
            _decide_many(client, target, {"ruling": ruling, **filters}, yes)


def _decide_many(client: Client, report_id: str, wanted: Json, yes: bool) -> None:
    from cli import render
    from cli.terminal import console, counted

    preview = client.decide_many(report_id, {**wanted, "preview": True})
    render.preview(console(stderr=True), preview)
    if not preview["decisions"]:
        complain("nothing was decided: no finding matches")
        raise typer.Exit(ERROR)
    if not yes and not (sys.stdin.isatty() and typer.confirm("decide these?", err=True)):
        typer.echo("winnow: nothing was decided; --yes decides without asking", err=True)
        raise typer.Exit(ERROR)
    made = client.decide_many(report_id, wanted)
    said = counted(made["decisions"], "decision"), counted(made["findings"], "finding")
    print(" on ".join(said))


def _say(made: Json) -> None:
    from cli.terminal import counted

    decision = made["decision"]
    print(
        f"{decision['decision_id']}: {decision['outcome'].replace('_', ' ')}, "
        f"{counted(made['findings'], 'finding')} over all reports"
    )


def decisions(
    finding: Annotated[str, typer.Option(help="Only those that reach this finding.")] = "",
    active: Annotated[bool, typer.Option("--active", help="Only those that hold now.")] = False,
    server: Server = DEFAULT_SERVER,
    output: Annotated[ListFormat, typer.Option("--format")] = ListFormat.TABLE,
    limit: Annotated[int, at_most("Decisions")] = 50,
) -> None:
    """List decisions, newest first."""
    from cli import render
    from cli.client import connect
    from cli.terminal import console, dump

    with reporting_errors():
        answers = connect(server).decisions(limit, finding, active)
    if output is ListFormat.JSON:
        print(dump(answers))
    else:
        render.decisions(console(), answers)


def withdraw(
    decision_id: Annotated[str, typer.Argument(metavar="ID", help="The decision's id.")],
    actor: _Actor = "",
    server: Server = DEFAULT_SERVER,
) -> None:
    """End a decision: what the cascade said stands again."""
    from cli.client import connect
    from cli.terminal import counted

    with reporting_errors():
        ended = connect(server).withdraw(decision_id, actor or _user())
    print(f"ended; the cascade's verdict stands again on {counted(ended['findings'], 'finding')}")


@feedback_app.command()
def export(server: Server = DEFAULT_SERVER) -> None:
    """Write what people decided as labelled records, one JSON object a line.

    Decisions that hold now. A record has the label, the cascade's last verdict with its evidence, and the
    finding's clear fields: no value, no text around one.
    """
    from cli.client import connect
    from cli.terminal import dump_line

    with reporting_errors():
        client = connect(server)
        for record in _labelled(client):
            print(dump_line(record))


def _labelled(client: Client) -> Iterator[Json]:
    seen = set()
    for decision in client.decisions(_MOST_EXPORTED, active=True):
        # The newest decision on a value is the one that counts, whatever it says.
        target: tuple[str, ...] = (
            decision["fingerprint"] or decision["finding_id"],
            decision["scope"],
        )
        found = client.finding(decision["finding_id"])
        finding, detail = found["finding"], found["finding"]["detail"]
        if decision["scope"] == "place":
            target = (*target, finding["path"])
        if target in seen:
            continue
        seen.add(target)
        if (label := _LABELS.get(decision["outcome"])) is None:
            continue
        judged = next((v for v in found["verdicts"] if v["source"] != "human"), None)
        yield {
            "label": label,
            "decision_id": decision["decision_id"],
            "decided_at": decision["decided_at"],
            "fingerprint": decision["fingerprint"],
            "finding_id": decision["finding_id"],
            "tool": detail["tool"],
            "rule": finding["rule"],
            "path": finding["path"],
            "kind": finding["kind"],
            "validity": finding["validity"],
            "verdict": judged,
        }


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""


def _moment(text: str) -> str:
    """A time as RFC 3339 writes it, from a duration or a time."""
    from cli.errors import ClientError

    if (span := duration(text)) is not None:
        return (datetime.now(UTC) + span).isoformat(timespec="seconds")
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ClientError("--expires must read 12h, 90d, 8w, or 2030-01-31T12:00:00Z") from None
    if moment.tzinfo is None:
        moment = moment.astimezone()
    return moment.isoformat(timespec="seconds")


def register(app: typer.Typer) -> None:
    """Adds these commands to the `winnow` command."""
    for command in (decide, decisions, withdraw):
        app.command()(command)
    app.add_typer(feedback_app)
