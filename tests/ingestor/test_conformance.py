"""`tools/conformance.py`: its table, and that a difference fails it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures import expected, load_report

TOOL = Path(__file__).parents[2] / "tools" / "conformance.py"


def run(folder: Path, **counts: int) -> subprocess.CompletedProcess[str]:
    """Runs it over two recorded reports, a format that is refused, and a file not there."""
    names = ("gitleaks.git.json", "detect-secrets.json")
    files = [{"file": "vex.json", "format": "openvex", "raw_records": 1}]
    files += [{"file": "gone.json", "format": "gitleaks", "raw_records": 1}]
    (folder / "vex.json").write_text('{"@context": "https://openvex.dev/ns", "statements": []}')
    for name in names:
        (folder / name).write_bytes(load_report(name))
        scanner = str(expected()[name]["scanner"])
        records = counts.get(scanner, expected()[name]["records"])
        files.append({"file": name, "format": scanner, "raw_records": records})
    (folder / "index.json").write_text(json.dumps({"files": files}))
    return subprocess.run(
        [sys.executable, TOOL, folder], capture_output=True, text=True, check=False
    )


def test_what_is_really_in_the_files_is_read(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert done.returncode == 0, done.stdout
    lines = {line.split()[0]: line.split() for line in done.stdout.splitlines()}
    assert lines["gitleaks"][2:8] == ["1", "28", "28", "0", "0", "0"]
    assert lines["openvex"][1] == "refused"
    assert lines["3"][-2:] == ["0", "differ"]


def test_a_difference_fails(tmp_path: Path) -> None:
    done = run(tmp_path, gitleaks=29)
    assert done.returncode == 1
    assert "gitleaks.git.json: 28 records were read, there are 29" in done.stdout


@pytest.mark.parametrize("arguments", [[], ["nowhere"]])
def test_without_samples_it_says_how(arguments: list[str], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, TOOL, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={},
    )
    assert done.returncode == 1
    assert "index.json" in done.stderr
    assert "Traceback" not in done.stderr
