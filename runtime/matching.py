"""Many regular expressions over bytes in one pass.

Patterns are the common ground of Hyperscan and RE2: no back-references, no
look-around, nothing that matches the empty string; `(?i)` at the start makes a
pattern caseless. They work on bytes: `.` is one byte, never a newline.

Hyperscan does the work where it can be imported; elsewhere, or with
`WINNOW_MATCHER=re2`, RE2 gives the same answers more slowly.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any, Protocol

Span = tuple[int, int, int]


class _Engine(Protocol):
    """One way of running the patterns; both compile when first needed."""

    def hits(self, data: bytes) -> list[int]: ...

    def scan(self, data: bytes) -> list[Span]: ...


def _longest_first(span: Span) -> Span:
    index, start, end = span
    return index, start, -end


def _without_overlaps(spans: Iterable[Span]) -> list[Span]:
    """Leftmost-longest spans of each pattern, by (pattern, start)."""
    kept: list[Span] = []
    last_index, last_end = -1, 0
    for index, start, end in sorted(spans, key=_longest_first):
        if index != last_index or start >= last_end:
            kept.append((index, start, end))
            last_index, last_end = index, end
    return kept


class _Hyperscan:
    def __init__(self, patterns: Sequence[bytes]) -> None:
        import hyperscan

        self._hyperscan = hyperscan
        self._patterns = patterns

    def _compile(self, flags: int) -> Any:
        database = self._hyperscan.Database(mode=self._hyperscan.HS_MODE_BLOCK)
        count = len(self._patterns)
        database.compile(
            expressions=list(self._patterns),
            ids=list(range(count)),
            elements=count,
            flags=[flags] * count,
        )
        return database

    @cached_property
    def _presence(self) -> Any:
        # Every match costs a Python call: SINGLEMATCH asks for one a pattern.
        return self._compile(self._hyperscan.HS_FLAG_SINGLEMATCH)

    @cached_property
    def _places(self) -> Any:
        return self._compile(self._hyperscan.HS_FLAG_SOM_LEFTMOST)

    def hits(self, data: bytes) -> list[int]:
        found: list[int] = []
        self._presence.scan(data, _keep_index, 0, found.append)  # keywords would cost half again
        if len(found) > 1:
            found.sort()
        return found

    def scan(self, data: bytes) -> list[Span]:
        found: list[Span] = []
        self._places.scan(data, _keep_span, 0, found.append)
        return _without_overlaps(found) if len(found) > 1 else found


def _keep_index(index: int, _start: int, _end: int, _flags: int, keep: Any) -> None:
    keep(index)


def _keep_span(index: int, start: int, end: int, _flags: int, keep: Any) -> None:
    keep((index, start, end))


# RE2 gives up on a set, silently, when its automaton outgrows this many bytes.
_RE2_MEMORY = 512 << 20


class _Re2:
    def __init__(self, patterns: Sequence[bytes]) -> None:
        import re2

        self._re2 = re2
        self._patterns = patterns

    def _options(self) -> Any:
        options = self._re2.Options()
        options.encoding = self._re2.Options.Encoding.LATIN1  # bytes, as Hyperscan reads them
        options.longest_match = True
        options.max_mem = _RE2_MEMORY
        options.log_errors = False
        return options

    @cached_property
    def _set(self) -> Any:
        compiled = self._re2.Set.SearchSet(self._options())
        for pattern in self._patterns:
            compiled.Add(pattern)
        compiled.Compile()
        return compiled

    @cached_property
    def _each(self) -> list[Any]:
        options = self._options()
        return [self._re2.compile(pattern, options) for pattern in self._patterns]

    def hits(self, data: bytes) -> list[int]:
        return sorted(self._set.Match(data) or ())

    def scan(self, data: bytes) -> list[Span]:
        return [
            (index, *match.span())
            for index in self.hits(data)
            for match in self._each[index].finditer(data)
        ]


def _engine(patterns: Sequence[bytes]) -> _Engine:
    if os.environ.get("WINNOW_MATCHER") == "re2":
        return _Re2(patterns)
    try:
        return _Hyperscan(patterns)
    except ImportError:
        return _Re2(patterns)


class Matcher:
    """A fixed set of patterns, compiled when first used.

    One instance serves one thread at a time (Hyperscan's scratch space is part
    of it); give each thread its own.

    Args:
        patterns: (id, regular expression) pairs; ids are unique. Results speak
            of a pattern by its index in this sequence.
    """

    def __init__(self, patterns: Sequence[tuple[str, str]]) -> None:
        self.ids = [pattern_id for pattern_id, _ in patterns]
        if len(set(self.ids)) != len(self.ids):
            raise ValueError("pattern ids must be unique")
        self._run = _engine([expression.encode("latin-1") for _, expression in patterns])
        self.hits = self._run.hits
        self.scan = self._run.scan

    @property
    def engine(self) -> str:
        """Which engine runs: "hyperscan" or "re2"."""
        return "hyperscan" if isinstance(self._run, _Hyperscan) else "re2"
