"""The values opened so far in one report, and whether a text holds any of them.

A text is looked at as it stands and as what it decodes to: escapes of JSON and
of string literals, percent-encoding (RFC 3986), HTML's character references,
hex, base64 (RFC 4648) at each offset, also one inside the other; compatibility
characters (NFKC), and words joined over white space. Values are found by their
first characters, so that the cost depends on the text and not on how many
values there are.
"""

from __future__ import annotations

import binascii
import html
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator
from urllib.parse import unquote, unquote_plus

from runtime.redaction import SHORTEST_SEARCHED

_INDEXED = 8
_LINE = 12
_FEW = 5
_DEPTH = 3
_MOST_VIEWS = 64
_QUOTES = " \t\r\n\"'`"
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|([\"'\\/bfnrt]))")
_BYTES = re.compile(r"(?:\\x[0-9a-fA-F]{2}){2,}")
_CONTROLS = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_HEX = re.compile(r"[0-9a-fA-F]{8,}")
_BASE64 = re.compile(r"[A-Za-z0-9+/_\-]{6,}")
_URL_SAFE = str.maketrans("-_", "+/")


class Opened:
    """A bounded set of values.

    Args:
        most: characters of values that are kept; some 50,000 values by default.
    """

    def __init__(self, most: int = 2 << 20) -> None:
        self._room = most
        # Length of the beginning -> beginning -> the values that begin so.
        self._by_start: defaultdict[int, dict[str, tuple[str, ...]]] = defaultdict(dict)
        self.full = False

    def add(self, value: str) -> None:
        """Keeps a value, and the lines of one that has several; sets `full` if
        there is no room: then not every value is known, and nothing may be sent."""
        value = value.strip(_QUOTES)
        self._add(value)
        if "\n" in value:
            for line in value.splitlines():
                if len(line := line.strip()) >= _LINE:
                    self._add(line)

    def _add(self, value: str) -> None:
        if len(value) < SHORTEST_SEARCHED:
            return
        size = min(len(value), _INDEXED)
        starts, start = self._by_start[size], value[:size]
        known = starts.get(start, ())
        if value in known:
            return
        self._room -= len(value)
        if self._room < 0:
            self.full = True
            return
        starts[start] = (*known, value)

    def spans(self, text: str) -> Iterator[tuple[int, int]]:
        """Where values stand in `text` as they are: begin, end. Few letters are
        looked for as a word only: "auth" is no part of "author"."""
        for size, starts in self._by_start.items():
            begins = [at for at in range(len(text) - size + 1) if text[at : at + size] in starts]
            for at in begins:
                for value in starts[text[at : at + size]]:
                    end = at + len(value)
                    if text.startswith(value, at) and not _is_part(value, text, at, end):
                        yield at, end

    def holds(self, text: str, *, words: bool = True) -> bool:
        """Whether `text` holds a value in any encoding.

        Args:
            words: also values of a few letters that are none but letters or
                short: words that any text may have. Where white space is
                left out they are never looked for.

        Returns:
            True also for a text that can be decoded in more ways than are tried.
        """
        joined = views(text, joined=True)
        return (
            len(joined) > _MOST_VIEWS
            or self._stands_in(joined, False)
            or (words and self._stands_in(views(text), True))
        )

    def _stands_in(self, texts: Iterable[str], words: bool) -> bool:
        return any(
            words or not _is_word(text[start:end])
            for text in texts
            for start, end in self.spans(text)
        )


def _is_word(value: str) -> bool:
    return len(value) < _INDEXED or value.isalpha()


def _is_part(value: str, text: str, start: int, end: int) -> bool:
    """Whether few letters stand inside a longer word."""
    return (
        len(value) <= _FEW
        and value.isalpha()
        and (text[start - 1 : start].isalpha() or text[end : end + 1].isalpha())
    )


def views(text: str, *, joined: bool = False) -> set[str]:
    """`text` and what it decodes to, up to three encodings deep.

    Args:
        joined: also what it is without white space.
    """
    seen = {text}
    newest = [text]
    for _ in range(_DEPTH):
        found = {view for one in newest for view in _decoded(one)}
        if joined:
            found |= {"".join(one.split()) for one in newest}
        newest = list(found - seen)
        seen |= found
        if len(seen) > _MOST_VIEWS:
            break
    return seen


def _decoded(text: str) -> Iterator[str]:
    if "%" in text:
        yield unquote(text)
    if "+" in text:
        yield unquote_plus(text)
    if "\\" in text:
        plain = _ESCAPE.sub(_unescaped, text)
        yield plain.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        yield from _texts(bytes.fromhex(run.replace("\\x", "")) for run in _BYTES.findall(text))
    if "&" in text:
        yield html.unescape(text)
    if not text.isascii():
        yield unicodedata.normalize("NFKC", text)
    yield from _texts(_from_hex(text))
    yield from _texts(_from_base64(text))


def _unescaped(match: re.Match[str]) -> str:
    digits = match[1] or match[2]
    return chr(int(digits, 16)) if digits else _CONTROLS.get(match[3], match[3])


def _from_hex(text: str) -> Iterator[bytes]:
    for run in _HEX.findall(text):
        for offset in (0, 1):
            yield bytes.fromhex(run[offset : offset + (len(run) - offset) // 2 * 2])


def _from_base64(text: str) -> Iterator[bytes]:
    for run in _BASE64.findall(text):
        plain = run.translate(_URL_SAFE)
        for offset in range(4):
            part = plain[offset:]
            # A rest of one character holds no byte; of two or three it holds some.
            part = part[: len(part) - (len(part) % 4 == 1)]
            yield binascii.a2b_base64(part + "=" * (-len(part) % 4))


def _texts(runs: Iterable[bytes]) -> Iterator[str]:
    """Decoded runs as one text: as UTF-8, and those with NULs as UTF-16."""
    all_runs = list(runs)
    if all_runs:
        yield b"\n".join(all_runs).decode("utf-8", "replace")
    wide = [run[start:] for run in all_runs if b"\0" in run for start in (0, 1)]
    if wide:
        yield "\n".join(run.decode("utf-16-le", "replace") for run in wide)
