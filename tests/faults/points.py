"""Each crash point with what it takes to come by it, and one strike at one of them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import httpx

from runtime import crash
from runtime.errors import WinnowError
from runtime.keyring import Keyring, key_id
from tests.faults.checks import Complaint
from tests.faults.house import House
from tests.faults.load import SUBMISSIONS, Round, Submission, deliver
from tests.faults.stage import FIRST, Stage
from winnow.finding.v1.verdict_pb2 import Verdict
from winnow.seal.v1.data_key_pb2 import DataKey

_PATIENCE_SECONDS = 60.0
_PAUSE_SECONDS = 0.2


class Plan(NamedTuple):
    """How a point is come by.

    Args:
        service: the process that has it.
        counts: which times it is come by; each is a strike of its own.
        act: what is done besides submitting; returns what does not hold.
    """

    service: str
    counts: tuple[int, ...] = (1,)
    act: Callable[[House], list[Complaint]] | None = None


def _lose_the_moderator(house: House) -> list[Complaint]:
    """A run that fails, so that there is one to put back."""
    house.send_away("moderator")
    time.sleep(1.0)
    house.bring("moderator")
    return []


def _make_schedules_due(house: House) -> list[Complaint]:
    with house.connect() as connection:
        connection.execute("UPDATE orchestrator.schedules SET next_at = now()")
    until = time.monotonic() + _PATIENCE_SECONDS
    due = "SELECT count(*) FROM orchestrator.schedules WHERE next_at <= now()"
    while _number(house, due) and time.monotonic() < until:
        time.sleep(_PAUSE_SECONDS)
    return []


_RULING = {"outcome": "true_positive", "scope": "finding", "reason": "seen in use", "actor": "ana"}


def _decide(house: House) -> list[Complaint]:
    """A decision and its event are there both or not at all, and counted."""
    report_id = _report(house, "small")
    _ask(house, f"/findings/{report_id}.{_ordinal(house, report_id)}/decisions", _RULING)
    decided = _number(house, "SELECT count(*) FROM orchestrator.decisions")
    return [
        *_events(house, report_id, "DECISION_MADE", decided),
        *_summary(house, report_id),
    ]


def _rejudge(house: House) -> list[Complaint]:
    """As if an older build had judged: each finding is judged again once, and it is told."""
    report_id = _report(house, "keyed")
    with house.connect() as connection:
        rows = connection.execute(
            "SELECT ordinal, message FROM orchestrator.verdicts WHERE report_id = %s",
            [report_id],
        ).fetchall()
        for ordinal, message in rows:
            older = Verdict.FromString(message)
            older.reason = "as an older build put it"
            connection.execute(
                "UPDATE orchestrator.verdicts SET message = %s, reason = %s"
                " WHERE report_id = %s AND ordinal = %s",
                [older.SerializeToString(), older.reason, report_id, ordinal],
            )
    _ask(house, f"/reports/{report_id}/rejudge", {"mode": "apply"})
    # One more on each finding than before, however often they were judged before.
    verdicts = f"FROM orchestrator.verdicts WHERE report_id = '{report_id}'"
    findings = _number(house, f"SELECT count(DISTINCT ordinal) {verdicts}")
    added = _number(house, f"SELECT count(*) {verdicts}") - len(rows)
    least = len(rows) // findings + 1
    again = f"SELECT ordinal {verdicts} GROUP BY ordinal HAVING count(*)"
    once = _number(house, f"SELECT count(*) FROM ({again} = {least}) AS judged")
    found = []
    if added < findings or once < findings:
        found.append(Complaint("lost", f"{findings - once} findings not judged again once"))
    if added > findings:
        found.append(Complaint("doubled", f"{added - findings} findings judged again twice"))
    return [
        *found,
        *_told(house, report_id, len(rows) + added - findings),
        *_summary(house, report_id),
    ]


def _read_raw(house: House) -> list[Complaint]:
    """Whoever has had bytes is in the audit log."""
    report_id = _own(house)
    read = _ask(house, f"/reports/{report_id}/raw", method="GET")
    wanted = 1 if read else 0
    return _events(house, report_id, "REPORT_RAW_READ", wanted, at_least=True)


def _shred(house: House) -> list[Complaint]:
    """Key, bytes, mark and event go and come together."""
    report_id = _own(house)
    _ask(house, f"/reports/{report_id}/shred")
    left = sum(_rows(house, table, report_id) for table in ("data_keys", "raw_chunks"))
    found = [Complaint("left", f"{left} rows of a shredded report")] if left else []
    return [*found, *_events(house, report_id, "REPORT_SHREDDED", 1)]


def _delete(house: House) -> list[Complaint]:
    """A report goes whole, or not at all."""
    report_id = _own(house)
    _ask(house, f"/reports/{report_id}", method="DELETE")
    jobs = f"SELECT count(*) FROM orchestrator.jobs WHERE key = '{report_id}'"
    until = time.monotonic() + _PATIENCE_SECONDS
    while _number(house, jobs) and time.monotonic() < until:
        time.sleep(_PAUSE_SECONDS)
    tables = ("reports", "data_keys", "raw_chunks", "findings", "verdicts")
    left = sum(_rows(house, table, report_id) for table in tables)
    found = [Complaint("left", f"{left} rows of a deleted report")] if left else []
    return [*found, *_events(house, report_id, "REPORT_DELETED", 1)]


def _rotate(house: House) -> list[Complaint]:
    """As if the other key had been the current one: afterwards nothing needs it."""
    ring = Keyring(house.sealing_keys)
    other, other_id = Keyring(house.sealing_keys[::-1]), key_id(house.sealing_keys[1])
    with house.connect() as connection:
        rows = connection.execute(
            "SELECT report_id, key_id, wrapped FROM orchestrator.data_keys"
        ).fetchall()
        for report_id, name, wrapped in rows:
            key = ring.open(report_id, DataKey(key_id=name, wrapped=wrapped))
            connection.execute(
                "UPDATE orchestrator.data_keys SET key_id = %s, wrapped = %s WHERE report_id = %s",
                [other_id, other.wrap(report_id, key).wrapped, report_id],
            )
    told = "SELECT count(*) FROM audit.events WHERE event_type = 'SEALING_ROTATED'"
    before = _number(house, told)
    _ask(house, "/sealing/rotate")
    until = time.monotonic() + _PATIENCE_SECONDS
    while _number(house, told) == before and time.monotonic() < until:
        time.sleep(_PAUSE_SECONDS)
    found = []
    if _number(house, told) == before:
        found.append(Complaint("lost", "no event tells of the rotation"))
    with house.connect() as connection:
        kept = connection.execute(
            "SELECT report_id, key_id, wrapped FROM orchestrator.data_keys"
        ).fetchall()
    alone = Keyring(house.sealing_keys[:1])
    for report_id, name, wrapped in kept:
        try:
            alone.open(report_id, DataKey(key_id=name, wrapped=wrapped))
        except WinnowError as error:
            found.append(Complaint("lost", f"a data key does not open: {error.reason}"))
    return found


PLANS = {
    "intake.chunk": Plan("orchestrator"),
    "intake.admitting": Plan("orchestrator", (1, 3)),
    "intake.admitted": Plan("orchestrator", (1, 3)),
    "job.claimed": Plan("orchestrator", act=_lose_the_moderator),
    "job.again": Plan("orchestrator", act=_lose_the_moderator),
    "writer.storing": Plan("orchestrator", (1, 6)),
    "writer.stored": Plan("orchestrator", (1, 3, 6)),
    "run.ingesting": Plan("orchestrator"),
    "run.ending": Plan("orchestrator", (1, 3)),
    "run.ended": Plan("orchestrator", (1, 3)),
    "outbox.read": Plan("orchestrator"),
    "outbox.audited": Plan("orchestrator"),
    "outbox.published": Plan("orchestrator"),
    "consumer.applied": Plan("orchestrator"),
    "schedule.firing": Plan("orchestrator", act=_make_schedules_due),
    "decision.deciding": Plan("orchestrator", act=_decide),
    "decision.decided": Plan("orchestrator", act=_decide),
    "rejudge.page": Plan("orchestrator", act=_rejudge),
    "raw.read": Plan("orchestrator", act=_read_raw),
    "report.shredding": Plan("orchestrator", act=_shred),
    "report.deleting": Plan("orchestrator", act=_delete),
    "report.clearing": Plan("orchestrator", act=_delete),
    "sealing.rewrapping": Plan("orchestrator", act=_rotate),
    "sealing.rewrapped": Plan("orchestrator", act=_rotate),
    "audit.appending": Plan("audit"),
    "audit.appended": Plan("audit"),
    "ingestor.batch": Plan("ingestor", (1, 4)),
    "ingestor.summary": Plan("ingestor"),
    "moderator.judged": Plan("moderator", (1, 4)),
    "gateway.body": Plan("gateway"),
    "gateway.accepted": Plan("gateway"),
    "gateway.event": Plan("gateway"),
}


class Struck(NamedTuple):
    """How a strike went.

    Args:
        died: whether every process came by its point.
        seconds: from the last death until all was as it must be.
        complaints: what does not hold.
    """

    died: bool
    seconds: float
    complaints: list[Complaint]


def strikes(name: str) -> list[str]:
    """A point's values of the environment variable."""
    return [f"{name}:{count}" if count > 1 else name for count in PLANS[name].counts]


def strike(
    stage: Stage, points: Sequence[str], submissions: tuple[Submission, ...] = SUBMISSIONS
) -> Struck:
    """Arms points, submits, lets the processes die, and checks what comes of it.

    Args:
        stage: undisturbed before, and after.
        points: as in the environment variable; each in another process.
        submissions: what is submitted.
    """
    house, checks = stage.house, stage.checks
    plans = {point: PLANS[point.partition(":")[0]] for point in points}
    for point, plan in plans.items():
        house.kill(plan.service, point=point)
    before = len(house.deaths)
    round_ = Round(house.url, f"{points[0]}@{time.time_ns()}", submissions)
    acted = [complaint for plan in plans.values() if plan.act for complaint in plan.act(house)]
    complaints = [*acted, *checks.check(round_)]
    ended = time.monotonic()
    died = {
        death.name: death.at for death in house.deaths[before:] if death.code == crash.EXIT_CODE
    }
    for point, plan in plans.items():
        if plan.service not in died:
            complaints.append(Complaint("unclear", f"{point} was not come by"))
            house.kill(plan.service)
    seconds = ended - max(died.values(), default=ended)
    return Struck(len(died) == len(points), seconds, complaints)


def _report(house: House, name: str) -> str:
    """A report of the undisturbed round."""
    with house.connect() as connection:
        row = connection.execute(
            "SELECT report_id::text FROM orchestrator.reports"
            " WHERE labels->>'round' = %s AND labels->>'name' = %s",
            [FIRST, name],
        ).fetchone()
    assert row is not None, f"the first round has no report {name}"
    return str(row[0])


def _ordinal(house: House, report_id: str) -> int:
    """The report's first finding."""
    return _number(
        house, f"SELECT min(ordinal) FROM orchestrator.findings WHERE report_id = '{report_id}'"
    )


def _number(house: House, query: str) -> int:
    with house.connect() as connection:
        row = connection.execute(query).fetchone()  # type: ignore[call-overload]
    return int(row[0]) if row else 0


def _own(house: House) -> str:
    """A report of a round of its own, which nothing else asks about."""
    return deliver(house.url, SUBMISSIONS[0], f"own@{time.time_ns()}").report_id


def _rows(house: House, table: str, report_id: str) -> int:
    return _number(
        house, f"SELECT count(*) FROM orchestrator.{table} WHERE report_id = '{report_id}'"
    )


def _ask(
    house: House, path: str, asked: dict[str, str] | None = None, method: str = "POST"
) -> bytes:
    """Asks until there is an answer, as a person would; the answer."""
    until = time.monotonic() + _PATIENCE_SECONDS
    with httpx.Client(base_url=house.url, timeout=_PATIENCE_SECONDS, trust_env=False) as http:
        while time.monotonic() < until:
            try:
                answer = http.request(method, path, json=asked)
                if answer.status_code < 500:
                    return answer.content
            except httpx.TransportError:
                pass
            time.sleep(_PAUSE_SECONDS)
    return b""


def _events(
    house: House, report_id: str, type_: str, wanted: int, *, at_least: bool = False
) -> list[Complaint]:
    """As many events of a type in the audit log as rows that they tell of."""
    audited = (
        "SELECT count(*) FROM audit.events"
        f" WHERE subject = 'reports/{report_id}' AND event_type = '{type_}'"
    )
    until = time.monotonic() + _PATIENCE_SECONDS
    while (told := _number(house, audited)) < wanted and time.monotonic() < until:
        time.sleep(_PAUSE_SECONDS)
    if told == wanted or (at_least and told > wanted):
        return []
    kind = "lost" if told < wanted else "doubled"
    return [Complaint(kind, f"{told} events {type_} of {wanted}")]


def _told(house: House, report_id: str, added: int) -> list[Complaint]:
    """The events of judgings tell of every verdict that they added."""
    pages = httpx.get(
        f"{house.url}/reports/{report_id}/events?page_size=1000", trust_env=False
    ).json()["events"]
    told = sum(
        int(entry["event"]["payload"]["changed"])
        for entry in pages
        if entry["event"]["event_type"] == "REPORT_REMODERATED"
    )
    if told == added:
        return []
    return [Complaint("lost", f"events tell of {told} of {added} verdicts given again")]


def _summary(house: House, report_id: str) -> list[Complaint]:
    """A report's counts are those of its findings."""
    report = httpx.get(f"{house.url}/reports/{report_id}", trust_env=False).json()
    counted = Counter(finding["risk"] for finding in report["findings"])
    if all(counted[risk] == count for risk, count in report["summary"].items()):
        return []
    return [Complaint("lost", f"counted {dict(counted)}, told {report['summary']}")]
