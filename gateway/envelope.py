"""The body of POST /reports: a report, or an envelope around one.

An envelope is a JSON object with a member `report`; anything else is a report.
Members may come in any order, and the report's bytes are handed on as they
arrive, exactly as they stand in the body: neither parsed nor held.

- A body of at most 1 MiB is decided exactly.
- A larger one is an envelope if `report` begins within the first 1 MiB and only
  members of an envelope stand before it; else it is a report.
- A `report` that is a JSON string is decoded, and its text is the report:
  NDJSON, for one, cannot stand in JSON otherwise.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from typing import Any, NoReturn

import msgspec

from gateway.scan import Container, Text
from runtime.errors import WinnowError
from winnow.report.v1.report_service_pb2 import ReportDeclaration

HEAD_BYTES = 1 << 20
TAIL_BYTES = 1 << 17

_SPACE = b" \t\r\n"
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_LITERAL = re.compile(rb"[^\s,:{}\[\]\"]++")
_NOT_SPACE = re.compile(rb"[^ \t\r\n]")


class Source(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The envelope's `source`: where the report comes from."""

    repository: str | None = None
    ref: str | None = None
    commit: str | None = None
    image: str | None = None


# Each member beside `report`: its type, and that in words. null is as good as absent.
_MEMBERS: dict[str, tuple[Any, str]] = {
    "scanner_type": (str | None, "a string"),
    "report_format": (str | None, "a string"),
    "source": (
        Source | None,
        f"an object whose members are strings named {', '.join(Source.__struct_fields__)}",
    ),
    "labels": (dict[str, str] | None, "an object whose members are strings"),
}
NAMES = ("report", *_MEMBERS)


class _Malformed(Exception):
    """The walked bytes are not members of an object."""


class Body:
    """The report's bytes, and what an envelope says about them.

    `open()` first, then iterate. `declaration` holds what stood before the report
    when `open()` returns, and everything when the iteration ends.

    Args:
        chunks: the request's body.
        raw: the body is known to be the report itself.
    """

    def __init__(self, chunks: AsyncIterator[bytes], *, raw: bool) -> None:
        self.declaration = ReportDeclaration()
        self._chunks = chunks
        self._raw = raw
        # Head, then whatever is read and not yet used.
        self._buffer = b""
        self._seen: set[str] = set()

    async def open(self) -> None:
        """Reads up to the report's first byte.

        Raises:
            WinnowError: ENVELOPE_INVALID.
        """
        if self._raw:
            return
        complete = await self._read_head()
        start = self._find_report(complete)
        self._raw = start < 0
        self._buffer = self._buffer[max(start, 0) :]

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yields the report's bytes.

        Raises:
            WinnowError: ENVELOPE_INVALID.
        """
        if self._raw:
            if self._buffer:
                yield self._buffer
            async for chunk in self._chunks:
                yield chunk
            return
        first = self._buffer[:1]
        pieces = (
            self._container()
            if first in (b"{", b"[")
            else self._text()
            if first == b'"'
            else self._null()
        )
        async for piece in pieces:
            yield piece
        await self._read_tail()

    # Before the report.

    async def _read_head(self) -> bool:
        """Fills the buffer as far as the decision needs; whether that is the whole body."""
        pieces: list[bytes] = []
        size = 0
        async for chunk in self._chunks:
            pieces.append(chunk)
            size += len(chunk)
            # Only an object can be an envelope.
            decided = len(pieces) == 1 and chunk.lstrip(_SPACE)[:1] not in (b"", b"{")
            if decided or size > HEAD_BYTES:
                self._buffer = b"".join(pieces)
                return False
        self._buffer = b"".join(pieces)
        return True

    def _find_report(self, complete: bool) -> int:
        """Where the report's value begins in the buffer; -1: the body is the report."""
        members: list[tuple[str, bytes]] = []
        opening = _NOT_SPACE.search(self._buffer)
        if opening is None or opening.group() != b"{":
            return -1
        strangers = False
        found = -1
        try:
            for name, start, end in _walk(self._buffer, opening.end(), first=True):
                if name == "report":
                    found = start
                    break
                members.append((name, self._buffer[start:end]))
                strangers = strangers or name not in _MEMBERS
        except _Malformed:
            return -1
        if found < 0:
            if strangers or "scanner_type" not in dict(members):
                return -1
            _fail("it has no member report", "report")
        if strangers and not complete:
            return -1
        for name, value in members:
            self._take(name, value)
        self._seen.add("report")
        return found

    # The report.

    async def _more(self) -> bytes:
        chunk = await anext(self._chunks, None)
        if chunk is None:
            _fail("the body ends within the report", "report")
        return chunk

    async def _container(self) -> AsyncIterator[bytes]:
        container = Container()
        data = self._buffer
        end = container.end(data, 1)
        while end < 0:
            yield data
            data = await self._more()
            end = container.end(data)
        self._buffer = data[end:]
        yield data[:end]

    async def _text(self) -> AsyncIterator[bytes]:
        text = Text()
        data = self._buffer[1:]
        while True:
            try:
                piece, left = text.feed(data)
            except ValueError:
                _fail("the report is a string, but not a valid one", "report")
            if piece:
                yield piece
            if left >= 0:
                break
            data = await self._more()
        self._buffer = data[len(data) - left :]

    async def _null(self) -> AsyncIterator[bytes]:
        # What gitleaks writes if it found nothing.
        data = self._buffer
        while len(data) < 4 and b"null".startswith(data):
            data += await self._more()
        if not data.startswith(b"null"):
            _fail("report must be an object, an array, a string or null", "report")
        self._buffer = data[4:]
        yield b"null"

    # Behind the report.

    async def _read_tail(self) -> None:
        pieces = [self._buffer]
        size = len(self._buffer)
        async for chunk in self._chunks:
            pieces.append(chunk)
            size += len(chunk)
            if size > TAIL_BYTES:
                break
        tail = b"".join(pieces)
        self._buffer = b""
        if size > TAIL_BYTES:
            _fail(f"more than {TAIL_BYTES} bytes follow the report", "report")
        try:
            for name, start, end in _walk(tail, 0, first=False):
                self._take(name, tail[start:end])
        except _Malformed:
            _fail("what follows the report is not the rest of a JSON object")

    def _take(self, name: str, value: bytes) -> None:
        if name in self._seen:
            _fail(f"it has the member {name} twice", name)
        if name not in _MEMBERS:
            _fail(f"member {len(self._seen) + 1} has a name other than {', '.join(NAMES)}")
        self._seen.add(name)
        kind, words = _MEMBERS[name]
        try:
            decoded = msgspec.json.decode(value, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError):
            _fail(f"{name} must be {words}", name)
        if isinstance(decoded, Source):
            for field, text in msgspec.structs.asdict(decoded).items():
                setattr(self.declaration.source, field, text or "")
        elif isinstance(decoded, dict):
            self.declaration.labels.update(decoded)
        elif decoded is not None:
            setattr(self.declaration, name, decoded)


def _walk(data: bytes, at: int, *, first: bool) -> Iterator[tuple[str, int, int]]:
    """The members of an object from `at` on: each one's name, its value's start and end.

    Ends with the object, which nothing but space may follow. A member is yielded
    before its value is looked at further than its first byte if its name is
    `report`; its end is then its start.

    Raises:
        _Malformed: these are not members of one object, or they are cut short.
    """
    while True:
        at, byte = _next(data, at)
        if byte == b"}":
            if _NOT_SPACE.search(data, at + 1):
                raise _Malformed
            return
        if not first:
            if byte != b",":
                raise _Malformed
            at, byte = _next(data, at + 1)
        first = False
        end = _value_end(data, at) if byte == b'"' else -1
        if end < 0:
            raise _Malformed
        try:
            name = msgspec.json.decode(data[at:end], type=str)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise _Malformed from None
        at, byte = _next(data, end)
        if byte != b":":
            raise _Malformed
        start, byte = _next(data, at + 1)
        at = start if name == "report" else _value_end(data, start)
        if at < 0:
            raise _Malformed
        yield name, start, at


def _next(data: bytes, at: int) -> tuple[int, bytes]:
    found = _NOT_SPACE.search(data, at)
    if found is None:
        raise _Malformed
    return found.start(), found.group()


def _value_end(data: bytes, at: int) -> int:
    if data[at : at + 1] in (b"{", b"["):
        return Container().end(data, at + 1)
    found = _STRING.match(data, at) or _LITERAL.match(data, at)
    return found.end() if found else -1


def _fail(what: str, field: str = "") -> NoReturn:
    raise WinnowError(
        "ENVELOPE_INVALID",
        f"the body was read as an envelope, a JSON object with the members {', '.join(NAMES)}, "
        f"and {what}; to send a report as it is, name its scanner in the query (?scanner_type=…)",
        field=field,
    )
