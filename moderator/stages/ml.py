"""The model: judges what the heuristics leave open, from their clues and the text.

The heuristics come first in every sense: their clues are the model's features,
their words are its reasons, and risk follows from its probability by their rules.
What the model adds is how much the clues are worth together, and a sense for
text. Where its calibration has no support it says so and gives no probability.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache, cached_property, lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from moderator import model
from moderator.features import TEXTS, TOOLS, Extractor, Floats
from moderator.reading import Reading
from moderator.stage import Observation, Opinion, Subject
from moderator.stages.heuristics import Heuristics, Look
from moderator.weighing import Profile, Weighed, bounded, risk_at
from moderator.wording import reason
from winnow.finding.v1.verdict_pb2 import VERDICT_SOURCE_ML, Risk

# A family of fewer findings than this has no curve to trust.
_SUPPORT = 100
_MAX_DECIDED = 8192
_MAX_REASONS = 4096
_HALF = 0.5
# What a text must add, in log-odds, to be named.
_TELLS = 0.5
_MAX_TEXTS = 3
_NAMES = tuple(TEXTS)
_SAYS = {
    "value": "the characters of the value",
    "classes": "the value's pattern of letters, digits and signs",
    "before": "the text before the value",
    "after": "the text after the value",
    "name": "the wording of its name",
    "rule": "the scanner's rule",
    "ending": "the kind of file",
    "folder": "the file's name and folder",
}
# No model is surer than this, in log-odds.
_MOST = 6.0
_SURE_REAL = 0.97
_SURE_NOT = 0.03


def family(reading: Reading, weighed: Weighed) -> str:
    """The family of findings whose calibration holds for this one."""
    if not reading.value:
        return "no value"
    return _family(weighed.kinds, weighed.provider is not None)


@lru_cache(4096)
def _family(kinds: frozenset[str], provided: bool) -> str:
    if kinds & {"key material", "token material"}:
        return "key material"
    if provided:
        return "provider"
    if "password" in kinds:
        return "password"
    return "named" if kinds & {"secret", "token", "API key"} else "generic"


class Learned:
    """The stage over one model.

    Args:
        first: the heuristics, asked before about the same batch.
        profile: how readily something is called dangerous.
    """

    name = "ml"
    version = 3
    source = VERDICT_SOURCE_ML

    def __init__(self, first: Heuristics, profile: Profile) -> None:
        self._first = first
        self._profile = profile
        self._decided = lru_cache(_MAX_DECIDED)(self._decide)
        self._reason = lru_cache(_MAX_REASONS)(reason)

    @cached_property
    def _content(self) -> bytes:
        return model.content(model.BY_FORM if self._profile.strict else model.BY_USE)

    @cached_property
    def inputs(self) -> Mapping[str, str]:
        """The model's digest; see `Stage`."""
        return {"model": model.digest(self._content)}

    @cached_property
    def _model(self) -> model.Model:
        return model.Model(self._content)

    @cached_property
    def _extractor(self) -> Extractor:
        return Extractor(self._model.card.columns)

    def prepare(self) -> None:
        """Loads the model."""
        _ = self.inputs, self._extractor

    def judge(self, batch: Sequence[Subject]) -> list[Opinion | None]:
        """An opinion on each subject that is a secret; see `Stage`."""
        looks = self._first.looks(batch)
        secrets = [look for look in looks if look is not None]
        if not secrets:
            return [None] * len(batch)
        opinions = iter(self._judge(secrets))
        return [None if look is None else next(opinions) for look in looks]

    def _judge(self, looks: Sequence[Look]) -> list[Opinion]:
        readings = [look.reading for look in looks]
        weighed = [look.judged.weighed for look in looks]
        margins, texts = self._model.run(self._extractor(readings, weighed))
        curves = self._model.card.curves
        return [
            self._opinion(
                one,
                _probability(curves.get(family(reading, one)), margin),
                _texts(*tells) + _others(reading.tool, reading.others),
            )
            for reading, one, margin, tells in zip(
                readings, weighed, margins.tolist(), _loudest(texts).tolist(), strict=True
            )
        ]

    def _opinion(
        self, weighed: Weighed, confidence: float | None, seen: tuple[Observation, ...]
    ) -> Opinion:
        """The same for the same clues, probability and (coarse) weights of the texts."""
        risk, confidence, reason, says, decisive = self._decided(weighed, confidence)
        return Opinion(risk, confidence, reason, says + seen, decisive)

    def _decide(self, weighed: Weighed, confidence: float | None) -> _Decided:
        """What follows from the clues and a probability."""
        if confidence is None:
            reason = self._reason(weighed, weighed.risk, weighed.confidence < _HALF)
            return _Decided(weighed.risk, None, reason, (_NO_SUPPORT,), False)
        confidence = bounded(weighed, confidence)
        risk = risk_at(weighed, confidence, self._profile)
        return _Decided(
            risk,
            confidence,
            self._reason(weighed, risk, confidence < _HALF),
            (),
            confidence >= _SURE_REAL or confidence <= _SURE_NOT,
        )


class _Decided(NamedTuple):
    """An opinion without what the texts add to it."""

    risk: Risk.ValueType
    confidence: float | None
    reason: str
    observations: tuple[Observation, ...]
    decisive: bool


def _probability(curve: model.Curve | None, margin: float) -> float | None:
    """In steps of a tenth of log-odds, so that like evidence gives equal opinions."""
    if curve is None or curve.count < _SUPPORT:
        return None
    return _logistic(round(max(min(curve.slope * margin + curve.offset, _MOST), -_MOST), 1))


@cache
def _logistic(odds: float) -> float:
    return round(1.0 / (1.0 + math.exp(-odds)), 4)


_NO_SUPPORT = Observation(
    "ml.no_support",
    "model",
    0.0,
    "too few findings like this one were seen to say how likely it is",
)


def _loudest(texts: Floats) -> NDArray[np.int64]:
    """Of each row the texts that weigh most, the first of equals first: steps of `_TELLS`,
    times the number of texts, plus the text's place."""
    steps = (texts / _TELLS).astype(np.int64)
    loudest = np.argsort(-np.abs(steps), axis=1, kind="stable")[:, :_MAX_TEXTS]
    told: NDArray[np.int64] = np.take_along_axis(steps, loudest, 1) * len(TEXTS) + loudest
    return told


@lru_cache(4096)
def _texts(*tells: int) -> tuple[Observation, ...]:
    """The texts that weigh most, as `_loudest` has them."""
    told = [divmod(tell, len(TEXTS)) for tell in tells]
    return tuple(_told(_NAMES[place], weight) for weight, place in told if weight)


@cache  # compared by identity, and of few different weights
def _told(text: str, weight: int) -> Observation:
    speaks = "speaks" if text != "value" else "speak"
    return Observation(
        f"ml.{text}",
        text,
        weight * _TELLS,
        f"{_SAYS[text]} {speaks} {'for' if weight > 0 else 'against'} it",
    )


@lru_cache(4096)
def _others(tool: str, others: tuple[str, ...]) -> tuple[Observation, ...]:
    """That other scanners saw it; only names that are known here are repeated."""
    names = {other.partition("/")[0] for other in others} - {tool.lower()}
    return (_agreement(tuple(filter(names.__contains__, TOOLS))),) if names else ()


@cache  # compared by identity, and of few different scanners
def _agreement(names: tuple[str, ...]) -> Observation:
    who = f": {', '.join(names)}" if names else ""
    return Observation("ml.agreement", "report", 0.0, f"another scanner reported it too{who}")
