"""How time and memory are measured: of a piece of work, and of running processes (Linux)."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

Figures = dict[str, Any]

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_PROC = Path("/proc")


def measure(work: Callable[[], int], unit: str) -> Figures:
    """Runs `work`, which returns how many units it did, with the collector's debts paid before.

    Returns: `{unit}s` done; `seconds` by wall clock and `cpu_seconds` of this
    process (user and system, all threads); `{unit}s_per_second` by wall clock;
    `cpu_us_per_{unit}` in microseconds.
    """
    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    done = work()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return {
        f"{unit}s": done,
        "seconds": wall,
        "cpu_seconds": cpu,
        f"{unit}s_per_second": done / wall if wall else 0.0,
        f"cpu_us_per_{unit}": cpu / done * 1e6 if done else 0.0,
    }


def _stat(pid: int) -> list[str]:
    """Fields of proc(5) `/proc/pid/stat` from the third on; the second may hold spaces."""
    return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()


def descendants(pid: int) -> Iterable[int]:
    """The living processes below one."""
    children: dict[int, list[int]] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            try:
                children.setdefault(int(_stat(int(entry.name))[1]), []).append(int(entry.name))
            except OSError:
                continue  # it ended while we looked
    waiting = [pid]
    while waiting:
        waiting += (found := children.get(waiting.pop(), []))
        yield from found


def cpu_seconds(pid: int) -> float:
    """CPU seconds, user and system, of a process and the children it waited for.

    Two readings' difference is what was used in between. Linux only; resolution
    is one clock tick (usually 10 ms).

    Raises:
        FileNotFoundError: no process has that number.
    """
    # utime, stime, cutime, cstime: proc(5) fields 14 to 17.
    return sum(map(int, _stat(pid)[11:15])) / _TICKS


def resident(pid: int) -> int:
    """Bytes of a process that are resident now; 0 if it has ended. Linux only (proc(5), statm)."""
    try:
        return int((_PROC / str(pid) / "statm").read_text().split()[1]) * _PAGE
    except OSError:
        return 0


def peak_rss(pid: int) -> int:
    """The most memory, in bytes, that a process ever had resident (VmHWM). Linux only.

    Raises:
        FileNotFoundError: no process has that number.
        LookupError: the process has ended and its memory is gone.
    """
    for line in (_PROC / str(pid) / "status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise LookupError(f"process {pid} has no memory any more")
