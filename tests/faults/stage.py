"""A house that is ready to be disturbed."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.faults.checks import Checks
from tests.faults.house import House, broker
from tests.faults.load import SUBMISSIONS, Round, Submission
from tests.runtime.transport.servers import Broker

# The undisturbed round, whose reports are decided and judged again.
FIRST = "first"


class Stage(NamedTuple):
    """A running house, and what it is held against."""

    house: House
    checks: Checks

    @contextlib.contextmanager
    def carried_by(self, transport: str) -> Iterator[Broker | None]:
        """Lets events travel otherwise; gives the transport's server, if there is one."""
        with broker(transport) as server:
            self.house.travel(transport, server.url if server else "")
            yield server
        self.house.travel("postgres")


@contextlib.contextmanager
def stage(
    submissions: tuple[Submission, ...] = SUBMISSIONS,
    disk: contextlib.AbstractContextManager[Path] | None = None,
) -> Iterator[Stage]:
    """A running house that has been through one undisturbed round.

    Args:
        submissions: of that round; what is submitted later is held against it.
        disk: gives a folder for everything that the house keeps.

    Raises:
        AssertionError: not even that round came out as it must.
    """
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(disk or _folder())
        # The database's user must get in.
        folder.chmod(0o711)
        house = House(folder)
        stack.callback(house.stop)
        checks = Checks(house)
        complaints = checks.learn(Round(house.url, FIRST, submissions))
        assert complaints == [], f"an undisturbed round does not hold: {complaints}"
        yield Stage(house, checks)


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="winnow-faults-", ignore_cleanup_errors=True) as name:
        yield Path(name)
