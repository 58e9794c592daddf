"""submit, show, reports, events over REST."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from runtime.clock import uuid7
from tests.cli.conftest import Run
from winnow.report.v1 import report_pb2

RAW = b'[{"RuleID": "r"}]'


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "gitleaks.json"
    path.write_bytes(RAW)
    return str(path)


async def test_submit_shows_a_table_sorted_by_risk(winnow: Run, reports: Any, file: str) -> None:
    result = await winnow(
        "submit", file, "--scanner", "gitleaks", "--ref", "main", "--label", "team=a"
    )
    assert result.exit_code == 0, result.stderr
    assert result.stderr == ""
    lines = result.stdout.splitlines()
    # The number is what `winnow show REPORT.NUMBER` takes.
    assert [line.split()[:2] for line in lines[:3]] == [
        ["#", "risk"],
        ["0", "high"],
        ["1", "medium"],
    ]
    assert "src/1.py:2" in lines[2]
    assert "2 high, 0 medium, 0 low · 2 records read" in lines[3]
    declared = reports.uploads[-1].header.declaration
    assert reports.uploads[-1].data == RAW
    assert (declared.scanner_type, declared.source.ref) == ("gitleaks", "main")
    assert dict(declared.labels) == {"team": "a"}
    assert not reports.uploads[-1].header.wait


@pytest.mark.parametrize(("bar", "code"), [("high", 1), ("medium", 1), ("low", 1)])
async def test_fail_on_is_the_exit_code(winnow: Run, file: str, bar: str, code: int) -> None:
    assert (await winnow("submit", file, "--fail-on", bar)).exit_code == code


async def test_bar_above_every_finding_is_clean(
    winnow: Run, reports: Any, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = reports.add

    def low_only(findings: int, **fields: Any) -> Any:
        report = add(findings, **fields)
        report.summary.low, report.summary.high = report.summary.high, 0
        return report

    monkeypatch.setattr(reports, "add", low_only)
    assert (await winnow("submit", file, "--fail-on", "medium")).exit_code == 0
    assert (await winnow("submit", file, "--fail-on", "low")).exit_code == 1


async def test_stdin_and_json(winnow: Run, reports: Any) -> None:
    result = await winnow("submit", "-", "--format", "json", stdin=RAW)
    assert result.exit_code == 0
    answer = json.loads(result.stdout)
    assert answer["status"] == "done"
    assert len(answer["findings"]) == 2
    assert reports.uploads[-1].data == RAW


async def test_several_files_are_an_array(winnow: Run, file: str) -> None:
    result = await winnow("submit", file, file, "--format", "json")
    assert len(json.loads(result.stdout)) == 2


async def test_failed_file_does_not_hide_the_others(winnow: Run, file: str, tmp_path: Path) -> None:
    result = await winnow("submit", str(tmp_path / "none.json"), file, "--fail-on", "high")
    assert result.exit_code == 2
    assert "none.json: cannot be read: no such file or directory" in result.stderr
    assert "src/0.py" in result.stdout


async def test_report_that_fails_says_why(
    winnow: Run, reports: Any, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = reports.add

    def failing(findings: int, **fields: Any) -> Any:
        report = add(findings, **fields)
        report.status = report_pb2.REPORT_STATUS_ERROR
        report.error.reason = "FORMAT_UNKNOWN"
        report.error.message = "not a known format\x1b"
        return report

    monkeypatch.setattr(reports, "add", failing)
    result = await winnow("submit", file)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "gitleaks.json: not a known format\\x1b (FORMAT_UNKNOWN); report " in result.stderr


async def test_problem_is_shown_with_its_reason(winnow: Run, file: str) -> None:
    result = await winnow("submit", file, "--scanner", "nobody")
    assert result.exit_code == 2
    assert "Scanner not supported: no such scanner (SCANNER_UNKNOWN)" in result.stderr
    assert result.stdout == ""


async def test_no_server_says_how_to_start_one(winnow: Run, file: str) -> None:
    for server in ("http://127.0.0.1:9", "grpc://127.0.0.1:9"):
        result = await winnow("submit", file, "--server", server, "--retries", "0")
        assert result.exit_code == 2
        assert "`winnow up`" in result.stderr
        assert server in result.stderr
    wrong = await winnow("reports", "--server", "ftp://x")
    assert wrong.exit_code == 2
    assert "--server must read" in wrong.stderr


async def test_show(winnow: Run, reports: Any) -> None:
    report = reports.add(5, scanner_type="gitleaks")
    table = await winnow("show", report.report_id, "--limit", "2")
    assert "and 3 more" in table.stdout
    plain = await winnow("show", report.report_id, "--format", "json")
    assert [f["path"] for f in json.loads(plain.stdout)["findings"]] == [
        f"src/{n}.py" for n in range(5)
    ]
    await winnow("show", report.report_id, "--risk", "high")
    assert reports.requests[-1].risk == 1
    for unknown in (str(uuid7()), "../healthz"):
        missing = await winnow("show", unknown)
        assert missing.exit_code == 2
        assert missing.stderr.startswith("winnow: ")
        assert missing.stdout == ""


async def test_reports_and_events(
    winnow: Run, reports: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = reports.add(1, scanner_type="gitleaks")
    listed = await winnow("reports", "--limit", "1")
    assert listed.exit_code == 0
    assert len(listed.stdout.splitlines()) == 2
    assert json.loads((await winnow("reports", "--limit", "1", "--format", "json")).stdout)
    trail = await winnow("events", report.report_id)
    assert "REPORT_DONE" in trail.stdout
    assert "summary={high: 3}" in trail.stdout
    missing = await winnow("events", str(uuid7()))
    assert missing.exit_code == 2
    assert "REPORT_NOT_FOUND" in missing.stderr


HOSTILE = "a\x1b]0;x\x07\u202etxt.exe\u2066[bold]b[/bold]:fire:\x9b\x7f\n"


async def test_reports_cannot_steer_the_terminal(winnow: Run, reports: Any) -> None:
    report = reports.add(1, scanner_type=HOSTILE)
    finding = reports.findings[report.report_id][0]
    finding.path = finding.rule = finding.reason = finding.value_preview = HOSTILE
    for kind in ("table", "json", "sarif"):
        result = await winnow("show", report.report_id, "--format", kind)
        assert result.exit_code == 0
        unsafe = set("\x1b\x07\u202e\u2066\x9b\x7f")
        assert not unsafe & set(result.stdout)
        if kind == "table":
            assert r"\x1b]0;x\x07\u202etxt.exe\u2066[bold]b[/bold]:fire:" in result.stdout
        elif kind == "json":
            assert json.loads(result.stdout)["findings"][0]["path"] == HOSTILE


async def test_an_accepted_risk_without_an_end_names_the_option(winnow: Run) -> None:
    result = await winnow("decide", f"{uuid7()}.0", "accepted_risk")
    assert (result.exit_code, "--expires" in result.stderr) == (2, True)


@pytest.mark.parametrize("words", [("reports",), ("credentials",), ("jobs",), ("keys", "list")])
async def test_a_list_has_an_end(winnow: Run, words: tuple[str, ...]) -> None:
    result = await winnow(*words, "--limit", "0")
    assert result.exit_code == 2
    assert "must be 1 or more" in result.stderr
