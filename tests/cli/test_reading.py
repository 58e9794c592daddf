"""winnow parse and winnow formats: no server, no verdict."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.fixtures import expected, load_report, planted_values
from tests.ingestor.reading_reports import dump, gitleaks


@pytest.fixture
def report(tmp_path: Path) -> Path:
    path = tmp_path / "report"
    path.write_bytes(load_report("gitleaks.git.json"))
    return path


async def test_parse_tells_what_would_be_read(winnow: Run, report: Path) -> None:
    known = expected()["gitleaks.git.json"]["records"]
    result = await winnow("parse", str(report), "--limit", "3")
    assert result.exit_code == 0, result.stderr
    assert f"{known} records read = {known} findings + 0 merged + 0 rejected" in result.stdout
    assert f"and {int(known) - 3} more" in result.stdout
    assert ": gitleaks, gitleaks 8" in result.stdout


async def test_parse_as_json_has_every_finding_and_no_value(winnow: Run, report: Path) -> None:
    result = await winnow("parse", str(report), "--format", "json")
    answer = json.loads(result.stdout)
    assert answer["records"]["read"] == len(answer["findings"])
    assert sum(answer["rules"].values()) == len(answer["findings"])
    assert not [value for value in planted_values() if value in result.stdout]


async def test_parse_shows_drift_and_rejected_records(winnow: Run, tmp_path: Path) -> None:
    path = tmp_path / "drifted.json.gz"
    broken = gitleaks(2) | {"File": 7}
    path.write_bytes(gzip.compress(dump([gitleaks(1, Brand="new"), broken])))
    result = await winnow("parse", str(path))
    assert result.exit_code == 1
    assert "unknown field Brand (1 record)" in result.stdout
    assert "the field File has another type" in result.stdout


async def test_what_is_no_report_is_an_error(winnow: Run, tmp_path: Path) -> None:
    path = tmp_path / "page"
    path.write_bytes(b"<!DOCTYPE html><html>sign in</html>")
    result = await winnow("parse", str(path))
    assert result.exit_code == 2
    assert "HTML page" in result.stderr
    assert "sign in" not in result.stderr


async def test_formats_lists_every_parser(winnow: Run) -> None:
    listed = json.loads((await winnow("formats", "--format", "json")).stdout)
    table = (await winnow("formats")).stdout
    assert {"gitleaks", "sarif", "trufflehog"} <= {one["id"] for one in listed}
    assert all(one["id"] in table for one in listed)
