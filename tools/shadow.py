"""What a recalibrated model would change, from what people decided; it changes nothing.

Usage: shadow.py FEEDBACK.jsonl [REPORT.json …]

FEEDBACK is what `winnow feedback export` writes. The cascade's confidences are
held against people's labels: a logistic curve over their log-odds (Platt 1999)
is fitted, drawn towards "leave it as it is" so that a few labels move little, and
judged on labels that it was not fitted to (each label left out once). Then it is
shown which verdicts would cross one half: of the labelled findings, and of reports
as `winnow show ID --format json` writes them.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

_STEPS = 50
_PRIOR = 4.0  # labels' worth of belief in the present calibration
_EDGE = 1e-4  # confidences closer to 0 or 1 say no more than this
_BINS = 10
_FEWEST = 10


class Curve(NamedTuple):
    """Log-odds in, log-odds out: `offset + slope * x`."""

    slope: float = 1.0
    offset: float = 0.0

    def of(self, confidence: float) -> float:
        """The recalibrated confidence."""
        return _probability(self.offset + self.slope * _log_odds(confidence))


def _log_odds(probability: float) -> float:
    kept = min(max(probability, _EDGE), 1 - _EDGE)
    return math.log(kept / (1 - kept))


def _probability(log_odds: float) -> float:
    return 1 / (1 + math.exp(-max(min(log_odds, 30.0), -30.0)))


def fit(labelled: Sequence[tuple[float, bool]]) -> Curve:
    """The curve that fits confidences to labels, by Newton's method.

    Args:
        labelled: confidence (0 to 1) and label.
    """
    slope, offset = 1.0, 0.0
    for _ in range(_STEPS):
        # Gradient and curvature of the penalised log-likelihood.
        g0, g1 = -_PRIOR * offset, -_PRIOR * (slope - 1.0)
        h00, h01, h11 = _PRIOR, 0.0, _PRIOR
        for confidence, real in labelled:
            x = _log_odds(confidence)
            p = _probability(offset + slope * x)
            weight = p * (1 - p)
            g0 += real - p
            g1 += (real - p) * x
            h00 += weight
            h01 += weight * x
            h11 += weight * x * x
        determinant = h00 * h11 - h01 * h01
        step0 = (h11 * g0 - h01 * g1) / determinant
        step1 = (h00 * g1 - h01 * g0) / determinant
        offset, slope = offset + step0, slope + step1
        if abs(step0) + abs(step1) < 1e-9:
            break
    return Curve(slope, offset)


def left_out(labelled: Sequence[tuple[float, bool]]) -> list[tuple[float, bool]]:
    """Each label with the confidence that a curve fitted to all others gives."""
    return [
        (fit([*labelled[:at], *labelled[at + 1 :]]).of(confidence), real)
        for at, (confidence, real) in enumerate(labelled)
    ]


def error(labelled: Sequence[tuple[float, bool]]) -> float:
    """Expected calibration error over ten equal bins (Naeini et al. 2015)."""
    bins: list[list[tuple[float, bool]]] = [[] for _ in range(_BINS)]
    for confidence, real in labelled:
        bins[min(int(confidence * _BINS), _BINS - 1)].append((confidence, real))
    return sum(
        abs(sum(p for p, _ in held) - sum(real for _, real in held)) for held in bins if held
    ) / len(labelled)


def loss(labelled: Sequence[tuple[float, bool]]) -> float:
    """Mean log loss, in nats."""
    return -sum(math.log(max(p if real else 1 - p, _EDGE)) for p, real in labelled) / len(labelled)


def right(labelled: Sequence[tuple[float, bool]]) -> int:
    """Labels on whose side of one half the confidence is."""
    return sum((p >= 0.5) == real for p, real in labelled)


def _crossing(findings: Iterable[tuple[str, float | None]], curve: Curve) -> list[str]:
    """The findings whose confidence would cross one half, as lines."""
    lines = []
    for name, confidence in findings:
        if confidence is not None:
            after = curve.of(confidence)
            if (after >= 0.5) != (confidence >= 0.5):
                lines.append(f"  {name}: {confidence:.2f} would be {after:.2f}")
    return lines


def _records(path: Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]
    except ValueError:
        raise SystemExit(f"{path}: not what `winnow feedback export` writes") from None


def main(feedback: Path, reports: Sequence[Path]) -> None:
    """Prints what a recalibration would change."""
    records = [
        (record, record["verdict"]["confidence"])
        for record in _records(feedback)
        if record.get("verdict") and record["verdict"]["confidence"] is not None
    ]
    labelled = [(confidence, bool(record["label"])) for record, confidence in records]
    if len(labelled) < _FEWEST:
        raise SystemExit(
            f"{len(labelled)} labels with a confidence of the cascade; at least {_FEWEST} are "
            "needed to say anything"
        )
    curve, after = fit(labelled), left_out(labelled)
    print(f"{len(labelled)} labels, {sum(real for _, real in labelled)} of them real")
    for name, judged in (("as it is", labelled), ("recalibrated", after)):
        print(
            f"  {name:13} right {right(judged)}, calibration error {error(judged):.3f}, "
            f"log loss {loss(judged):.3f}"
        )
    print(f"curve: log-odds × {curve.slope:.2f} {curve.offset:+.2f}")
    if loss(after) >= loss(labelled):
        print("on labels that it was not fitted to, the recalibration is no better: keep what is")
    lines = _crossing(
        ((f"{r['finding_id']} ({r['rule']}, {r['path']})", c) for r, c in records), curve
    )
    print(f"{len(lines)} labelled findings would cross one half")
    print("\n".join(lines), end="\n" if lines else "")
    for path in reports:
        found = json.loads(path.read_text("utf-8")).get("findings", [])
        lines = _crossing(
            ((f"{f['id']} ({f['rule']}, {f['path']})", f["confidence"]) for f in found), curve
        )
        print(f"{path}: {len(lines)} of {len(found)} findings would cross one half")
        print("\n".join(lines), end="\n" if lines else "")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
