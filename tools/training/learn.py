"""Learning: n-gram weights, then trees over clues and text scores, then calibration.

Whatever is judged by rows it was learned from would flatter itself, so trees
learn from n-gram scores, and calibration from trees, of folds that left the
row's whole group out.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable
from typing import Any

import lightgbm
import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold

from moderator.features import LETTERS, SUMS, TABLE, TEXTS, WORDS, Features, gram_columns
from moderator.model import Curve, inputs, sums
from tools.training.rows import Rows

Array = NDArray[Any]

FOLDS = 5
# Weights of n-grams are multiples of this, so that sums of them are exact.
STEP = 2.0**-10
_WORD = re.compile(r"[a-z]{3,20}")
_TREES = {
    "num_leaves": 15,
    "subsample": 0.8,
    "subsample_freq": 1,
    "colsample_bytree": 0.3,
    "reg_lambda": 10.0,
    "use_missing": False,
    "deterministic": True,
    "force_row_wise": True,
    "n_jobs": 1,
    "verbose": -1,
}
_COLUMN_SUMS = gram_columns()
_N_GRAMS = len(TEXTS) > _COLUMN_SUMS


class Learned(msgspec.Struct, frozen=True):
    """What was learned: the table that `Features.grams` points into (n-grams, letter
    trigrams, a zero for what is missing), the trees, and the calibration."""

    table: NDArray[np.float32]
    trees: lightgbm.LGBMClassifier
    curves: dict[str, Curve]


def counts(features: Features) -> sparse.csr_matrix:
    """N-grams as a sparse matrix, each text scaled."""
    grams = features.grams[:, _N_GRAMS]
    scale = features.scale[:, _COLUMN_SUMS[_N_GRAMS]]
    there = grams >= 0
    numbers = np.nonzero(there)[0]
    return sparse.csr_matrix(
        (scale[there], (numbers, grams[there])), shape=(len(grams), TABLE), dtype=np.float32
    )


def trigrams(texts: Iterable[str]) -> NDArray[np.float32]:
    """How much likelier each trigram of letters is in the words of texts than in
    random letters, as log2; 0 says nothing either way."""
    seen = np.full(WORDS, 0.5)
    codes = {letter: place for place, letter in enumerate(string.ascii_lowercase, 1)}
    for text in texts:
        for word in _WORD.findall(text.lower()):
            places = [codes[letter] for letter in word]
            for one, two, three in zip(places, places[1:], places[2:], strict=False):
                seen[(one * LETTERS + two) * LETTERS + three] += 1
    return np.log2(seen / seen.sum() * len(codes) ** 3).astype(np.float32)


def learn(
    rows: Rows,
    seed: int,
    words: NDArray[np.float32],
    signs: list[int],
    *,
    trees: int,
    rate: float,
    fewest: int,
) -> tuple[Learned, Array]:
    """Learns from all rows.

    Args:
        rows: of one policy.
        seed: of folds and trees.
        words: the letter trigrams' part of the table.
        signs: of each dense column, 1 or -1 where more of it can only speak for a
            real finding or against it, 0 elsewhere.
        trees: how many.
        rate: how much each adds.
        fewest: how many rows a leaf has at least.

    Returns:
        What was learned, and each row's margin from models that left its group out.
    """
    folds = list(
        GroupKFold(FOLDS, shuffle=True, random_state=seed).split(rows.labels, groups=rows.groups)
    )
    grams = counts(rows.features)
    added = np.zeros((len(rows.labels), len(SUMS)), np.float32)
    for train, test in folds:
        table = _table(grams[train], rows.labels[train], rows.weights[train], words)
        added[test] = sums(rows.take(test).features, table)
    seen = inputs(rows.features, added)
    constraints = signs + [0] * (seen.shape[1] - len(signs))

    def grown(chosen: Any) -> lightgbm.LGBMClassifier:
        forest = lightgbm.LGBMClassifier(
            **_TREES,
            monotone_constraints=constraints,
            n_estimators=trees,
            learning_rate=rate,
            min_child_samples=fewest,
            random_state=seed,
        )
        return forest.fit(seen[chosen], rows.labels[chosen], sample_weight=rows.weights[chosen])

    margins = np.zeros(len(rows.labels))
    for train, test in folds:
        margins[test] = grown(train).predict(seen[test], raw_score=True)
    table = _table(grams, rows.labels, rows.weights, words)
    return Learned(table, grown(slice(None)), calibrate(rows, margins)), margins


def _table(
    grams: sparse.csr_matrix, labels: Array, weights: Array, words: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Weights of the n-grams by logistic regression, rare n-grams counting more."""
    rows = grams.shape[0]
    frequency = np.bincount(grams.indices, minlength=TABLE)
    rarity = ((np.log((rows + 1) / (frequency + 1)) + 1) / 4).astype(np.float32)
    model = LogisticRegression(C=3.0, max_iter=150)
    model.fit(grams @ sparse.diags(rarity), labels, sample_weight=weights)
    table = np.concatenate((model.coef_[0] * rarity, words, [0.0]))
    return (np.round(table / STEP) * STEP).astype(np.float32)


def calibrate(rows: Rows, margins: Array) -> dict[str, Curve]:
    """Platt scaling by family, drawn to the curve of all where a family is small."""
    curves = {}
    base = _platt(margins, rows.labels, rows.weights, (1.0, 0.0))
    for family in sorted(set(rows.families.tolist())):
        inside = rows.families == family
        slope, offset = _platt(margins[inside], rows.labels[inside], rows.weights[inside], base)
        curves[family] = Curve(round(slope, 4), round(offset, 4), int(inside.sum()))
    return curves


_PRIOR = 20.0  # how many findings' worth the curve of all is worth to a family


def _platt(
    margins: Array, labels: Array, weights: Array, prior: tuple[float, float]
) -> tuple[float, float]:
    """Slope and offset by Newton's method on the log loss, held near `prior`."""
    at = np.array(prior)
    design = np.stack((margins, np.ones_like(margins)), axis=1)
    scale = len(weights) / weights.sum()
    for _ in range(50):
        expected = 1 / (1 + np.exp(-design @ at))
        pull = _PRIOR * (at - prior)
        gradient = design.T @ (scale * weights * (expected - labels)) + pull
        curvature = scale * weights * np.maximum(expected * (1 - expected), 1e-6)
        step = np.linalg.solve(
            design.T @ (design * curvature[:, None]) + _PRIOR * np.eye(2), gradient
        )
        at = at - step
        if np.abs(step).max() < 1e-6:
            break
    return float(at[0]), float(at[1])
