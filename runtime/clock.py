"""Time and identifiers that sort by time."""

from __future__ import annotations

import os
import time
import uuid
from datetime import UTC, datetime


def now() -> datetime:
    """The current time, UTC, microseconds."""
    return datetime.now(UTC)


def uuid7(age_seconds: int = 0) -> uuid.UUID:
    """A UUIDv7 (RFC 9562 section 5.7): 48 bits of milliseconds, 74 random bits.

    Args:
        age_seconds: as it would have been made that long ago.
    """
    milliseconds = time.time_ns() // 1_000_000 - age_seconds * 1000
    value = int.from_bytes(os.urandom(10), "big") | milliseconds << 80
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return uuid.UUID(int=value)
