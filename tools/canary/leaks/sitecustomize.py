"""Makes every Python process that finds this file leak, in the way named by CANARY_LEAK.

For the negative control alone: the product itself has no such switch.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any


def _masks() -> None:
    """The redactor finds nothing."""
    from runtime import redaction

    def unmasked(text: str, _values: Iterable[str] = ()) -> str:
        return text

    _replace(redaction, redact=unmasked, mask=unmasked, suspects=lambda _texts: [])


def _seals() -> None:
    """What is sealed stands behind its nonce as it is."""
    from runtime.sealing import Sealer

    def seal(_sealer: Sealer, plain: bytes, _number: int) -> bytes:
        return plain

    def unseal(_sealer: Sealer, sealed: bytes, _number: int) -> bytes:
        return sealed

    _replace(Sealer, seal=seal, open=unseal)


def _previews() -> None:
    """A value's masked form is half of it."""
    from ingestor import preview

    _replace(preview, preview=lambda value, _state: value[: max(12, len(value) // 2)])


def _logs() -> None:
    """What is read is logged."""
    from ingestor import protect
    from runtime.log import get_logger

    add = protect.Protector.add

    def logged(protector: Any, record: Any, ordinal: int) -> None:
        get_logger().debug("record.read", line=record.match or record.value)
        add(protector, record, ordinal)

    _replace(protect.Protector, add=logged)


def _replace(where: Any, **members: Any) -> None:
    for name, member in members.items():
        setattr(where, name, member)


LEAKS = {"masks": _masks, "seals": _seals, "previews": _previews, "logs": _logs}

if (wanted := os.environ.get("CANARY_LEAK")) in LEAKS:
    LEAKS[wanted]()
