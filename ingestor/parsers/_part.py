"""Small parts of a report that stand beside its records: what a scan says of itself."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from winnow.ingest.v1.rejected_pb2 import Rejected

T = TypeVar("T")


def part(raw: bytes | Rejected, decoder: msgspec.json.Decoder[T]) -> T | None:
    """A part as its type; None if it is not as the format says, which costs no record.

    Args:
        raw: as `Source.value` gives it.
        decoder: of the part's type.
    """
    if isinstance(raw, Rejected):
        return None
    try:
        return decoder.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
