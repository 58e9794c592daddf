"""Real scanners' reports, where a collection of them is at hand.

`WINNOW_SAMPLES` names a folder with `index.json`, whose `raw_records` says what
is really in each file; `make conformance` prints the same as a table.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from runtime.errors import WinnowError
from tests.ingestor.reading_reports import ingest
from tools.conformance import main

SAMPLES = Path(os.environ.get("WINNOW_SAMPLES", ""))
here = pytest.mark.skipif(
    "WINNOW_SAMPLES" not in os.environ or not (SAMPLES / "index.json").exists(),
    reason="WINNOW_SAMPLES names no collection",
)


def _samples() -> list[Any]:
    if "WINNOW_SAMPLES" not in os.environ or not (SAMPLES / "index.json").exists():
        return [pytest.param("", marks=here)]
    files = json.loads((SAMPLES / "index.json").read_bytes())["files"]
    return [f["file"] for f in files if (SAMPLES / f["file"]).exists()]


@here
def test_every_record_is_accounted_for() -> None:
    assert main(SAMPLES) == 0


@pytest.mark.parametrize("file", _samples())
def test_pieces_of_any_size_give_the_same(file: str) -> None:
    data = (SAMPLES / file).read_bytes()
    assert _outcome(data, 1 << 18) == _outcome(data, 777)


def _outcome(data: bytes, size: int) -> object:
    """The counts, or why the report is refused."""
    try:
        return ingest(data, size=size).counts
    except WinnowError as refused:
        return refused.reason
