"""Back-pressure: what is refused before it is worked on, and in which words."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable
from typing import TypeVar

from runtime.errors import WinnowError

_T = TypeVar("_T")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_AGAIN_SECONDS = 2.0


def resident() -> int:
    """Bytes of memory that this process has (proc(5), statm)."""
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * _PAGE


def check_memory(most: int) -> None:
    """Returns if there is room for more work.

    Args:
        most: bytes; 0 for any number.

    Raises:
        WinnowError: OVERLOADED.
    """
    if most and resident() > most:
        raise WinnowError(
            "OVERLOADED",
            "the server is short of memory; send again later",
            retry_after=_AGAIN_SECONDS,
            backpressure="memory",
        )


def too_slow(floor: int) -> WinnowError:
    """The error for a body that does not come."""
    return WinnowError(
        "UPLOAD_TOO_SLOW",
        f"the body came with less than {floor} bytes a second and was cut; nothing of it was kept",
        retry_after=_AGAIN_SECONDS,
        floor_bytes_per_second=str(floor),
    )


async def within(coming: Awaitable[_T], seconds: float, floor: int) -> _T:
    """What is waited for, if it comes in time.

    Raises:
        WinnowError: UPLOAD_TOO_SLOW.
    """
    try:
        async with asyncio.timeout(seconds) as limit:
            return await coming
    except TimeoutError:
        if not limit.expired():
            raise
        raise too_slow(floor) from None
