"""Checkpoints outside of the database: a folder that convicts whoever rewrites the tables.

`checkpoint` is the newest note and `checkpoints.log` every one before it;
`leaf-hashes` holds the log's leaf hashes, 32 bytes each, so that a changed event
can be named and not only noticed; `public-key` is what verifies the notes.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from audit import log, notes
from audit.log import HASH_BYTES
from audit.notes import Checkpoint

CHECKPOINT = "checkpoint"
HISTORY = "checkpoints.log"
LEAF_HASHES = "leaf-hashes"
PUBLIC_KEY = "public-key"


@dataclass(frozen=True)
class Published:
    """What is known of a log from outside of its database.

    Attributes:
        checkpoints: whose signatures were verified.
        leaf_hashes: of the log's first events, one behind the other; may be empty.
    """

    checkpoints: Sequence[Checkpoint] = ()
    leaf_hashes: bytes = b""


def read_published(path: Path, key: Ed25519PublicKey) -> Published:
    """What a folder holds that the audit service published to, or a file with notes.

    Leaf hashes that are not those of the folder's checkpoint are left out: they
    only help to name an event.

    Raises:
        NoteError: there is no checkpoint, or one that is not signed by the key.
        OSError: it cannot be read.
    """
    file = path / CHECKPOINT if path.is_dir() else path
    try:
        found = notes.split(file.read_text("utf-8"))
    except UnicodeDecodeError:
        found = []
    if not found:
        raise notes.NoteError("it holds no checkpoint")
    checkpoints = [notes.verify(note, key) for note in found]
    hashes = b""
    if path.is_dir() and (path / LEAF_HASHES).exists():
        newest = checkpoints[-1]
        hashes = (path / LEAF_HASHES).read_bytes()[: newest.size * HASH_BYTES]
        if log.root(log.hashes_in(hashes)) != newest.root:
            hashes = b""
    return Published(checkpoints, hashes)


class Folder:
    """Where checkpoints are published.

    Args:
        path: the folder; made if it is not there.
        key: verifies what is read back.
    """

    def __init__(self, path: Path, key: Ed25519PublicKey) -> None:
        self._path = path
        self._key = key

    def newest(self) -> Checkpoint | None:
        """The checkpoint that was published last; None before the first.

        Raises:
            NoteError: what is there is not signed by the key.
            OSError: it cannot be read.
        """
        try:
            note = (self._path / CHECKPOINT).read_text("utf-8")
        except FileNotFoundError:
            return None
        except UnicodeDecodeError:
            raise notes.NoteError("not a checkpoint: not UTF-8") from None
        return notes.verify(note, self._key)

    def known(self) -> int:
        """How many leaf hashes are here."""
        try:
            return (self._path / LEAF_HASHES).stat().st_size // HASH_BYTES
        except FileNotFoundError:
            return 0

    def publish(self, checkpoint: Checkpoint, start: int, leaf_hashes: bytes) -> None:
        """Makes a checkpoint the newest, durably, unless a newer one is here.

        Args:
            checkpoint: of the log as it is.
            start: sequence of the first leaf hash that follows.
            leaf_hashes: up to the checkpoint's size; what is before is here already.

        Raises:
            NoteError: what is here is not signed by the key.
            OSError: it cannot be written.
        """
        with self._locked():
            published = self.newest()
            if published is not None and published.size >= checkpoint.size:
                return
            self._write_at(LEAF_HASHES, start * HASH_BYTES, leaf_hashes)
            with (self._path / HISTORY).open("ab") as history:
                history.write(f"{checkpoint.note}\n".encode())
                history.flush()
                os.fsync(history.fileno())
            self._replace(PUBLIC_KEY, f"{notes.verifier(self._key)}\n")
            # Last: whoever reads it finds the hashes that it is of.
            self._replace(CHECKPOINT, checkpoint.note)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Copies of the service share the folder."""
        self._path.mkdir(parents=True, exist_ok=True)
        folder = os.open(self._path, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
            os.fsync(folder)
        finally:
            os.close(folder)

    def _write_at(self, name: str, offset: int, data: bytes) -> None:
        made = os.open(self._path / name, os.O_CREAT | os.O_RDWR, 0o644)
        with os.fdopen(made, "r+b") as file:
            # What a crash cut short is written over.
            file.seek(offset)
            file.write(data)
            file.truncate()
            file.flush()
            os.fsync(file.fileno())

    def _replace(self, name: str, text: str) -> None:
        """Writes a file that is there whole or not at all."""
        made = self._path / f".{name}.new"
        with made.open("w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        made.replace(self._path / name)
