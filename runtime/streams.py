"""Small tools for streams: idle timers and credits."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator
from typing import TypeVar

from runtime import metrics
from runtime.errors import WinnowError

T = TypeVar("T")


async def idle(stream: AsyncIterable[T], seconds: float, service: str) -> AsyncIterator[T]:
    """The stream's items, with a limit on the time between two of them.

    Long reports make long streams, so a total deadline would be wrong; silence
    is what tells a dead peer.

    Raises:
        WinnowError: DEADLINE_EXCEEDED after `seconds` without an item.
    """
    iterator = aiter(stream)
    while True:
        try:
            async with asyncio.timeout(seconds):
                item = await anext(iterator)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise WinnowError(
                "DEADLINE_EXCEEDED", f"the {service} sent nothing for {seconds:g} seconds"
            ) from None
        yield item


class Credits:
    """How much may be on its way unanswered.

    HTTP/2 flow control bounds bytes, not work: measured, about 11,000 findings
    run ahead of a slow moderator. The relay takes a credit before each batch it
    forwards and gives it back when the batch is answered.

    Args:
        limit: batches that may be unanswered at once.
    """

    def __init__(self, limit: int) -> None:
        self._free = asyncio.Semaphore(limit)
        self._sizes: deque[int] = deque()
        self._answered = 0

    async def take(self, size: int) -> None:
        """Waits for a credit for a batch of `size` findings."""
        started = time.perf_counter()
        await self._free.acquire()
        metrics.CREDIT_WAIT.inc(time.perf_counter() - started)
        metrics.UNANSWERED.inc()
        self._sizes.append(size)

    def give(self, answered: int) -> None:
        """Books `answered` findings; each whole batch of them frees a credit."""
        self._answered += answered
        while self._sizes and self._answered >= self._sizes[0]:
            self._answered -= self._sizes.popleft()
            metrics.UNANSWERED.dec()
            self._free.release()

    def close(self) -> None:
        """Nothing more is answered."""
        metrics.UNANSWERED.dec(len(self._sizes))
        self._sizes.clear()
