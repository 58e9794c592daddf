"""Looks for values, whole and in pieces, in every form that software writes them in.

Everything is compared in small letters. A pattern is a form of a whole value or of
one of its pieces; its first eight bytes are its key. Blocks of data are searched for
all keys at once, and what is found is compared in full.
"""

from __future__ import annotations

import html
import json
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import md5, sha1, sha256
from typing import NamedTuple
from urllib.parse import quote, quote_plus

import numpy as np
import numpy.typing as npt

from tools.canary.planting import Value, pieces

_KEY = 8  # bytes; shorter patterns would be met by chance
_BLOCK = 1 << 20
_BITS = 22  # of the table of keys
_SPREAD = np.uint64(0x9E3779B97F4A7C15)  # 2**64 divided by the golden ratio
_URL_SAFE = bytes.maketrans(b"+/", b"-_")


class Hit(NamedTuple):
    """A value that was found.

    Args:
        number: the value's.
        form: in which form.
        at: where in the data, in bytes.
    """

    number: int
    form: str
    at: int


def forms(text: str) -> Iterator[tuple[str, bytes]]:
    """The forms of a text with their names; some are equal."""
    data = text.encode("utf-8", "surrogatepass")
    yield "raw", data
    yield "reversed", text[::-1].encode("utf-8", "surrogatepass")
    yield "hex", data.hex().encode()
    for lead in range(3):
        # Without the characters that depend on the neighbours too (RFC 4648).
        packed = b64encode(b"\0" * lead + data)[(lead * 8 + 5) // 6 : (lead + len(data)) * 8 // 6]
        yield "base64", packed
        yield "base64", packed.translate(_URL_SAFE)
    for quoted in (quote(data, safe=""), quote(data), quote_plus(data)):
        yield "url", quoted.encode()
    yield "url", "".join(f"%{byte:02x}" for byte in data).encode()
    for ascii_only in (True, False):
        escaped = json.dumps(text, ensure_ascii=ascii_only)[1:-1]
        yield "json", escaped.encode("utf-8", "surrogatepass")
        yield "json", escaped.replace("/", "\\/").encode("utf-8", "surrogatepass")
    units = text.encode("utf-16-be", "surrogatepass")
    yield "json", b"".join(b"\\u%02x%02x" % (*units[i : i + 2],) for i in range(0, len(units), 2))
    for escaped in (html.escape(text), html.escape(text, quote=False)):
        yield "html", escaped.encode("utf-8", "surrogatepass")
    yield "html", "".join(f"&#{ord(c)};" for c in text).encode()
    yield "html", "".join(f"&#x{ord(c):x};" for c in text).encode()


def digests(text: str) -> Iterator[tuple[str, bytes]]:
    """Unkeyed digests of a whole value: for a weak one they are the value."""
    data = text.encode("utf-8", "surrogatepass")
    for digest in (md5, sha1, sha256):
        yield "digest", digest(data).hexdigest().encode()


class Search:
    """All forms of all values at once.

    Args:
        values: what to look for.
        public: for each kind, pieces that say nothing about a value of it.
    """

    def __init__(self, values: Sequence[Value], public: Mapping[str, frozenset[str]]) -> None:
        # By key, by length: form and value of each pattern.
        self._patterns: dict[int, dict[int, dict[bytes, tuple[int, str]]]] = {}
        for value in values:
            known = public.get(value.kind, frozenset())
            for form, pattern in (*forms(value.text), *digests(value.text)):
                self._add(pattern, value.number, form)
            for piece in pieces(value.text):
                if piece.lower() not in known:
                    for form, pattern in forms(piece):
                        self._add(pattern, value.number, form)
        self._keys = np.array(sorted(self._patterns), np.uint64)
        self._table = np.zeros(1 << _BITS, np.bool_)
        self._table[_slots(self._keys)] = True
        lengths = (size for sizes in self._patterns.values() for size in sizes)
        self._longest = max(lengths, default=0)

    def _add(self, pattern: bytes, number: int, form: str) -> None:
        pattern = pattern.lower()
        if len(pattern) >= _KEY:
            sizes = self._patterns.setdefault(_key(pattern), {})
            sizes.setdefault(len(pattern), {}).setdefault(pattern, (number, form))

    def __len__(self) -> int:
        """The number of patterns."""
        return sum(len(found) for sizes in self._patterns.values() for found in sizes.values())

    def hits(self, data: bytes | memoryview) -> Iterator[Hit]:
        """Every place of every pattern, in no order."""
        for start in range(0, max(len(data), 1), _BLOCK):
            # Long enough for a pattern that begins at the block's last byte.
            block = bytes(data[start : start + _BLOCK + self._longest]).lower()
            for at in self._candidates(block):
                if at < _BLOCK:
                    yield from self._at(block, at, start)

    def _candidates(self, block: bytes) -> Iterable[int]:
        """Where a key stands."""
        for shift in range(min(_KEY, len(block) - _KEY + 1)):
            words = np.frombuffer(block, "<u8", (len(block) - shift) // _KEY, shift)
            found = np.flatnonzero(self._table[_slots(words)])
            places = np.searchsorted(self._keys, words[found])
            places[places == len(self._keys)] = 0
            found = found[self._keys[places] == words[found]]
            yield from (found * _KEY + shift).tolist()

    def _at(self, block: bytes, at: int, start: int) -> Iterator[Hit]:
        for size, known in self._patterns[_key(block[at : at + _KEY])].items():
            if found := known.get(block[at : at + size]):
                yield Hit(*found, start + at)


def _key(pattern: bytes) -> int:
    return int.from_bytes(pattern[:_KEY], "little")


def _slots(words: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    return (words * _SPREAD) >> np.uint64(64 - _BITS)
