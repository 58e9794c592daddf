"""What scanners' words mean, and what of theirs is common to many formats."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache

from ingestor.framing import Source
from ingestor.records import Record, reject
from winnow.finding.v1 import finding_pb2 as pb
from winnow.ingest.v1.notice_pb2 import NoticeKind
from winnow.ingest.v1.rejected_pb2 import Rejected

ADVISORY = re.compile(r"\b(?:CVE-\d{4}-\d{4,}|GHSA(?:-[0-9a-z]{4}){3})\b", re.IGNORECASE)
_CWE = re.compile(r"\bCWE[-_:/]?0*(\d{1,5})\b", re.IGNORECASE)
_MOST_ALIASES = 16

_SEVERITIES = {
    "critical": pb.SEVERITY_CRITICAL,
    "blocker": pb.SEVERITY_CRITICAL,
    "high": pb.SEVERITY_HIGH,
    "error": pb.SEVERITY_HIGH,
    "major": pb.SEVERITY_HIGH,
    "medium": pb.SEVERITY_MEDIUM,
    "moderate": pb.SEVERITY_MEDIUM,
    "warning": pb.SEVERITY_MEDIUM,
    "low": pb.SEVERITY_LOW,
    "minor": pb.SEVERITY_LOW,
    "note": pb.SEVERITY_LOW,
    "info": pb.SEVERITY_INFO,
    "informational": pb.SEVERITY_INFO,
    "none": pb.SEVERITY_INFO,
    "negligible": pb.SEVERITY_INFO,
}


def severity(word: str | None) -> pb.Severity.ValueType:
    """A scanner's word for how bad it is; unspecified for one that is not known."""
    return _SEVERITIES.get((word or "").strip().lower(), pb.SEVERITY_UNSPECIFIED)


def aliases(texts: Iterable[str], rule_id: str = "") -> list[str]:
    """The advisories and weaknesses (CVE, GHSA, CWE) that texts name, without
    the rule's own name.
    """
    return [name for name in _named(tuple(texts)) if name != rule_id][:_MOST_ALIASES]


@lru_cache(maxsize=1024)  # the same few for every finding of a rule
def _named(texts: tuple[str, ...]) -> tuple[str, ...]:
    found = [name.upper() for text in texts for name in ADVISORY.findall(text)]
    found += [f"CWE-{number}" for text in texts for number in _CWE.findall(text)]
    return tuple(dict.fromkeys(found))


def strings(found: object) -> list[str]:
    """The texts of a value that is a text, or a list with texts in it."""
    if isinstance(found, str):
        return [found]
    return [item for item in found if isinstance(item, str)] if isinstance(found, list) else []


def elements(source: Source, field: str) -> Iterator[bytes | Rejected]:
    """The elements of the array at the position. `null` holds none; anything
    else in its place is rejected.
    """
    byte, at_byte = source.peek(), source.offset()
    if byte == b"[":
        yield from source.elements()
        return
    source.skip()
    if byte != b"n":
        yield reject("WRONG_TYPE", f"{field} is not an array", field, at_byte)


def incomplete(source: Source, field: str) -> Iterator[Record | Rejected]:
    """Steps over a list of what went wrong; if there is anything in it, the scan
    is not complete.
    """
    byte, met = source.peek(), 0
    if byte in (b"[", b"{"):
        for _ in source.items() if byte == b"[" else source.members():
            source.skip()
            met += 1
    else:
        source.skip()
    if met:
        source.notices.note(NoticeKind.NOTICE_KIND_SCAN_INCOMPLETE, field, 0)
    return iter(())
