"""What must hold after a fault, read from the tables themselves.

Results are held against those of an undisturbed round, as digests of what is
deterministic: sealed evidence, ids and times are left out.
"""

from __future__ import annotations

import hashlib
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any, NamedTuple

import psycopg
from sqlalchemy import create_engine

from orchestrator import states, store
from orchestrator.intake import CHUNK_BYTES
from runtime.clock import uuid7
from tests.faults.house import House
from tests.faults.load import Delivery, Round
from winnow.event.v1.envelope_pb2 import Envelope
from winnow.finding.v1.finding_pb2 import Finding
from winnow.finding.v1.verdict_pb2 import Verdict

QUIET_SECONDS = 60.0

_LIFE = ["REPORT_CREATED", "REPORT_INGESTED", "REPORT_PROCESSING_STARTED", "REPORT_MODERATED"]
_DONE = [*_LIFE, "REPORT_DONE"]
_FAILED = ["REPORT_CREATED", "REPORT_FAILED"]
_FINAL = ("REPORT_DONE", "REPORT_FAILED")
# Told to watchers only.
_PROGRESS = "REPORT_PROGRESS"

# Work in progress: nothing of it may be left when all is done. Schedules put jobs of
# their own at any time.
_UNDER_WAY = """
SELECT (SELECT count(*) FROM orchestrator.jobs WHERE state <> 3 AND kind NOT LIKE '%.sweep'),
       (SELECT count(*) FROM orchestrator.outbox),
       (SELECT count(*) FROM orchestrator.reports WHERE finished_at IS NULL)
"""
# Reports whose bytes are not all there, and bytes that are no report's.
_UPLOADS = f"""
SELECT (SELECT count(*) FROM orchestrator.reports AS report
        WHERE report.shredded_at IS NULL AND (report.size_bytes + {CHUNK_BYTES - 1}) / {CHUNK_BYTES} <> (SELECT count(*)
              FROM orchestrator.raw_chunks AS chunk WHERE chunk.report_id = report.report_id)),
       (SELECT count(*) FROM orchestrator.raw_chunks AS chunk WHERE NOT EXISTS (SELECT 1
        FROM orchestrator.reports AS report WHERE report.report_id = chunk.report_id))
"""
_DEAD = "SELECT kind, error_reason, error_message FROM orchestrator.jobs WHERE state = 3"
_COUNTED = """
SELECT event_type, sum(events)::bigint FROM orchestrator.activity GROUP BY event_type
"""
_AUDITED = "SELECT event_type, count(*) FROM audit.events GROUP BY event_type"


class Complaint(NamedTuple):
    """Something that does not hold: what kind of thing (`KINDS`), and what."""

    kind: str
    text: str


KINDS = ("lost", "doubled", "gap", "left", "unclear")


class Outcome(NamedTuple):
    """What came of a report, without what differs from run to run."""

    status: int
    reason: str
    counts: tuple[int, ...]
    findings: bytes
    rejections: bytes
    verdicts: bytes


class Checks:
    """Checks a house round by round.

    Args:
        house: whose tables.
    """

    def __init__(self, house: House) -> None:
        self._house = house
        self._expected: dict[str, Outcome] = {}

    def learn(self, round_: Round) -> list[Complaint]:
        """Takes an undisturbed round's results for those that all must have."""
        round_.answers()
        self.quiet()
        with self._house.connect() as connection:
            for name, _, outcome in _outcomes(connection, round_.name):
                self._expected[name] = outcome
        return self.check(round_)

    def quiet(self, seconds: float = QUIET_SECONDS) -> bool:
        """Waits until nothing is under way; whether that came to be."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            try:
                with self._house.connect() as connection:
                    if self._is_quiet(connection):
                        return True
            except psycopg.OperationalError:
                pass  # the database is what failed
            time.sleep(0.05)
        return False

    @staticmethod
    def _is_quiet(connection: psycopg.Connection[Any]) -> bool:
        if any(connection.execute(_UNDER_WAY).fetchone() or (1,)):
            return False
        return _counts(connection, _COUNTED) == _counts(connection, _AUDITED)

    def check(self, round_: Round) -> list[Complaint]:
        """Everything that does not hold, once all is quiet."""
        answers = round_.answers()
        self.quiet()
        with self._house.connect() as connection:
            found = [
                *_deliveries(round_, answers),
                *self._reports(connection, round_, answers),
                *_streams(connection, round_),
                *_left(connection, self._house),
                *_shipped(connection),
            ]
        return found

    def _reports(
        self, connection: psycopg.Connection[Any], round_: Round, answers: dict[str, Delivery]
    ) -> Iterable[Complaint]:
        kept: dict[str, list[str]] = defaultdict(list)
        for name, report_id, outcome in _outcomes(connection, round_.name):
            kept[name].append(report_id)
            if outcome != self._expected[name]:
                yield Complaint("lost", f"{name}: {_difference(outcome, self._expected[name])}")
        for submission in round_.submissions:
            ids = kept[submission.name]
            answered = answers[submission.name].report_id
            if answered and answered not in ids:
                yield Complaint("lost", f"{submission.name}: an accepted report is not there")
            if submission.keyed and len(ids) > 1:
                yield Complaint("doubled", f"{submission.name}: {len(ids)} reports of one key")


def _deliveries(round_: Round, answers: dict[str, Delivery]) -> Iterable[Complaint]:
    for name, delivery in answers.items():
        # Durable when the orchestrator went away, it is told as such: 202.
        wanted = (202, 422) if name == "bad" else (200, 201, 202)
        if delivery.status not in wanted:
            reason = delivery.body.get("reason", "no answer")
            yield Complaint("unclear", f"{name}: answered {delivery.status} {reason}")
    for name, watched in round_.watched.items():
        ordinals = [ordinal for ordinal, _ in watched]
        if ordinals != list(range(1, len(ordinals) + 1)):
            yield Complaint("gap", f"{name}: a watcher saw the ordinals {ordinals}")
        if (finals := sum(final for _, final in watched)) != 1:
            yield Complaint("lost", f"{name}: a watcher saw {finals} final events")


def _outcomes(
    connection: psycopg.Connection[Any], round_: str
) -> Iterable[tuple[str, str, Outcome]]:
    """Each report of a round: its name, its id, what came of it."""
    rows = connection.execute(
        "SELECT report_id, labels->>'name', status, coalesce(error_reason, ''), records_read,"
        " records_findings, records_merged, records_rejected, risk_high, risk_medium, risk_low"
        " FROM orchestrator.reports WHERE labels->>'round' = %s ORDER BY report_id",
        [round_],
    ).fetchall()
    for report_id, name, status, reason, *counts in rows:
        yield (
            name,
            str(report_id),
            Outcome(
                status,
                reason,
                tuple(counts),
                _findings(connection, report_id),
                _rejections(connection, report_id),
                _verdicts(connection, report_id),
            ),
        )


def _findings(connection: psycopg.Connection[Any], report_id: uuid.UUID) -> bytes:
    digest = hashlib.sha256()
    for ordinal, message in connection.execute(
        "SELECT ordinal, message FROM orchestrator.findings WHERE report_id = %s ORDER BY ordinal",
        [report_id],
    ):
        finding = Finding.FromString(message)
        finding.ClearField("sealed_evidence")
        digest.update(b"%d " % ordinal + finding.SerializeToString(deterministic=True))
    return digest.digest()


def _rejections(connection: psycopg.Connection[Any], report_id: uuid.UUID) -> bytes:
    digest = hashlib.sha256()
    for ordinal, message in connection.execute(
        "SELECT ordinal, message FROM orchestrator.rejections WHERE report_id = %s"
        " ORDER BY ordinal",
        [report_id],
    ):
        digest.update(b"%d " % ordinal + message)
    return digest.digest()


def _verdicts(connection: psycopg.Connection[Any], report_id: uuid.UUID) -> bytes:
    """Revisions are in it: a finding that was judged twice is told by it."""
    digest = hashlib.sha256()
    for ordinal, revision, message in connection.execute(
        "SELECT ordinal, revision, message FROM orchestrator.verdicts WHERE report_id = %s"
        " ORDER BY ordinal, revision",
        [report_id],
    ):
        verdict = Verdict.FromString(message)
        digest.update(b"%d %d " % (ordinal, revision))
        digest.update(f"{verdict.risk} {verdict.source} {verdict.reason}".encode())
    return digest.digest()


def _difference(found: Outcome, wanted: Outcome) -> str:
    fields = [
        f"{name} {one} instead of {other}" if not isinstance(one, bytes) else f"other {name}"
        for name, one, other in zip(Outcome._fields, found, wanted, strict=True)
        if one != other
    ]
    if found.status not in states.ENDED:
        return "has not ended"
    return ", ".join(fields)


def _streams(connection: psycopg.Connection[Any], round_: Round) -> Iterable[Complaint]:
    """Each report's events: kept without holes, and in the audit log once and in order."""
    reports = connection.execute(
        "SELECT report_id, labels->>'name', last_event, status FROM orchestrator.reports"
        " WHERE labels->>'round' = %s",
        [round_.name],
    ).fetchall()
    for report_id, name, last, status in reports:
        run = connection.execute(
            "SELECT ordinal, type, payload FROM orchestrator.run_events WHERE run_id = %s"
            " ORDER BY ordinal",
            [report_id],
        ).fetchall()
        if [row[0] for row in run] != list(range(1, last + 1)):
            yield Complaint("gap", f"{name}: its events are {[row[0] for row in run]}")
        finals = [row[1] for row in run if row[1] in _FINAL]
        if len(finals) > 1:
            yield Complaint("doubled", f"{name}: it ended {len(finals)} times")
        if len(finals) < 1 or run[-1][1] not in _FINAL:
            yield Complaint("lost", f"{name}: the last of its events is not its end")
        told = [
            Envelope.FromString(payload).event_id for _, type_, payload in run if type_ != _PROGRESS
        ]
        audited = connection.execute(
            "SELECT event_id::text, event_type FROM audit.events WHERE subject = %s"
            " ORDER BY sequence",
            [f"reports/{report_id}"],
        ).fetchall()
        yield from _audited(name, told, audited, _DONE if status == states.DONE else _FAILED)


def _audited(
    name: str, told: list[str], audited: list[tuple[str, str]], life: list[str]
) -> Iterable[Complaint]:
    types = [type_ for _, type_ in audited]
    if missing := Counter(life) - Counter(types):
        yield Complaint("lost", f"{name}: not in the audit log: {', '.join(missing)}")
    if more := Counter(types) - Counter(life):
        yield Complaint("doubled", f"{name}: too often in the audit log: {', '.join(more)}")
    if Counter(types) == Counter(life) and types != life:
        yield Complaint("gap", f"{name}: the audit log has {', '.join(types)}")
    if Counter(told) != Counter(event_id for event_id, _ in audited):
        yield Complaint("lost", f"{name}: watchers and audit log were told of other events")


def _left(connection: psycopg.Connection[Any], house: House) -> Iterable[Complaint]:
    jobs, outbox, reports = connection.execute(_UNDER_WAY).fetchone() or (0, 0, 0)
    for count, what in ((jobs, "jobs"), (outbox, "events in the outbox"), (reports, "reports")):
        if count:
            yield Complaint("left", f"{count} {what} under way")
    for kind, reason, message in connection.execute(_DEAD):
        yield Complaint("left", f"a dead job {kind}: {reason} {message}")
    # What a cut upload left is swept when it is a day old; here at once, and nothing else.
    engine = create_engine(house.database_url.replace("postgresql:", "postgresql+psycopg:", 1))
    with engine.begin() as sweeping:
        store.drop_orphans(sweeping, uuid7())
    engine.dispose()
    half, pieces = connection.execute(_UPLOADS).fetchone() or (0, 0)
    if half:
        yield Complaint("lost", f"{half} reports lack some of their bytes")
    if pieces:
        yield Complaint("left", f"{pieces} pieces of uploads that became no report")


def _shipped(connection: psycopg.Connection[Any]) -> Iterable[Complaint]:
    """The audit log has no holes, and each event had its effect on the consumer once."""
    size, last = connection.execute(
        "SELECT count(*), coalesce(max(sequence), -1) FROM audit.events"
    ).fetchone() or (0, 0)
    if size != last + 1:
        yield Complaint("gap", f"the audit log has {size} events and ends with {last}")
    counted, audited = _counts(connection, _COUNTED), _counts(connection, _AUDITED)
    for type_ in sorted(counted.keys() | audited.keys()):
        if counted[type_] < audited[type_]:
            count = audited[type_] - counted[type_]
            yield Complaint("lost", f"{count} {type_} not delivered to the consumer")
        if counted[type_] > audited[type_]:
            count = counted[type_] - audited[type_]
            yield Complaint("doubled", f"{count} {type_} too often applied by the consumer")


def _counts(connection: psycopg.Connection[Any], query: str) -> Counter[str]:
    return Counter(dict(connection.execute(query).fetchall()))
