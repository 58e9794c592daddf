"""Rusty Hog: arrays of findings of its several hogs, which differ in where they
look: git (Choctaw), files (Duroc), S3 (Berkshire), Google Docs (Ankamali), JIRA
(Gottingen), Confluence (Essex), Slack (Hante).

A record may hold several strings that one rule found in one place: it is one
finding, of the first string.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ingestor.dialect import Dialect, Exact
from ingestor.framing import Source
from ingestor.parsers._base import Parser, each, signs, unescaped_keys
from ingestor.parsers._code import neighbours
from ingestor.records import Record, state_of
from winnow.finding.v1 import finding_pb2 as pb
from winnow.ingest.v1.rejected_pb2 import Rejected


class _Finding(Exact):
    stringsFound: list[str]
    reason: str
    path: str | None = None
    # Git.
    commit: str | None = None
    commitHash: str | None = None
    date: str | None = None
    diff: str | None = None
    new_line_num: int | None = None
    old_line_num: int | None = None
    old_file_id: Any = None
    new_file_id: Any = None
    parent_commit_hash: Any = None
    # Files.
    linenum: int | None = None
    # S3.
    bucket: str | None = None
    key: str | None = None
    region: Any = None
    # Tickets, pages, documents, messages.
    issue_id: str | None = None
    page_id: str | None = None
    g_drive_id: str | None = None
    channel_id: str | None = None
    channel_name: str | None = None
    location: str | None = None
    url: str | None = None
    web_link: str | None = None
    permalink: Any = None
    user: Any = None
    ts: Any = None


_PLACES = frozenset(
    (
        b"old_file_id",
        b"parent_commit_hash",
        b"linenum",
        b"bucket",
        b"issue_id",
        b"page_id",
        b"g_drive_id",
        b"channel_id",
    )
)
# TruffleHog 2 has the same names for what it found, and these.
_OTHERS = frozenset((b"printDiff", b"branch"))
_SIGNS = signs((b"stringsFound", b"reason"))
_DIALECT = Dialect(_Finding)


def _sniff(head: bytes, _name: str) -> float:
    keys = unescaped_keys(head)
    if not keys >= {b"stringsFound", b"reason"} or keys & _OTHERS:
        return 0.0
    return 0.9 if keys & _PLACES else 0.5


def _hog(head: bytes) -> str:
    keys = unescaped_keys(head)
    hogs = {
        b"commitHash": "choctaw (git)",
        b"linenum": "duroc (files)",
        b"bucket": "berkshire (S3)",
        b"issue_id": "gottingen (JIRA)",
        b"page_id": "essex (Confluence)",
        b"g_drive_id": "ankamali (Google Docs)",
        b"channel_id": "hante (Slack)",
    }
    return next((f"rusty hog, {hog}" for key, hog in hogs.items() if key in keys), "rusty hog")


def _record(found: _Finding, raw: bytes) -> Record:
    value = found.stringsFound[0] if found.stringsFound else ""
    state = state_of(value)
    where = (
        found.bucket,
        found.issue_id,
        found.page_id,
        found.g_drive_id,
        found.channel_name or found.channel_id,
        found.location,
    )
    link = found.url or found.web_link
    diff = found.diff or ""
    return Record(
        raw=raw,
        tool="rusty-hog",
        rule_id=found.reason,
        path=found.path or found.key or "",
        line=found.new_line_num or found.old_line_num or found.linenum or 0,
        commit=found.commitHash or "",
        container=" ".join(filter(None, where)),
        changed_at=found.date or "",
        metadata={"url": link} if link else {},
        value_state=state,
        value=value if state == pb.VALUE_STATE_PRESENT else "",
        context=diff,
        message=found.commit or "",
        extra={
            f"string {number}": text for number, text in enumerate(found.stringsFound) if number
        },
        secrets=neighbours((*found.stringsFound, diff), value),
    )


def _parse(source: Source) -> Iterator[Record | Rejected]:
    source.dialect = _hog(source.head())
    return each(source, source.records(_SIGNS), _DIALECT, _record)


PARSER = Parser(
    id="rusty-hog",
    version="1",
    title="Rusty Hog",
    aliases=("rusty_hog", "rustyhog"),
    shapes=("array", "NDJSON"),
    sniff=_sniff,
    parse=_parse,
    versions="1.x: Choctaw, Duroc, Berkshire, Ankamali, Gottingen, Essex, Hante",
    notes="Several strings in one record are one finding: the first is its value.",
)
