"""Bodies with `Content-Encoding: gzip` (RFC 9110 section 8.4.1.3), expanded as they come."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator

from runtime.errors import WinnowError

_PIECE = 1 << 18  # bytes expanded at once: the event loop belongs to others too


async def gunzip(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The bytes of a gzip stream (RFC 1952, any number of members).

    Raises:
        WinnowError: INVALID_ARGUMENT if it is none, or is cut.
    """
    stream = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    empty = True
    async for chunk in chunks:
        while chunk:
            empty = False
            try:
                piece = stream.decompress(chunk, _PIECE)
            except zlib.error:
                raise _damaged("is no gzip stream, or is damaged") from None
            if piece:
                yield piece
                await asyncio.sleep(0)
            chunk = stream.unconsumed_tail
            if stream.eof:
                chunk = stream.unused_data
                if chunk:
                    stream = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    if not (empty or stream.eof):
        raise _damaged("ends in the middle of its gzip stream")


def _damaged(what: str) -> WinnowError:
    return WinnowError(
        "INVALID_ARGUMENT",
        f"the body {what}, though its Content-Encoding says gzip",
        field="Content-Encoding",
        rule="gzip",
    )
