"""As much of PromQL as it takes to say which series an expression asks for."""

from __future__ import annotations

import re
from typing import NamedTuple

_GROUPING = re.compile(
    r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)", re.IGNORECASE
)
_MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"')
# A name that no "(" follows, and its matchers.
_SELECTOR = re.compile(r"([a-zA-Z_:][\w:]*)\s*(?:\{((?:[^{}\"]|\"[^\"]*\")*)\})?(?!\s*\(|[\w:{])")
_WORDS = frozenset({"and", "or", "unless", "bool", "offset", "inf", "nan"})


class Selector(NamedTuple):
    """Series that an expression asks for: their name; label, operator, value."""

    name: str
    matchers: tuple[tuple[str, str, str], ...]

    def finds(self, labels: dict[str, str]) -> bool:
        """Whether a series is among them."""
        return all(
            _holds(operator, labels.get(label, ""), value)
            for label, operator, value in self.matchers
        )


def _holds(operator: str, have: str, want: str) -> bool:
    if operator in ("=", "!="):
        return (have == want) is (operator == "=")
    return bool(re.fullmatch(want, have)) is (operator == "=~")


def selectors(expression: str) -> list[Selector]:
    """The selectors of an expression, in order."""
    # Durations and numbers are no names.
    plain = re.sub(r"\[[^\]]*\]", "", _GROUPING.sub("", expression))
    found = []
    for name, matchers in _SELECTOR.findall(plain):
        if name.casefold() not in _WORDS:
            found.append(Selector(name, tuple(_MATCHER.findall(matchers))))
    return found


def labels(expression: str) -> set[str]:
    """The labels that an expression groups by."""
    listed = (name.strip() for group in _GROUPING.findall(expression) for name in group.split(","))
    return {name for name in listed if name}
