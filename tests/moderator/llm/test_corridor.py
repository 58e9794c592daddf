"""What an answer may do to a verdict, for all answers and all verdicts before."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderator.llm.prompt import PROBABILITY, SAYS, SYSTEM, Answer, Likelihood, Reason
from moderator.stage import Observation, Opinion
from moderator.stages.llm import CORRIDOR, weigh
from winnow.finding.v1.verdict_pb2 import RISK_HIGH, RISK_LOW, RISK_MEDIUM

STEPS = [RISK_LOW, RISK_MEDIUM, RISK_HIGH]
answers = st.builds(
    Answer,
    likelihood=st.sampled_from(Likelihood),
    reasons=st.lists(st.sampled_from(Reason), min_size=1, max_size=3).map(tuple),
)
opinions = st.builds(
    Opinion,
    risk=st.sampled_from(STEPS),
    confidence=st.none() | st.floats(0, 1),
    reason=st.sampled_from(["It may be.", "x" * 512]),
    observations=st.just((Observation("a.b", "value", 1.0, "it"),)),
    decisive=st.just(False),
)


def opinion(risk: int, confidence: float | None) -> Opinion:
    return Opinion(risk, confidence, "It may be.", (), False)  # type: ignore[arg-type]


def answer(likelihood: Likelihood) -> Answer:
    return Answer(likelihood=likelihood, reasons=(Reason.TEST_DATA,))


@given(opinions, answers, st.booleans(), st.booleans())
def test_nothing_leaves_the_corridor(
    base: Opinion, given_answer: Answer, quiet: bool, live: bool
) -> None:
    after = weigh(base, given_answer, quiet=quiet, live=live)
    before = 0.5 if base.confidence is None else base.confidence
    reached = before if after.confidence is None else after.confidence
    assert 0 <= reached <= 1
    assert abs(reached - before) <= CORRIDOR + 1e-4
    step = STEPS.index(after.risk) - STEPS.index(base.risk)
    assert abs(step) <= 1
    if step < 0:
        assert after.risk == RISK_MEDIUM
    if live or not quiet:
        assert step >= 0
        assert reached >= before
    # The risk never goes against the confidence.
    assert step * (reached - before) >= 0
    assert len(after.reason) <= 512


@given(opinions, answers, st.booleans(), st.booleans())
def test_a_verdict_can_be_made_again_from_the_stored_answer(
    base: Opinion, given_answer: Answer, quiet: bool, live: bool
) -> None:
    first = weigh(base, given_answer, quiet=quiet, live=live)
    stored = first.observations[0].detail
    again = weigh(base, Answer.of_text(stored), quiet=quiet, live=live)
    assert (again.risk, again.confidence, again.reason) == (
        first.risk,
        first.confidence,
        first.reason,
    )


@pytest.mark.parametrize(
    ("risk", "confidence", "likelihood", "expected"),
    [
        (RISK_LOW, 0.3, Likelihood.VERY_LIKELY, (RISK_MEDIUM, 0.6)),
        (RISK_LOW, 0.1, Likelihood.VERY_LIKELY, (RISK_LOW, 0.4)),
        (RISK_MEDIUM, 0.6, Likelihood.VERY_LIKELY, (RISK_HIGH, 0.9)),
        (RISK_MEDIUM, 0.6, Likelihood.LIKELY, (RISK_MEDIUM, 0.75)),
        # It was medium for another cause than its confidence.
        (RISK_MEDIUM, 0.9, Likelihood.VERY_LIKELY, (RISK_MEDIUM, 0.95)),
        (RISK_HIGH, 0.85, Likelihood.UNLIKELY, (RISK_MEDIUM, 0.55)),
        (RISK_HIGH, 0.9, Likelihood.LIKELY, (RISK_HIGH, 0.75)),
        (RISK_MEDIUM, 0.55, Likelihood.VERY_UNLIKELY, (RISK_MEDIUM, 0.25)),
        (RISK_MEDIUM, None, Likelihood.UNSURE, (RISK_MEDIUM, None)),
        (RISK_LOW, None, Likelihood.LIKELY, (RISK_LOW, 0.75)),
    ],
)
def test_the_published_examples(
    risk: int, confidence: float | None, likelihood: Likelihood, expected: tuple[int, float | None]
) -> None:
    after = weigh(opinion(risk, confidence), answer(likelihood), quiet=True, live=False)
    assert (after.risk, after.confidence) == expected


def test_the_reason_says_what_moved_and_what_may_not() -> None:
    up = weigh(opinion(RISK_LOW, 0.3), answer(Likelihood.VERY_LIKELY), quiet=True, live=False)
    assert up.reason.endswith("This moves it from low to medium.")
    kept = weigh(opinion(RISK_HIGH, 0.8), answer(Likelihood.UNLIKELY), quiet=False, live=False)
    assert kept.reason.endswith("That may not lower this verdict.")
    assert [seen.rule for seen in kept.observations] == ["llm.answer", "llm.text_speaks"]


def test_every_reason_and_likelihood_has_its_meaning() -> None:
    assert set(SAYS) == set(Reason)
    assert set(PROBABILITY) == set(Likelihood)
    assert all(f"- {reason}: " in SYSTEM for reason in Reason)


@pytest.mark.parametrize("text", ["", "likely", "likely: ", "likely: because", "maybe: digest"])
def test_what_is_no_answer_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Answer.of_text(text)
