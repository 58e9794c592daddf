"""Page tokens: what goes in comes out, and nothing else does."""

from __future__ import annotations

import contextlib
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime import paging
from runtime.errors import WinnowError
from winnow.report.v1.report_pb2 import Report

numbers = st.integers(0, 2**63 - 1)
queries = st.lists(st.text(max_size=10) | st.integers() | st.none(), max_size=4).map(tuple)


@given(numbers, queries)
def test_round_trip(number: int, query: tuple[object, ...]) -> None:
    token = paging.encode(str(number), *query)
    assert paging.after_number(token, *query) == number
    assert token.isascii()
    assert not set(token) & set("=+/&?% ")


@given(st.uuids(), queries)
def test_round_trip_of_ids(identifier: uuid.UUID, query: tuple[object, ...]) -> None:
    token = paging.encode(str(identifier), *query)
    assert paging.after_id(token, *query) == identifier


@given(numbers, queries, queries)
def test_another_querys_token_is_refused(
    number: int, query: tuple[object, ...], other: tuple[object, ...]
) -> None:
    token = paging.encode(str(number), *query)
    if query != other:
        with pytest.raises(WinnowError) as caught:
            paging.after_number(token, *other)
        assert caught.value.reason == "PAGE_TOKEN_INVALID"


@given(numbers, st.integers(0), st.sampled_from("Aa0_-zZ9"))
def test_a_changed_token_never_leads_elsewhere(number: int, where: int, new: str) -> None:
    token = paging.encode(str(number), "q")
    where %= len(token)
    changed = token[:where] + new + token[where + 1 :]
    with contextlib.suppress(WinnowError):
        assert paging.after_number(changed, "q") == number


@given(st.text(min_size=1, max_size=80))
def test_garbage_is_refused_and_not_repeated(token: str) -> None:
    for read in (paging.after_number, paging.after_id):
        with pytest.raises(WinnowError) as caught:
            read(token, "q")
        assert caught.value.reason == "PAGE_TOKEN_INVALID"
        assert caught.value.message.startswith("page_token is not one of ours")


@pytest.mark.parametrize("position", ["abc", "1.5", "-2", str(2**63), "1" * 40, ""])
def test_a_forged_position_is_refused(position: str) -> None:
    """The digest has no key: whoever knows how can make a token, and gets nothing by it."""
    token = paging.encode(position, "q")
    for read in (paging.after_number, paging.after_id):
        with pytest.raises(WinnowError) as caught:
            read(token, "q")
        assert caught.value.reason == "PAGE_TOKEN_INVALID"


def test_characters_that_base64_would_skip_are_refused() -> None:
    with pytest.raises(WinnowError):
        paging.after_number(paging.encode("7", "q") + "!!", "q")


def test_no_token_is_the_beginning() -> None:
    assert paging.after_number("", "q") == -1
    assert paging.after_id("", "q") is None


def test_a_page_of_long_rows_ends_early_and_is_never_empty() -> None:
    rows = [Report(report_id=str(number), parser="x" * 900_000) for number in range(5)]
    page, more = paging.cut(rows, 4)
    assert ([row.report_id for row in page], more) == (["0", "1"], True)
    assert paging.cut([Report(parser="x" * 3_000_000)], 4)[0]
    assert paging.cut(rows[:1], 1) == (rows[:1], False)
    assert paging.cut([], 3) == ([], False)
