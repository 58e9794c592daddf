"""A slice of `tools/fuzz_api.py`: no request makes the gateway answer what its document
does not say, or fail, or echo."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

from tests.e2e.house import SERVICES, House
from tests.security import api_fuzz
from tests.security.conftest import running, said_since

SEED = 20261122
CASES = 12  # to each route


def test_every_route_keeps_to_its_document(house: House) -> None:
    before, begin = running(house), house.log.stat().st_size
    thrown = api_fuzz.throw(house.url, api_fuzz.known_ids(house.url), CASES, SEED)
    assert thrown.failed == set()
    # Both ways through were seen: refusals, and answers.
    assert thrown.statuses.total() >= 200
    assert {200, 400, 404} <= set(thrown.statuses)
    assert set(before) == set(SERVICES)
    assert running(house) == before
    said = said_since(house, begin)
    assert api_fuzz.MARKER not in said
    assert "http.failed" not in said
    assert "rpc.defect" not in said


def test_an_answer_that_the_document_does_not_say_is_seen(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = json.loads(api_fuzz.DOCUMENT.read_text())
    route = copy.deepcopy(document["paths"]["/reports/{report_id}"])
    del route["get"]["responses"]["404"]
    route["get"]["responses"]["200"]["content"]["application/json"]["schema"] = {"type": "array"}
    document["paths"] = {"/reports/{report_id}": route}
    doctored = tmp_path / "openapi.json"
    doctored.write_text(json.dumps(document))
    monkeypatch.setattr(api_fuzz, "DOCUMENT", doctored)
    failed = api_fuzz.throw(house.url, api_fuzz.known_ids(house.url), 20, SEED).failed
    assert "GET /reports/{report_id} 404 UndefinedStatusCode" in failed
    assert "GET /reports/{report_id} 200 JsonSchemaError" in failed
