"""Known vulnerabilities fail the check; a service that cannot be asked does not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tools import check_advisories

FINE: dict[str, Any] = {"name": "a", "version": "1", "vulns": []}
BAD: dict[str, Any] = {
    "name": "b",
    "version": "2",
    "vulns": [{"id": "PYSEC-0", "fix_versions": ["3"], "aliases": [], "description": ""}],
}
SKIPPED: dict[str, Any] = {"name": "c", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("packages", "passes", "said"),
    [
        ([FINE], True, ""),
        ([FINE, BAD], False, "b 2: PYSEC-0, mended in 3"),
        ([FINE, SKIPPED], True, "1 of 2 packages could not be checked"),
        ([BAD, SKIPPED], False, "1 of 2 packages could not be checked"),
        ([SKIPPED], True, "advisories not checked"),
        ([], True, "advisories not checked"),
    ],
)
def test_what_is_known_decides(packages: list[dict[str, Any]], passes: bool, said: str) -> None:
    passed, lines = check_advisories.judge({"dependencies": packages})
    assert passed == passes
    assert said in "\n".join(lines)


def test_a_service_that_does_not_answer_is_no_finding(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def silent(*_command: object, **_more: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess([sys.executable], 1, "", "no route to host")

    monkeypatch.setattr(subprocess, "run", silent)
    assert check_advisories.main([Path("requirements.lock")]) == 0
    assert "requirements.lock: advisories not checked" in capsys.readouterr().out
