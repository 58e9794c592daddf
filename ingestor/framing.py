"""From a report's bytes to its records, incrementally and in flat memory.

Almost all records travel the fast way: a block of the buffer that seems to end
where a record ends is decoded at once as a list of raw values. That it decodes
proves the cut to be at top level. Everything odd goes value by value.
"""

from __future__ import annotations

import contextlib
import csv
import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence

import msgspec

from ingestor.notices import Notices
from ingestor.reading import BLOCK, GAP, HEAD, MAX_RECORD, NOWHERE, VALUE, Malformed, Reader
from ingestor.records import Record, reject
from ingestor.structure import State, Structure
from winnow.ingest.v1.notice_pb2 import NoticeKind
from winnow.ingest.v1.rejected_pb2 import Rejected

_WORTH_A_BLOCK = 4 << 10  # bytes
_OPEN_ARRAY = 0x5B
# A member of any record; a parser knows better.
_NAME = re.compile(rb'"(?!(?:level|ts|time|timestamp|msg)")[^"\\\n]*"\s*:')
_LIST = msgspec.json.Decoder(list[msgspec.Raw])
_OPENING = re.compile(rb'\{\s*"[^"\\]*"\s*:')
# What tells an array of records from a log line such as "[INFO] starting".
_ARRAY = re.compile(rb'\[\s*(?:[{\]\["]|null|true|false|-?\d[\d.eE+-]*\s*[,\]]|\Z)')
# A line inside a block of NDJSON that does not begin an object.
_NOT_AN_OBJECT = re.compile(rb"\n[^{\r\n]")
# Where JSON may begin behind something that is none, and what would be lost
# there if it were passed over.
_EMBEDDED = re.compile(rb'\{(?=\s*")|\[(?=\s*\{)')
_CONTENT = re.compile(rb'[{\[]\s*[{\["]')
_LOOKAHEAD = 256  # bytes of whitespace that may stand in the former
_NEXT_LINE = re.compile(rb"\n()")
_LOG_LINE = re.compile(rb'\{\s*"(?:level|ts|time|timestamp|msg)"\s*:')
# `{"findings":[` with nothing but small members before it.
WRAPPER = re.compile(
    rb'\{\s*(?:"(?!findings")[\w$.-]*"\s*:\s*(?:"[^"\\]*"|[\d.eE+-]+|null|true|false|\{\s*\}|\[\s*\])'
    rb'\s*,\s*)*"findings"\s*:\s*(?:\[|null)'
)

NOTHING_KNOWN = "holds nothing that the format has there"


# Reads what stands at the position.
Handler = Callable[[], Iterator[Record | Rejected]]

# A quoted cell may be as large as a record.
csv.field_size_limit(MAX_RECORD)


class Source(Reader):
    """A report as a parser reads it: lists of records, and navigation.

    Attributes:
        tool: the tool that wrote the report, where a parser learns it.
        dialect: the format's dialect with a guess of the tool's version, for
            people, set with the first record. Only words of ours, and versions.
        notices: what else is to be said about the report.
        shape: "object" or "csv" where it was read as one.
    """

    def __init__(self, chunks: Iterable[bytes]) -> None:
        super().__init__(chunks)
        self.tool = self.dialect = self.shape = ""
        self.notices = Notices()
        self.row_bytes = b""
        self._slow_until = 0  # offset up to which the fast way was tried in vain
        self._fresh = True  # nothing was read from this line yet
        # The block whose records are being given, for at_byte.
        self._block = b""
        self._raws: Sequence[bytes] = ()
        self._block_at = self._current = self._walked = self._walked_to = 0

    def at_byte(self) -> int:
        """Where the record given last begins."""
        while self._walked < self._current:
            self._walked_to = self._start(self._walked_to) + len(self._raws[self._walked])
            self._walked += 1
        return self._block_at + self._start(self._walked_to)

    def _start(self, at: int) -> int:
        match = GAP.match(self._block, at)
        return match.end() if match else at

    def _track(self, block: bytes, raws: Sequence[bytes], at: int) -> None:
        self._block, self._raws, self._block_at = block, raws, at
        self._walked = self._walked_to = self._current = 0

    def _one(self, resync: re.Pattern[bytes]) -> bytes | Rejected:
        self._track(b"", (), self._base + self._pos)
        return self._value(resync)

    def elements(self) -> Iterator[bytes | Rejected]:
        """The elements of the array at the position, each with its bytes.

        Raises:
            Malformed: the array does not end.
        """
        began = self._base + self._pos
        self._pos += 1
        # Bytes from one element's end to behind the next one's first name:
        # where they stand, a record probably ends. Learnt from the report.
        boundary = opening = b""
        resync = re.compile(rb",\s*(\{)")
        ended_at = -1
        while (byte := self.peek()) != b"]":
            if not byte:
                raise Malformed(began)
            buffer, pos = self._buffer, self._pos
            if found := _OPENING.match(buffer, pos):
                if found[0] != opening:
                    opening = found[0]
                    resync = re.compile(rb",\s*(" + re.escape(opening) + rb")")
                if 0 <= ended_at - self._base <= pos:
                    boundary = b"}" + buffer[ended_at - self._base : found.end()]
            if boundary and self._base + pos >= self._slow_until:
                if len(buffer) - pos < BLOCK // 2 and not self._ended:
                    self._fill(BLOCK)
                    buffer, pos = self._buffer, self._pos
                cut = buffer.rfind(boundary, pos) + 1
                if pos + _WORTH_A_BLOCK < cut <= pos + MAX_RECORD:
                    block = buffer[pos:cut]
                    try:
                        raws = _LIST.decode(b"[" + block + b"]")
                    except (msgspec.DecodeError, RecursionError):
                        self._slow_until = self._base + cut
                    else:
                        self._track(block, raws, self._base + pos)
                        self._pos = cut
                        for index, raw in enumerate(raws):
                            self._current = index
                            yield raw
                        ended_at = -1
                        continue
            yield self._one(resync)
            ended_at = self._base + self._pos
        self._pos += 1

    def walk(
        self, handlers: Mapping[str, Handler], known: Container[str] = (), path: str = ""
    ) -> Iterator[Record | Rejected]:
        """Walks the object at the position, member by member. One that has members,
        but none that is named here, is rejected: it is something else.

        Args:
            handlers: what reads the value of a member, by its name; called with
                the position at that value.
            known: members that are stepped over; all others as well, with a notice.
            path: where the object stands, for the notice.

        Raises:
            Malformed: the object does not go on or end as one.
        """
        at_byte, recognised, strange = self.offset(), False, False
        for name in self.members():
            handler = handlers.get(name)
            if handler is not None:
                recognised = True
                yield from handler()
                continue
            if name in known:
                recognised = True
            else:
                strange = True
                self.notices.unknown(f"{path}.{name}" if path else name)
            self.skip()
        if strange and not recognised:
            yield reject("NOT_A_RECORD", NOTHING_KNOWN, path, at_byte)

    def documents(self, read: Handler) -> Iterator[Record | Rejected]:
        """Reads the report's objects one after another, each with `read`; also those
        in an array, as `jq -s` makes it of several reports.

        Raises:
            Malformed: something else stands between them.
        """
        while byte := self.peek():
            self.shape = self.shape or ("array" if byte == b"[" else "object")
            for _ in self.items() if byte == b"[" else (None,):
                if self.peek() != b"{":
                    raise Malformed(self.offset())
                yield from read()
            self.whole = True

    def rows(self, delimiter: str = ",") -> Iterator[dict[str, str] | Rejected]:
        """The rows of a CSV report (RFC 4180) by the names of its first row;
        `row_bytes` has the bytes of the one given last.

        A row with more or fewer cells than the first row has names is rejected.
        """
        names: list[str] = []
        while (text := self._row()) is not None:
            if isinstance(text, Rejected):
                yield text
                continue
            if not text.strip():
                continue
            try:
                [cells] = csv.reader([text.decode("utf-8", "replace")], delimiter=delimiter)
            except (csv.Error, ValueError):
                yield reject("SYNTAX", "not a valid row of CSV", at_byte=self.at_byte())
                continue
            if not names:
                names = [cell.strip() for cell in cells]
                self.shape, self.whole = "csv", True
            elif len(cells) != len(names):
                yield reject(
                    "SYNTAX", "the row has not as many cells as the header", at_byte=self.at_byte()
                )
            else:
                self.row_bytes = text
                yield dict(zip(names, cells, strict=True))

    def _row(self) -> bytes | Rejected | None:
        """The bytes of the next row: one line, or several where a quoted cell
        holds line breaks.
        """
        self._track(b"", (), self.offset())
        quotes = at = 0
        first_end = 0
        while True:
            end = self._buffer.find(b"\n", self._pos + at)
            while end < 0 and len(self._buffer) - self._pos <= MAX_RECORD and self._more():
                end = self._buffer.find(b"\n", self._pos + at)
            ended = end < 0
            stop = len(self._buffer) if ended else end + 1
            if self._pos + at >= stop:
                break
            quotes += self._buffer.count(b'"', self._pos + at, stop)
            at = stop - self._pos
            first_end = first_end or at
            if at > MAX_RECORD or quotes % 2 == 0 or ended:
                break
        if at == 0:
            return None
        if at > MAX_RECORD or quotes % 2:
            # A quote that is never closed: its line is lost, the next ones are not.
            self._pos += first_end
            reason = "TOO_LARGE" if first_end > MAX_RECORD else "SYNTAX"
            return reject(reason, "a quoted cell does not end", at_byte=self.at_byte())
        text = self._buffer[self._pos : self._pos + at]
        self._pos += at
        return text

    def records(self, signs: re.Pattern[bytes] = _NAME) -> Iterator[bytes | Rejected]:
        """The records of a report that is an array, objects one after another
        (NDJSON or not), one object, or `{"findings": […]}`; log lines and
        `null` around them are passed over.

        Args:
            signs: finds a member that only the format's records have. It tells
                a record from a log line's object behind other text.

        Raises:
            Malformed: an array, or an object over several lines, does not end.
        """
        first = True
        while byte := self._next():
            if byte == b"{" and first and WRAPPER.match(self.head()):
                skipped = False
                for name in self.members():
                    if name == "findings" and self.peek() == b"[":
                        yield from self.elements()
                        continue
                    if name != "findings" and self.peek() in (b"[", b"{"):
                        self.notices.note(NoticeKind.NOTICE_KIND_PART_SKIPPED, name, 0)
                        skipped = True
                    self.skip()
                self.whole = not skipped
            elif byte == b"{":
                yield from self._lines(signs)
            elif byte == b"[" and _ARRAY.match(self.head()):
                yield from self.elements()
                self._fresh = False
            else:
                yield from self._stray(signs)
                continue
            first = False

    def _next(self) -> bytes:
        """As `peek`, noting whether a line begins."""
        while True:
            match = GAP.match(self._buffer, self._pos)
            if match:
                self._fresh = self._fresh or b"\n" in match[0]
                self._pos = match.end()
            if self._pos < len(self._buffer):
                return self._buffer[self._pos : self._pos + 1]
            if not self._more():
                return b""

    def _lines(self, signs: re.Pattern[bytes]) -> Iterator[bytes | Rejected]:
        """Objects one after another, until something else begins."""
        while self._next() == b"{":
            if self._base + self._pos >= self._slow_until:
                if len(self._buffer) - self._pos < BLOCK // 2 and not self._ended:
                    self._fill(BLOCK)
                cut = self._buffer.rfind(b"\n", self._pos) + 1
                if self._pos + _WORTH_A_BLOCK < cut <= self._pos + MAX_RECORD:
                    block = self._buffer[self._pos : cut]
                    raws: list[msgspec.Raw] = []
                    if not _NOT_AN_OBJECT.search(block):
                        with contextlib.suppress(msgspec.DecodeError, RecursionError):
                            raws = VALUE.decode_lines(block)
                    if raws:
                        self._track(block, raws, self._base + self._pos)
                        self._pos = cut
                        self._fresh = True
                        for index, raw in enumerate(raws):
                            self._current = index
                            yield raw
                        continue
                    self._slow_until = self._base + cut
            yield from self._line(signs)
            self._fresh = False

    def _line(self, signs: re.Pattern[bytes]) -> Iterator[bytes | Rejected]:
        is_log = _LOG_LINE.match(self._buffer, self._pos)
        if is_log:
            if len(self._buffer) - self._pos < HEAD:
                self._fill(HEAD)
            end = self._buffer.find(b"\n", self._pos, self._pos + HEAD)
            if signs.search(self._buffer, self._pos, end if end >= 0 else self._pos + HEAD):
                is_log = None
        indent = self._pos - self._buffer.rfind(b"\n", 0, self._pos) - 1
        at_byte = self._base + self._pos
        try:
            # The next record begins on a line indented no deeper than this one.
            item = self._one(re.compile(rb"\n[ \t]{0,%d}(\{)" % min(indent, 64)))
        except Malformed as error:
            if not error.one_line:
                raise
            item = reject("SYNTAX", "not valid JSON", at_byte=at_byte)
        if not (is_log and isinstance(item, Rejected)):
            yield item

    def _stray(self, signs: re.Pattern[bytes]) -> Iterator[bytes | Rejected]:
        """What a line holds that does not begin as JSON: a record or an array
        of records behind other text (prefixes of CI logs, record separators),
        or nothing, if it is a log line. Ends behind the first one, or the line.

        What follows a record on its line and holds JSON is no log line.
        """
        lost = -1
        while True:
            # Twice what is searched, so that what begins there can be looked at.
            if len(self._buffer) - self._pos < 2 * HEAD and not self._ended:
                self._fill(BLOCK)
            buffer, pos = self._buffer, self._pos
            stop = buffer.find(b"\n", pos, pos + HEAD)
            in_line = stop < 0
            if in_line:
                stop = min(pos + HEAD, len(buffer))
            if not self._fresh and lost < 0:
                content = _CONTENT.search(buffer, pos, stop + _LOOKAHEAD)
                if content and content.start() < stop:
                    lost = self._base + content.start()
            found = _EMBEDDED.search(buffer, pos, stop + _LOOKAHEAD)
            if found and found.start() < stop:
                at = found.start()
                end, state = Structure().feed(buffer, at, min(len(buffer), at + HEAD))
                if signs.search(buffer, at, end) and not _LOG_LINE.match(buffer, at):
                    self._pos = at
                    yield from self._embedded(NOWHERE if state is State.DONE else _NEXT_LINE)
                    return
                # Without a sign up to there, nothing in it is a record either; the
                # next line may be one.
                self._pos = min(end, stop)
            elif in_line and stop < len(buffer):
                self._pos = stop
            else:
                self._pos = min(stop + 1, len(buffer))
                self._fresh = True
                break
        if lost >= 0:
            yield reject("SYNTAX", "not valid JSON behind a record", at_byte=lost)

    def _embedded(self, resync: re.Pattern[bytes]) -> Iterator[bytes | Rejected]:
        """The object or array at the position, which is not its line's beginning."""
        self._fresh = False
        at_byte = self._base + self._pos
        if self._buffer[self._pos] == _OPEN_ARRAY:
            yield from self.elements()
            return
        try:
            item = self._one(resync)
        except Malformed as error:
            if not error.one_line:
                raise
            item = reject("SYNTAX", "not valid JSON", at_byte=at_byte)
        self._fresh = self._buffer[self._pos - 1 : self._pos] == b"\n"
        yield item
