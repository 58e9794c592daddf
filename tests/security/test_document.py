"""docs/security.md says what is: every mitigation has a test, and the test is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = (ROOT / "docs" / "security.md").read_text()

_ROW = re.compile(r"^\| ([^|]+) \| ([^|]+) \| `(tests/[\w/]+\.py)::(\w+)` \|$", re.MULTILINE)


def part(title: str) -> str:
    """The text below a heading, up to the next."""
    return DOCUMENT.split(f"\n## {title}\n")[1].split("\n## ")[0]


def functions(file: Path) -> set[str]:
    """The tests that a file defines, those that are expected to fail not among them."""
    return {
        node.name
        for node in ast.parse(file.read_bytes()).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and not any(
            "xfail" in ast.unparse(one) or "skip" in ast.unparse(one) for one in node.decorator_list
        )
    }


def test_every_mitigation_names_a_test_that_is_there() -> None:
    rows = _ROW.findall(DOCUMENT)
    told = [line for line in part("Threat, mitigation, test").splitlines() if line.startswith("| ")]
    assert len(rows) == len(told) - 1  # the heading
    missing = [f"{file}::{name}" for _, _, file, name in rows if name not in functions(ROOT / file)]
    assert missing == []


def test_no_threat_and_no_test_stands_there_twice() -> None:
    rows = _ROW.findall(DOCUMENT)
    assert len({threat for threat, *_ in rows}) == len(rows)
    assert len({(file, name) for _, _, file, name in rows}) == len(rows)


def test_the_supported_version_is_this_one() -> None:
    version = re.search(r'^version = "(\d+\.\d+)', (ROOT / "pyproject.toml").read_text(), re.M)
    assert version is not None
    assert f"| {version[1]} | yes |" in (ROOT / "SECURITY.md").read_text()
