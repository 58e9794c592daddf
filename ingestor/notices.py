"""What else is to be said about a report: the census of its fields, and notices.

Scanners change. A field that nobody knew yet, or one that is gone, is no error:
it is counted, and said by name.
"""

from __future__ import annotations

import re
from collections import Counter, deque

from runtime.redaction import REDACTED, holds, redact
from winnow.ingest.v1.notice_pb2 import Notice, NoticeKind

MOST_NOTICES = 64
WITHHELD = "(withheld)"

# A name may stand behind the records of the object whose member it is.
_REMEMBERED = 256
# Shorter values are repeated in names by chance.
_SHORTEST = 8

# A name as programmers give it. Names come from the report: what looks drawn at
# random, or is anything but a name, is counted and not repeated.
_NAME = re.compile(r"[A-Za-z_@$][A-Za-z0-9_@$/-]{0,47}")
_DRAWN = re.compile(r"\d(?:.*\d){4}|(?:\d+\D+){3}|[A-Za-z0-9]{33}")
# Words in a row, as in a passphrase: no scanner names a field so.
_WORDS = re.compile(r"(?:[A-Za-z]+-){3}[A-Za-z]")
_STEP = re.compile(r"\[\]|[^.\[\]]+")

_SAYS = {
    NoticeKind.NOTICE_KIND_UNKNOWN_FIELD: "a field that this dialect is not known to have was "
    "passed over; a newer version of the scanner may have added it",
    NoticeKind.NOTICE_KIND_MISSING_FIELD: "a field that this dialect always has is missing or null",
    NoticeKind.NOTICE_KIND_VALUES_REDACTED: "the scanner redacted values: these findings have no "
    "fingerprint of a value, and are judged without it",
    NoticeKind.NOTICE_KIND_SCAN_INCOMPLETE: "the report says that the scan did not finish or met "
    "errors; what it did not look at is not in here",
    NoticeKind.NOTICE_KIND_NOT_OPEN: "the report says that these checks passed, or that these "
    "findings are gone; they are kept as findings",
    NoticeKind.NOTICE_KIND_SPOOLED: "the format cannot be read incrementally: the report was held "
    "whole, under a limit",
    NoticeKind.NOTICE_KIND_EMPTY: "the report has no content at all: the scanner found nothing, "
    "or did not run",
    NoticeKind.NOTICE_KIND_PART_SKIPPED: "a part of the report that holds no findings of a kind "
    "that is read was passed over",
}


def shown(field: str) -> str:
    """A field's path as it may be shown."""
    if redact(field) != field or REDACTED in field:
        return WITHHELD
    for step in _STEP.findall(field):
        if step != "[]" and (
            not _NAME.fullmatch(step) or _DRAWN.search(step) or _WORDS.search(step)
        ):
            return WITHHELD
    return field


class Notices:
    """The notices of one report, counted by kind and field."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[NoticeKind.ValueType, str]] = Counter()
        # Names as they came, so that each is looked at once.
        self._shown: dict[str, str] = {}
        self._strange: set[str] = set()
        self._values: deque[str] = deque(maxlen=_REMEMBERED)

    def value(self, value: str) -> None:
        """A value that was read: no name that repeats it is told."""
        if len(value) < _SHORTEST:
            return
        self._values.append(value)
        if not self._strange:
            return
        for field in [one for one in self._strange if len(one) >= len(value)]:
            if holds(field, value):
                self._strange.discard(field)
                self._shown[field] = WITHHELD
                key = (NoticeKind.NOTICE_KIND_UNKNOWN_FIELD, field)
                self.note(key[0], field, self._counts.pop(key, 0))

    def note(self, kind: NoticeKind.ValueType, field: str = "", records: int = 1) -> None:
        """Counts records that a notice concerns; a report without records may
        have a notice that counts none (`records=0`).

        Args:
            kind: what is told.
            field: path of names from the record's top, "a.b[].c"; it may come
                from the report.
            records: how many.
        """
        name = self._shown.get(field)
        if name is None:
            name = shown(field)
            if len(self._shown) < 4096:
                self._shown[field] = name
        key = (kind, name)
        if key in self._counts or len(self._counts) < MOST_NOTICES:
            self._counts[key] += records

    def unknown(self, field: str) -> None:
        """One more record with a field that its dialect is not known to have."""
        if field not in self._shown and field not in self._strange:
            if len(self._strange) == MOST_NOTICES or any(
                len(value) <= len(field) and holds(field, value) for value in self._values
            ):
                field = WITHHELD
            else:
                self._strange.add(field)
        self.note(NoticeKind.NOTICE_KIND_UNKNOWN_FIELD, field)

    def missing(self, field: str) -> None:
        """One more record without a field that its dialect always has."""
        self.note(NoticeKind.NOTICE_KIND_MISSING_FIELD, field)

    def messages(self) -> list[Notice]:
        """The notices, by kind, the most frequent first."""
        return [
            Notice(kind=kind, field=field, records=records, detail=_SAYS[kind])
            for (kind, field), records in sorted(
                self._counts.items(), key=lambda item: (item[0][0], -item[1], item[0][1])
            )
        ]
