"""Idle timers and credits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import WinnowError
from runtime.streams import Credits, idle


async def items(*pauses: float) -> AsyncIterator[int]:
    for number, pause in enumerate(pauses):
        await asyncio.sleep(pause)
        yield number


async def test_a_lively_stream_passes_however_long() -> None:
    assert [n async for n in idle(items(*[0.02] * 20), 0.2, "peer")] == list(range(20))


async def test_silence_ends_it() -> None:
    got = []
    with pytest.raises(WinnowError) as caught:
        got.extend([n async for n in idle(items(0, 0), 1, "ingestor")])
        await anext(idle(items(60), 0.05, "ingestor"))
    assert got == [0, 1]
    assert caught.value.reason == "DEADLINE_EXCEEDED"
    assert caught.value.message == "the ingestor sent nothing for 0.05 seconds"


async def test_a_slow_reader_is_not_silence() -> None:
    got = 0
    async for _ in idle(items(0, 0, 0), 0.05, "peer"):
        await asyncio.sleep(0.1)
        got += 1
    assert got == 3


async def test_the_streams_own_error_passes() -> None:
    async def broken() -> AsyncIterator[int]:
        yield 1
        raise ValueError("its own")

    with pytest.raises(ValueError, match="its own"):
        [_ async for _ in idle(broken(), 1, "peer")]


async def free(credits_: Credits) -> bool:
    """Whether a credit is to be had now; takes it."""
    try:
        async with asyncio.timeout(0.01):
            await credits_.take(1)
    except TimeoutError:
        return False
    return True


async def test_a_credit_comes_back_with_its_whole_batch() -> None:
    both = Credits(2)
    await both.take(10)
    await both.take(5)
    assert not await free(both)
    both.give(9)
    assert not await free(both)
    both.give(1)
    assert await free(both)
    assert not await free(both)
    both.give(6)
    assert await free(both)
    assert await free(both)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=30), st.data())
def test_never_more_out_than_the_limit(sizes: list[int], data: st.DataObject) -> None:
    limit = data.draw(st.integers(1, 4))

    async def run() -> None:
        held = Credits(limit)
        waiting, out = list(sizes), 0
        taken: list[int] = []
        while waiting or out:
            while waiting and len(taken) < limit:
                async with asyncio.timeout(5):
                    await held.take(waiting[0])
                out += waiting[0]
                taken.append(waiting.pop(0))
            if len(taken) == limit:
                assert held._free.locked()
            answered = data.draw(st.integers(1, out))
            held.give(answered)
            out -= answered
            while taken and answered >= taken[0]:
                answered -= taken.pop(0)
            if taken:
                taken[0] -= answered

    asyncio.run(run())
