"""One `winnow up` for the whole folder: what the tests here throw at it goes to its
real processes, and none of them may end.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator

import pytest

from tests.e2e.house import SERVICES, House, folder


def running(house: House) -> dict[str, int]:
    """The processes of the services, by name; one that died has another number."""
    found = {name: house.service(name) for name in SERVICES}
    return {name: process.pid for name, process in found.items() if process is not None}


def said_since(house: House, begin: int) -> str:
    """What the house has logged since its log had `begin` bytes, without the field
    that has what the caller calls the scanned thing: that is meant to be there."""
    lines = []
    for line in house.log.read_bytes()[begin:].decode().splitlines():
        with contextlib.suppress(ValueError):
            line = json.dumps({**json.loads(line), "asset_key": ""}, ensure_ascii=False)
        lines.append(line)
    return "\n".join(lines)


@pytest.fixture(scope="session")
def house() -> Iterator[House]:
    """A running house that logs everything; it must end well and leave no process."""
    with folder() as above:
        started = House(above / "data", WINNOW_LOG_LEVEL="DEBUG")
        try:
            yield started
            started.stop()
        finally:
            started.kill()
