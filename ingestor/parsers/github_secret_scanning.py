"""GitHub secret scanning: alerts as its REST API lists them
(docs.github.com, "REST API endpoints for secret scanning").

Pages may stand one after another (`gh api --paginate`) or in an array (`--slurp`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ingestor.dialect import Dialect, Exact
from ingestor.framing import Source
from ingestor.parsers._base import Parser, each, signs, unescaped_keys
from ingestor.records import Record, state_of
from winnow.finding.v1 import finding_pb2 as pb
from winnow.ingest.v1.notice_pb2 import NoticeKind
from winnow.ingest.v1.rejected_pb2 import Rejected


class _Location(Exact):
    """Where it was first detected: in a file, or in text of an issue, pull
    request or discussion, of which there is only the address.
    """

    path: str | None = None
    start_line: int | None = None
    end_line: int | None = None
    start_column: int | None = None
    end_column: int | None = None
    commit_sha: str | None = None
    issue_title_url: str | None = None
    issue_body_url: str | None = None
    issue_comment_url: str | None = None
    discussion_title_url: str | None = None
    discussion_body_url: str | None = None
    discussion_comment_url: str | None = None
    pull_request_title_url: str | None = None
    pull_request_body_url: str | None = None
    pull_request_comment_url: str | None = None
    pull_request_review_url: str | None = None
    pull_request_review_comment_url: str | None = None
    blob_sha: Any = None
    page_url: Any = None
    blob_url: Any = None
    commit_url: Any = None


class _Alert(Exact):
    number: int
    secret_type: str
    secret_type_display_name: str | None = None
    secret: str | None = None
    state: str | None = None
    resolution: str | None = None
    resolution_comment: str | None = None
    validity: str | None = None
    html_url: str | None = None
    first_location_detected: _Location | None = None
    has_more_locations: bool | None = None
    publicly_leaked: bool | None = None
    multi_repo: bool | None = None
    is_base64_encoded: bool | None = None
    push_protection_bypassed: bool | None = None
    push_protection_bypass_request_comment: str | None = None
    push_protection_bypass_request_reviewer_comment: str | None = None
    repository: dict[str, Any] | None = None  # as many fields as GitHub likes
    metadata: Any = None
    created_at: Any = None
    updated_at: Any = None
    url: Any = None
    locations_url: Any = None
    resolved_at: Any = None
    resolved_by: Any = None
    provider: Any = None
    provider_slug: Any = None
    assigned_to: Any = None
    closure_request_comment: Any = None
    closure_request_reviewer: Any = None
    closure_request_reviewer_comment: Any = None
    push_protection_bypassed_by: Any = None
    push_protection_bypassed_at: Any = None
    push_protection_bypass_request_reviewer: Any = None
    push_protection_bypass_request_html_url: Any = None


_SIGNS = signs((b"secret_type", b"secret_type_display_name", b"locations_url"))
_DIALECT = Dialect(_Alert, expected=("state",))
_SLURPED = re.compile(rb"\[\s*\[")

_TRIAGE = {
    "false_positive": pb.TRIAGE_FALSE_POSITIVE,
    "wont_fix": pb.TRIAGE_ACCEPTED,
    "revoked": pb.TRIAGE_REVOKED,
    "used_in_tests": pb.TRIAGE_TEST_ONLY,
}
_VALIDITY = {
    "active": pb.VALIDITY_LIVE,
    "inactive": pb.VALIDITY_DEAD,
    "unknown": pb.VALIDITY_UNKNOWN,
}
# Where it may stand beside files.
_TEXTS = (
    "issue_title_url",
    "issue_body_url",
    "issue_comment_url",
    "discussion_title_url",
    "discussion_body_url",
    "discussion_comment_url",
    "pull_request_title_url",
    "pull_request_body_url",
    "pull_request_comment_url",
    "pull_request_review_url",
    "pull_request_review_comment_url",
)
_FLAGS = (
    "has_more_locations",
    "publicly_leaked",
    "multi_repo",
    "is_base64_encoded",
    "push_protection_bypassed",
)


def _sniff(head: bytes, _name: str) -> float:
    found = unescaped_keys(head)
    if b"secret_type" not in found:
        return 0.0
    known = {b"locations_url", b"resolution", b"secret_type_display_name", b"html_url", b"state"}
    return 0.5 + len(found & known) / 10 if b"number" in found and found & known else 0.0


def _record(found: _Alert, raw: bytes) -> Record:
    secret = found.secret or ""
    # `hide_secret=true` leaves the value out, or null.
    state = state_of(secret) if secret else pb.VALUE_STATE_REDACTED
    at = found.first_location_detected or _Location()
    container = "" if at.path else next(filter(None, (getattr(at, name) for name in _TEXTS)), "")
    free_text = {
        "resolution_comment": found.resolution_comment,
        "push_protection_bypass_request_comment": found.push_protection_bypass_request_comment,
        "push_protection_bypass_request_reviewer_comment": (
            found.push_protection_bypass_request_reviewer_comment
        ),
    }
    metadata = {name: "true" for name in _FLAGS if getattr(found, name)}
    for name in ("state", "resolution"):
        if said := getattr(found, name):
            metadata[name] = said
    repository = (found.repository or {}).get("full_name")
    if isinstance(repository, str):
        metadata["repository"] = repository
    return Record(
        raw=raw,
        tool="github-secret-scanning",
        rule_id=found.secret_type,
        rule_name=found.secret_type_display_name or "",
        path=at.path or "",
        line=at.start_line or 0,
        end_line=at.end_line or 0,
        column=at.start_column or 0,
        end_column=at.end_column or 0,
        commit=at.commit_sha or "",
        container=container or "",
        native_id=found.html_url or str(found.number),
        validity=_VALIDITY.get(found.validity or "", pb.VALIDITY_UNSPECIFIED),
        triage=_TRIAGE.get(found.resolution or "", pb.TRIAGE_UNSPECIFIED),
        value_state=state,
        metadata=metadata,
        value=secret if state == pb.VALUE_STATE_PRESENT else "",
        extra={name: text for name, text in free_text.items() if text},
        secrets=(secret,) if secret and state != pb.VALUE_STATE_PRESENT else (),
    )


def _alerts(source: Source) -> Iterator[bytes | Rejected]:
    """Every alert, those of slurped pages too."""
    source.peek()
    if _SLURPED.match(source.head()):
        for _ in source.items():
            if source.peek() == b"[":
                yield from source.elements()
            else:
                yield source.value()
    yield from source.records(_SIGNS)


def _parse(source: Source) -> Iterator[Record | Rejected]:
    located = b"first_location_detected" in unescaped_keys(source.head())
    source.dialect = (
        "GitHub alerts with locations" if located else "GitHub alerts without locations"
    )
    for found in each(source, _alerts(source), _DIALECT, _record):
        if isinstance(found, Record) and found.metadata.get("state") == "resolved":
            source.notices.note(NoticeKind.NOTICE_KIND_NOT_OPEN, "state")
        yield found


PARSER = Parser(
    id="github-secret-scanning",
    version="1",
    title="GitHub secret scanning alerts",
    aliases=("github", "github_secret_scanning", "github-secrets"),
    shapes=("array", "arrays one after another", "array of arrays", "NDJSON"),
    sniff=_sniff,
    parse=_parse,
    versions="REST API 2022-11-28; exports from before June 2025 have no locations",
    notes="Only the first location is in an alert. A resolution is taken over as triage.",
)
