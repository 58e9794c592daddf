"""What is submitted while something dies, and clients that do not give up.

The reports are the same in every round, so that each round's results can be held
against those of an undisturbed one. Each carries labels that say which it is.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, NamedTuple

import httpx

from cli.loading.reports import generate

# Longer than anything is away, or is killed again and again.
_PATIENCE_SECONDS = 600.0
_PAUSE_SECONDS = 0.2
# What says that trying again can help, and when.
_LATER, _WHEN = 503, "Retry-After"
# What a watcher hears who has had the final event.
_NO_MORE = 204
_FINAL = ("report.done", "report.failed")


class Submission(NamedTuple):
    """One of the reports of a round.

    Args:
        name: its label.
        query: of the request, beside labels.
        keyed: sent with an Idempotency-Key, which each attempt repeats.
        at_once: with `Prefer: respond-async`.
    """

    name: str
    query: str = ""
    keyed: bool = False
    at_once: bool = False


# One message, several batches and chunks, records that cannot be read, a text that is
# no report, and one that is sent until it is answered without ever being doubled.
SUBMISSIONS = (
    Submission("small", "scanner_type=trufflehog"),
    Submission("medium", "scanner_type=trufflehog"),
    Submission("mixed", "scanner_type=trufflehog", at_once=True),
    Submission("bad", "envelope=false"),
    Submission("keyed", "scanner_type=trufflehog", keyed=True),
)
QUICK = tuple(one for one in SUBMISSIONS if one.name != "medium")
# Long enough to be stopped in its middle.
LARGE = Submission("large", "scanner_type=trufflehog", at_once=True)
# Findings, and seed. All of one scanner: what a verdict says of other scanners depends
# on whose report came first.
_FINDINGS = {
    "small": (40, 11),
    "medium": (2000, 12),
    "mixed": (600, 13),
    "keyed": (300, 14),
    "large": (8_000, 15),
}


@cache
def body(name: str) -> bytes:
    """The bytes of a submission."""
    if name not in _FINDINGS:
        return b"nothing that a scanner writes\n" * 40
    report = b"".join(generate("trufflehog", *_FINDINGS[name]))
    if name != "mixed":
        return report
    # Every fiftieth record is cut in its middle.
    return b"".join(
        line[: len(line) // 2] + b"\n" if number % 50 == 49 else line
        for number, line in enumerate(report.splitlines(keepends=True))
    )


class Delivery(NamedTuple):
    """How a submission went, for its client.

    Args:
        report_id: in the answer that ended it; empty if there never was one.
        status: of that answer.
        body: of that answer.
        refused: statuses of the attempts before; 0 for a connection that broke.
    """

    report_id: str
    status: int
    body: dict[str, Any]
    refused: list[int]


def deliver(url: str, submission: Submission, round_: str) -> Delivery:
    """Submits until there is an answer that says more than "later"."""
    query = f"{submission.query}&label=round={round_}&label=name={submission.name}"
    headers = {"Content-Type": "application/octet-stream"}
    if submission.keyed:
        headers["Idempotency-Key"] = str(uuid.uuid4())
    if submission.at_once:
        headers["Prefer"] = "respond-async"
    refused: list[int] = []
    until = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < until:
        try:
            answer = httpx.post(
                f"{url}/reports?{query}",
                content=body(submission.name),
                headers=headers,
                timeout=_PATIENCE_SECONDS,
                trust_env=False,
            )
        except httpx.TransportError:
            refused.append(0)
        else:
            if answer.status_code != _LATER or _WHEN not in answer.headers:
                told = answer.json()
                return Delivery(told.get("report_id", ""), answer.status_code, told, refused)
            refused.append(answer.status_code)
        time.sleep(_PAUSE_SECONDS)
    return Delivery("", 0, {}, refused)


class Round:
    """All submissions of a round, each by a client of its own; those that are not waited
    for are watched.

    Args:
        url: of the gateway.
        name: label of the round's reports.
        submissions: what is submitted.
    """

    def __init__(
        self, url: str, name: str, submissions: tuple[Submission, ...] = SUBMISSIONS
    ) -> None:
        self.name = name
        self.submissions = submissions
        # Of each report that is watched: ordinals as they came, and which events were final.
        self.watched: dict[str, list[tuple[int, bool]]] = {}
        self._url = url
        self._pool = ThreadPoolExecutor(len(submissions))
        self._answers = {one.name: self._pool.submit(self._deliver, one) for one in submissions}

    def answers(self) -> dict[str, Delivery]:
        """How each ended, once all have."""
        found = {name: answer.result() for name, answer in self._answers.items()}
        self._pool.shutdown()
        return found

    def _deliver(self, submission: Submission) -> Delivery:
        delivery = deliver(self._url, submission, self.name)
        if submission.at_once and delivery.report_id:
            self.watched[submission.name] = list(follow(self._url, delivery.report_id))
        return delivery


def follow(url: str, report_id: str, after: int = 0) -> Iterator[tuple[int, bool]]:
    """Ordinals of a report's events, as a watcher has them who comes back after every cut.

    Yields:
        Each event's ordinal, and whether it is of a kind that ends the stream.
    """
    until = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < until:
        try:
            with httpx.stream(
                "GET",
                f"{url}/reports/{report_id}/events/stream",
                headers={"Last-Event-ID": str(after)} if after else {},
                timeout=_PATIENCE_SECONDS,
                trust_env=False,
            ) as answer:
                if answer.status_code == _NO_MORE:
                    return
                for event, ordinal in _events(answer):
                    after = ordinal
                    yield ordinal, event in _FINAL
                    if event in _FINAL:
                        return
        except httpx.TransportError:
            pass
        time.sleep(_PAUSE_SECONDS)


def _events(answer: httpx.Response) -> Iterator[tuple[str, int]]:
    """The events of a stream that have an ordinal; one that was cut off is none."""
    fields: dict[str, str] = {}
    for line in answer.iter_lines():
        name, _, value = line.partition(":")
        if name:
            fields[name] = value.strip()
            continue
        if line == "" and "id" in fields and "data" in fields:
            assert int(json.loads(fields["data"])["ordinal"]) == int(fields["id"])
            yield fields.get("event", ""), int(fields["id"])
        if line == "":
            fields = {}


class Stream:
    """A stream of rounds, one after the other, until it is ended.

    Args:
        url: of the gateway.
        prefix: of the rounds' names.
        submissions: of each round.
    """

    def __init__(
        self, url: str, prefix: str, submissions: tuple[Submission, ...] = SUBMISSIONS
    ) -> None:
        self.rounds: list[Round] = []
        self._url = url
        self._prefix = prefix
        self._submissions = submissions
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._ending.is_set():
            round_ = Round(self._url, f"{self._prefix}{len(self.rounds)}", self._submissions)
            round_.answers()
            self.rounds.append(round_)

    def end(self) -> None:
        """Lets the round under way end, and begins no other."""
        self._ending.set()
        self._thread.join()
