"""DecisionService: unpack, check, ask the store, pack."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from orchestrator import events, store, store_decisions, store_findings, store_outbox
from orchestrator.ids import finding_id, no_finding
from orchestrator.outbox import Outbox
from orchestrator.store_decisions import Given, Target
from runtime import context, crash, paging
from runtime.clock import now
from runtime.database import Database
from runtime.errors import WinnowError
from runtime.jobs import Job, Queue
from runtime.redaction import REDACTED, redact
from winnow.event.v1.envelope_pb2 import Envelope
from winnow.finding.v1.verdict_pb2 import Evidence, Risk, Verdict, VerdictSource
from winnow.report.v1 import decision_service_pb2 as pb
from winnow.report.v1 import decision_service_pb2_grpc as rpc
from winnow.report.v1.decision_pb2 import Decision, DecisionOutcome, DecisionScope

_PAGE = 50
_SAMPLE = 20
_AT_ONCE = 10_000  # findings that one call may match
SETTLE = "decisions.settle"
# Clocks differ: a settling that comes too early would find nothing.
_SKEW = timedelta(seconds=1)
_MAX_REASON = 512
_FINDING = DecisionScope.DECISION_SCOPE_FINDING
# How a masked value tells its length; many people have the same short one.
_LENGTH = re.compile(r"\((\d+) characters\)")
_LONG_VALUE = 12

_VERDICTS: dict[int, tuple[Risk.ValueType, float | None, str]] = {
    DecisionOutcome.DECISION_OUTCOME_TRUE_POSITIVE: (Risk.RISK_HIGH, 1.0, "Confirmed as real"),
    DecisionOutcome.DECISION_OUTCOME_FALSE_POSITIVE: (Risk.RISK_LOW, 0.0, "Marked as not real"),
    DecisionOutcome.DECISION_OUTCOME_ACCEPTED_RISK: (Risk.RISK_LOW, None, "Accepted as a risk"),
}

# What a person may paste by mistake. Tickets (SEC-1234), dates and versions are no credentials.
_TOKEN = re.compile(r"[^\s,;()\"'`]{10,}")
_GIVEN = re.compile(r"(?i)(\b(?:pass\w*|pwd|secret|token|\w*key)\s*[=:]\s*)[^\s\[]+")
_HARMLESS = re.compile(
    r"[A-Za-z][A-Za-z_]*-\d+|[\d.:TZ+-]+|v?\d+(\.\d+)+\S{0,8}|[^\d]+|https?://\S+"
)


def mask(text: str) -> str:
    """A person's words without what looks like a credential in them."""

    def masked(match: re.Match[str]) -> str:
        word = match[0].rstrip(".!?")
        return match[0] if _HARMLESS.fullmatch(word) else REDACTED

    text = _GIVEN.sub(lambda match: match[1] + REDACTED, redact(text))
    return _TOKEN.sub(masked, text)


class DecisionService(rpc.DecisionServiceServicer):
    """People decide last.

    Args:
        database: the orchestrator's.
        outbox: rung after each commit that wrote events.
        queue: where expiries are jobs.
    """

    def __init__(self, database: Database, outbox: Outbox, queue: Queue) -> None:
        self._database = database
        self._outbox = outbox
        self._queue = queue

    async def DecideFinding(
        self, request: pb.DecideFindingRequest, _context: Any
    ) -> pb.DecideFindingResponse:
        tenant = context.tenant.get()
        given = _given(request.ruling)
        report_id, ordinal = finding_id(request.finding_id)

        def decide(connection: Connection) -> tuple[Decision, int]:
            found = store_decisions.target(connection, tenant, report_id, ordinal)
            if found is None:
                raise no_finding(request.finding_id)
            [made], decided = self._decide(connection, tenant, [found], given)
            crash.point("decision.deciding")
            return made, decided

        decision, decided = await self._database.run(decide)
        crash.point("decision.decided")
        self._outbox.ring()
        return pb.DecideFindingResponse(decision=decision, findings=decided)

    async def DecideFindings(
        self, request: pb.DecideFindingsRequest, _context: Any
    ) -> pb.DecideFindingsResponse:
        tenant, report_id = context.tenant.get(), uuid.UUID(request.report_id)
        given = _given(request.ruling)
        filters = store_findings.Filters(
            request.risk, request.rule, request.path, request.source, request.kind
        )

        def decide(connection: Connection) -> pb.DecideFindingsResponse:
            store.get(connection, report_id, tenant)
            matched = store_decisions.targets(connection, tenant, report_id, filters, _AT_ONCE)
            if len(matched) > _AT_ONCE:
                raise WinnowError(
                    "INVALID_ARGUMENT",
                    f"the filter matches more than {_AT_ONCE} findings; narrow it",
                    field="filter",
                    rule=f"at most {_AT_ONCE}",
                )
            chosen = _distinct(_scoped(one, given) for one in matched)
            sample, _ = store_findings.page(
                connection, report_id, tenant, filters, -1, _SAMPLE, full=False
            )
            answer = pb.DecideFindingsResponse(
                matched=len(matched), decisions=len(chosen), sample=sample
            )
            if not chosen:
                return answer
            if request.preview:
                answer.findings = store_decisions.reached(connection, tenant, chosen)
            else:
                _, answer.findings = self._decide(connection, tenant, chosen, given)
            return answer

        answer = await self._database.run(decide)
        if not request.preview:
            self._outbox.ring()
        return answer

    async def WithdrawDecision(
        self, request: pb.WithdrawDecisionRequest, _context: Any
    ) -> pb.WithdrawDecisionResponse:
        tenant, decision_id = context.tenant.get(), uuid.UUID(request.decision_id)
        actor = _actor(request.actor)

        def withdraw(connection: Connection) -> tuple[Decision, int]:
            at = settle(connection, tenant)
            ended = store_decisions.withdraw(connection, tenant, decision_id, at)
            if ended is None:
                known = store_decisions.get(connection, tenant, decision_id)
                raise _ended(request.decision_id) if known else _no_decision(request.decision_id)
            event = _event(events.DECISION_WITHDRAWN, ended[0], tenant, actor=actor)
            store_outbox.put(connection, [event])
            return ended

        decision, decided = await self._database.run(withdraw)
        self._outbox.ring()
        return pb.WithdrawDecisionResponse(decision=decision, findings=decided)

    async def ListDecisions(
        self, request: pb.ListDecisionsRequest, _context: Any
    ) -> pb.ListDecisionsResponse:
        tenant = context.tenant.get()
        query = (tenant, "decisions", request.finding_id, request.active)
        before = paging.after_id(request.page_token, *query)
        size = request.page_size or _PAGE
        about = None
        if request.finding_id:
            place = finding_id(request.finding_id)
            about = await self._database.run(store_decisions.target, tenant, *place)
            if about is None:
                raise no_finding(request.finding_id)
        found = await self._database.run(
            store_decisions.page, tenant, before, size + 1, about, request.active
        )
        page, more = paging.cut(found, size)
        token = paging.encode(page[-1].decision_id, *query) if more else ""
        return pb.ListDecisionsResponse(decisions=page, next_page_token=token)

    def _decide(
        self, connection: Connection, tenant: str, chosen: Sequence[Target], given: Given
    ) -> tuple[list[Decision], int]:
        at = settle(connection, tenant)
        made, decided = store_decisions.decide(
            connection, tenant, [_scoped(one, given) for one in chosen], given, at
        )
        happened = [
            _event(
                events.DECISION_MADE,
                decision,
                tenant,
                actor=given.actor,
                outcome=_name(DecisionOutcome.Name(decision.outcome)),
                scope=_name(DecisionScope.Name(decision.scope)),
            )
            for decision in made
        ]
        store_outbox.put(connection, happened)
        if given.ends_at is not None:
            # What stands changes at the moment of expiry; the reports' summaries and
            # the event follow here.
            key = f"{tenant}@{given.ends_at.isoformat()}"
            self._queue.put(connection, SETTLE, key, due_at=given.ends_at + _SKEW)
        return made, decided


def settle_due(connection: Connection, job: Job) -> None:
    """The work of a SETTLE job: a decision of the tenant has expired."""
    settle(connection, job.tenant)


def settle_all(connection: Connection) -> int:
    """Settles all tenants' expired decisions; returns of how many tenants."""
    tenants = store_decisions.overdue(connection)
    for tenant in tenants:
        settle(connection, tenant)
    return len(tenants)


def settle(connection: Connection, tenant: str) -> datetime:
    """Settles a tenant's expired decisions; first thing wherever what stands changes.

    Returns:
        The moment as of which the change is to be made.
    """
    ended, at = store_decisions.expired(connection, tenant)
    store_outbox.put(
        connection, [_event(events.DECISION_EXPIRED, decision, tenant) for decision in ended]
    )
    return at


def _actor(said: str) -> str:
    """Who decides: the key that was shown, whatever the request says."""
    caller = context.caller.get()
    return f"{caller.name} ({caller.key_id})" if caller.key_id else mask(said) or "unknown"


def _given(ruling: pb.Ruling) -> Given:
    """The ruling, checked and masked, with the verdict that follows from it."""
    actor = _actor(ruling.actor)
    reason = mask(ruling.reason)
    ends_at = None
    if ruling.HasField("expires_at"):
        try:
            ends_at = ruling.expires_at.ToDatetime(tzinfo=now().tzinfo)
        except (ValueError, OverflowError):
            ends_at = now()
        if ends_at <= now():
            raise _invalid("expires_at", "must lie in the future")
    elif ruling.outcome == DecisionOutcome.DECISION_OUTCOME_ACCEPTED_RISK:
        raise _invalid("expires_at", "an accepted risk must have an expiry")
    risk, confidence, words = _VERDICTS[ruling.outcome]
    text = f"{words} by {actor}" + (f": {reason}" if reason else ".")
    name = _name(DecisionOutcome.Name(ruling.outcome))
    verdict = Verdict(
        risk=risk,
        reason=text if len(text) <= _MAX_REASON else f"{text[: _MAX_REASON - 1]}…",
        source=VerdictSource.VERDICT_SOURCE_HUMAN,
        confidence=confidence,
        decided_by="person",
        evidence=[
            Evidence(stage="human", rule=f"decision.{name}", where="decision", detail=words.lower())
        ],
    )
    return Given(ruling.outcome, ruling.scope, reason, actor, ends_at, verdict)


def _scoped(found: Target, given: Given) -> Target:
    """The target with how far the decision on it reaches."""
    scope = given.scope
    if found.fingerprint is None:
        if scope not in (DecisionScope.DECISION_SCOPE_UNSPECIFIED, _FINDING):
            raise _invalid(
                "scope",
                "a finding without a fingerprint of its value can only be decided by itself",
            )
        scope = _FINDING
    elif scope == DecisionScope.DECISION_SCOPE_UNSPECIFIED:
        length = _LENGTH.search(found.preview)
        # Of a digest nobody knows how long the value is.
        short = length is None or int(length[1]) < _LONG_VALUE
        cleared = given.outcome != DecisionOutcome.DECISION_OUTCOME_TRUE_POSITIVE
        scope = (
            DecisionScope.DECISION_SCOPE_PLACE
            if short and cleared
            else DecisionScope.DECISION_SCOPE_CREDENTIAL
        )
    return found._replace(scope=scope)


def _distinct(chosen: Iterable[Target]) -> list[Target]:
    """One target for all whose decisions would reach the same."""
    first: dict[object, Target] = {}
    for one in chosen:
        first.setdefault(one.reach, one)
    return list(first.values())


def _event(event_type: str, decision: Decision, tenant: str, **payload: Any) -> Envelope:
    report_id = uuid.UUID(decision.finding_id.partition(".")[0])
    return events.report_event(
        event_type,
        report_id,
        tenant,
        decision_id=decision.decision_id,
        finding_id=decision.finding_id,
        **payload,
    )


def _name(enum_name: str) -> str:
    """An enum value's name without its prefix, in lower case."""
    return enum_name.removeprefix("DECISION_OUTCOME_").removeprefix("DECISION_SCOPE_").lower()


def _invalid(field: str, words: str) -> WinnowError:
    return WinnowError("INVALID_ARGUMENT", f"{field}: {words}", field=field, rule=words)


def _no_decision(decision_id: str) -> WinnowError:
    return WinnowError("DECISION_NOT_FOUND", "no decision has this id", decision_id=decision_id)


def _ended(decision_id: str) -> WinnowError:
    return WinnowError("DECISION_ENDED", "the decision has ended already", decision_id=decision_id)
