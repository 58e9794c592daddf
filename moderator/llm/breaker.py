"""A circuit breaker: after failures in a row nobody waits for the next one."""

from __future__ import annotations

import time
from collections.abc import Callable


class Breaker:
    """Opens after `failures` in a row; then lets one call through each `pause`.

    Args:
        failures: how many in a row open it.
        pause: seconds between two tries while it is open.
        clock: seconds that only grow.
    """

    def __init__(
        self, failures: int = 5, pause: float = 30.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limit = failures
        self._pause = pause
        self._clock = clock
        self._failed = 0
        self._next_try = 0.0

    def allows(self) -> bool:
        """Whether a call may be made now."""
        if self._failed < self._limit:
            return True
        now = self._clock()
        if now < self._next_try:
            return False
        self._next_try = now + self._pause
        return True

    def succeeded(self) -> None:
        """The provider answered."""
        self._failed = 0

    def failed(self) -> None:
        """The provider did not answer, or with rubbish."""
        self._failed += 1
        if self._failed == self._limit:
            self._next_try = self._clock() + self._pause
