"""ggshield: incidents by file, of one scan or of scans within it
(ggshield, doc/schemas/secret.json).

An incident is one secret in one file; its occurrences are the places, and the
parts of a secret that has several.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

import msgspec

from ingestor.dialect import Dialect
from ingestor.framing import Handler, Source
from ingestor.parsers._base import Parser, unescaped_keys
from ingestor.parsers._ggshield_incident import Incident, record_of
from ingestor.parsers._part import part
from ingestor.parsers._words import incomplete
from ingestor.reading import Malformed
from ingestor.records import Record, reject
from winnow.ingest.v1.rejected_pb2 import Rejected


class _Extra(msgspec.Struct, gc=False):
    date: str = ""


class _Held(NamedTuple):
    """An incident that was read before what its scan says of itself."""

    raw: bytes | Rejected
    at_byte: int
    path: str


class _Waiting:
    """Incidents that stand before what concerns them, as many as may be held."""

    def __init__(self) -> None:
        self._held: list[_Held] = []
        self._size = 0

    @property
    def full(self) -> bool:
        return self._size > _MAX_HELD

    def add(self, one: _Held) -> None:
        self._held.append(one)
        self._size += _HELD_ITEM + (0 if isinstance(one.raw, Rejected) else len(one.raw))

    def take(self) -> list[_Held]:
        held, self._held, self._size = self._held, [], 0
        return held


_DIALECT = Dialect(Incident, expected=("validity",))
_TEXT = msgspec.json.Decoder(str)
_EXTRA = msgspec.json.Decoder(_Extra)

_ENTITIES = ("entities_with_incidents", "entities_with_issues")
_INCIDENTS = ("incidents", "issues")
_KNOWN = frozenset(
    (
        "total_incidents",
        "total_occurrences",
        "total_issues",
        "secrets_engine_version",
        "mode",
    )
)
_DEEPEST = 16  # scans within each other
_MAX_HELD = 4 << 20  # bytes that wait, of a file and of each of these scans
_HELD_ITEM = 256  # bytes that holding an incident takes beside its own


def _sniff(head: bytes, _name: str) -> float:
    keys = unescaped_keys(head)
    if keys & set(map(str.encode, _ENTITIES)):
        return 1.0
    totals = keys & {b"total_incidents", b"total_issues"}
    return 0.9 if totals and keys & {b"scans", b"type"} else 0.0


def _text(source: Source) -> str:
    """The string at the position; empty if it is none."""
    return part(source.value(), _TEXT) or ""


def _date(extra: _Extra | None) -> str:
    """When the commit was made, as ISO 8601; git writes it in its own way."""
    said = extra.date if extra else ""
    try:
        return datetime.strptime(said, "%a %b %d %H:%M:%S %Y %z").isoformat()
    except ValueError:
        return said


def _entity(source: Source) -> Iterator[_Held]:
    """The incidents of one file."""
    path, waiting = "", _Waiting()
    for name in source.members():
        if name == "filename":
            path = _text(source)
        elif name in _INCIDENTS and source.peek() == b"[":
            for raw in source.elements():
                waiting.add(_Held(raw, source.at_byte(), ""))
                if path or waiting.full:
                    yield from (one._replace(path=path) for one in waiting.take())
        else:
            if name not in _KNOWN:
                source.notices.unknown(f"{_ENTITIES[0]}[].{name}")
            source.skip()
    yield from (one._replace(path=path) for one in waiting.take())


class _Scan:
    """A scan, or one within it: a commit, a document.

    What a scan says of itself may stand behind its incidents. Those of a scan
    within another one wait for it, as far as there is room.
    """

    def __init__(self, source: Source, depth: int = 0) -> None:
        self._source, self._depth = source, depth
        self._id = self._type = self._date = ""

    def read(self) -> Iterator[Record | Rejected]:
        source = self._source
        waiting = _Waiting()

        def about(name: str) -> Handler:
            def handler() -> Iterator[Record | Rejected]:
                setattr(self, name, _text(source))
                yield from ()

            return handler

        def extra_info() -> Iterator[Record | Rejected]:
            self._date = _date(part(source.value(), _EXTRA))
            yield from ()

        def entities() -> Iterator[Record | Rejected]:
            for _ in self._objects():
                for one in _entity(source):
                    waiting.add(one)
                    if not self._depth or waiting.full:
                        yield from self._records(waiting.take())

        def scans() -> Iterator[Record | Rejected]:
            for _ in self._objects():
                if self._depth < _DEEPEST:
                    yield from _Scan(source, self._depth + 1).read()
                else:
                    at_byte = source.offset()
                    source.skip()
                    yield reject("TOO_DEEP", "scans are nested too deeply", "scans", at_byte)

        handlers: dict[str, Handler] = {
            "id": about("_id"),
            "type": about("_type"),
            "extra_info": extra_info,
            "scans": scans,
            "errors": lambda: incomplete(source, "errors"),
            **dict.fromkeys(_ENTITIES, entities),
        }
        yield from source.walk(handlers, _KNOWN, "scans[]" if self._depth else "")
        yield from self._records(waiting.take())

    def _objects(self) -> Iterator[None]:
        """The objects of the array at the position; nothing else belongs there."""
        source = self._source
        if source.peek() != b"[":
            source.skip()
            return
        for _ in source.items():
            if source.peek() != b"{":
                raise Malformed(source.offset())
            yield

    def _records(self, held: list[_Held]) -> Iterator[Record | Rejected]:
        commit = self._id if self._type == "commit" else ""
        for raw, at_byte, path in held:
            if isinstance(raw, Rejected):
                yield raw
                continue
            found = _DIALECT.read(raw, self._source.notices)
            if isinstance(found, Incident):
                yield record_of(found, raw, path, commit, self._date)
            elif found is not None:
                found.at_byte = at_byte
                yield found


def _parse(source: Source) -> Iterator[Record | Rejected]:
    issues = b"entities_with_issues" in unescaped_keys(source.head())
    source.dialect = "ggshield 1, early" if issues else "ggshield 1"
    return source.documents(lambda: _Scan(source).read())


PARSER = Parser(
    id="ggshield",
    version="1",
    title="ggshield",
    aliases=("gitguardian", "gg-shield"),
    shapes=("object",),
    sniff=_sniff,
    parse=_parse,
    versions="1",
    notes="A record is an incident, with all its occurrences. Matches are censored unless the "
    "scan was made with --show-secrets.",
)
