"""docs/formats.md is what the parsers say."""

from __future__ import annotations

from pathlib import Path

from ingestor.formats import document, known
from ingestor.parsers import PARSERS

ROOT = Path(__file__).resolve().parents[2]


def test_committed_document_is_fresh() -> None:
    committed = (ROOT / "docs" / "formats.md").read_text("utf-8")
    assert committed == document(), "run: python -m ingestor.formats > docs/formats.md"


def test_every_format_says_what_it_reads() -> None:
    described = known()
    assert [found.id for found in described] == sorted(PARSERS)
    for found in described:
        assert all((found.title, found.versions, found.shapes, found.kinds)), found.id
