"""Following a JSON value through a stream of bytes to its end, without parsing it.

Of an object or array only strings and brackets matter. Windows of bytes go through a handful of C
calls: escapes are neutralised, everything but quotes and brackets is deleted,
and what is left of strings is dropped. Only where a value ends are the last few
bytes looked at one by one.
"""

from __future__ import annotations

import re
from itertools import accumulate

import msgspec

_NOISE = bytes(byte for byte in range(256) if byte not in b'"{}[]')
# Depth is all that is followed, so both kinds of brackets count as one: whether
# they match is for the report's parser to say.
_ONE_KIND = bytes.maketrans(b"[]", b"{}")
_STEP = {ord("{"): 1, ord("}"): -1}
_COLLAPSES = 4
_FIRST_WINDOW = 1 << 8
_LAST_WINDOW = 1 << 16
_EXACT = 64
_HIGH_SURROGATE = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}")


def _neutralise(data: bytes) -> bytes:
    r"""The bytes with `\\` and `\"` replaced by as many harmless ones."""
    return data.replace(b"\\\\", b"xx").replace(b'\\"', b"xx")


class Container:
    """Follows an object or array from behind its opening bracket."""

    def __init__(self) -> None:
        self._depth = 1
        self._in_string = False
        self._escaped = False
        # Small at first: most members of an envelope are.
        self._window = _FIRST_WINDOW

    def end(self, data: bytes, start: int = 0) -> int:
        """Reads the value's next bytes, `data[start:]`.

        Returns:
            Where in `data` the value's last byte is followed by something else,
            -1 if it goes on.
        """
        while start < len(data):
            window = data[start : start + self._window]
            found = self._end(window)
            if found >= 0:
                return start + found
            start += len(window)
            self._window = min(2 * self._window, _LAST_WINDOW)
        return -1

    def _end(self, window: bytes) -> int:
        neutral = _neutralise(b"x" + window[1:] if self._escaped else window)
        quoted = neutral.translate(_ONE_KIND, _NOISE)
        if self._in_string:
            quoted = b'"' + quoted
        # Two quotes with nothing between them are an empty string or the seam of
        # two strings; dropping both leaves every bracket on its side.
        parts = quoted.replace(b'""', b"").split(b'"')
        lowest, change = _levels(b"".join(parts[::2]))
        if self._depth + lowest > 0:
            self._depth += change
            self._in_string = len(parts) % 2 == 0
            self._escaped = neutral.endswith(b"\\")
            return -1
        if len(window) <= _EXACT:
            return self._exact(neutral)
        half = len(window) // 2
        found = self._end(window[:half])
        return found if found >= 0 else half + self._end(window[half:])

    def _exact(self, neutral: bytes) -> int:
        """The end in a window that is known to hold it."""
        inside = self._in_string
        for at, byte in enumerate(neutral.translate(_ONE_KIND)):
            if byte == 0x22:
                inside = not inside
            elif not inside:
                self._depth += _STEP.get(byte, 0)
                if not self._depth:
                    return at + 1
        raise AssertionError("the value does not end here")


def _levels(brackets: bytes) -> tuple[int, int]:
    """The lowest level that a row of brackets reaches, and the one that it ends on."""
    change = 2 * brackets.count(b"{") - len(brackets)
    # Objects that open and close here are the bulk; four levels of them go at C
    # speed, whatever is nested deeper one by one.
    for _ in range(_COLLAPSES):
        brackets = brackets.replace(b"{}", b"")
    return min(accumulate(map(_STEP.__getitem__, brackets)), default=0), change


class Text:
    """Decodes a JSON string from behind its opening quote, piece by piece."""

    def __init__(self) -> None:
        self._carry = b""

    def feed(self, data: bytes) -> tuple[bytes, int]:
        """Reads the string's next bytes.

        Returns:
            What they decode to, as UTF-8, and how many of `data` follow the
            closing quote; -1 if the string goes on.

        Raises:
            ValueError: not a JSON string.
        """
        data = self._carry + data
        neutral = _neutralise(data)
        close = neutral.find(b'"')
        cut = close if close >= 0 else _whole(neutral)
        try:
            text: str = msgspec.json.decode(b'"' + data[:cut] + b'"', type=str)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise ValueError("not a JSON string") from None
        self._carry = data[cut:]
        return text.encode(), len(data) - close - 1 if close >= 0 else -1


def _whole(neutral: bytes) -> int:
    r"""How much of a piece can be decoded alone: no escape (`\uXXXX`), surrogate
    pair or UTF-8 sequence is cut in two."""
    cut = len(neutral)
    escape = neutral.rfind(b"\\")
    if escape >= 0 and escape >= cut - 6:
        cut = escape
        # The escape before it may be the first half of a surrogate pair.
        if _HIGH_SURROGATE.fullmatch(neutral, max(cut - 6, 0), cut):
            cut -= 6
        return cut
    for back in range(1, min(4, cut) + 1):
        byte = neutral[cut - back]
        if byte < 0x80:
            break
        if byte >= 0xC0:
            return cut - back
    return cut
