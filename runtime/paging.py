"""Pages of lists: opaque tokens, bound to the query that they continue (AIP-158),
and a bound on a page's bytes."""

from __future__ import annotations

import base64
import binascii
import hashlib
import uuid
from collections.abc import Iterable
from typing import TypeVar

from google.protobuf.message import Message

from runtime.errors import WinnowError

# Half of gRPC's 4 MiB: a page of long rows ends early rather than not at all.
PAGE_BYTES = 2 << 20
_INT64 = 1 << 63

M = TypeVar("M", bound=Message)


def _digest(query: tuple[object, ...]) -> bytes:
    return hashlib.sha256(repr(query).encode()).digest()[:8]


def encode(position: str, *query: object) -> str:
    """A token for the page after `position` of the query with these filters."""
    raw = _digest((position, *query)) + position.encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _position(token: str, query: tuple[object, ...]) -> str:
    try:
        padded = token + "=" * (-len(token) % 4)
        raw = base64.b64decode(padded, altchars=b"-_", validate=True)
        position = raw[8:].decode("ascii")
    except (binascii.Error, ValueError):
        raise _invalid() from None
    if raw[:8] != _digest((position, *query)):
        raise _invalid()
    return position


def _invalid() -> WinnowError:
    return WinnowError(
        "PAGE_TOKEN_INVALID",
        "page_token is not one of ours, or was made with other filters; begin again without it",
    )


def after_number(token: str, *query: object) -> int:
    """The number that `encode` put in; -1 for an empty token.

    Raises:
        WinnowError: PAGE_TOKEN_INVALID if it is not ours, or of another query.
    """
    if not token:
        return -1
    position = _position(token, query)
    if not position.isdecimal() or int(position) >= _INT64:
        raise _invalid()
    return int(position)


def after_text(token: str, *query: object) -> str:
    """The text that `encode` put in; empty for an empty token.

    Raises:
        WinnowError: PAGE_TOKEN_INVALID if it is not ours, or of another query.
    """
    return _position(token, query) if token else ""


def after_id(token: str, *query: object) -> uuid.UUID | None:
    """The id that `encode` put in; None for an empty token.

    Raises:
        WinnowError: PAGE_TOKEN_INVALID if it is not ours, or of another query.
    """
    if not token:
        return None
    try:
        return uuid.UUID(_position(token, query))
    except ValueError:
        raise _invalid() from None


def cut(rows: Iterable[M], limit: int) -> tuple[list[M], bool]:
    """The rows of one page: at most `limit`, about 2 MiB, and never none.

    Args:
        rows: one more than `limit`, if there are so many.

    Returns:
        The page, and whether rows follow it.
    """
    page: list[M] = []
    size = 0
    for row in rows:
        size += row.ByteSize()
        if len(page) == limit or (page and size > PAGE_BYTES):
            return page, True
        page.append(row)
    return page, False
