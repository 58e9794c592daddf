"""Many regular expressions over bytes in one pass.

Patterns are the common ground of Hyperscan and RE2: no back-references, no
look-around, nothing that matches the empty string; `(?i)` at the start makes a
pattern caseless. They work on bytes: `.` is one byte, never a newline.

Hyperscan does the work where it can be imported; elsewhere, or with
`WINNOW_MATCHER=re2`, RE2 gives the same answers more slowly. What Hyperscan
compiles, which takes seconds, is kept in the directory that
`WINNOW_MATCHER_CACHE` names, and read back in a millisecond. Native code reads it
and believes it: it must be this user's own, and so must the directory.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import stat
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

Span = tuple[int, int, int]

CACHE = "WINNOW_MATCHER_CACHE"


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

        self._hyperscan: Any = hyperscan
        self._patterns = patterns

    def _database(self, flags: int) -> Any:
        """The patterns compiled, from the cache if they are there and whole."""
        folder = os.environ.get(CACHE)
        if not folder:
            return self._compile(flags)
        of = repr((self._hyperscan.__version__, flags, self._patterns)).encode()
        file = Path(folder) / hashlib.sha256(of).hexdigest()
        # Hyperscan itself sees bytes that are damaged, or compiled for another processor.
        with contextlib.suppress(OSError, self._hyperscan.error):
            database = self._hyperscan.loadb(_get(file), self._hyperscan.HS_MODE_BLOCK)
            database.scratch = self._hyperscan.Scratch(database)
            return database
        database = self._compile(flags)
        with contextlib.suppress(OSError):
            _put(file, self._hyperscan.dumpb(database))
        return database

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
        return self._database(self._hyperscan.HS_FLAG_SINGLEMATCH)

    @cached_property
    def _places(self) -> Any:
        return self._database(self._hyperscan.HS_FLAG_SOM_LEFTMOST)

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


def _get(file: Path) -> bytes:
    """What a file holds that only we can have written.

    Raises:
        OSError: there is none.
    """
    with _folder(file.parent) as folder:
        # Of a FIFO the opening alone would wait for somebody who writes.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
        with os.fdopen(os.open(file.name, flags, dir_fd=folder), "rb") as opened:
            _check_ours(opened.fileno(), stat.S_IFREG)
            return opened.read()


def _put(file: Path, content: bytes) -> None:
    """A file that is whole or not there, and its owner's only.

    Raises:
        OSError: it cannot be written.
    """
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = f"{file.name}.{secrets.token_hex(8)}"
    with _folder(file.parent) as folder:
        descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=folder)
        try:
            with os.fdopen(descriptor, "wb") as opened:
                opened.write(content)
            os.replace(made, file.name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            os.unlink(made, dir_fd=folder)
            raise


@contextlib.contextmanager
def _folder(path: Path) -> Iterator[int]:
    """A directory of ours, open: what is done in it is done in the one that was looked at."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _check_ours(descriptor, stat.S_IFDIR)
        yield descriptor
    finally:
        os.close(descriptor)


def _check_ours(descriptor: int, kind: int) -> None:
    """Raises PermissionError unless it is of that kind, this user's, and nobody else writes it."""
    found = os.fstat(descriptor)
    writable = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if stat.S_IFMT(found.st_mode) != kind or found.st_uid != os.geteuid() or writable:
        raise PermissionError


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
