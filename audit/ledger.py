"""The log as the running service keeps it: appended, signed, published.

The service holds the right edge of the tree in memory and signs only what grows
from it. So whoever rewrites the tables gets no signature for it: not while the
service runs, and not after a start, when the tables must continue the checkpoint
that was published last.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit import store
from audit.log import HASH_BYTES
from audit.notes import Checkpoint, NoteError
from audit.publishing import Folder
from audit.store import Entry, Signed, State
from runtime import crash, metrics
from runtime.database import Database
from runtime.errors import WinnowError
from runtime.log import get_logger

_log = get_logger()

_PUBLISH_SECONDS = 1.0
# Looking the tables over takes as long as an append, so not each one does.
_LOOK_SECONDS = 1.0


class Ledger:
    """Appends to the log, signs it, and publishes its checkpoints.

    Args:
        database: where the log is kept.
        key: signs checkpoints.
        folder: where they are published; None publishes nothing.
    """

    def __init__(self, database: Database, key: Ed25519PrivateKey, folder: Path | None) -> None:
        self._database = database
        self._key = key
        self._folder = Folder(folder, key.public_key()) if folder else None
        # One at a time: in the database they would wait for each other anyway.
        self._turn = asyncio.Lock()
        self._state: State | None = None
        # When the tables were looked over; never, if they were altered.
        self._looked = -math.inf
        self._grown = asyncio.Event()
        # The newest leaf hashes that are not in the folder yet.
        self._unpublished = bytearray()

    async def append(self, batch: Sequence[Entry]) -> list[int]:
        """Appends events, all or none, in one commit; their sequences.

        Raises:
            WinnowError: EVENT_CONFLICT, AUDIT_INCONSISTENT, DATABASE_UNAVAILABLE.
        """
        async with self._turn:
            with self._doubting():
                fresh = time.monotonic() - self._looked < _LOOK_SECONDS
                state = await (self._opened() if fresh else self._looked_over())
                sequences, state = await self._database.run(store.append, batch, state, self._key)
            crash.point("audit.appended")
            self._take(state)
        return sequences

    async def newest(self) -> Signed:
        """The checkpoint of the whole log, which has been looked over.

        Raises:
            WinnowError: AUDIT_INCONSISTENT, DATABASE_UNAVAILABLE; then nothing can be
                appended either.
        """
        async with self._turn:
            with self._doubting():
                return (await self._looked_over()).signed

    async def run(self) -> None:
        """Publishes checkpoints as the log grows, until cancelled."""
        # What is wrong with the log is said at the start, and again to whoever appends.
        with contextlib.suppress(WinnowError):
            await self.newest()
        while True:
            await self._grown.wait()
            await self._publish()
            await asyncio.sleep(_PUBLISH_SECONDS)

    async def close(self) -> None:
        """Publishes what is left."""
        if self._grown.is_set():
            await self._publish()

    async def _looked_over(self) -> State:
        """The log as the tables have it, if their hashes still give what was signed."""
        state = await self._opened()
        self._take(await self._database.run(store.looked_over, state, self._key))
        self._looked = time.monotonic()
        return await self._opened()

    @contextlib.contextmanager
    def _doubting(self) -> Iterator[None]:
        """Whoever watches the logs must hear of an altered log too."""
        try:
            yield
        except WinnowError as error:
            if error.reason == "AUDIT_INCONSISTENT":
                self._looked = -math.inf
                _log.error("audit.inconsistent", status="refused", reason=error.message)
            raise

    async def _opened(self) -> State:
        """The log as it was seen last; at first as the tables have it."""
        if self._state is None:
            published, known = await asyncio.to_thread(self._read_folder)
            state = await self._database.run(store.opened, self._key, published, known)
            if state.adopted:
                _log.warning("audit.adopted", status="ok", events=state.adopted)
            self._take(state)
            # Also if it has not grown: the folder may be behind, or new.
            self._grown.set()
            return state._replace(fresh=b"")
        return self._state

    def _read_folder(self) -> tuple[Checkpoint | None, int]:
        if self._folder is None:
            return None, 0
        try:
            return self._folder.newest(), self._folder.known()
        except (NoteError, OSError) as error:
            what = str(error) if isinstance(error, NoteError) else "it cannot be read"
            raise store.inconsistent(f"of the published checkpoint: {what}", 0) from None

    def _take(self, state: State) -> None:
        if state.fresh:
            self._unpublished += state.fresh
            self._grown.set()
        self._state = state._replace(fresh=b"")
        metrics.AUDIT_EVENTS.set(state.signed.checkpoint.size)
        self._count_unpublished()

    def _count_unpublished(self) -> None:
        events = len(self._unpublished) // HASH_BYTES if self._folder else 0
        metrics.AUDIT_UNPUBLISHED.set(events)

    async def _publish(self) -> None:
        self._grown.clear()
        if self._folder is None or self._state is None:
            self._unpublished.clear()
            return
        checkpoint, hashes = self._state.signed.checkpoint, bytes(self._unpublished)
        start = checkpoint.size - len(hashes) // HASH_BYTES
        try:
            await asyncio.to_thread(self._folder.publish, checkpoint, start, hashes)
        except (NoteError, OSError) as error:
            reason = str(error) if isinstance(error, NoteError) else error.strerror
            _log.error("audit.unpublished", status="retrying", reason=reason)
            self._grown.set()
        else:
            del self._unpublished[: len(hashes)]
            self._count_unpublished()
