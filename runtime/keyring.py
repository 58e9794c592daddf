"""Key-encryption keys: what wraps the data key of each report (envelope encryption).

A report's parts are sealed with a data key of its own, 32 random bytes. It is kept
and sent wrapped only: sealed in its turn (runtime.sealing) with a key-encryption
key, bound to the report and to that key's id. The ring holds the current
key-encryption key, which wraps, and others that may still, or may already, unwrap.

A ring reads its settings again when it meets a key id that it does not hold, and
before it wraps if it has not for some seconds: a mounted secret that changes in
place needs no restart.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
import uuid
from collections.abc import Callable, Mapping

from runtime.config import ConfigError, SealingSettings, load
from runtime.errors import WinnowError
from runtime.log import get_logger
from runtime.sealing import DATA_KEY, KEY_BYTES, Sealer
from winnow.seal.v1.data_key_pb2 import DataKey

_log = get_logger()

_LABEL = b"winnow key-encryption key v1"
# How often the settings are read again for a key that is not held, and how old they may
# be when something is wrapped: what is retired is wrapped with for so long at most.
AGAIN_SECONDS = 1.0
STALE_SECONDS = 5.0


def key_id(key: bytes) -> str:
    """The public name of a key-encryption key: 16 hex digits of a digest of it."""
    return hashlib.sha256(_LABEL + key).hexdigest()[:16]


class Keyring:
    """Key-encryption keys, the first of them the current one.

    Args:
        keys: 32 bytes each.
        again: reads them anew; None leaves the ring as it is.
    """

    def __init__(
        self, keys: tuple[bytes, ...], again: Callable[[], tuple[bytes, ...] | None] | None = None
    ) -> None:
        self._again = again
        self._reading = threading.Lock()
        self._read_at = time.monotonic()
        # Replaced whole: who looks at it meanwhile sees one state or the other.
        self._keys: Mapping[str, bytes] = _named(keys)

    @classmethod
    def of(cls, settings: SealingSettings) -> Keyring:
        """The ring that a service's settings describe, now and later."""

        def again() -> tuple[bytes, ...] | None:
            try:
                return _keys(load(SealingSettings))
            except (ConfigError, OSError) as error:
                _log.warning("keyring.unread", status="error", reason=type(error).__name__)
                return None

        return cls(_keys(settings), again)

    @property
    def current(self) -> str:
        """Id of the key that wraps."""
        return next(iter(self._keys))

    @property
    def held(self) -> Mapping[str, bytes]:
        """The keys by id, the current one first."""
        return self._keys

    def wrap(self, report_id: uuid.UUID, data_key: bytes) -> DataKey:
        """A report's data key as it may be kept and sent."""
        self.refresh(STALE_SECONDS)
        name, key = next(iter(self._keys.items()))
        wrapped = _wrapper(key, name, report_id).seal(data_key, 0)
        return DataKey(key_id=name, wrapped=wrapped)

    def open(self, report_id: uuid.UUID, data_key: DataKey) -> bytes:
        """A report's data key in the clear; the current key itself where none is named.

        Raises:
            WinnowError: SEALING_KEY_UNKNOWN; SEAL_BROKEN if it is another report's, or
                was changed.
        """
        if not data_key.key_id:
            return next(iter(self._keys.values()))
        if data_key.key_id not in self._keys:
            self.refresh(AGAIN_SECONDS)
        key = self._keys.get(data_key.key_id)
        if key is None:
            raise unknown(data_key.key_id, report_id)
        return _wrapper(key, data_key.key_id, report_id).open(data_key.wrapped, 0)

    def refresh(self, seconds: float = AGAIN_SECONDS) -> None:
        """Reads the keys again if that was longer ago than some seconds."""
        if self._again is None:
            return
        with self._reading:
            if time.monotonic() - self._read_at < seconds:
                return
            self._read_at = time.monotonic()
            if keys := self._again():
                self._keys = _named(keys)


def unknown(name: str, report_id: uuid.UUID | None = None) -> WinnowError:
    """That a key-encryption key is not held, and for which report, if it is one, it is needed."""
    needed_for = {"report_id": str(report_id)} if report_id else {}
    return WinnowError(
        "SEALING_KEY_UNKNOWN",
        f"what this needs is sealed with the key {name}, which this service does not hold; "
        "put that key into sealing_keys_accepted",
        retry_after=AGAIN_SECONDS,
        key_id=name,
        **needed_for,
    )


def new_data_key() -> bytes:
    """A data key for one report."""
    return os.urandom(KEY_BYTES)


def _named(keys: tuple[bytes, ...]) -> Mapping[str, bytes]:
    return {key_id(key): key for key in keys}


def _wrapper(key: bytes, name: str, report_id: uuid.UUID) -> Sealer:
    return Sealer(key, report_id, DATA_KEY + name.encode())


def _keys(settings: SealingSettings) -> tuple[bytes, ...]:
    return (
        settings.sealing_key.get_secret_value(),
        *(key.get_secret_value() for key in settings.sealing_keys_accepted),
    )
