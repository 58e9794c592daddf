"""A JSON report read from front to back: its bytes, its members, its values.

A value's end is told by the decoder itself: given a whole buffer it says behind
how many bytes the rest is too much. What no decoder accepts is stepped over by
its brackets (`structure`).
"""

from __future__ import annotations

import codecs
import re
import zlib
from collections.abc import Iterable, Iterator
from itertools import chain

import msgspec

from ingestor.records import reject
from ingestor.structure import State, Structure
from runtime.errors import WinnowError
from winnow.ingest.v1.rejected_pb2 import Rejected

MAX_RECORD = 8 << 20  # bytes
_TOO_LARGE = f"larger than {MAX_RECORD >> 20} MiB"
HEAD = 64 << 10  # bytes that detection looks at first
_WIDEST_HEAD = MAX_RECORD + HEAD  # and at most: a first record may be as long as a file
BLOCK = 256 << 10
MAX_EXPANDED = 4 << 30  # bytes of a compressed report
_GZIP = b"\x1f\x8b"
# How UTF-16 begins.
_UTF16 = {
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
    b"[\0": "utf-16-le",
    b"{\0": "utf-16-le",
    b"\0[\0": "utf-16-be",
    b"\0{\0": "utf-16-be",
}

_WINDOW = 4 << 10  # bytes of a damaged record that are looked at first
# Damaged records that are given every chance of ending. In a report of many,
# decoding only goes to where the next one seems to begin: otherwise each could
# nest all that follow it, and the report would be read once for every record.
_PATIENCE = 64

VALUE = msgspec.json.Decoder(msgspec.Raw)

GAP = re.compile(rb"[\s,]*")
_SCALAR = re.compile(rb"[^,\[\]{}\"]+")
NOWHERE = re.compile(rb"(?!)")
_KEY = re.compile(rb'"((?:[^"\\\n]++|\\[^\n])*+)"\s*:')


class Malformed(Exception):
    """The report is damaged in a way that leaves nothing more to read.

    Args:
        at_byte: where the damaged part begins.
        one_line: whether it goes on to the report's end without a line break.
        compressed: whether it is the compression that is damaged; `at_byte` then
            is how far the report could be expanded.
    """

    def __init__(self, at_byte: int, one_line: bool = False, compressed: bool = False) -> None:
        super().__init__("malformed")
        self.at_byte = at_byte
        self.one_line = one_line
        self.compressed = compressed


def expanded(chunks: Iterable[bytes], most: int) -> Iterator[bytes]:
    """The report's bytes; a gzip stream (RFC 1952, any number of members) is expanded.

    Args:
        chunks: the bytes as received.
        most: bytes that a compressed report may have once expanded.

    Raises:
        WinnowError: REPORT_TOO_LARGE.
        Malformed: the stream is damaged or cut.
    """
    rest = iter(chunks)
    head = b""
    for chunk in rest:
        head += chunk
        if len(head) >= len(_GZIP):
            break
    whole = chain([head], rest)
    if not head.startswith(_GZIP):
        yield from whole
        return
    size, at_byte = 0, 0
    stream = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    for chunk in whole:
        while chunk:
            try:
                data = stream.decompress(chunk, BLOCK)
            except zlib.error:
                raise Malformed(at_byte, compressed=True) from None
            size += len(data)
            if size > most:
                raise WinnowError(
                    "REPORT_TOO_LARGE",
                    f"the compressed report has more than {most} bytes once expanded",
                    limit_bytes=str(most),
                )
            if data:
                yield data
            chunk = stream.unconsumed_tail
            if stream.eof:
                chunk = stream.unused_data.lstrip(b"\0")  # padding, or the next member
                if chunk:
                    stream = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        at_byte = size
    if not stream.eof:
        raise Malformed(size, compressed=True)


def utf8(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The report's bytes as UTF-8 without a byte order mark; UTF-16 is recoded, with
    or without one: no other JSON has NULs beside its first bracket (RFC 4627, 3).
    """
    rest = iter(chunks)
    head = b""
    for chunk in rest:
        head += chunk
        if len(head) >= 3:
            break
    encoding = next((name for mark, name in _UTF16.items() if head.startswith(mark)), "")
    if head.startswith(codecs.BOM_UTF8):
        yield head[3:]
    elif encoding:
        decode = codecs.getincrementaldecoder(encoding)("replace").decode
        yield decode(head).encode()
        for chunk in rest:
            yield decode(chunk).encode()
        yield decode(b"", True).encode()
    else:
        yield head
    yield from rest


class Reader:
    """A report's bytes, and navigation in them.

    `peek` finds the next value; `members` and `items` walk into it, `value`
    takes it, `skip` steps over it. Offsets are bytes of the UTF-8 form.
    """

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = utf8(expanded(chunks, MAX_EXPANDED))
        self._buffer = b""
        self._pos = 0
        self._base = 0  # offset of the buffer's first byte
        self._ended = False
        self._head = HEAD
        self._damaged = 0  # records so far that did not end
        self.whole = False  # an object or table was read to its end

    # Bytes

    def _fill(self, size: int) -> bool:
        """Makes `size` unread bytes available; False if nothing could be added.
        Afterwards the position is the buffer's first byte.
        """
        have = len(self._buffer) - self._pos
        parts = [self._buffer[self._pos :]]
        before = have
        while have < size and not self._ended:
            chunk = next(self._chunks, None)
            if chunk is None:
                self._ended = True
            else:
                parts.append(chunk)
                have += len(chunk)
        self._base += self._pos
        self._pos = 0
        self._buffer = b"".join(parts) if len(parts) > 1 else parts[0]
        return have > before

    def _more(self) -> bool:
        """At least twice what there is, so that rereading a value stays linear."""
        return self._fill(max(BLOCK, 2 * (len(self._buffer) - self._pos)))

    def offset(self) -> int:
        """Of the position in the report, in bytes."""
        return self._base + self._pos

    def head(self) -> bytes:
        """The unread bytes' first 64 KiB (more after `widen`), or all of them."""
        self._fill(self._head)
        return self._buffer[self._pos : self._pos + self._head]

    def widen(self) -> bool:
        """Makes `head` larger; False if it already is the whole report, or may not be."""
        if self._head == _WIDEST_HEAD or len(self.head()) < self._head:
            return False
        self._head = min(self._head << 4, _WIDEST_HEAD)
        return True

    def drain(self) -> None:
        """Reads to the end, so that every byte is counted."""
        self._buffer, self._pos = b"", 0
        for _ in self._chunks:
            pass

    # Navigation

    def peek(self) -> bytes:
        """The next byte that is neither whitespace nor comma; empty at the end."""
        while True:
            match = GAP.match(self._buffer, self._pos)
            if match:
                self._pos = match.end()
            if self._pos < len(self._buffer):
                return self._buffer[self._pos : self._pos + 1]
            if not self._more():
                return b""

    def members(self) -> Iterator[str]:
        """Names of the object's members; after each, its value is next to read.

        Raises:
            Malformed: the object does not go on or end as one.
        """
        self._pos += 1
        while (byte := self.peek()) != b"}":
            key = _KEY.match(self._buffer, self._pos)
            while byte == b'"' and key is None and len(self._buffer) - self._pos < HEAD:
                if not self._more():
                    break
                key = _KEY.match(self._buffer, self._pos)
            if key is None:
                raise Malformed(self._base + self._pos)
            self._pos = key.end()
            yield key[1].decode("utf-8", "replace")
        self._pos += 1
        self.whole = True

    def items(self) -> Iterator[None]:
        """The array's elements; at each, its value is next to read.

        Raises:
            Malformed: the array does not end.
        """
        began = self._base + self._pos
        self._pos += 1
        while (byte := self.peek()) != b"]":
            if not byte:
                raise Malformed(began)
            yield
        self._pos += 1

    def skip(self) -> None:
        """Steps over the next value, however large."""
        if self.peek() not in (b"{", b"[", b'"'):
            self._pos = self._scalar_end()
            return
        structure, state = Structure(), State.MORE
        while state is State.MORE:
            self._pos, state = structure.feed(self._buffer, self._pos, len(self._buffer))
            if state is State.MORE and not self._more():
                raise Malformed(self._base + self._pos)
        if state is State.BROKEN:
            raise Malformed(self._base + self._pos)

    def value(self) -> bytes | Rejected:
        """The next value's bytes; rejected if larger than `MAX_RECORD`."""
        if not self.peek():
            raise Malformed(self._base + self._pos)
        return self._value(NOWHERE)

    def _scalar_end(self) -> int:
        while True:
            match = _SCALAR.match(self._buffer, self._pos)
            end = match.end() if match else self._pos + 1
            if end < len(self._buffer) or end - self._pos > MAX_RECORD or not self._more():
                return max(self._pos + 1, self._pos + len(self._buffer[self._pos : end].rstrip()))

    # Values, one by one

    def _value(self, resync: re.Pattern[bytes]) -> bytes | Rejected:
        """The value at the position.

        Args:
            resync: finds where the next record begins (group 1) if this one is
                damaged beyond its own brackets.
        """
        while True:
            buffer, pos = self._buffer, self._pos
            bound = None
            if self._damaged > _PATIENCE:
                bound = resync.search(buffer, pos + 1, pos + HEAD)
            try:
                raw = VALUE.decode(memoryview(buffer)[pos : bound.start(1) if bound else None])
                end = pos + len(raw)
                if buffer[end - 1] not in b'}]"' and self._more():
                    continue  # a number may go on
            except msgspec.DecodeError as error:
                text = str(error)
                if "trailing characters" in text:
                    # "(byte N)" stands behind the first byte that is too much.
                    end = pos + int(text[text.rindex(" ") + 1 : -1]) - 1
                    return self._taken(pos + len(buffer[pos:end].rstrip()))
                too_long = bound or len(buffer) - pos > MAX_RECORD
                if "truncated" in text and not too_long and self._more():
                    continue
                return self._odd(resync, bound.end() - pos if bound else _WINDOW)
            except RecursionError:
                return self._odd(resync, bound.end() - pos if bound else _WINDOW)
            return self._taken(end)

    def _taken(self, end: int) -> bytes | Rejected:
        """The bytes up to `end` as a value, unless they are too many."""
        value, at_byte = self._buffer[self._pos : end], self._base + self._pos
        self._pos = end
        if len(value) > MAX_RECORD:
            return reject("TOO_LARGE", _TOO_LARGE, at_byte=at_byte)
        return value

    def _odd(self, resync: re.Pattern[bytes], window: int) -> bytes | Rejected:
        """A value that does not decode: its bytes if its brackets say where it
        ends, otherwise its rejection, with the position at the next record.

        Args:
            resync: as for `_value`.
            window: bytes to look at first.
        """
        at_byte = self._base + self._pos
        if self._buffer[self._pos] not in b'{["':
            return self._taken(self._scalar_end())
        structure, at = Structure(), self._pos
        while True:
            end = min(len(self._buffer), self._pos + window)
            at, state = structure.feed(self._buffer, at, end)
            if next_one := resync.search(self._buffer, self._pos + 1, at):
                self._pos = next_one.start(1)
                break
            if state is State.DONE:
                return self._taken(at)
            if state is State.BROKEN:
                self._resync(resync, at_byte)
                break
            window *= 4
            if end < len(self._buffer):
                continue
            if end - self._pos > MAX_RECORD:
                return self._too_large(structure, at, resync, at_byte)
            offset = at - self._pos
            if not self._more():
                self._resync(resync, at_byte)
                break
            at = self._pos + offset
        self._damaged += 1
        return reject("SYNTAX", "not valid JSON", at_byte=at_byte)

    def _too_large(
        self, structure: Structure, at: int, resync: re.Pattern[bytes], at_byte: int
    ) -> Rejected:
        state = State.MORE
        while state is State.MORE:
            self._pos = at
            if not self._fill(BLOCK + len(self._buffer) - at):
                raise Malformed(at_byte)
            at, state = structure.feed(self._buffer, self._pos, len(self._buffer))
        self._pos = at
        if state is State.BROKEN:
            self._resync(resync, at_byte)
        return reject("TOO_LARGE", _TOO_LARGE, at_byte=at_byte)

    def _resync(self, resync: re.Pattern[bytes], at_byte: int) -> None:
        """Goes to where the next record begins, behind the position."""
        one_line = True
        while True:
            found = resync.search(self._buffer, self._pos + 1)
            if found:
                self._pos = found.start(1)
                return
            one_line = one_line and b"\n" not in self._buffer[self._pos :].rstrip()
            # A beginning may be cut in two; none is longer than this.
            self._pos = max(self._pos, len(self._buffer) - 1024)
            if not self._fill(BLOCK):
                self._pos = len(self._buffer)
                raise Malformed(at_byte, one_line)
