"""winnow evaluate: labelled findings through the real moderator."""

from __future__ import annotations

import gzip
import json
import random
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from tests.cli.conftest import Run
from tests.ingestor.reading_reports import dump, gitleaks


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """The command silences the services' log for its process, which is the tests' here."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


def drawn(seed: int, length: int = 40) -> str:
    source = random.Random(seed)
    return "".join(source.choices(string.ascii_letters + string.digits, k=length))


def record(number: int, real: bool, **more: Any) -> dict[str, Any]:
    """A random API key in configuration, or a placeholder in a test."""
    value = drawn(number) if real else "changeme"
    name = "PAYMENTS_API_KEY" if real else "password"
    return {
        "id": f"r{number}",
        "label": real,
        "path": f"deploy/production/{number}.env" if real else f"tests/test_{number}.py",
        "line_no": 3,
        "line": f"{name}={value}",
        "value": value,
        "variable": name,
        "reported_by": {"gitleaks": ["generic-api-key"]},
        **more,
    }


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    path = tmp_path / "labelled.jsonl.gz"
    records = [record(n, n % 3 == 0, emitted=n < 24) for n in range(30)]
    unsure = record(99, True) | {"label": None}
    path.write_bytes(gzip.compress(b"\n".join(map(dump, [*records, unsure]))))
    return path


async def test_figures_predictions_and_diagram(winnow: Run, labelled: Path, tmp_path: Path) -> None:
    predictions, diagram = tmp_path / "p.jsonl", tmp_path / "d.svg"
    result = await winnow(
        *("evaluate", str(labelled), "--predictions", str(predictions), "--diagram", str(diagram))
    )
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("findings 30, real 10\n")
    assert "at_threshold: precision 1.000 recall 1.000 F1 1.000" in result.stdout
    found = [json.loads(line) for line in predictions.read_text().splitlines()]
    assert [one["id"] for one in found] == [f"r{n}" for n in range(30)]
    assert all((one["score"] >= 0.5) == (int(one["id"][1:]) % 3 == 0) for one in found)
    assert {one["risk"] for one in found} <= {"high", "medium", "low"}
    assert diagram.read_text().startswith("<svg")
    assert drawn(0) not in predictions.read_text() + result.stdout


async def test_only_some_records(winnow: Run, labelled: Path) -> None:
    result = await winnow("evaluate", str(labelled), "--only", "emitted=true")
    assert result.stdout.startswith("findings 24, real 8\n")


async def test_a_report_is_joined_to_the_labels(
    winnow: Run, labelled: Path, tmp_path: Path
) -> None:
    report = tmp_path / "gitleaks.json"
    rows = []
    for number in range(12):
        found = record(number, number % 3 == 0)
        rows.append(
            gitleaks(number)
            | {"File": found["path"], "StartLine": 3, "Match": found["line"]}
            | {"Secret": found["value"]}
        )
    report.write_bytes(dump([*rows, gitleaks(500)]))
    result = await winnow(
        "evaluate", str(labelled), "--report", str(report), "--format", "gitleaks"
    )
    assert result.exit_code == 0, result.stderr
    assert "12 of 13 findings stand where a labelled record does" in result.stderr
    assert result.stdout.startswith("findings 12, real 4\n")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "line 1 is no JSON object"),
        (b"", "no labelled record is left"),
        (dump(record(1, True)), "figures need findings that are real"),
    ],
)
async def test_what_cannot_be_measured_is_an_error(
    winnow: Run, tmp_path: Path, content: bytes, words: str
) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(content)
    result = await winnow("evaluate", str(path))
    assert result.exit_code == 2
    assert words in result.stderr
    assert (await winnow("evaluate", str(tmp_path / "none"))).exit_code == 2
