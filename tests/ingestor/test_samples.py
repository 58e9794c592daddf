"""Real scanners' reports, where a collection of them is at hand.

`WINNOW_SAMPLES` names a folder with `index.json`, whose `raw_records` says what
is really in each file.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from runtime.errors import WinnowError
from tests.ingestor.reading_reports import ingest

SAMPLES = Path(os.environ.get("WINNOW_SAMPLES", ""))
READ = {"trufflehog_v3": "trufflehog", "gitleaks_v8": "gitleaks", "sarif": "sarif"}
REFUSED = ("trufflehog_v2", "gitleaks_v7", "gitleaks_v4_v6", "trivy", "semgrep", "credsweeper")


def _samples(formats: Any) -> list[Any]:
    index = SAMPLES / "index.json"
    if "WINNOW_SAMPLES" not in os.environ or not index.exists():
        return [pytest.param({}, marks=pytest.mark.skip("WINNOW_SAMPLES names no collection"))]
    return [
        pytest.param(sample, id=sample["file"])
        for sample in json.loads(index.read_bytes())["files"]
        if sample["format"] in formats and (SAMPLES / sample["file"]).exists()
    ]


@pytest.mark.parametrize("sample", _samples(READ))
def test_every_record_is_accounted_for(sample: dict[str, Any]) -> None:
    data = (SAMPLES / sample["file"]).read_bytes()
    found, again = ingest(data), ingest(data, READ[sample["format"]], size=777)
    assert found.format.scanner_type == READ[sample["format"]]
    assert found.counts == again.counts
    assert found.summary.records_read == (sample["raw_records"] or 0)
    assert found.summary.rejected == 0


@pytest.mark.parametrize("sample", _samples(REFUSED))
def test_other_formats_are_not_misread(sample: dict[str, Any]) -> None:
    data = (SAMPLES / sample["file"]).read_bytes()
    if len(data) < 8:  # "[]" is an empty report of any format
        assert ingest(data).format.shape == "empty"
    else:
        with pytest.raises(WinnowError) as raised:
            ingest(data)
        assert raised.value.reason == "FORMAT_UNKNOWN"
