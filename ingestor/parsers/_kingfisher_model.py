"""What Kingfisher writes: records, groups of them, and what stands beside them."""

from __future__ import annotations

from typing import Any

import msgspec

from ingestor.dialect import Exact


class Rule(Exact):
    id: str
    name: str | None = None
    title: Any = None
    description: str | None = None


class Validation(Exact):
    status: str | None = None
    outcome: str | None = None
    response: str | None = None


class Commit(Exact):
    id: str | None = None
    date: str | None = None
    url: Any = None
    author: Any = None
    committer: Any = None
    message: Any = None


class Git(Exact):
    commit: Commit | None = None
    repository_url: Any = None
    file: Any = None


class Match(Exact):
    path: str
    snippet: str | None = None
    fingerprint: str | None = None
    confidence: str | None = None
    entropy: str | None = None
    validation: Validation | None = None
    language: str | None = None
    line: int | None = None
    column_start: int | None = None
    column_end: int | None = None
    encoding: str | None = None
    git_metadata: Git | None = None
    validate_command: str | None = None
    revoke_command: str | None = None
    blast_radius_command: str | None = None
    dependent_captures: dict[str, str] | None = None
    ambiguous_dependencies: Any = None


class Finding(Exact):
    rule: Rule
    finding: Match


class Group(Exact):
    """What 1.x reported in the beginning: the matches of one rule."""

    matches: list[Any]
    id: Any = None


class Summary(msgspec.Struct, gc=False):
    fetch_failed: int = 0
    scan_partial: int = 0
    scan_failed: int = 0
    pending: int = 0


class Audit(msgspec.Struct, gc=False):
    summary: Summary = msgspec.field(default_factory=Summary)


class Tail(msgspec.Struct, gc=False):
    """A line of JSONL behind the records."""

    audit: Audit | None = None
    access_map: list[Any] | None = None
