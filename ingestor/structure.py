"""Where a JSON value ends when a decoder cannot say.

Records that no decoder accepts (damaged, too deep, too large) still have to be
stepped over without losing the next one. Only brackets and strings are looked
at, across any number of buffers.
"""

from __future__ import annotations

import enum
import re

_TOKEN = re.compile(rb'"(?:[^"\\\n]++|\\[^\n])*+"|["{}\[\]]')
_IN_STRING = re.compile(rb"(?:[^\"\\\n]++|\\[^\n])*+")
_CLOSES = {0x7D: 0x7B, 0x5D: 0x5B}  # } to {, ] to [
_QUOTE, _COMMA, _OPEN_ARRAY = 0x22, 0x2C, 0x5B


class State(enum.Enum):
    """What the scanner found at the position that it returns."""

    MORE = enum.auto()  # the value goes on in the next buffer
    DONE = enum.auto()  # the value ends before this position
    BROKEN = enum.auto()  # no JSON value can go on like this


class Structure:
    """Scans one object, array or string, from its first byte on."""

    def __init__(self) -> None:
        self._open = bytearray()
        self._in_string = False
        self._last = 0  # last byte that is not whitespace; 0 before the first

    def feed(self, buffer: bytes, at: int, stop: int) -> tuple[int, State]:
        """Scans on from `at` to `stop`.

        Returns:
            Where to go on in this buffer (MORE), or where the value ended or
            broke.
        """
        while True:
            if self._in_string:
                match = _IN_STRING.match(buffer, at, stop)
                at = match.end() if match else at
                if at == stop or (buffer[at] == 0x5C and at + 1 == stop):
                    return at, State.MORE
                if buffer[at] != _QUOTE:
                    return at, State.BROKEN
                self._in_string = False
                self._last = _QUOTE
                at += 1
                if not self._open:
                    return at, State.DONE
            token = _TOKEN.search(buffer, at, stop)
            end = token.start() if token else stop
            between = buffer[at:end].rstrip()
            if between:
                self._last = between[-1]
            if token is None:
                return end, State.MORE
            byte = buffer[end]
            at = token.end()
            if byte == _QUOTE:
                if at - end == 1:
                    self._in_string = True
                    continue
                self._last = _QUOTE
                if not self._open:
                    return at, State.DONE
            elif byte in _CLOSES:
                if not self._open or self._open.pop() != _CLOSES[byte]:
                    return end, State.BROKEN
                self._last = byte
                if not self._open:
                    return at, State.DONE
            else:
                if not self._may_open():
                    return end, State.BROKEN
                self._open.append(byte)
                self._last = byte

    def _may_open(self) -> bool:
        """Whether an object or array may begin here: it is what shows a record
        whose closing bracket is missing, before it swallows the next one.
        """
        if not self._open:
            return self._last == 0
        if self._last == _COMMA:
            return self._open[-1] == _OPEN_ARRAY
        return self._last in b":["
