"""cli > five independent services > migrations > runtime > contracts, and no arrow back."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SERVICES = ("audit", "gateway", "ingestor", "moderator", "orchestrator")
LAYERS: list[tuple[str, ...]] = [("cli",), SERVICES, ("migrations",), ("runtime",)]


def imported(file: Path) -> set[str]:
    """The top-level packages that a file imports anywhere, in functions too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add((node.module or "").partition(".")[0])
    return found


def test_import_linters_contract_holds() -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert "1 kept, 0 broken" in done.stdout


@pytest.mark.parametrize("level", range(len(LAYERS)), ids=[layer[0] for layer in LAYERS])
def test_nothing_imports_a_sibling_or_what_is_above(level: int) -> None:
    above = {name for layer in LAYERS[: level + 1] for name in layer} | {"tests", "bench", "tools"}
    for package in LAYERS[level]:
        files = list((ROOT / package).rglob("*.py"))
        assert files, package
        for file in files:
            assert imported(file) & (above - {package}) == set(), file.relative_to(ROOT)


@pytest.mark.parametrize("package", [*SERVICES, "runtime"])
def test_no_import_is_made_of_a_string(package: str) -> None:
    """Names computed at run time are invisible to the tests above; only cli starts services so."""
    computed = re.compile(r"__import__|import_module\((?!f\"\{__name__\})")
    for file in (ROOT / package).rglob("*.py"):
        assert not computed.search(file.read_text()), file.relative_to(ROOT)


@pytest.mark.parametrize("package", SERVICES)
def test_every_service_has_the_same_face(package: str) -> None:
    names = {path.name for path in (ROOT / package).iterdir()}
    assert "app.py" in names
    assert "service.py" in names or package == "gateway"
    text = (ROOT / package / "app.py").read_text()
    assert "def build(" in text
    assert f"class {package.title()}Settings(" in text


def test_only_stores_and_tables_speak_sql() -> None:
    for package in SERVICES:
        for file in (ROOT / package).rglob("*.py"):
            if not file.name.startswith(("store", "tables")):
                used = imported(file) & {"psycopg", "alembic"}
                assert used == set(), file.relative_to(ROOT)
