"""Nosey Parker: one finding a line (`report --format jsonl`), or an array of them.

A finding is one credential by one rule; its `matches[]` are the places where it
stands, each in one or more files or commits. `finding_id` is an unkeyed digest
of rule and credential, so it is sealed.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from typing import Any

from ingestor.dialect import Dialect, Exact
from ingestor.framing import Source
from ingestor.parsers._base import Parser, each, signs, unescaped_keys
from ingestor.parsers._code import neighbours
from ingestor.records import Place, Record, state_of
from winnow.finding.v1 import finding_pb2 as pb
from winnow.ingest.v1.rejected_pb2 import Rejected


class _Commit(Exact):
    commit_id: str | None = None
    committer_timestamp: str | None = None
    author_timestamp: str | None = None
    message: str | None = None
    committer_name: Any = None
    committer_email: Any = None
    author_name: Any = None
    author_email: Any = None


class _CommitProvenance(Exact):
    commit_metadata: _Commit | None = None
    blob_path: str | None = None
    commit_kind: Any = None


class _Provenance(Exact):
    kind: str | None = None
    path: str | None = None
    commit_provenance: _CommitProvenance | None = None
    # Since 0.22, in place of the former.
    first_commit: _CommitProvenance | None = None
    repo_path: Any = None
    payload: Any = None


class _Point(Exact):
    line: int | None = None
    column: int | None = None


class _Span(Exact):
    start: _Point
    end: _Point


class _Location(Exact):
    source_span: _Span | None = None
    offset_span: Any = None


class _Snippet(Exact):
    before: str | None = None
    matching: str | None = None
    after: str | None = None


class _Match(Exact):
    provenance: list[_Provenance] | _Provenance | None = None
    location: _Location | None = None
    snippet: _Snippet | None = None
    match_content: str | None = None
    groups: list[str] | None = None
    structural_id: str | None = None
    blob_id: Any = None
    blob_metadata: Any = None
    capture_group_index: Any = None
    rule_name: Any = None
    rule_text_id: Any = None
    rule_structural_id: Any = None
    score: Any = None
    comment: Any = None
    status: Any = None
    redundant_to: Any = None


class _Finding(Exact):
    rule_name: str
    matches: list[_Match]
    rule_text_id: str | None = None
    match_content: str | None = None
    groups: list[str] | None = None
    finding_id: str | None = None
    num_matches: int | None = None
    num_redundant_matches: int | None = None
    status: str | None = None
    statuses: list[str] | None = None
    comment: str | None = None
    mean_score: float | None = None
    type: Any = None
    rule_structural_id: Any = None


_SIGNS = signs((b"rule_name", b"matches", b"num_matches"))
_DIALECT = Dialect(_Finding, expected=("num_matches",))
_TRIAGES = {"accept": pb.TRIAGE_TRUE_POSITIVE, "reject": pb.TRIAGE_FALSE_POSITIVE}


def _sniff(head: bytes, _name: str) -> float:
    keys = unescaped_keys(head)
    if not keys >= {b"rule_name", b"matches", b"num_matches"}:
        return 0.0
    return 1.0 if keys & {b"provenance", b"blob_metadata", b"rule_text_id"} else 0.7


def _decoded(group: str) -> str:
    try:
        return base64.b64decode(group, validate=True).decode("utf-8", "replace")
    except (binascii.Error, ValueError):
        return group


def _provenances(match: _Match) -> list[_Provenance]:
    found = match.provenance
    return found if isinstance(found, list) else [found] if found else []


def _from_git(found: _Provenance) -> _CommitProvenance:
    return found.commit_provenance or found.first_commit or _CommitProvenance()


def _places(match: _Match) -> Iterator[Place]:
    """A match's span in every file that has it."""
    span = match.location.source_span if match.location else None
    span = span or _Span(_Point(), _Point())
    numbers = (
        span.start.line or 0,
        span.end.line or 0,
        span.start.column or 0,
        # The last character's column; that after it is wanted.
        span.end.column + 1 if span.end.column is not None else 0,
    )
    for found in _provenances(match) or [_Provenance()]:
        yield _from_git(found).blob_path or found.path or "", *numbers


def _commit(found: _Finding) -> _Commit:
    for match in found.matches:
        for provenance in _provenances(match):
            if commit := _from_git(provenance).commit_metadata:
                return commit
    return _Commit()


def _record(found: _Finding, raw: bytes) -> Record:
    groups = [_decoded(group) for group in found.groups or ()]
    value = found.match_content or (groups[0] if groups else "")
    state = state_of(value)
    first = found.matches[0] if found.matches else _Match()
    snippet = first.snippet or _Snippet()
    around = (snippet.before, snippet.matching, snippet.after)
    # "./config.py" of a file and "config.py" of a commit are one place.
    places = {
        (place[0].removeprefix("./"), *place[1:]) for m in found.matches for place in _places(m)
    }
    place, *others = sorted(places) or [("", 0, 0, 0, 0)]
    commit = _commit(found)
    statuses = set(found.statuses or ([found.status] if found.status else []))
    texts = [
        text
        for match in found.matches
        for text in (match.match_content, match.snippet.matching if match.snippet else None)
        if text
    ]
    sealed = {"finding_id": found.finding_id, "comment": found.comment}
    sealed |= {f"group {number}": group for number, group in enumerate(groups) if number}
    return Record(
        raw=raw,
        tool="noseyparker",
        rule_id=found.rule_text_id or found.rule_name,
        rule_name=found.rule_name if found.rule_text_id else "",
        path=place[0],
        line=place[1],
        end_line=place[2],
        column=place[3],
        end_column=place[4],
        more_places=others,
        commit=commit.commit_id or "",
        native_id=first.structural_id or "",
        triage=_TRIAGES.get(statuses.pop(), pb.TRIAGE_UNSPECIFIED)
        if len(statuses) == 1
        else pb.TRIAGE_UNSPECIFIED,
        metadata={"num_matches": str(found.num_matches)} if found.num_matches is not None else {},
        value_state=state,
        value=value if state == pb.VALUE_STATE_PRESENT else "",
        match=snippet.matching or "",
        context="".join(text or "" for text in around),
        message=commit.message or "",
        extra={name: text for name, text in sealed.items() if text},
        secrets=neighbours((*groups, *texts, *filter(None, around)), value),
    )


def _parse(source: Source) -> Iterator[Record | Rejected]:
    newer = b'"rule_text_id"' in source.head()
    source.dialect = "nosey parker 0.17 or newer" if newer else "nosey parker before 0.17"
    return each(source, source.records(_SIGNS), _DIALECT, _record)


PARSER = Parser(
    id="noseyparker",
    version="1",
    title="Nosey Parker",
    aliases=("nosey-parker", "nosey_parker"),
    shapes=("NDJSON", "array"),
    sniff=_sniff,
    parse=_parse,
    versions="0.13 to 0.24",
    notes="A finding is one credential with all its places.",
)
