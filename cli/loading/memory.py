"""How much memory a running house holds."""

from __future__ import annotations

import contextlib

import psutil


def resident(pid: int) -> int:
    """Resident bytes of a process and all that it started, but for the database, which
    keeps its pages in memory that all its processes share.

    Raises:
        LookupError: there is no such process.
    """
    try:
        root = psutil.Process(pid)
        family = [root, *root.children(recursive=True)]
    except psutil.Error:
        raise LookupError from None
    total = 0
    for process in family:
        with contextlib.suppress(psutil.Error):
            if process.name() != "postgres":
                total += process.memory_info().rss
    return total
