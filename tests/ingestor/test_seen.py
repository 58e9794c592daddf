"""Exact repeats."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ingestor.seen import Seen


@given(st.lists(st.binary(max_size=3), max_size=200))
def test_it_answers_as_a_set_would(records: list[bytes]) -> None:
    seen, known = Seen(), set()
    for record in records:
        assert seen.repeats(record) == (record in known)
        known.add(record)


def test_memory_stays_flat_and_nothing_is_forgotten_while_it_grows() -> None:
    seen = Seen()
    assert not any(seen.repeats(b"%d" % n) for n in range(100_000))
    assert all(seen.repeats(b"%d" % n) for n in range(0, 100_000, 7))
    assert len(seen._slots) * 8 <= 2 << 20
