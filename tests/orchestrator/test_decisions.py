"""People decide last: decisions follow the credential, outrank the cascade, end."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import psycopg
import pytest

from orchestrator.service_decisions import mask
from runtime.channels import PeerStatus
from runtime.errors import WinnowError, from_rpc
from tests.ingestor.reading_reports import dump, gitleaks
from tests.orchestrator.conftest import Asker
from winnow.audit.v1.audit_service_pb2 import ListEventsRequest
from winnow.finding.v1.verdict_pb2 import Risk, VerdictSource
from winnow.report.v1.credential_service_pb2 import GetCredentialRequest
from winnow.report.v1.decision_pb2 import DecisionOutcome, DecisionScope
from winnow.report.v1.decision_service_pb2 import (
    DecideFindingRequest,
    DecideFindingsRequest,
    ListDecisionsRequest,
    Ruling,
    WithdrawDecisionRequest,
)
from winnow.report.v1.report_service_pb2 import (
    FINDING_VIEW_FULL,
    GetReportRequest,
    ListFindingsRequest,
)

TRUE = DecisionOutcome.DECISION_OUTCOME_TRUE_POSITIVE
FALSE = DecisionOutcome.DECISION_OUTCOME_FALSE_POSITIVE
ACCEPTED = DecisionOutcome.DECISION_OUTCOME_ACCEPTED_RISK
FINDING = DecisionScope.DECISION_SCOPE_FINDING
CREDENTIAL = DecisionScope.DECISION_SCOPE_CREDENTIAL
HUMAN = VerdictSource.VERDICT_SOURCE_HUMAN

SHARED = "made-up-Qx7R2mK9vT4w"


def ruling(outcome: Any = FALSE, *, seconds: float = 0, **more: Any) -> Ruling:
    given = Ruling(outcome=outcome, actor="ada", **more)
    if seconds:
        given.expires_at.FromDatetime(datetime.now(UTC) + timedelta(seconds=seconds))
    return given


def report(*numbers: int, secret: str = SHARED, **fields: Any) -> bytes:
    return dump([gitleaks(number, Secret=secret, **fields) for number in numbers])


async def findings(alone: Asker, report_id: str) -> list:
    query = ListFindingsRequest(report_id=report_id, view=FINDING_VIEW_FULL)
    return list((await alone.ListFindings(query)).findings)


async def summary(alone: Asker, report_id: str) -> tuple[int, int, int]:
    stored = (await alone.GetReport(GetReportRequest(report_id=report_id))).report.summary
    shown = [finding.risk for finding in await findings(alone, report_id)]
    counted = tuple(shown.count(r) for r in (Risk.RISK_HIGH, Risk.RISK_MEDIUM, Risk.RISK_LOW))
    assert counted == (stored.high, stored.medium, stored.low)
    return counted


async def decide(alone: Asker, finding_id: str, given: Ruling) -> Any:
    return await alone.DecideFinding(DecideFindingRequest(finding_id=finding_id, ruling=given))


async def refused(call: Any) -> WinnowError:
    status = PeerStatus(call)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return from_rpc(status.of(caught.value), "orchestrator")


async def test_a_decision_follows_the_credential_to_earlier_and_later_reports(
    alone: Asker,
) -> None:
    first, second = await alone.submit(report(1, 2)), await alone.submit(report(3))
    before = await findings(alone, first.report_id)
    made = await decide(alone, before[1].id, ruling(reason="a fixture of the parser"))
    assert made.findings == 3
    assert made.decision.scope == CREDENTIAL
    assert made.decision.fingerprint == before[0].detail.value_fingerprint
    third = await alone.submit(report(4, 5))
    for report_id in (first.report_id, second.report_id, third.report_id):
        for finding in await findings(alone, report_id):
            assert (finding.risk, finding.source) == (Risk.RISK_LOW, HUMAN)
            assert finding.reason == "Marked as not real by ada: a fixture of the parser"
            assert finding.confidence == 0
            assert dict(finding.detail.inputs) == {"decision": made.decision.decision_id}
            assert finding.detail.decided_by == "person"
        assert (await summary(alone, report_id))[:2] == (0, 0)
    assert third.summary.low == 2
    found = await alone.GetCredential(GetCredentialRequest(fingerprint=made.decision.fingerprint))
    assert found.credential.risk == Risk.RISK_LOW


async def test_the_last_decision_stands_and_its_end_brings_the_cascade_back(alone: Asker) -> None:
    stored = await alone.submit(report(1, 2))
    [one, _] = before = await findings(alone, stored.report_id)
    was = await summary(alone, stored.report_id)
    first = (await decide(alone, one.id, ruling(FALSE))).decision
    second = (await decide(alone, one.id, ruling(TRUE))).decision
    assert await summary(alone, stored.report_id) == (2, 0, 0)
    listed = await alone.ListDecisions(ListDecisionsRequest(finding_id=before[1].id))
    assert [d.decision_id for d in listed.decisions] == [second.decision_id, first.decision_id]
    assert listed.decisions[1].HasField("ends_at")
    active = await alone.ListDecisions(ListDecisionsRequest(active=True))
    assert [d.decision_id for d in active.decisions] == [second.decision_id]
    withdrawn = await alone.WithdrawDecision(
        WithdrawDecisionRequest(decision_id=second.decision_id, actor="bob")
    )
    assert withdrawn.findings == 2
    assert await summary(alone, stored.report_id) == was
    after = await findings(alone, stored.report_id)
    assert [(f.risk, f.reason, f.source) for f in after] == [
        (f.risk, f.reason, f.source) for f in before
    ]
    again = WithdrawDecisionRequest(decision_id=second.decision_id)
    assert (await refused(alone.WithdrawDecision(again))).reason == "DECISION_ENDED"


async def test_an_accepted_risk_expires(alone: Asker, database_url: str) -> None:
    stored = await alone.submit(report(1))
    [finding] = await findings(alone, stored.report_id)
    was = await summary(alone, stored.report_id)
    error = await refused(
        alone.DecideFinding(DecideFindingRequest(finding_id=finding.id, ruling=ruling(ACCEPTED)))
    )
    assert error.metadata["field"] == "expires_at"
    made = await decide(alone, finding.id, ruling(ACCEPTED, seconds=3600))
    assert await summary(alone, stored.report_id) == (0, 0, 1)
    # An hour passes.
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "UPDATE orchestrator.decisions SET ends_at = now() WHERE decision_id = %s",
            [made.decision.decision_id],
        )
    [after] = await findings(alone, stored.report_id)
    assert (after.risk, after.source) == (finding.risk, finding.source)
    from orchestrator import store_decisions
    from runtime.database import Database

    database = Database(database_url)
    try:
        ended, _ = await database.run(store_decisions.expired, alone.tenant)
    finally:
        await database.close()
    assert [decision.decision_id for decision in ended] == [made.decision.decision_id]
    assert await summary(alone, stored.report_id) == was


async def test_a_decision_on_one_finding_reaches_no_other(alone: Asker) -> None:
    stored = await alone.submit(report(1, 2))
    [one, other] = await findings(alone, stored.report_id)
    made = await decide(alone, one.id, ruling(TRUE, scope=FINDING))
    assert (made.findings, made.decision.fingerprint) == (1, "")
    after = await findings(alone, stored.report_id)
    assert (after[0].risk, after[0].source) == (Risk.RISK_HIGH, HUMAN)
    assert after[1].source == other.source
    await summary(alone, stored.report_id)


@pytest.mark.parametrize(("outcome", "reached"), [(FALSE, 2), (TRUE, 3)])
async def test_a_short_value_is_cleared_at_its_path_only(
    alone: Asker, outcome: Any, reached: int
) -> None:
    """Many people have the same weak password."""
    weak = "made" + "-up7"
    stored = await alone.submit(
        dump(
            [gitleaks(n, Secret=weak, File="tests/a.py") for n in (1, 2)]
            + [gitleaks(3, Secret=weak, File="deploy/b.yml")]
        )
    )
    [one, _, elsewhere] = await findings(alone, stored.report_id)
    made = await decide(alone, one.id, ruling(outcome))
    assert made.findings == reached
    expected = DecisionScope.DECISION_SCOPE_PLACE if outcome == FALSE else CREDENTIAL
    assert made.decision.scope == expected
    later = await alone.submit(report(4, secret=weak, File="tests/a.py"))
    [again] = await findings(alone, later.report_id)
    assert again.source == HUMAN
    listed = await alone.ListDecisions(ListDecisionsRequest(finding_id=elsewhere.id))
    assert len(listed.decisions) == (outcome == TRUE)
    wide = await decide(alone, one.id, ruling(FALSE, scope=CREDENTIAL))
    assert wide.findings == 4
    active = (await alone.ListDecisions(ListDecisionsRequest(active=True))).decisions
    assert [d.decision_id for d in active] == [wide.decision.decision_id]


async def test_a_new_report_takes_over_a_wide_and_a_narrow_decision(alone: Asker) -> None:
    """Both hold; on what both reach the newer one stands, and then the other one again."""
    weak = "made" + "-up8"
    stored = await alone.submit(report(1, secret=weak, File="tests/a.py"))
    [one] = await findings(alone, stored.report_id)
    await decide(alone, one.id, ruling(TRUE))
    narrow = (await decide(alone, one.id, ruling(FALSE))).decision
    later = await alone.submit(report(2, secret=weak, File="tests/a.py"))
    [again] = await findings(alone, later.report_id)
    assert (again.source, again.risk) == (HUMAN, Risk.RISK_LOW)
    await alone.WithdrawDecision(WithdrawDecisionRequest(decision_id=narrow.decision_id))
    [again] = await findings(alone, later.report_id)
    assert (again.source, again.risk) == (HUMAN, Risk.RISK_HIGH)


async def test_a_redacted_finding_is_decided_by_itself(alone: Asker) -> None:
    stored = await alone.submit(report(1, 2, secret="REDACTED"))
    [one, other] = await findings(alone, stored.report_id)
    made = await decide(alone, one.id, ruling(TRUE))
    assert (made.findings, made.decision.scope) == (1, FINDING)
    assert (await findings(alone, stored.report_id))[1].source == other.source
    error = await refused(
        alone.DecideFinding(
            DecideFindingRequest(finding_id=one.id, ruling=ruling(scope=CREDENTIAL))
        )
    )
    assert error.metadata["field"] == "scope"


async def test_many_at_once_after_a_preview(alone: Asker) -> None:
    other = "made-up-Zb3H8nP5cJ6y"
    stored = await alone.submit(
        dump(
            [gitleaks(n, Secret=SHARED, RuleID="a-rule") for n in range(3)]
            + [gitleaks(n, Secret=other, RuleID="a-rule") for n in range(3, 5)]
            + [gitleaks(n, RuleID="b-rule") for n in range(5, 7)]
        )
    )
    elsewhere = await alone.submit(report(9))
    was = await summary(alone, stored.report_id)
    query = DecideFindingsRequest(
        report_id=stored.report_id, rule="a-rule", ruling=ruling(TRUE), preview=True
    )
    previewed = await alone.DecideFindings(query)
    assert (previewed.matched, previewed.decisions, previewed.findings) == (5, 2, 6)
    assert len(previewed.sample) == 5
    assert await summary(alone, stored.report_id) == was
    query.preview = False
    decided = await alone.DecideFindings(query)
    assert (decided.matched, decided.decisions, decided.findings) == (5, 2, 6)
    after = await findings(alone, stored.report_id)
    assert [f.source == HUMAN for f in after] == [True] * 5 + [False] * 2
    assert (await summary(alone, elsewhere.report_id)) == (1, 0, 0)
    nothing = DecideFindingsRequest(report_id=stored.report_id, rule="none", ruling=ruling())
    assert (await alone.DecideFindings(nothing)).decisions == 0


async def test_decisions_are_audited(alone: Asker) -> None:
    stored = await alone.submit(report(1))
    [finding] = await findings(alone, stored.report_id)
    made = (await decide(alone, finding.id, ruling(TRUE, reason="seen in use"))).decision
    await alone.WithdrawDecision(WithdrawDecisionRequest(decision_id=made.decision_id, actor="bob"))
    for _ in range(100):
        listed = await alone.ListEvents(ListEventsRequest(report_id=stored.report_id))
        happened = [item.event for item in listed.events]
        if happened[-1].event_type == "DECISION_WITHDRAWN":
            break
        await asyncio.sleep(0.05)
    by_type = {event.event_type: dict(event.payload) for event in happened}
    assert by_type["DECISION_MADE"] == {
        "report_id": stored.report_id,
        "finding_id": finding.id,
        "decision_id": made.decision_id,
        "actor": "ada",
        "outcome": "true_positive",
        "scope": "credential",
    }
    assert by_type["DECISION_WITHDRAWN"]["actor"] == "bob"


async def test_concurrent_decisions_and_reports_leave_one_standing(alone: Asker) -> None:
    stored = await alone.submit(report(1))
    [finding] = await findings(alone, stored.report_id)
    await asyncio.gather(
        *(decide(alone, finding.id, ruling(TRUE if n % 2 else FALSE)) for n in range(6)),
        *(alone.submit(report(n)) for n in range(20, 26)),
    )
    active = (await alone.ListDecisions(ListDecisionsRequest(active=True))).decisions
    assert len(active) == 1
    expected = Risk.RISK_HIGH if active[0].outcome == TRUE else Risk.RISK_LOW
    found = await alone.GetCredential(GetCredentialRequest(fingerprint=active[0].fingerprint))
    assert [s.risk for s in found.sightings] == [expected] * 7
    for sighting in found.sightings:
        await summary(alone, sighting.report_id)


@pytest.mark.parametrize("text", ["", "x", "7", f"{'0' * 8}-0000-7000-8000-{'0' * 12}.0", "a.b"])
async def test_unknown_findings_are_not_found(alone: Asker, text: str) -> None:
    call = alone.DecideFinding(DecideFindingRequest(finding_id=text, ruling=ruling()))
    assert (await refused(call)).reason == "FINDING_NOT_FOUND"


async def test_another_tenant_decides_nothing(alone: Asker) -> None:
    stored = await alone.submit(report(1))
    [finding] = await findings(alone, stored.report_id)
    other = (("x-winnow-tenant", "other"),)
    request = DecideFindingRequest(finding_id=finding.id, ruling=ruling())
    assert (await refused(alone.DecideFinding(request, other))).reason == "FINDING_NOT_FOUND"
    made = (await decide(alone, finding.id, ruling())).decision
    withdrawing = WithdrawDecisionRequest(decision_id=made.decision_id)
    error = await refused(alone.WithdrawDecision(withdrawing, other))
    assert error.reason == "DECISION_NOT_FOUND"
    assert not (await alone.ListDecisions(ListDecisionsRequest(), other)).decisions


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("see SEC-12345 of 2026-01-02", "see SEC-12345 of 2026-01-02"),
        ("the password is " + "Winter" + "2024!x.", "the password is [redacted]"),
        ("known since v1.2.3-rc4", "known since v1.2.3-rc4"),
        ("it is password=" + "Correct" + "Horse!", "it is password=[redacted]"),
        ("https://tracker.example.test/a/1", "https://tracker.example.test/a/1"),
    ],
)
def test_what_looks_like_a_credential_is_masked(text: str, shown: str) -> None:
    assert mask(text).replace("[REDACTED]", "[redacted]") == shown
