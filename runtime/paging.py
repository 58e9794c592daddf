"""Page tokens: opaque, and bound to the query that they continue (AIP-158)."""

from __future__ import annotations

import base64
import binascii
import hashlib

from runtime.errors import WinnowError


def _digest(query: tuple[object, ...]) -> bytes:
    return hashlib.sha256(repr(query).encode()).digest()[:8]


def encode(position: str, *query: object) -> str:
    """A token for the page after `position` of the query with these filters."""
    return (
        base64.urlsafe_b64encode(_digest((position, *query)) + position.encode())
        .decode()
        .rstrip("=")
    )


def decode(token: str, *query: object) -> str:
    """The position that `encode` put in; empty for an empty token.

    Raises:
        WinnowError: PAGE_TOKEN_INVALID if it is not ours, or of another query.
    """
    if not token:
        return ""
    try:
        raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        position = raw[8:].decode("ascii")
    except (binascii.Error, ValueError):
        raw, position = b"", ""
    if raw[:8] != _digest((position, *query)):
        raise WinnowError(
            "PAGE_TOKEN_INVALID",
            "page_token is not one of ours, or was made with other filters; begin again without it",
        )
    return position
