"""Many readers of one run, one source.

A run is a list of items, numbered from 1 without holes, that grows until it ends.
`Feeds` lets any number of readers follow runs, each from where it wants: a reader
is a cursor into pages that all share, so a slow one costs no memory, and what the
source is asked does not depend on how many there are. `Poll` makes such a source
of a query: one a tick for all runs together. Nothing is kept of a run that nobody
follows.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Hashable, Mapping
from contextlib import aclosing, asynccontextmanager
from contextvars import Context
from typing import Generic, TypeVar

from runtime.errors import WinnowError
from runtime.log import get_logger

_log = get_logger()
K = TypeVar("K", bound=Hashable)
T = TypeVar("T")

# Seconds that a reader may take for what is sent to it, before it is cut.
TAKEN_SECONDS = 30.0

PAGE = 500
# Full pages of a run that stay in memory: more are read again when they are wanted.
_KEPT = 20
_FIRST_PULSE_SECONDS = 1.0
_RETRIES = 8
_BACKOFF_SECONDS = 0.1
_BACKOFF_MOST_SECONDS = 2.0
# What comes of one run within this time is read together …
_GATHER_SECONDS = 0.02
# … and wakes its readers together: thousands of them may wait.
_REST_SECONDS = 0.05


class Feeds(Generic[K, T]):
    """Runs that are followed.

    Args:
        source: the items of a run after a number, in batches, as an async generator
            that ends with the run.
    """

    def __init__(self, source: Callable[[K, int], AsyncGenerator[list[T], None]]) -> None:
        self._source = source
        self._runs: dict[K, _Run[T]] = {}

    async def follow(
        self, key: K, after: int = 0, pulse: float | None = None
    ) -> AsyncGenerator[list[T], None]:
        """The items of a run after number `after`, in batches, to the run's end.

        Args:
            pulse: seconds of silence after which an empty batch comes, for the first
                time after one second at most; None: never.

        Raises:
            WinnowError: what the source raised, once waiting has not helped;
                INVALID_ARGUMENT if the run ends before `after`.
        """
        run = self._runs.setdefault(key, _Run())
        run.readers += 1
        patience = None if pulse is None else min(pulse, _FIRST_PULSE_SECONDS)
        page: _Page[T] | None = None
        try:
            while True:
                number, taken = divmod(after, PAGE)
                if page is None or page.number != number:
                    page = self._page(key, run, number)
                items = await page.beyond(taken, patience)
                if items is None:
                    return
                patience = pulse
                after += len(items)
                yield items
        finally:
            run.readers -= 1
            if not run.readers:
                del self._runs[key]
                run.close()

    def _page(self, key: K, run: _Run[T], number: int) -> _Page[T]:
        page = run.pages.get(number)
        if page is None:
            page = run.pages[number] = _Page(number)
            page.loader = asyncio.create_task(self._load(key, run, page))
            run.trim()
        run.pages.move_to_end(number)
        return page

    async def _load(self, key: K, run: _Run[T], page: _Page[T]) -> None:
        """Fills a page until it is full, the run ends, or the source is given up."""
        failures = 0
        while True:
            before = len(page.items)
            try:
                async with aclosing(self._source(key, page.number * PAGE + before)) as batches:
                    async for items in batches:
                        run.begun = True
                        page.add(items)
                        if page.full:
                            return
                # Who comes later asks again: a run that ended may be given another chance.
                run.drop(page)
                page.end(None)
                return
            except WinnowError as error:
                failure = error
            except Exception as error:  # noqa: BLE001 -- readers must hear of any failure
                _log.error("feed.defect", status="error", exc_info=error)
                failure = WinnowError("INTERNAL", "the events could not be read")
            failures = 1 if len(page.items) > before else failures + 1
            if not (run.begun and failure.retryable and failures <= _RETRIES):
                run.drop(page)
                page.end(failure)
                return
            delay = min(_BACKOFF_SECONDS * 2.0**failures, _BACKOFF_MOST_SECONDS)
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 -- jitter


class _Run(Generic[T]):
    """What is kept of a run while it is followed."""

    def __init__(self) -> None:
        self.readers = 0
        # The source has answered once: what fails from now on is worth another try.
        self.begun = False
        self.pages: OrderedDict[int, _Page[T]] = OrderedDict()

    def trim(self) -> None:
        """Forgets full pages that nobody has wanted for the longest time."""
        full = [number for number, page in self.pages.items() if page.full]
        for number in full[: max(len(full) - _KEPT, 0)]:
            del self.pages[number]

    def drop(self, page: _Page[T]) -> None:
        if self.pages.get(page.number) is page:
            del self.pages[page.number]

    def close(self) -> None:
        for page in self.pages.values():
            page.loader.cancel()


class _Page(Generic[T]):
    """Up to PAGE items of a run, shared by all who read there."""

    loader: asyncio.Task[None]

    def __init__(self, number: int) -> None:
        self.number = number
        self.items: list[T] = []
        self._ended = False
        self._failure: WinnowError | None = None
        self._changed = asyncio.Event()
        self._waking: asyncio.TimerHandle | None = None
        self._woken = 0.0

    @property
    def full(self) -> bool:
        return len(self.items) == PAGE

    def add(self, items: list[T]) -> None:
        self.items += items[: PAGE - len(self.items)]
        self._wake()

    def end(self, failure: WinnowError | None) -> None:
        self._ended, self._failure = True, failure
        self._wake()

    def _wake(self) -> None:
        """Wakes all who wait, once for what comes in quick succession."""
        if self._waking is None:
            when = self._woken + _REST_SECONDS
            self._waking = asyncio.get_running_loop().call_at(when, self._wake_now)

    def _wake_now(self) -> None:
        self._waking = None
        self._woken = asyncio.get_running_loop().time()
        self._changed.set()
        self._changed = asyncio.Event()

    async def beyond(self, taken: int, patience: float | None) -> list[T] | None:
        """The items behind the first `taken`, once there are some; none after so many
        seconds; None at the run's end."""
        while taken >= len(self.items):
            if self._failure is not None:
                raise again(self._failure)
            if self._ended:
                if taken > len(self.items):
                    raise beyond_the_end()
                return None
            try:
                async with asyncio.timeout(patience):
                    await self._changed.wait()
            except TimeoutError:
                return []
        return self.items[taken:]


class Poll(Generic[K, T]):
    """A query as the source of runs: one a tick for all that wait, however many.

    Args:
        read: the next items, at most so many, of each run after a number.
        last: whether an item ends its run, if none is behind it.
        tick: seconds between two queries about a run of which nobody said that it
            has grown.
        limit: items of a run that a query brings at most.
    """

    def __init__(
        self,
        read: Callable[[Mapping[K, int], int], Awaitable[Mapping[K, list[T]]]],
        last: Callable[[T], bool],
        tick: float = 0.25,
        limit: int = PAGE + 1,
    ) -> None:
        self._read = read
        self._last = last
        self._tick = tick
        self._limit = limit
        self._waiting: dict[K, list[_Waiting[T]]] = {}
        self._bell = asyncio.Event()
        self._ticking: asyncio.Task[None] | None = None

    async def items(self, key: K, after: int) -> AsyncGenerator[list[T], None]:
        """The items of a run after number `after`, in batches, to the run's end."""
        # From one earlier: who has the last one learns that it is the last.
        seen = max(after - 1, 0)
        while True:
            found = await self._next(key, seen)
            new = found[after - seen :]
            after += len(new)
            if new:
                yield new
            more = len(found) == self._limit
            if self._last(found[-1]) and not more:
                return
            seen = after - 1 if more else after

    def ring(self, key: K) -> None:
        """Says that a run has grown: the next query about it is at once."""
        due = asyncio.get_running_loop().time() + _GATHER_SECONDS
        for one in self._waiting.get(key, ()):
            one.due = min(one.due, due)
            self._bell.set()

    async def _next(self, key: K, seen: int) -> list[T]:
        one: _Waiting[T] = _Waiting(seen)
        self._waiting.setdefault(key, []).append(one)
        self._bell.set()
        if self._ticking is None or self._ticking.done():
            # It serves all: nothing of this reader's context is to be in its logs.
            self._ticking = asyncio.get_running_loop().create_task(self._run(), context=Context())
        try:
            return await one.found
        finally:
            self._waiting[key].remove(one)
            if not self._waiting[key]:
                del self._waiting[key]
                self._bell.set()

    async def _run(self) -> None:
        """Asks while anybody waits."""
        loop = asyncio.get_running_loop()
        while self._waiting:
            self._bell.clear()
            now = loop.time()
            # Of a run at most one is asked for; who is left out is in the next query.
            asked = {
                key: due[0]
                for key, waiting in self._waiting.items()
                if (due := [one for one in waiting if one.due <= now])
            }
            if asked:
                await self._ask(asked, (now // self._tick + 1) * self._tick)
            soonest = min(
                (one.due for waiting in self._waiting.values() for one in waiting), default=now
            )
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(soonest):
                    await self._bell.wait()

    async def _ask(self, asked: dict[K, _Waiting[T]], next_tick: float) -> None:
        for one in asked.values():
            one.due = next_tick
        try:
            found = await self._read({key: one.seen for key, one in asked.items()}, self._limit)
        except WinnowError as error:
            failure = error
        except Exception as error:  # noqa: BLE001 -- whoever waits must hear of any failure
            _log.error("feed.defect", status="error", exc_info=error)
            failure = WinnowError("INTERNAL", "the events could not be read")
        else:
            for key, items in found.items():
                if items and not asked[key].found.done():
                    asked[key].found.set_result(items)
            return
        for one in asked.values():
            if not one.found.done():
                one.found.set_exception(again(failure))


class _Waiting(Generic[T]):
    """Somebody who wants what is behind `seen`, and when to ask next."""

    def __init__(self, seen: int) -> None:
        self.seen = seen
        self.due = 0.0
        self.found: asyncio.Future[list[T]] = asyncio.get_running_loop().create_future()


def again(error: WinnowError) -> WinnowError:
    """The same failure for one more to raise: a raised exception collects tracebacks."""
    return WinnowError(error.reason, error.message, retry_after=error.retry_after, **error.metadata)


def beyond_the_end() -> WinnowError:
    """The error for a reader who says that it has items that there are not."""
    return WinnowError(
        "INVALID_ARGUMENT",
        "after must be the ordinal of an event that there is, or 0",
        field="after",
        rule="known_ordinal",
    )


@asynccontextmanager
async def taken_within(seconds: float, last_ordinal: int) -> AsyncIterator[None]:
    """Bounds the time that a reader may take for what is sent to it in the block.

    Args:
        last_ordinal: the newest that it has, or is sure to get.

    Raises:
        WinnowError: READER_TOO_SLOW.
    """
    try:
        async with asyncio.timeout(seconds) as limit:
            yield
    except TimeoutError:
        if not limit.expired():
            raise
        raise WinnowError(
            "READER_TOO_SLOW",
            f"nothing was taken for {seconds:g} seconds; go on after {last_ordinal}",
            last_ordinal=str(last_ordinal),
        ) from None
