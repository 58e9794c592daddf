"""The Dockerfile keeps to what is said of it, as far as its text tells."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from typing import Any

import pytest
import typer.main

from cli.main import app
from tests.deploy.known import ROOT

TEXT = (ROOT / "Dockerfile").read_text()
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())


def instructions() -> list[tuple[str, str]]:
    """Each instruction with its arguments, continued lines joined, in order."""
    lines = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", TEXT, flags=re.MULTILINE)).splitlines()
    return [
        (word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines if line)
    ]


INSTRUCTIONS = instructions()


def all_of(word: str) -> list[str]:
    return [rest for one, rest in INSTRUCTIONS if one == word]


def last_stage() -> list[tuple[str, str]]:
    starts = [at for at, (word, _) in enumerate(INSTRUCTIONS) if word == "FROM"]
    return INSTRUCTIONS[starts[-1] :]


def test_its_base_is_a_tag_that_can_be_pinned_and_a_python_that_is_tested() -> None:
    (tag,) = all_of("ARG")
    version = re.fullmatch(r"PYTHON=(\d+\.\d+)\.\d+-slim-\w+", tag)
    assert version
    assert version[1] == PROJECT["tool"]["mypy"]["python_version"]
    assert [rest.split(" AS ")[0] for rest in all_of("FROM")] == ["python:${PYTHON}"] * 2


def test_it_runs_as_nobody_in_particular_and_needs_no_shell() -> None:
    final = dict(last_stage())
    assert final["USER"] == "10001:10001"
    assert [word for word, _ in last_stage()].index("USER") > max(
        at for at, (word, _) in enumerate(last_stage()) if word == "RUN"
    )
    assert json.loads(final["ENTRYPOINT"]) == ["winnow"]
    serve, service = json.loads(final["CMD"])
    probe = json.loads(final["HEALTHCHECK"].split(" CMD ")[1])
    assert probe == ["winnow", "probe", service]
    assert {serve, "probe"} <= set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    assert "PYTHONDONTWRITEBYTECODE=1" in final["ENV"]


def test_nothing_comes_from_elsewhere_but_locked_packages() -> None:
    assert not all_of("ADD")
    assert not re.search(r"https?:|curl|wget|apt-get|--index|--trusted", TEXT)
    installs = re.findall(r"pip install ([^&\n]*)", "\n".join(all_of("RUN")))
    assert len(installs) == 2
    assert "--require-hashes" in installs[0]
    assert {"--no-deps", "--no-build-isolation"} <= set(installs[1].split())


def test_no_secret_goes_into_it() -> None:
    assert not re.search(r"WINNOW_\w+|--mount=type=secret", TEXT)
    allowed = [one[1:] for one in (ROOT / ".dockerignore").read_text().split() if one[0] == "!"]
    copied = [
        source for rest in all_of("COPY") if "--from" not in rest for source in rest.split()[:-1]
    ]
    assert sorted(allowed) == sorted(copied)
    assert not any(name.startswith((".", "secrets", "tests")) for name in copied)


def test_every_package_is_copied() -> None:
    packages = {
        one.rstrip("*") for one in PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]
    }
    generated = {path.name for path in (ROOT / "gen").iterdir()} & packages
    assert {rest.split()[0] for rest in all_of("COPY")} >= packages - generated | {"gen"}


def test_what_builds_is_locked() -> None:
    (expression,) = re.findall(r"sed -n '([^']+)' requirements-dev.lock", TEXT)
    done = subprocess.run(
        ["sed", "-n", expression, ROOT / "requirements-dev.lock"],
        capture_output=True,
        text=True,
        check=True,
        timeout=10,
    )
    first, *hashes = done.stdout.splitlines()
    assert re.fullmatch(r"setuptools==[\d.]+ \\", first)
    assert hashes
    assert all(re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}( \\)?", one) for one in hashes)


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock"])
def test_the_locks_name_no_place(lock: str) -> None:
    assert "://" not in (ROOT / lock).read_text()
