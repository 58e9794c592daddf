"""The stages' benchmark runs the real stages and loses no finding on the way."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.stages import judge, moderate, parse
from cli.loading.reports import FORMATS, generate


@pytest.mark.parametrize("report_format", FORMATS)
def test_every_finding_is_read_and_judged(report_format: str) -> None:
    figures, batches = parse(b"".join(generate(report_format, 600)))
    assert figures["findings"] == 600
    assert judge(batches, report_format)["findings"] == 600
    assert moderate(batches, report_format)["findings"] == 600


def test_the_command_prints_one_object_a_line() -> None:
    command = [sys.executable, "-m", "bench", "--findings", "50"]
    root = Path(__file__).parents[2]
    environment = {"PYTHONPATH": f"{root}:{root / 'gen'}"}
    run = subprocess.run(command, cwd=root, env=environment, capture_output=True, check=True)
    stages = {(figures := json.loads(line))["stage"]: figures for line in run.stdout.splitlines()}
    assert list(stages) == [
        "limit: json.loads",
        "limit: msgspec",
        "limit: COPY BINARY",
        "parse",
        "heuristics and model",
        "moderate",
        "POST",
    ]
    assert stages["moderate"]["times_json_loads"] > 0
