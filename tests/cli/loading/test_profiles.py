"""Profiles: as many moments as the rate makes, in order, the same for the same seed."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from cli.loading.profiles import Burst, Profile, Ramp, Soak, Span, expected, moments, peak

_RATES = st.floats(0, 200).map(lambda rate: round(rate, 2))
_LENGTHS = st.floats(0.5, 60).map(lambda length: round(length, 2))
_MADE: TypeAdapter[Any] = TypeAdapter(Profile)


def _made(kind: str, **members: float) -> Any:
    return _MADE.validate_python({"kind": kind, **members})


profiles = st.one_of(
    st.builds(lambda rate: _made("constant", rate=rate), _RATES),
    st.builds(lambda first, last: _made("ramp", **{"from": first, "to": last}), _RATES, _RATES),
    st.builds(
        lambda rate, high, every, part: _made(
            "burst", rate=rate, peak=high, every=every, lasting=every * part
        ),
        _RATES,
        _RATES,
        _LENGTHS,
        st.floats(0.05, 0.95),
    ),
    st.builds(lambda rate, warm: _made("soak", rate=rate, warm_up=warm), _RATES, _LENGTHS),
)


@given(profiles, _LENGTHS)
def test_as_many_as_the_rate_makes_in_order_and_in_time(profile: Any, seconds: float) -> None:
    found = list(moments(profile, seconds))
    assert abs(len(found) - expected(profile, seconds)) <= 0.5 + 1e-6
    assert found == sorted(found)
    assert all(0 <= at <= seconds + 1e-6 for at in found)
    assert expected(profile, seconds) <= peak(profile, seconds) * seconds + 1e-6


@given(profiles, _LENGTHS, st.integers(0, 999))
def test_random_ones_are_the_same_for_a_seed_and_about_as_many(
    profile: Any, seconds: float, seed: int
) -> None:
    found = list(moments(profile, seconds, random.Random(seed)))
    assert found == list(moments(profile, seconds, random.Random(seed)))
    assert found == sorted(found)
    assert all(0 <= at <= seconds + 1e-6 for at in found)
    # Six standard deviations of a Poisson distribution, and some for small ones.
    mean = expected(profile, seconds)
    assert abs(len(found) - mean) <= 6 * math.sqrt(mean) + 10


def test_a_ramp_is_denser_at_its_end() -> None:
    ramp = _made("ramp", **{"from": 0.0, "to": 10.0})
    assert isinstance(ramp, Ramp)
    found = list(moments(ramp, 10))
    assert len(found) == 50
    # A quarter of a triangle's area lies in its first half.
    assert abs(sum(at < 5 for at in found) - 12.5) <= 1


def test_a_burst_comes_at_the_end_of_each_period() -> None:
    burst = _made("burst", rate=1.0, peak=20.0, every=10.0, lasting=2.0)
    assert isinstance(burst, Burst)
    assert list(burst.spans(15)) == [Span(8, 1, 1), Span(2, 20, 20), Span(5, 1, 1)]
    found = list(moments(burst, 10))
    assert sum(at >= 8 for at in found) == 40
    assert len(found) == 48


def test_a_soak_begins_gently() -> None:
    soak = _made("soak", rate=4.0, warm_up=10.0)
    assert isinstance(soak, Soak)
    assert list(soak.spans(30)) == [Span(10, 0, 4), Span(20, 4, 4)]
    assert list(soak.spans(5)) == [Span(5, 0, 2)]


def test_no_rate_makes_no_moment() -> None:
    assert list(moments(_made("constant", rate=0.0), 60)) == []


@pytest.mark.parametrize("span", [Span(10, 3, 3), Span(10, 0, 5), Span(10, 5, 0), Span(4, 1, 9)])
def test_a_span_ends_where_its_requests_are_reached(span: Span) -> None:
    assert span.reached(span.requests) == pytest.approx(span.seconds)
    assert span.reached(0) == 0
    half = span.reached(span.requests / 2)
    rate = span.first + (span.last - span.first) * half / span.seconds
    assert half * (span.first + rate) / 2 == pytest.approx(span.requests / 2)
