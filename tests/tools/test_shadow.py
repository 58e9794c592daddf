"""What a recalibrated model would change."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from tools import shadow


def labels(number: int, shift: float, seed: int = 1) -> list[tuple[float, bool]]:
    """Confidences that are off by `shift` in log-odds, with labels drawn from the truth."""
    drawn = random.Random(seed)
    found = []
    for _ in range(number):
        truth = drawn.uniform(-3, 3)
        found.append(
            (shadow._probability(truth + shift), drawn.random() < shadow._probability(truth))
        )
    return found


def test_a_calibrated_cascade_is_left_alone() -> None:
    curve = shadow.fit(labels(2_000, 0.0))
    assert curve.slope == pytest.approx(1.0, abs=0.15)
    assert curve.offset == pytest.approx(0.0, abs=0.15)


def test_what_is_off_by_a_constant_is_found_and_mended() -> None:
    off = labels(400, 1.5)
    curve = shadow.fit(off)
    assert curve.offset == pytest.approx(-1.5, abs=0.4)
    after = shadow.left_out(off[:150])
    assert shadow.loss(after) < shadow.loss(off[:150])
    assert shadow.error(after) < shadow.error(off[:150])


def test_a_few_labels_move_little() -> None:
    curve = shadow.fit([(0.4, True), (0.45, True)])
    assert 0.4 < curve.of(0.4) < 0.7


def test_labels_that_leave_no_doubt_do_not_run_away() -> None:
    curve = shadow.fit([(0.9, True)] * 500 + [(0.1, False)] * 500)
    assert 1.0 < curve.slope < 10
    assert abs(curve.offset) < 0.1


def feedback(tmp_path: Path, records: list[dict[str, Any]]) -> Path:
    path = tmp_path / "feedback.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def record(number: int, confidence: float | None, label: bool) -> dict[str, Any]:
    verdict = {"confidence": confidence, "source": "ml"}
    return {
        "label": label,
        "finding_id": f"r.{number}",
        "rule": "generic",
        "path": f"src/{number}.py",
        "verdict": verdict,
    }


def test_it_says_what_would_cross(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = feedback(
        tmp_path,
        [record(n, c, real) for n, (c, real) in enumerate(labels(60, 2.0))]
        + [record(99, None, True)],
    )
    report = tmp_path / "report.json"
    finding = {"id": "x.1", "rule": "r", "path": "p", "confidence": 0.55}
    report.write_text(json.dumps({"findings": [finding, {**finding, "confidence": None}]}))
    shadow.main(path, [report])
    out = capsys.readouterr().out
    assert "60 labels" in out
    assert "x.1 (r, p): 0.55 would be 0." in out
    assert "1 of 2 findings would cross one half" in out


def test_too_few_labels_and_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="at least 10"):
        shadow.main(feedback(tmp_path, [record(1, 0.5, True)]), [])
    broken = tmp_path / "x"
    broken.write_text("{")
    with pytest.raises(SystemExit, match="feedback export"):
        shadow.main(broken, [])
