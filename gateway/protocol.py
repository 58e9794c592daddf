"""HTTP/1.1 as the gateway speaks it: uvicorn's, with bounds on what it leaves open.

uvicorn bounds neither how long a head is nor how long it takes, nor what comes of a body
whose request is answered already; bodies that are wanted are bounded where they are read
(gateway.admission).
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES = 64 * 1024
HEAD_SECONDS = 15.0
# For so long the rest of a body is thrown away that nobody wants any more: a caller who is cut
# while sending may miss the answer (RFC 9112 section 9.6).
UNREAD_SECONDS = 30.0

_TOO_LARGE = b"431 Request Header Fields Too Large"
_TOO_SLOW = b"408 Request Timeout"


class BoundedProtocol(HttpToolsProtocol):
    """Cuts a connection whose next request does not come to its body in time, or in bytes,
    and one that goes on with a body after the answer."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._received = 0
        self._late: asyncio.TimerHandle | None = None
        self._in_head = True
        self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        self._arrived()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._expect()
            self._received += len(data)
        super().data_received(data)
        # One read (256 KiB at most) may be over it: what came whole is parsed already.
        if self._in_head and self._received > HEAD_BYTES:
            self._cut(_TOO_LARGE)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._arrived()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        # Until more of the next request comes, uvicorn's own limit for idle ones holds.
        self._in_head = True
        self._arrived()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.cycle.response_complete and not self._in_head:
            self._late = self.loop.call_later(UNREAD_SECONDS, self._end)

    def _expect(self) -> None:
        if self._late is None:
            self._late = self.loop.call_later(HEAD_SECONDS, self._cut, _TOO_SLOW)

    def _arrived(self) -> None:
        self._received = 0
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _end(self) -> None:
        self._arrived()
        self.transport.close()

    def _cut(self, status: bytes) -> None:
        self._arrived()
        if not self.transport.is_closing():
            self.transport.write(
                b"HTTP/1.1 " + status + b"\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
            )
            self.transport.close()
