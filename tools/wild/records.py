"""Joins what the scanners report to one record per path, line and value."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from tools.wild.scanners import Hit

Record = dict[str, Any]

_CONTEXT_LINES = 5
_LONGEST = 500
_LEAD = 120
_PEM_HEAD = "-----BEGIN"
# Whose value is the cleanest cut of the credential.
_ORDER = ("credsweeper", "gitleaks", "betterleaks", "detect-secrets", "kingfisher")
_NAME = re.compile(r"([A-Za-z_][\w.\-\[\]'\"]*?)['\"]?\]?\s*(?:=>|:=|==|[:=(,])\s*[^=:(,]*$")


def _bare(value: str) -> str:
    return value.strip(" \t\"'`,;")


def _clusters(hits: list[Hit]) -> list[list[Hit]]:
    """Hits of one line by value: those whose values contain one another are one finding."""
    clusters: list[list[Hit]] = []
    for hit in sorted(hits, key=lambda hit: -len(hit.value)):
        value = _bare(hit.value)
        for cluster in clusters:
            if value in _bare(cluster[0].value):
                cluster.append(hit)
                break
        else:
            clusters.append([hit])
    return clusters


def variable_before(line: str, value: str) -> str:
    """The name that the value is assigned to, as far as the text before it tells."""
    end = line.find(value)
    match = _NAME.search(line[:end].rstrip(" \t\"'`")) if end > 0 and value else None
    return match[1].strip("'\"[]") if match else ""


def _window(line: str, value: str) -> str:
    at = line.find(value) if value else 0
    start = max(0, at - _LEAD) if at + len(value) > _LONGEST else 0
    return line[start : start + _LONGEST]


def _record(path: str, number: int, hits: list[Hit], lines: list[str]) -> Record:
    line = lines[number - 1]
    ranked = sorted(hits, key=lambda hit: (not _bare(hit.value), _ORDER.index(hit.tool)))
    best = ranked[0]
    if _PEM_HEAD in line:
        best = max(hits, key=lambda hit: (_PEM_HEAD in hit.value, len(hit.value)))
    value = best.value if _PEM_HEAD in best.value else best.value.strip()
    first = value.split("\n", 1)[0]
    variable = next((hit.variable for hit in ranked if hit.variable), "")
    source, _, inside = path.partition("/")
    reported: dict[str, list[str]] = defaultdict(list)
    for hit in hits:
        if hit.rule not in reported[hit.tool]:
            reported[hit.tool].append(hit.rule)
    return {
        "repo": hashlib.sha256(source.encode()).hexdigest()[:8],
        "source": source,
        "path": inside,
        "ext": PurePosixPath(inside).suffix,
        "line_no": number,
        "line": _window(line, first),
        "before": [
            text[:_LONGEST] for text in lines[max(0, number - 1 - _CONTEXT_LINES) : number - 1]
        ],
        "after": [text[:_LONGEST] for text in lines[number : number + _CONTEXT_LINES]],
        "value": value,
        "variable": variable or variable_before(line, first) or None,
        "reported_by": {tool: sorted(reported[tool]) for tool in sorted(reported)},
        "emitted": bool(hits),
        "value_in_line": bool(value) and first in line,
    }


def lines_of(path: Path) -> list[str]:
    """The file's lines as scanners count them."""
    return path.read_bytes().decode("utf-8", "replace").split("\n")


def join(
    hits: Iterable[Hit], tree: Path, numbers: Callable[[str], Sequence[int] | None]
) -> Iterator[Record]:
    """One unlabelled record per path, line and value of the files in `tree`, in their order.

    `numbers` tells of a path which lines of the file the scanners were given; None: all.
    """
    places: dict[str, dict[int, list[Hit]]] = defaultdict(lambda: defaultdict(list))
    for hit in hits:
        places[hit.path][hit.line].append(hit)
    for path in sorted(places):
        lines = [line.rstrip("\r") for line in lines_of(tree / path)]
        given = numbers(path) or range(1, len(lines) + 1)
        for at, there in sorted(places[path].items()):
            if not 0 < at <= len(given):
                continue
            number = given[at - 1]
            whole = _PEM_HEAD in lines[number - 1]
            for cluster in [there] if whole else _clusters(there):
                yield _record(path, number, cluster, lines)
