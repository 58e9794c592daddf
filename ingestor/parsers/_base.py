"""What a parser is."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import msgspec

from ingestor.dialect import Dialect
from ingestor.framing import Source
from ingestor.records import Record
from winnow.finding.v1.finding_pb2 import FINDING_KIND_POSSIBLE_SECRET, FindingKind
from winnow.ingest.v1.rejected_pb2 import Rejected

T = TypeVar("T", bound=msgspec.Struct)


@dataclass(frozen=True)
class Parser:
    """One scanner's format.

    Attributes:
        id: scanner type as submitters write it.
        version: raised whenever the output changes for the same bytes.
        title: name for people.
        aliases: other scanner types that mean this format.
        shapes: what it reads, for people.
        sniff: confidence from 0 to 1 from the first 64 KiB (UTF-8, no byte
            order mark) and the declared serialisation (may be empty). From 0.5
            on the content is taken for this format; formats that resemble each
            other must keep 0.1 apart on each other's reports.
        parse: the records in the report's order, lazily. Raises
            `reading.Malformed` where nothing more can be read.
        versions: versions of the tool whose reports it reads, for people.
        kinds: kinds of finding that it carries.
        incremental: whether it reads from front to back in flat memory.
        notes: what is special about it, for people, in a sentence or two.
        writes: ids of other parsers whose formats this scanner writes as well: to
            declare it for such a report is no mismatch.
    """

    id: str
    version: str
    title: str
    aliases: tuple[str, ...]
    shapes: tuple[str, ...]
    sniff: Callable[[bytes, str], float]
    parse: Callable[[Source], Iterator[Record | Rejected]]
    versions: str = ""
    kinds: tuple[FindingKind.ValueType, ...] = (FINDING_KIND_POSSIBLE_SECRET,)
    incremental: bool = True
    notes: str = ""
    writes: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """Id and version, e.g. "gitleaks/1"."""
        return f"{self.id}/{self.version}"


_KEY = re.compile(rb'(?<!\\)"([\w$.-]{1,64})"\s*:')
_MOST_KEYS = 1 << 14


@lru_cache(maxsize=2)  # every parser asks about the same head
def unescaped_keys(head: bytes) -> frozenset[bytes]:
    """Names that stand as members of JSON objects. In a string's content the
    quotes are escaped, so a report quoted inside another one does not count.
    """
    names: set[bytes] = set()
    for match in _KEY.finditer(head):
        names.add(match[1])
        if len(names) == _MOST_KEYS:
            break
    return frozenset(names)


def signs(names: Iterable[bytes]) -> re.Pattern[bytes]:
    """Finds a member of one of these names, as `Source.records` asks for it."""
    return re.compile(rb'(?<!\\)"(?:' + b"|".join(sorted(names)) + rb')"\s*:')


def each(
    source: Source,
    raws: Iterable[bytes | Rejected],
    dialect: Dialect[T],
    make: Callable[[T, bytes], Record],
) -> Iterator[Record | Rejected]:
    """A record for each raw value of one dialect.

    Args:
        source: where they come from, for `at_byte` and notices.
        raws: as `Source.records` and `Source.elements` give them.
        dialect: how they are read.
        make: a read value and its bytes as a record.
    """
    for raw in raws:
        if isinstance(raw, Rejected):
            yield raw
            continue
        found = dialect.read(raw, source.notices)
        if found is None:
            continue
        if isinstance(found, Rejected):
            found.at_byte = source.at_byte()
            yield found
        else:
            yield make(found, raw)
