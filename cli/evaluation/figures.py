"""Figures of predictions against labels: plain definitions, on numpy."""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.bool_]
Scores = NDArray[np.float64]

BINS = 10
# The score of a verdict that gives no probability.
UNSURE = {"high": 0.9, "medium": 0.5, "low": 0.1}


class Figures(msgspec.Struct, frozen=True):
    """How good scores (0 to 1) are; `gone` is the share of what is not real that
    falls below the score at which 98 % of what is real is kept."""

    findings: int
    real: int
    precision: float
    recall: float
    f1: float
    average_precision: float
    roc_auc: float
    ece: float
    gone: float


def figures(labels: Labels, scores: Scores, threshold: float = 0.5) -> Figures:
    """All figures; precision, recall and F1 at scores from `threshold` on.

    Raises:
        ValueError: there is not at least one label of each kind.
    """
    real = int(labels.sum())
    if real in (0, len(labels)):
        raise ValueError("figures need findings that are real and findings that are not")
    called = scores >= threshold
    hits = int((called & labels).sum())
    precision, recall = hits / max(int(called.sum()), 1), hits / real
    kept, false_kept = _curve(labels, scores)
    found = kept / real
    steps = np.diff(found, prepend=0.0)
    area = np.diff(false_kept, prepend=0) @ (found - steps / 2)
    enough = int(np.argmax(found >= 0.98))
    return Figures(
        findings=len(labels),
        real=real,
        precision=precision,
        recall=recall,
        f1=2 * hits / (int(called.sum()) + real),
        average_precision=float(steps @ (kept / (kept + false_kept))),
        roc_auc=float(area / (len(labels) - real)),
        ece=float(sum(bin.share * abs(bin.said - bin.real) for bin in reliability(labels, scores))),
        gone=float(1 - false_kept[enough] / (len(labels) - real)),
    )


def _curve(labels: Labels, scores: Scores) -> tuple[Scores, Scores]:
    """How many real and how many other findings have each distinct score or more,
    highest score first."""
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.diff(scores[order], append=-1.0))
    real = np.cumsum(labels[order])[last].astype(float)
    return real, last + 1.0 - real


class Bin(msgspec.Struct, frozen=True):
    """Findings of like confidence: their share of all, mean confidence, share real."""

    share: float
    said: float
    real: float


def reliability(labels: Labels, scores: Scores, bins: int = BINS) -> list[Bin]:
    """Bins of equal width; empty ones are left out."""
    of = np.minimum((scores * bins).astype(int), bins - 1)
    return [
        Bin(
            share=float(inside.mean()),
            said=float(scores[inside].mean()),
            real=float(labels[inside].mean()),
        )
        for inside in (of == number for number in range(bins))
        if inside.any()
    ]
