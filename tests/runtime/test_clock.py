"""Identifiers that sort by time (RFC 9562, section 5.7)."""

from __future__ import annotations

import time
import uuid
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from runtime import clock


def milliseconds(made: uuid.UUID) -> int:
    return made.int >> 80


def test_version_and_variant() -> None:
    for _ in range(1000):
        made = clock.uuid7()
        assert made.version == 7
        assert made.variant == uuid.RFC_4122


def test_holds_the_time_in_milliseconds() -> None:
    before = time.time_ns() // 1_000_000
    made = clock.uuid7()
    assert before <= milliseconds(made) <= time.time_ns() // 1_000_000


def test_later_ones_sort_behind() -> None:
    first = clock.uuid7()
    while milliseconds(last := clock.uuid7()) == milliseconds(first):
        pass
    assert first < last
    assert str(first) < str(last)


def test_none_comes_twice() -> None:
    assert len({clock.uuid7() for _ in range(10_000)}) == 10_000


@given(st.integers(0, 10**8))
def test_of_an_age(seconds: int) -> None:
    now = milliseconds(clock.uuid7())
    then = clock.uuid7(age_seconds=seconds)
    assert then.version == 7
    assert 0 <= milliseconds(then) - (now - seconds * 1000) < 10_000


def test_now_is_utc() -> None:
    assert clock.now().tzinfo is UTC
    assert abs((datetime.now(UTC) - clock.now()).total_seconds()) < 10
