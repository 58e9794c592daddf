"""The `winnow` command as installed, against a real house."""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from pathlib import Path

import pytest

from tests.e2e.house import WINNOW, House, environment
from tests.e2e.test_rest import DECIDED
from tests.fixtures import load_report

pytestmark = pytest.mark.xdist_group("e2e")


def winnow(
    *arguments: str | Path, stdin: bytes | None = None, **settings: str
) -> subprocess.CompletedProcess[str]:
    """Runs the installed command to its end."""
    done = subprocess.run(
        [WINNOW, *arguments],
        check=False,
        capture_output=True,
        input=stdin,
        timeout=60,
        env=environment(COLUMNS="200", **settings),
    )
    return subprocess.CompletedProcess(
        done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
    )


@pytest.fixture
def report(tmp_path: Path) -> Path:
    file = tmp_path / "gitleaks.json"
    file.write_bytes(load_report("gitleaks.git.json"))
    return file


def test_submit_shows_the_findings(house: House, report: Path) -> None:
    done = winnow("submit", report, "--server", house.url)
    assert (done.returncode, done.stderr) == (0, "")
    assert "billing/" in done.stdout
    assert "28 records read" in done.stdout


def test_submit_json_is_what_get_answers(house: House, report: Path) -> None:
    done = winnow("submit", report, "--format", "json", "--server", house.url)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer == house.get(f"/reports/{answer['report_id']}")


def test_submit_sarif(house: House, report: Path) -> None:
    done = winnow("submit", report, "--format", "sarif", "--server", house.url)
    assert done.returncode == 0, done.stderr
    written = json.loads(done.stdout)
    assert written["version"] == "2.1.0"
    assert len(written["runs"][0]["results"]) == 28
    # What Winnow writes, Winnow reads.
    again = winnow("submit", "-", "--server", house.url, stdin=done.stdout.encode())
    assert again.returncode == 0, again.stderr


@pytest.mark.parametrize(
    ("name", "bar", "code"),
    [
        ("gitleaks.git.json", "high", 1),
        ("gitleaks.git.json", "low", 1),
        ("gitleaks.empty.json", "low", 0),
    ],
)
def test_fail_on(house: House, name: str, bar: str, code: int) -> None:
    done = winnow("submit", "-", "--fail-on", bar, "--server", house.url, stdin=load_report(name))
    assert done.returncode == code, done.stderr


def test_errors_are_2_and_one_line(house: House, report: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "words"
    wrong.write_text("a canary, no report")
    for arguments, said in (
        (("submit", tmp_path / "none", "--server", house.url), "no such file"),
        (("submit", wrong, "--server", house.url), "FORMAT_UNKNOWN"),
        (("submit", report, "--scanner", "trufflehog", "--server", house.url), "SCANNER_MISMATCH"),
        (("submit", report, "--retries", "0", "--server", "http://127.0.0.1:9"), "127.0.0.1:9"),
        (("show", "01920000-0000-7000-8000-000000000000", "--server", house.url), "REPORT_NOT_FO"),
    ):
        done = winnow(*arguments)
        assert done.returncode == 2, done.stdout
        assert done.stdout == ""
        assert said in done.stderr
        assert "canary" not in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_show_reports_events(house: House, report: Path) -> None:
    report_id = house.submit(report.read_bytes())["report_id"]
    server = {"WINNOW_SERVER": house.url}
    shown = winnow("show", report_id, "--format", "json", **server)
    assert json.loads(shown.stdout) == house.get(f"/reports/{report_id}")
    low = json.loads(
        winnow("show", report_id, "--risk", "low", "--format", "json", **server).stdout
    )
    assert {finding["risk"] for finding in low["findings"]} == {"low"}
    listed = json.loads(winnow("reports", "--limit", "1", "--format", "json", **server).stdout)
    assert [one["report_id"] for one in listed] == [report_id]
    assert house.events(report_id)[:5] == DECIDED
    trail = json.loads(winnow("events", report_id, "--format", "json", **server).stdout)
    assert [entry["event"]["event_type"] for entry in trail][:5] == DECIDED
    table = winnow("events", report_id, **server).stdout
    assert all(event in table for event in DECIDED)


def test_a_key_is_answered_once_and_stands_for_one_report(
    house: House, report: Path, tmp_path: Path
) -> None:
    keyed = ("--idempotency-key", uuid.uuid4().hex, "--server", house.url)
    first = winnow("submit", report, *keyed)
    assert first.returncode == 0, first.stderr
    assert "answered before" not in first.stdout
    again = winnow("submit", report, *keyed)
    assert again.stdout.rstrip() == f"{first.stdout.rstrip()} · answered before"
    other = tmp_path / "other.json"
    other.write_bytes(load_report("gitleaks.empty.json"))
    refused = winnow("submit", other, *keyed)
    assert refused.returncode == 2
    assert "another scanner, format, source or labels" in refused.stderr
    assert "(IDEMPOTENCY_KEY_REUSED); report " in refused.stderr
    assert refused.stderr.split()[-1] in first.stdout


def test_an_event_of_the_trail_is_proved_and_the_log_verified(house: House, report: Path) -> None:
    report_id = house.submit(report.read_bytes())["report_id"]
    trail = winnow("events", report_id, "--server", house.url).stdout.splitlines()
    created = next(line for line in trail if "REPORT_CREATED" in line)
    assert "progress=" not in created
    event_id = next(word for word in created.split() if word.count("-") == 4)
    proof = winnow("audit", "prove", event_id, "--server", house.url)
    assert (proof.returncode, proof.stderr) == (0, "")
    # As one types it where `winnow up --data-dir data` was started.
    verified = winnow("audit", "verify", "--data-dir", os.path.relpath(house.data_dir))
    assert (verified.returncode, verified.stderr) == (0, "")
    assert "all as they were signed" in verified.stdout


@pytest.mark.parametrize(
    "command", ["", "up", "serve", "migrate", "settings", "submit", "show", "reports", "events"]
)
def test_help(command: str) -> None:
    done = winnow(*command.split(), "--help")
    assert done.returncode == 0, done.stderr
    assert "Usage: winnow" in done.stdout


def test_version() -> None:
    assert winnow("--version").stdout.startswith("winnow 0.")
