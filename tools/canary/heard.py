"""Everything that was heard, by place, and what of it must not have been said."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tools.canary.planting import Value
from tools.canary.search import Search

# What is told about, from what is kept to what leaves the machine.
PLACES = ("dump", "files", "wal", "logs", "audit", "rest", "grpc", "errors", "cli", "llm")

_MARK = b"\x00\x00heard: "
_INSERT = b"INSERT INTO "
_NAME = re.compile(rb"[^\x00(]*")
# As pg_dump writes bytea in hex.
_BYTEA = re.compile(rb"\\x((?:[0-9a-f]{2}){8,})")
_PIECE = 1 << 26  # bytes of a file that are looked at together
_LAP = 1 << 14  # of which so many were in the piece before: longer than any pattern


class Found(NamedTuple):
    """A value in a place.

    Args:
        number: the value's.
        place: one of `PLACES`.
        form: how it was written.
        where: the answer, file or line.
    """

    number: int
    place: str
    form: str
    where: str


class Heard:
    """What was said in each place, kept in files until it is looked at.

    Args:
        folder: for the files.
    """

    def __init__(self, folder: Path) -> None:
        self._files = {place: (folder / place).open("wb") for place in PLACES}
        self._lock = threading.Lock()
        self.bytes: Counter[str] = Counter()

    def note(self, place: str, label: str, *said: bytes) -> None:
        """Something that was said.

        Args:
            place: one of `PLACES`.
            label: what it was the answer to; never holds a value.
            said: its parts.
        """
        with self._lock:
            self._files[place].write(_MARK + label.encode() + b"\x00" + b"\n".join(said))

    def look(self, search: Search, place: str, more: Sequence[Path] = ()) -> set[Found]:
        """What is found in what was noted for a place, and in further files."""
        self._files[place].flush()
        noted = Path(self._files[place].name)
        found = set()
        for path in (noted, *more):
            for piece in _pieces(path):
                self.bytes[place] += len(piece)
                found |= set(_found(search, place, piece, "" if path == noted else path.name))
        return found


def _pieces(path: Path) -> Iterator[bytes]:
    """A file's content, with the bytes that stand in it as hex."""
    with path.open("rb") as file:
        lap = b""
        while data := file.read(_PIECE):
            # To the end of a line: a row is not taken apart.
            piece = lap + data + file.readline()
            yield _BYTEA.sub(lambda run: bytes.fromhex(run[1].decode()), piece)
            lap = piece[-_LAP:]


def _found(search: Search, place: str, data: bytes, name: str) -> Iterator[Found]:
    known = set()
    for number, form, at in search.hits(data):
        if (number, form) not in known:
            known.add((number, form))
            yield Found(number, place, form, f"{name} {_where(data, at)}".strip())


def _where(data: bytes, at: int) -> str:
    """The label, or the table, under which a place in the data stands."""
    for sign in (_MARK, _INSERT):
        if (begin := data.rfind(sign, 0, at)) >= 0:
            found = _NAME.match(data, begin + len(sign), at)
            return found[0].decode(errors="replace").strip() if found else ""
    return ""


def table(values: Sequence[Value], found: Iterable[Found], places: Sequence[str]) -> str:
    """Kinds by places, with the number of values that were found."""
    kinds: dict[str, int] = {}
    for value in values:
        kinds[value.kind] = kinds.get(value.kind, 0) + 1
    named = {value.number: value.kind for value in values}
    hits = Counter((named[number], place) for number, place in {(f.number, f.place) for f in found})
    lines = [f"{'kind':<24} {'values':>6} " + " ".join(f"{place:>6}" for place in places)]
    for kind, count in sorted(kinds.items()):
        cells = " ".join(f"{hits[kind, place]:>6}" for place in places)
        lines.append(f"{kind:<24} {count:>6} {cells}")
    totals = " ".join(f"{sum(hits[kind, place] for kind in kinds):>6}" for place in places)
    lines.append(f"{'total':<24} {len(values):>6} {totals}")
    return "\n".join(lines)
