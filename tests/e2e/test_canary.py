"""A slice of the canary proof, and that it finds out a build that leaks (tools/canary)."""

from __future__ import annotations

import random

import pytest

from tests.ingestor.reading_reports import ingest
from tools.canary import reports
from tools.canary.heard import PLACES, table
from tools.canary.planting import Value, makers, pieces, plant, public_pieces
from tools.canary.proof import Plan, run
from tools.canary.reports import SHAPES
from tools.canary.search import Search, forms

pytestmark = pytest.mark.xdist_group("e2e")

_FEW = 40
_SHAPES = SHAPES[:2]


def _quiet(_text: str) -> None:
    pass


def test_nothing_is_found_and_every_place_was_searched() -> None:
    result = run(Plan(7, _FEW, _SHAPES, brief=True), _quiet)
    assert result.found == []
    assert result.blind == []
    assert set(result.searched) == set(PLACES)
    assert "total" in table(result.values, result.found, PLACES)


def test_a_build_that_leaks_is_found_out() -> None:
    result = run(Plan(7, _FEW, _SHAPES[:1], brief=True, leak="masks"), _quiet)
    assert {"dump", "files", "wal", "rest", "grpc", "cli"} <= {one.place for one in result.found}


def test_values_are_many_distinct_and_of_many_kinds() -> None:
    values = plant(7, 500)
    assert len({value.text for value in values}) == 500
    assert len({value.kind for value in values}) == len(makers()) > 40
    assert values == plant(7, 500)
    assert not {value.text for value in values} & {value.text for value in plant(8, 500)}
    assert not any(value.text in repr(value) for value in values)


@pytest.fixture(scope="module")
def values() -> list[Value]:
    return plant(7, len(makers()))


@pytest.fixture(scope="module")
def search(values: list[Value]) -> Search:
    return Search(values, public_pieces(8))


def test_every_form_of_every_value_is_found_across_blocks(
    search: Search, values: list[Value]
) -> None:
    for value in values:
        for form, written in forms(value.text):
            assert value.number in {hit.number for hit in search.hits(b"<" + written + b">")}, form
    late = (1 << 20) - 3
    found = list(search.hits(b" " * late + values[0].text.upper().encode()))
    assert values[0].number in {hit.number for hit in found}
    assert {hit.at for hit in found} >= {late}


def test_nothing_is_found_where_nothing_is(search: Search) -> None:
    assert list(search.hits(b"")) == []
    assert list(search.hits(random.Random(1).randbytes(1 << 20))) == []


def test_what_is_public_in_a_value_is_not_looked_for(values: list[Value]) -> None:
    public = public_pieces(8)
    for value in values:
        known = [piece.lower() in public[value.kind] for piece in pieces(value.text)]
        assert not known or not all(known), value.kind
    key = next(value for value in values if value.kind == "rsa_key")
    assert key.text[:12].lower() in public[key.kind]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_every_shape_is_read_as_its_format(shape: reports.Shape, values: list[Value]) -> None:
    outcome = ingest(reports.tidy(shape, values[:30]))
    assert outcome.summary.findings >= 30
    assert not outcome.summary.rejected
    # Names begin with the format's.
    assert shape.name.startswith(outcome.format.scanner_type)
    known = outcome.findings[0].value_state
    assert known or shape.reads is reports.Reads.NOWHERE
