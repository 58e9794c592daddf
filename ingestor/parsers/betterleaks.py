"""Betterleaks, gitleaks' successor: 1 writes gitleaks' records and more, 2 its own."""

from __future__ import annotations

from collections.abc import Iterator

from ingestor.framing import Source
from ingestor.parsers import _betterleaks_1 as first
from ingestor.parsers import _betterleaks_2 as second
from ingestor.parsers._base import Parser, each, unescaped_keys
from ingestor.records import Record
from winnow.ingest.v1.rejected_pb2 import Rejected


def _sniff(head: bytes, _name: str) -> float:
    keys = unescaped_keys(head)
    return max(first.confidence(keys), second.confidence(keys))


def _parse(source: Source) -> Iterator[Record | Rejected]:
    keys = unescaped_keys(source.head())
    if second.confidence(keys):
        return second.parse(source, keys)
    source.dialect = "betterleaks 1"
    return each(source, source.records(first.SIGNS), first.DIALECT, first.record)


PARSER = Parser(
    id="betterleaks",
    version="1",
    title="Betterleaks",
    aliases=("betterleaks1", "betterleaks2", "betterleaks-v1", "betterleaks-v2"),
    shapes=("object", "array", "NDJSON", '{"findings": […]}'),
    sniff=_sniff,
    parse=_parse,
    versions="1, and 2 as of 2.0.0-rc.4",
    notes="Its CSV, and JSON of 1 that has neither attributes nor checks, have gitleaks' own "
    "shape and are read as that; betterleaks may be declared all the same.",
    writes=("gitleaks",),
)
