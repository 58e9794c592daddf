"""Shipped load scenarios, shortened, against a real house."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.house import House
from tests.e2e.test_cli import winnow

pytestmark = pytest.mark.xdist_group("e2e")

SCENARIOS = Path(__file__).resolve().parents[2] / "deploy" / "scenarios"
# How fast it is depends on the machine, and is measured elsewhere.
TIMES = {"p50_ms", "p95_ms", "p99_ms", "p95_ratio"}


def loaded(house: House, name: str, duration: str, out: Path) -> dict[str, Any]:
    """The summary of a run, all of whose expectations hold but for those of time."""
    file = SCENARIOS / f"{name}.yaml"
    done = winnow("load", file, "--server", house.url, "--duration", duration, "--out", out)
    assert done.returncode in (0, 1), done.stderr
    found: dict[str, Any] = json.loads((out / "summary.json").read_text())
    assert [
        one for one in found["expectations"] if not one["held"] and one["name"] not in TIMES
    ] == []
    assert f"{name}: {found['planned']} planned" in done.stdout
    return found


def test_steady(house: House, tmp_path: Path) -> None:
    found = loaded(house, "steady", "4s", tmp_path)
    assert found["accepted"] == found["reports"] == found["finished"] == found["planned"] > 8
    assert set(found["by_emitter"]) == {"jobs", "nightly"}
    lines = [json.loads(line) for line in (tmp_path / "telemetry.jsonl").read_text().splitlines()]
    ended = {line["report_id"] for line in lines if line["type"] == "report"}
    assert len(ended) == found["reports"]
    for report_id in ended:
        assert house.get(f"/reports/{report_id}", findings="false")["status"] == "done"


def test_bad_and_replayed(house: House, tmp_path: Path) -> None:
    found = loaded(house, "bad-and-replayed", "8s", tmp_path)
    assert found["kinds"]["malformed"].keys() == {"REPORT_MALFORMED"}
    assert found["kinds"]["unknown"].keys() == {"FORMAT_UNKNOWN"}
    assert found["kinds"]["envelope"].keys() == {"ENVELOPE_INVALID"}
    assert found["kinds"]["conflicting"].keys() == {"IDEMPOTENCY_KEY_REUSED"}
    assert found["kinds"]["oversized"].keys() == {"REPORT_TOO_LARGE"}
    assert found["replayed"] > 0
    assert "REPLAYED" in found["kinds"]["replayed"]
    assert set(found["by_key"]) == {"first", "second", "signer"}
    # The keys were made for the run and have ended with it.
    made = [key for key in house.get("/keys")["keys"] if key["name"].startswith("load ")]
    assert len(made) == 3
    assert all(key["revoked_at"] for key in made)
