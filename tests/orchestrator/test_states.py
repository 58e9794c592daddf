"""The states of a report, and the only ways between them."""

from __future__ import annotations

import itertools

import pytest

from orchestrator import states
from runtime.errors import WinnowError

ALLOWED = {
    (states.CREATED, states.INGESTED),
    (states.INGESTED, states.PROCESSING),
    (states.PROCESSING, states.DONE),
    (states.CREATED, states.ERROR),
    (states.INGESTED, states.ERROR),
    (states.PROCESSING, states.ERROR),
}
ALL = (states.CREATED, states.INGESTED, states.PROCESSING, states.DONE, states.ERROR)


@pytest.mark.parametrize(("now", "to"), list(itertools.product(ALL, ALL)))
def test_a_report_goes_only_where_it_may(now, to) -> None:
    if (now, to) in ALLOWED:
        assert states.advance(now, to) == to
    else:
        with pytest.raises(WinnowError) as caught:
            states.advance(now, to)
        assert caught.value.reason == "REPORT_STATE"
        assert caught.value.metadata == {"report_status": states.name(now)}


def test_every_state_is_ended_or_unfinished() -> None:
    assert set(ALL) == states.ENDED | states.UNFINISHED
    assert not states.ENDED & states.UNFINISHED
