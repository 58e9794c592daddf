"""The cascade with real sealing and real messages."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

import pytest

from moderator.pipeline import Pipeline
from moderator.stage import Observation, Opinion, Subject
from moderator.stages import stages
from runtime.errors import WinnowError
from runtime.sealing import EVIDENCE, Sealer
from tests.moderator.subjects import HEADER, drawn, finding
from winnow.finding.v1.finding_batch_pb2 import FindingBatch
from winnow.finding.v1.plain_evidence_pb2 import PlainEvidence
from winnow.finding.v1.verdict_pb2 import (
    RISK_HIGH,
    RISK_LOW,
    VERDICT_SOURCE_HEURISTIC,
    VERDICT_SOURCE_ML,
)

STAGES = stages()


@pytest.fixture
def sealer() -> Sealer:
    return Sealer(b"k" * 32, uuid.UUID(HEADER.report_id), EVIDENCE)


def batch_of(sealer: Sealer, *values: str) -> FindingBatch:
    batch = FindingBatch()
    for ordinal, value in enumerate(values):
        one = finding("config/prod.yml", ordinal=ordinal)
        plain = PlainEvidence(value=value, match=f'api_key: "{value}"', variable="api_key")
        one.sealed_evidence = sealer.seal(plain.SerializeToString(), ordinal)
        batch.findings.append(one)
    return batch


class Fixed:
    """A later stage that gives one answer, or abstains."""

    name, version, source = "fixed", 3, VERDICT_SOURCE_ML

    def __init__(self, opinion: Opinion | None) -> None:
        self.opinion = opinion
        self.asked = 0
        self.inputs = {"model": "sha256:00"}
        self.prepared = False

    def prepare(self) -> None:
        self.prepared = True

    def judge(self, batch: Sequence[Subject]) -> list[Opinion | None]:
        self.asked += len(batch)
        return [self.opinion] * len(batch)


def test_every_finding_gets_its_verdict(sealer: Sealer) -> None:
    values = (drawn(32), "changeme", "${KEY}", drawn(32, seed=8))
    verdicts = Pipeline(STAGES).judge(HEADER, batch_of(sealer, *values), sealer)
    assert [verdict.ordinal for verdict in verdicts.verdicts] == [0, 1, 2, 3]
    assert verdicts.inputs["rules"].startswith("sha256:")
    real, *_ = verdicts.verdicts
    assert real.decided_by == "heuristics/4"
    assert real.source == VERDICT_SOURCE_HEURISTIC
    assert real.risk == RISK_HIGH
    assert verdicts.verdicts[1].risk == RISK_LOW
    assert {seen.stage for seen in real.evidence} == {"heuristics"}
    assert all(value not in str(verdicts) for value in values[:1])


def test_same_input_same_bytes(sealer: Sealer) -> None:
    batch = batch_of(sealer, drawn(32), "changeme")
    first, second = (Pipeline(STAGES).judge(HEADER, batch, sealer) for _ in range(2))
    assert first.SerializeToString(deterministic=True) == second.SerializeToString(
        deterministic=True
    )


def test_a_verdict_does_not_depend_on_what_else_is_in_the_batch(sealer: Sealer) -> None:
    token, url = drawn(40, seed=3), f"postgres://app:{drawn(16)}@db.acme.example/orders"
    values = (token, "changeme", url, token, "", drawn(12), "changeme", token, "p\u00e4ss-w0rt")
    whole = batch_of(sealer, *values)
    whole.findings[3].rule_id = "github-pat"  # whose tokens have another shape
    whole.findings[7].code.location.path = "tests/test_app.py"
    pipeline = Pipeline(STAGES)
    together = pipeline.judge(HEADER, whole, sealer).verdicts
    assert together[0].evidence != together[3].evidence
    assert together[0].evidence != together[7].evidence
    for one, verdict in zip(whole.findings, together, strict=True):
        (alone,) = Pipeline(STAGES).judge(HEADER, FindingBatch(findings=[one]), sealer).verdicts
        assert alone == verdict


def test_later_stages_are_asked_about_doubt_only(sealer: Sealer) -> None:
    sure = Opinion(RISK_HIGH, 0.9, "Because.", (Observation("m.x", "value", 1.0, "it"),), True)
    later = Fixed(sure)
    verdicts = Pipeline([STAGES[0], later]).judge(
        HEADER, batch_of(sealer, "serendipity", "your-api-key-here"), sealer
    )
    doubtful, clear = verdicts.verdicts
    assert later.prepared
    assert later.asked == 1
    assert doubtful.decided_by == "fixed/3"
    assert doubtful.source == VERDICT_SOURCE_ML
    assert [seen.stage for seen in doubtful.evidence][:2] == ["fixed", "heuristics"]
    assert clear.decided_by == "heuristics/4"
    assert set(verdicts.inputs) == {"rules", "model", "profile"}


def test_an_abstaining_stage_changes_nothing(sealer: Sealer) -> None:
    batch = batch_of(sealer, "serendipity")
    alone = Pipeline(STAGES).judge(HEADER, batch, sealer)
    asked = Pipeline([*STAGES, Fixed(None)]).judge(HEADER, batch, sealer)
    assert alone.verdicts[0] == asked.verdicts[0]


def test_a_finding_without_sealed_evidence_is_judged(sealer: Sealer) -> None:
    batch = FindingBatch(findings=[finding("tests/x_test.py", ordinal=5)])
    (verdict,) = Pipeline(STAGES).judge(HEADER, batch, sealer).verdicts
    assert verdict.ordinal == 5
    assert verdict.reason


def test_a_broken_seal_is_an_error(sealer: Sealer) -> None:
    batch = batch_of(sealer, drawn(32))
    batch.findings[0].ordinal = 9
    with pytest.raises(WinnowError) as caught:
        Pipeline(STAGES).judge(HEADER, batch, sealer)
    assert caught.value.reason == "SEAL_BROKEN"
    assert caught.value.metadata == {"ordinal": "9"}


def test_a_pipeline_needs_a_stage() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Pipeline([])
