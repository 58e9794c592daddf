"""The documents say what is: commands, options, settings, files, problems."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.core import TyperGroup

from cli.main import app
from cli.serve import SETTINGS
from moderator.rules import pack
from runtime import config
from runtime.errors import MAPPINGS

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("*.md"))

_NO_PROSE = re.compile(r"```.*?```|`[^`\n]+`", re.DOTALL)
_LINK = re.compile(r"\[[^\]]+\]\(([^)#\s]+)")
_ROW = re.compile(r"^\| `(\w+)` \| (.+?) \|(.*)$", re.MULTILINE)


def code(text: str) -> str:
    """What stands in code blocks and code spans, continued lines joined."""
    return "\n".join(_NO_PROSE.findall(text)).replace("\\\n", " ")


def rows(text: str) -> dict[str, list[str]]:
    """Tables' rows that begin with a name in backticks, and their further cells."""
    return {
        name: [first, *(cell.strip() for cell in rest.strip(" |").split(" | "))]
        for name, first, rest in _ROW.findall(text)
    }


def commands() -> dict[str, Any]:
    """The commands of `winnow`."""
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    return dict(group.commands)


def options_of(command: Any) -> set[str]:
    """The options of a command, and of the commands that it groups."""
    own = {option for parameter in command.params for option in parameter.opts}
    return own.union(*map(options_of, getattr(command, "commands", {}).values()))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_linked_file_exists(document: Path) -> None:
    linked = [link for link in _LINK.findall(document.read_text()) if "://" not in link]
    missing = [
        link for link in linked if not (document.parent / link.replace("\\", "")).resolve().exists()
    ]
    assert not missing


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_make_target_exists(document: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^|[`\s])make ([a-z]+)\b", code(document.read_text())))
    assert named <= targets


def test_every_make_target_is_described() -> None:
    targets = re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE)
    described = re.findall(r"^\| `make ([a-z]+)` \|", README, re.MULTILINE)
    assert sorted(described) == sorted(targets)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_exists_with_its_options(document: Path) -> None:
    known = commands()
    for name, rest in re.findall(
        r"(?:^|[`$\s])winnow ([a-z]+)\b([^\n`|;#]*)", code(document.read_text())
    ):
        if name in ("is", "signing"):  # the ready line; a key's label
            continue
        assert name in known, f"winnow {name}"
        options = options_of(known[name])
        used = set(re.findall(r"(?<=\s)--[a-z-]+", rest))
        assert used <= options, f"winnow {name}"


def test_every_command_is_shown() -> None:
    shown = set(re.findall(r"winnow ([a-z]+)\b", code(README)))
    assert set(commands()) <= shown


def test_options_that_stand_alone_exist() -> None:
    options = {o for command in commands().values() for p in command.params for o in p.opts}
    alone = re.findall(r"`(--[a-z-]+)`", README)
    assert set(alone) <= options | {"--unix-socket"}


def test_the_configuration_table_is_the_settings() -> None:
    expected: dict[str, list[str]] = {}
    for service, settings in SETTINGS.items():
        for name, field in settings.model_fields.items():
            written = config.default(settings, name)
            default = "required" if written is None else f"`{written}`"
            row = expected.setdefault(f"WINNOW_{name.upper()}", [default, field.description or ""])
            row.append(service)
    told = {name: cells for name, cells in rows(README).items() if len(cells) == 3}
    told = {name: cells for name, cells in told.items() if name.startswith("WINNOW_")}
    assert set(told) == set(expected)
    for name, (default, meaning, *services) in expected.items():
        users = "all" if len(services) == len(SETTINGS) else ", ".join(services)
        assert told[name] == [default, meaning, users], name


def test_the_problems_are_the_errors_of_the_code() -> None:
    told = {
        name: cells
        for name, cells in rows((ROOT / "docs" / "rest.md").read_text()).items()
        if name.isupper() and len(cells) == 4
    }
    assert told == {
        name: [str(m.http), f"`{m.grpc.name}`", m.title, "yes" if m.retry else "no"]
        for name, m in MAPPINGS.items()
    }


def test_the_rules_are_as_many_as_told() -> None:
    text = (ROOT / "docs" / "verdicts.md").read_text()
    rules = pack()
    fields = {
        "value": rules.value,
        "name": rules.name,
        "path": rules.place,
        "line": rules.line,
        "rule": rules.scanner,
    }
    told = dict(re.findall(r"^\| (\w+) \| .* \| (\d+) \|$", text, re.MULTILINE))
    assert told == {name: str(len(field.patterns)) for name, field in fields.items()}
    providers = sum(clue.provider is not None for clue in rules.value.clues)
    others = len(rules.value.clues) - providers
    assert f"credential ({providers}); " in text
    assert f"public ({others})" in text
    assert f"{len(rules.samples)} published example values" in text


def test_decisions_are_numbered_without_gaps_and_short() -> None:
    assert DECISIONS
    numbers = [path.name[:4] for path in DECISIONS]
    assert numbers == [f"{number:04}" for number in range(1, len(DECISIONS) + 1)]
    for path in DECISIONS:
        lines = path.read_text().splitlines()
        assert lines[0].startswith(f"# {path.name[:4]} ")
        assert len(lines) <= 25, path.name


def test_files_named_as_code_exist() -> None:
    for path in DECISIONS:
        for line in re.findall(r"^Code: (.*)$", path.read_text(), re.MULTILINE):
            missing = [
                name for name in re.findall(r"`([^`]+)`", line) if not (ROOT / name).exists()
            ]
            assert not missing, path.name
