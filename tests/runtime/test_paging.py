"""Page tokens: what goes in comes out, and nothing else does."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime import paging
from runtime.errors import WinnowError

positions = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=60)
queries = st.lists(st.text(max_size=10) | st.integers() | st.none(), max_size=4).map(tuple)


@given(positions, queries)
def test_round_trip(position: str, query: tuple[object, ...]) -> None:
    token = paging.encode(position, *query)
    assert paging.decode(token, *query) == position
    assert token.isascii()
    assert not set(token) & set("=+/&?% ")


@given(positions, queries, queries)
def test_another_querys_token_is_refused(
    position: str, query: tuple[object, ...], other: tuple[object, ...]
) -> None:
    token = paging.encode(position, *query)
    if query != other:
        with pytest.raises(WinnowError) as caught:
            paging.decode(token, *other)
        assert caught.value.reason == "PAGE_TOKEN_INVALID"


@given(positions, st.integers(0), st.sampled_from("Aa0_-zZ9"))
def test_a_changed_token_never_leads_elsewhere(position: str, where: int, new: str) -> None:
    token = paging.encode(position, "q")
    where %= len(token)
    changed = token[:where] + new + token[where + 1 :]
    with contextlib.suppress(WinnowError):
        assert paging.decode(changed, "q") == position


@given(st.text(min_size=1, max_size=80))
def test_garbage_is_refused_and_not_repeated(token: str) -> None:
    with pytest.raises(WinnowError) as caught:
        paging.decode(token, "q")
    assert caught.value.reason == "PAGE_TOKEN_INVALID"
    assert caught.value.message.startswith("page_token is not one of ours")


def test_no_token_is_the_beginning() -> None:
    assert paging.decode("", "q") == ""
