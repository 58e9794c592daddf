"""One house for most end-to-end tests; tests that kill `winnow up` start their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.house import House, folder

# Larger than any report here; small enough to be exceeded in a moment.
MAX_REPORT_BYTES = 64 << 20


@pytest.fixture(scope="session")
def house() -> Iterator[House]:
    """A running house that logs everything; it must end well and leave no process."""
    with folder() as above:
        running = House(
            above / "data",
            WINNOW_LOG_LEVEL="DEBUG",
            WINNOW_METRICS_LISTEN="127.0.0.1:0",
            WINNOW_MAX_REPORT_BYTES=str(MAX_REPORT_BYTES),
        )
        try:
            yield running
            running.stop()
        finally:
            running.kill()


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A data directory for a house of the test's own."""
    with folder() as above:
        yield above / "data"
