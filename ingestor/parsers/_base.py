"""What a parser is."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from ingestor.framing import Source
from ingestor.records import Record
from winnow.ingest.v1.rejected_pb2 import Rejected


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
            order mark) and the declared serialisation (may be empty).
        parse: the records in the report's order, lazily. Raises
            `reading.Malformed` where nothing more can be read.
    """

    id: str
    version: str
    title: str
    aliases: tuple[str, ...]
    shapes: tuple[str, ...]
    sniff: Callable[[bytes, str], float]
    parse: Callable[[Source], Iterator[Record | Rejected]]

    @property
    def label(self) -> str:
        """Id and version, e.g. "gitleaks/1"."""
        return f"{self.id}/{self.version}"


_KEY = re.compile(rb'(?<!\\)"([\w$.-]{1,64})"\s*:')


@lru_cache(maxsize=2)  # every parser asks about the same head
def unescaped_keys(head: bytes) -> frozenset[bytes]:
    """Names that stand as members of JSON objects. In a string's content the
    quotes are escaped, so a report quoted inside another one does not count.
    """
    return frozenset(_KEY.findall(head))


def signs(names: Iterable[bytes]) -> re.Pattern[bytes]:
    """Finds a member of one of these names, as `Source.records` asks for it."""
    return re.compile(rb'(?<!\\)"(?:' + b"|".join(sorted(names)) + rb')"\s*:')
