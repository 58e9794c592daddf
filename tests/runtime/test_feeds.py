"""Shared feeds: what the source is asked, what readers get, and when they are cut."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

import pytest

from runtime import feeds
from runtime.errors import WinnowError
from runtime.feeds import PAGE, Feeds, Poll, taken_within

END = -1


class Table:
    """Runs as rows of a table would be, and how often somebody looked."""

    def __init__(self) -> None:
        self.runs: dict[str, list[int]] = {}
        self.asked: list[dict[str, int]] = []
        self.failing: WinnowError | None = None

    async def read(self, after: Mapping[str, int], limit: int) -> dict[str, list[int]]:
        self.asked.append(dict(after))
        if self.failing is not None:
            raise self.failing
        await asyncio.sleep(0.001)
        return {key: self.runs[key][seen : seen + limit] for key, seen in after.items()}


class Watched(Table):
    """The same, followed by readers."""

    def __init__(self, tick: float = 0.05, **more: Any) -> None:
        super().__init__()
        self.poll = Poll(self.read, lambda item: item == END, tick, **more)
        self.feeds = Feeds(self.poll.items)

    async def read_all(self, key: str, after: int = 0) -> list[int]:
        async with aclosing(self.feeds.follow(key, after)) as batches:
            return [item async for batch in batches for item in batch]


def numbers(count: int) -> list[int]:
    """A run of so many items, the last of them its end."""
    return [*range(1, count), END]


@pytest.mark.parametrize("count", [1, 2, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE, 3 * PAGE + 7])
async def test_a_reader_gets_what_is_after_its_ordinal(count: int) -> None:
    watched = Watched()
    watched.runs["a"] = numbers(count)
    for after in {0, 1, count // 2, count - 1, count, min(count, PAGE), min(count, PAGE - 1)}:
        assert await watched.read_all("a", after) == numbers(count)[after:], after


async def test_who_has_more_than_there_is_is_told() -> None:
    watched = Watched()
    watched.runs["a"] = numbers(7)
    with pytest.raises(WinnowError) as caught:
        await asyncio.gather(watched.read_all("a", 3), watched.read_all("a", 8))
    assert caught.value.reason == "INVALID_ARGUMENT"


async def test_readers_of_a_growing_run_all_see_the_same() -> None:
    watched = Watched()
    everything = numbers(4 * PAGE)
    watched.runs["a"] = everything[:1]
    dice = random.Random(7)

    async def grow() -> None:
        while len(watched.runs["a"]) < len(everything):
            size = len(watched.runs["a"]) + dice.randrange(1, 90)
            watched.runs["a"] = everything[:size]
            watched.poll.ring("a")
            await asyncio.sleep(0.005)

    async def read() -> None:
        await asyncio.sleep(dice.random() / 5)
        after = dice.randrange(len(watched.runs["a"]))
        seen: list[int] = []
        while END not in seen:
            take = dice.randrange(1, 2000)
            async with aclosing(watched.feeds.follow("a", after + len(seen))) as batches:
                async for batch in batches:
                    seen += batch
                    if len(seen) > take and dice.random() < 0.3:
                        break
        assert seen == everything[after:]

    await asyncio.gather(grow(), *(read() for _ in range(200)))


@pytest.mark.parametrize("readers", [1, 500])
async def test_a_tick_is_one_query_however_many_watch(readers: int) -> None:
    watched = Watched(tick=0.1)
    for key in ("a", "b", "c"):
        watched.runs[key] = [1, 2, 3]
    reading = [
        asyncio.create_task(watched.read_all(key))
        for key in ("a", "b", "c")
        for _ in range(readers)
    ]
    await asyncio.sleep(0.15)
    watched.asked.clear()
    await asyncio.sleep(1.0)
    assert 2 <= len(watched.asked) <= 11
    assert all(asked == {"a": 3, "b": 3, "c": 3} for asked in watched.asked)
    for run in watched.runs.values():
        run.append(END)
    assert await asyncio.gather(*reading) == [[1, 2, 3, END]] * 3 * readers


async def test_a_page_of_history_is_read_once_for_all() -> None:
    watched = Watched()
    watched.runs["a"] = numbers(6 * PAGE)[:-1]
    reading = [asyncio.create_task(watched.read_all("a", n * 5)) for n in range(400)]
    await asyncio.sleep(0.2)
    watched.runs["a"].append(END)
    await asyncio.gather(*reading)
    history = [asked["a"] for asked in watched.asked if asked["a"] < 5 * PAGE - 1]
    assert sorted(history) == [0, *(page * PAGE - 1 for page in range(1, 5))]


async def test_a_ring_brings_what_is_new_at_once() -> None:
    watched = Watched(tick=30.0)
    watched.runs["a"] = [1]
    reading = asyncio.create_task(watched.read_all("a"))
    await asyncio.sleep(0.1)
    watched.runs["a"].append(END)
    watched.poll.ring("nobody")
    await asyncio.sleep(0.1)
    assert not reading.done()
    watched.poll.ring("a")
    async with asyncio.timeout(1):
        assert await reading == [1, END]


async def test_nothing_is_kept_or_asked_when_nobody_watches() -> None:
    watched = Watched(tick=0.02)
    watched.runs["a"] = [1]
    async with aclosing(watched.feeds.follow("a")) as batches:
        assert await anext(batches) == [1]
        assert watched.feeds._runs
    assert not watched.feeds._runs
    await asyncio.sleep(0.05)
    count = len(watched.asked)
    await asyncio.sleep(0.1)
    assert len(watched.asked) == count
    assert not watched.poll._waiting


async def test_old_pages_leave_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "_KEPT", 2)
    watched = Watched()
    watched.runs["a"] = numbers(9 * PAGE)
    async with aclosing(watched.feeds.follow("a")) as slow:
        first = await anext(slow)
        assert await watched.read_all("a") == numbers(9 * PAGE)
        kept = watched.feeds._runs["a"].pages
        assert sum(page.full for page in kept.values()) <= 2
        rest = [item async for batch in slow for item in batch]
    assert first + rest == numbers(9 * PAGE)


async def test_a_run_that_ended_and_goes_on_is_asked_for_again() -> None:
    watched = Watched()
    watched.runs["a"] = numbers(5)
    async with aclosing(watched.feeds.follow("a")) as slow:
        await anext(slow)
        watched.runs["a"] += [6, END]
        assert await watched.read_all("a", 5) == [6, END]


async def test_silence_brings_empty_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "_FIRST_PULSE_SECONDS", 0.01)
    watched = Watched()
    watched.runs["a"] = [1]
    async with aclosing(watched.feeds.follow("a", 1, pulse=0.2)) as batches:
        started = asyncio.get_running_loop().time()
        assert await anext(batches) == []
        assert asyncio.get_running_loop().time() - started < 0.2
        assert await anext(batches) == []
        assert asyncio.get_running_loop().time() - started > 0.2


async def test_a_source_that_fails_before_it_has_answered_fails_its_readers() -> None:
    watched = Watched()
    watched.failing = WinnowError("DATABASE_UNAVAILABLE", "gone", retry_after=1.0)
    for _ in range(2):
        async with asyncio.timeout(2):
            with pytest.raises(WinnowError) as caught:
                await watched.read_all("a")
        assert caught.value.reason == "DATABASE_UNAVAILABLE"
        assert caught.value.retry_after == 1.0
    assert not watched.feeds._runs


async def test_readers_outlive_a_source_that_is_away() -> None:
    watched = Watched(tick=0.01)
    watched.runs["a"] = [1, 2]
    reading = [asyncio.create_task(watched.read_all("a")) for _ in range(20)]
    await asyncio.sleep(0.05)
    watched.failing = WinnowError("DATABASE_UNAVAILABLE", "gone")
    await asyncio.sleep(0.3)
    watched.failing = None
    watched.runs["a"] += [3, END]
    assert await asyncio.gather(*reading) == [[1, 2, 3, END]] * 20


async def test_readers_of_a_source_that_stays_away_are_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(feeds, "_RETRIES", 1)
    watched = Watched(tick=0.01)
    watched.runs["a"] = [1, 2]
    reading = [asyncio.create_task(watched.read_all("a")) for _ in range(3)]
    await asyncio.sleep(0.05)
    watched.failing = WinnowError("DATABASE_UNAVAILABLE", "gone")
    for one in reading:
        with pytest.raises(WinnowError) as caught:
            await one
        assert caught.value.reason == "DATABASE_UNAVAILABLE"


async def test_a_defect_of_the_source_reaches_the_readers() -> None:
    async def defect(_after: Mapping[str, int], _limit: int) -> dict[str, list[int]]:
        raise RuntimeError("quotes the input")

    async def broken(_key: str, _after: int) -> AsyncGenerator[list[int], None]:
        yield [1]
        raise RuntimeError("quotes the input")

    for source in (Poll(defect, bool).items, broken):
        with pytest.raises(WinnowError) as caught:
            async with aclosing(Feeds(source).follow("a")) as batches:
                async for _ in batches:
                    pass
        assert caught.value.reason == "INTERNAL"
        assert "quotes" not in str(caught.value)


async def test_a_reader_that_takes_nothing_is_cut_and_told_where() -> None:
    with pytest.raises(WinnowError) as caught:
        async with taken_within(0.01, 41):
            await asyncio.sleep(1)
    assert caught.value.reason == "READER_TOO_SLOW"
    assert caught.value.metadata == {"last_ordinal": "41"}
    async with taken_within(1, 41):
        await asyncio.sleep(0)
    with pytest.raises(TimeoutError):
        async with taken_within(1, 41):
            raise TimeoutError
