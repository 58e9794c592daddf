"""What may be spent: US dollars a UTC day, for all tenants and for each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from datetime import date, datetime
from typing import NamedTuple

from runtime.clock import now


class Reserved(NamedTuple):
    """An amount set aside for one call."""

    tenant: str
    usd: float
    day: date


class Budget:
    """Counts in this process only: several moderators have a budget each, and a
    restart begins a new one.

    Args:
        day: most dollars in a day.
        tenant: most dollars in a day for one tenant.
        clock: the current time.
    """

    def __init__(self, day: float, tenant: float, clock: Callable[[], datetime] = now) -> None:
        self._most = day
        self._most_of_tenant = tenant
        self._clock = clock
        self._day = clock().date()
        self._spent: defaultdict[str, float] = defaultdict(float)

    def used(self) -> float:
        """The share of the day's budget that is spent or set aside."""
        if self._clock().date() != self._day:
            return 0.0
        return sum(self._spent.values()) / self._most if self._most else 1.0

    def reserve(self, tenant: str, usd: float) -> Reserved | None:
        """Sets aside what a call may cost at most; None if that is too much."""
        today = self._clock().date()
        if today != self._day:
            self._day = today
            self._spent.clear()
        if (
            sum(self._spent.values()) + usd > self._most
            or self._spent.get(tenant, 0.0) + usd > self._most_of_tenant
        ):
            return None
        self._spent[tenant] += usd
        return Reserved(tenant, usd, today)

    def settle(self, reserved: Reserved, usd: float) -> None:
        """Books what the call did cost in the place of what was set aside."""
        if reserved.day == self._day:
            self._spent[reserved.tenant] += usd - reserved.usd
