"""Budget and breaker, with clocks of their own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from moderator.llm.breaker import Breaker
from moderator.llm.budget import Budget


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 3, 1, 23, 59, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


def test_a_day_has_one_budget_and_each_tenant_a_part() -> None:
    budget = Budget(day=1.0, tenant=0.6, clock=Clock())
    assert budget.reserve("a", 0.5)
    assert budget.reserve("a", 0.2) is None
    assert budget.reserve("b", 0.4)
    assert budget.reserve("b", 0.2) is None


def test_what_a_call_did_cost_takes_the_place_of_what_it_could() -> None:
    budget = Budget(day=1.0, tenant=1.0, clock=Clock())
    first = budget.reserve("a", 0.9)
    assert first
    assert budget.reserve("a", 0.5) is None
    budget.settle(first, 0.1)
    assert budget.reserve("a", 0.5)


def test_a_new_day_is_a_new_budget_and_keeps_no_old_debt() -> None:
    clock = Clock()
    budget = Budget(day=1.0, tenant=1.0, clock=clock)
    before = budget.reserve("a", 1.0)
    assert before
    clock.now += timedelta(minutes=2)
    assert budget.reserve("a", 1.0)
    budget.settle(before, 0.0)
    assert budget.reserve("a", 0.1) is None


def test_the_breaker_opens_after_failures_in_a_row_only() -> None:
    breaker = Breaker(failures=3, pause=10, clock=lambda: 0.0)
    for _ in range(2):
        breaker.failed()
        breaker.failed()
        breaker.succeeded()
    assert breaker.allows()
    for _ in range(3):
        breaker.failed()
    assert not breaker.allows()


def test_an_open_breaker_lets_one_through_each_pause_until_one_succeeds() -> None:
    now = [0.0]
    breaker = Breaker(failures=1, pause=10, clock=lambda: now[0])
    breaker.failed()
    assert not breaker.allows()
    now[0] = 10.0
    assert breaker.allows()
    assert not breaker.allows()
    breaker.failed()
    now[0] = 20.0
    assert breaker.allows()
    breaker.succeeded()
    assert breaker.allows()
    assert breaker.allows()
