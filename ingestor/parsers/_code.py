"""Values that stand in lines of code."""

from __future__ import annotations

import re
from collections.abc import Iterable

# What a line of code assigns: a quoted text, or the rest of `NAME=value`.
_QUOTED = re.compile(r"""[=:]>?\s*(["'`])([^\n]{4,}?)\1""")
_PLAIN = re.compile(r"""^\s*(?:export\s+)?[\w.-]+\s*[=:]\s*([^\s"'`]{4,})\s*$""", re.MULTILINE)
_BARE = re.compile(r"[^\s\"'`(){}\[\]<>;,]{8,}")
_PEM = re.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----.*", re.DOTALL)


def assigned(line: str) -> list[str]:
    """The values that lines of code assign."""
    if "=" not in line and ":" not in line:
        return []
    return [text for _, text in _QUOTED.findall(line)] + _PLAIN.findall(line)


def neighbours(texts: Iterable[str], value: str = "") -> tuple[str, ...]:
    """What must not stand in the clear beside a value: texts, and what they assign."""
    found = [inside for text in texts for inside in (text, *assigned(text))]
    return tuple(text for text in dict.fromkeys(found) if text and text != value)


def only_value(code: str) -> str:
    """The credential in code that a rule for secrets matched; empty where it
    cannot be told which of its texts it is.
    """
    if key := _PEM.search(code):
        return key[0]
    values = assigned(code)
    if len(values) == 1:
        return values[0]
    bare = code.strip().strip("\"'`")
    return bare if not values and _BARE.fullmatch(bare) else ""
