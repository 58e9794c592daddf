"""The model's stage: calibrated where it can be, the same for the same evidence."""

from __future__ import annotations

import uuid

import numpy as np
import pytest

from moderator import model
from moderator.features import columns
from moderator.model import Curve
from moderator.pipeline import Pipeline
from moderator.rules import pack
from moderator.stage import Opinion, Subject
from moderator.stages import ml, stages
from moderator.stages.ml import _loudest, _texts
from moderator.weighing import PROFILES
from runtime.sealing import EVIDENCE, Sealer
from tests.moderator.subjects import HEADER, drawn, finding
from winnow.finding.v1.finding_batch_pb2 import FindingBatch
from winnow.finding.v1.finding_pb2 import FINDING_KIND_VULNERABILITY, VALIDITY_LIVE
from winnow.finding.v1.plain_evidence_pb2 import PlainEvidence
from winnow.finding.v1.verdict_pb2 import RISK_HIGH, RISK_LOW, VERDICT_SOURCE_ML

FIRST, STAGE = stages()
PASSWORD = "Harbour" + drawn(4) + "!9"


def subject(
    value: str = PASSWORD,
    *,
    path: str = "deploy/production/settings.py",
    name: str = "DB_PASSWORD",
    **fields: object,
) -> Subject:
    evidence = PlainEvidence(value=value, match=f'{name} = "{value}"', variable=name)
    return Subject(finding(path, **fields), evidence, HEADER)  # type: ignore[arg-type]


def asked(*subjects: Subject) -> list[Opinion | None]:
    FIRST.judge(subjects)
    return STAGE.judge(subjects)


def opinion(one: Subject) -> Opinion:
    (found,) = asked(one)
    assert found is not None
    return found


@pytest.fixture(scope="module", autouse=True)
def _prepared() -> None:
    FIRST.prepare()
    STAGE.prepare()


@pytest.mark.parametrize("name", [model.BY_USE, model.BY_FORM])
def test_the_models_fit_the_rules_of_this_version(name: str) -> None:
    file = model.content(name)
    card = model.Model(file).card
    assert set(columns(pack())) == set(card.columns), "train again: make train"
    assert len(file) < 5_000_000


def test_a_profile_names_its_model() -> None:
    digests = {name: stages(name)[1].inputs["model"] for name in PROFILES}
    assert digests["balanced"] == digests["quiet"] == model.digest(model.content(model.BY_USE))
    assert digests["strict"] == model.digest(model.content(model.BY_FORM))


def test_a_password_in_production_weighs_more_than_in_tests_and_documents() -> None:
    there = opinion(subject())
    for path in ("tests/unit/test_login.py", "docs/guide/login.md"):
        elsewhere = opinion(subject(path=path))
        assert there.confidence is not None
        assert elsewhere.confidence is not None
        assert there.confidence > elsewhere.confidence + 0.2
    placeholder = opinion(subject("changeme-please"))
    assert placeholder.confidence is not None
    assert placeholder.confidence < 0.5
    assert placeholder.risk == RISK_LOW


def test_equal_evidence_gives_the_same_opinion_of_the_very_same_words() -> None:
    first = opinion(subject())
    others = asked(*(subject(drawn(12 + n), path=f"x/{n}.go") for n in range(40)), subject())
    again = others[-1]
    assert again is not None
    assert (again.risk, again.confidence, again.decisive) == (
        first.risk,
        first.confidence,
        first.decisive,
    )
    assert again.reason is first.reason
    assert again.observations == first.observations  # compared by identity, each


def test_neither_reasons_nor_observations_hold_input() -> None:
    secret = drawn(24)
    said = opinion(subject(secret, name="zylophone_token"))
    shown = said.reason + "".join(seen.detail + seen.rule for seen in said.observations)
    assert secret not in shown
    assert "zylophone" not in shown
    assert all(seen.weight for seen in said.observations)


def test_missing_fields_are_judged() -> None:
    bare = Subject(finding(value_state=3), None, HEADER)
    only_value = Subject(finding(), PlainEvidence(value=drawn(32)), HEADER)
    for said in asked(bare, only_value):
        assert said is not None


def test_what_is_no_secret_is_left_alone() -> None:
    other = Subject(finding(kind=FINDING_KIND_VULNERABILITY), None, HEADER)
    assert asked(other) == [None]
    first, second = asked(other, subject())
    assert first is None
    assert second is not None


def test_outside_its_support_it_gives_no_probability(monkeypatch: pytest.MonkeyPatch) -> None:
    fresh_first, fresh = stages()
    fresh.prepare()
    curves = {name: Curve(1.0, 0.0, 3) for name in STAGE._model.card.curves}  # type: ignore[attr-defined]
    monkeypatch.setattr(fresh._model, "card", model.Card(columns(pack()), curves))  # type: ignore[attr-defined]
    fresh_first.judge([one := subject()])
    (said,) = fresh.judge([one])
    (before,) = fresh_first.judge([one])
    assert said is not None
    assert before is not None
    assert said.confidence is None
    assert not said.decisive
    assert said.risk == before.risk
    assert said.observations[0].rule == "ml.no_support"


def test_a_live_credential_stays_high_whatever_the_model_thinks() -> None:
    (first,) = FIRST.judge([subject("changeme-please", validity=VALIDITY_LIVE)])
    assert first is not None
    assert first.decisive
    assert first.risk == RISK_HIGH
    assert opinion(subject("changeme-please", validity=VALIDITY_LIVE)).risk == RISK_HIGH


def test_the_cascade_names_the_model_that_decided() -> None:
    sealer = Sealer(b"k" * 32, uuid.UUID(HEADER.report_id), EVIDENCE)
    one = subject()
    one.finding.sealed_evidence = sealer.seal(one.evidence.SerializeToString(), 0)  # type: ignore[union-attr]
    batch = FindingBatch(findings=[one.finding])
    verdicts = Pipeline(stages()).judge(HEADER, batch, sealer)
    (verdict,) = verdicts.verdicts
    assert verdict.source == VERDICT_SOURCE_ML
    assert verdict.decided_by == f"ml/{ml.Learned.version}"
    assert verdicts.inputs["model"].startswith("sha256:")
    assert {seen.stage for seen in verdict.evidence} == {"ml", "heuristics"}


def test_a_file_that_is_no_model_is_refused() -> None:
    whole = model.content(model.BY_USE)
    for content in (b"", b"no model", whole[:-1], whole.replace(b"LEAF", b"LEAP", 1)):
        with pytest.raises(ValueError, match="of another version"):
            model.Model(content)


@pytest.mark.parametrize("profile", ["strict", "quiet"])
def test_profiles_shift_the_risk(profile: str) -> None:
    first, second = stages(profile)
    first.prepare()
    second.prepare()
    batch = [subject(drawn(8 + n, seed=n), path=path) for n in range(8)
             for path in ("src/app.py", "tests/test_app.py", "docs/app.md", "config.yml")]  # fmt: skip

    def risks(one: object, other: object) -> list[int]:
        one.judge(batch)  # type: ignore[attr-defined]
        return [said.risk for said in other.judge(batch)]  # type: ignore[attr-defined]

    balanced, shifted = risks(FIRST, STAGE), risks(first, second)
    # RISK_HIGH is 1, RISK_LOW 3.
    for usual, other in zip(balanced, shifted, strict=True):
        assert other <= usual if profile == "strict" else other >= usual


def test_the_three_texts_that_weigh_most_are_told() -> None:
    weights = [[0.6, -1.2, 0.4, 1.0, 0.0, -0.49, 2.6, 0.1], [0.0] * 8]
    told = [_texts(*row) for row in _loudest(np.array(weights, np.float32)).tolist()]
    assert [(one.where, one.weight) for one in told[0]] == [
        ("ending", 2.5),
        ("classes", -1.0),
        ("after", 1.0),
    ]
    assert told[1] == ()


@pytest.mark.parametrize(
    ("value", "name"),
    [(drawn(32), "encrypted_key"), ("zxcvzxcv", "DB_PASSWORD"), (PASSWORD, "encryptedPassword")],
)
def test_what_the_heuristics_know_to_be_none_stays_a_doubt(value: str, name: str) -> None:
    found = opinion(subject(value, name=name))
    assert found.confidence is not None
    assert found.confidence <= 0.3
