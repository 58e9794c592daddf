"""One incident of ggshield's as a record."""

from __future__ import annotations

from typing import Any

from ingestor.dialect import Exact
from ingestor.parsers._words import severity
from ingestor.records import Place, Record, state_of
from winnow.finding.v1 import finding_pb2 as pb


class Occurrence(Exact):
    match: str | None = None
    type: str | None = None
    line_start: int | None = None
    line_end: int | None = None
    index_start: int | None = None
    index_end: int | None = None
    pre_line_start: int | None = None
    pre_line_end: int | None = None
    post_line_start: int | None = None
    post_line_end: int | None = None


class Reason(Exact):
    kind: str | None = None
    detail: str | None = None


class Incident(Exact):
    type: str
    occurrences: list[Occurrence]
    policy: str | None = None
    validity: str | None = None
    ignore_sha: str | None = None
    ignore_reason: Reason | None = None
    incident_url: str | None = None
    incident_details: dict[str, Any] | None = None  # the dashboard's own record
    known_secret: bool | None = None
    secret_vaulted: bool | None = None
    detector: Any = None
    detector_documentation: Any = None
    total_occurrences: Any = None
    vault_type: Any = None
    vault_name: Any = None
    vault_path: Any = None
    vault_path_count: Any = None


# Parts of a secret that are no credential by themselves.
_NO_CREDENTIAL = frozenset(
    ("username", "user", "host", "port", "database", "scheme", "email", "domain", "url")
)
_VALIDITY = {
    "valid": pb.VALIDITY_LIVE,
    "invalid": pb.VALIDITY_DEAD,
    "failed_to_check": pb.VALIDITY_UNKNOWN,
    "unknown": pb.VALIDITY_UNKNOWN,
}
_TRIAGE = {
    "false_positive": pb.TRIAGE_FALSE_POSITIVE,
    "test_credential": pb.TRIAGE_TEST_ONLY,
    "low_risk": pb.TRIAGE_ACCEPTED,
}
_ACCEPTED = frozenset(("ignored_match", "ignored_detector"))


def _censored(match: str) -> bool:
    """Whether asterisks replaced the letters and digits in its middle."""
    third = len(match) // 3
    middle = match[third : len(match) - third]
    return "*" in middle and not any(map(str.isalnum, middle))


def _place(path: str, found: Occurrence) -> Place:
    start = found.line_start or found.post_line_start or found.pre_line_start or 0
    end = found.line_end or found.post_line_end or found.pre_line_end or 0
    if not found.line_start or found.index_start is None or found.index_end is None:
        return path, start, end, 0, 0
    return path, start, end, found.index_start + 1, found.index_end + 1


def _triage(found: Incident) -> pb.Triage.ValueType:
    details = found.incident_details or {}
    if details.get("secret_revoked") is True:
        return pb.TRIAGE_REVOKED
    if (decided := _TRIAGE.get(str(details.get("ignore_reason")))) is not None:
        return decided
    reason = found.ignore_reason.kind if found.ignore_reason else ""
    return pb.TRIAGE_ACCEPTED if reason in _ACCEPTED else pb.TRIAGE_UNSPECIFIED


def record_of(found: Incident, raw: bytes, path: str, commit: str, date: str) -> Record:
    parts = list(dict.fromkeys((one.match, one.type or "") for one in found.occurrences))
    credentials = [match for match, kind in parts if match and kind not in _NO_CREDENTIAL]
    value = credentials[0] if credentials else ""
    state = pb.VALUE_STATE_REDACTED if _censored(value) else state_of(value)
    present = state == pb.VALUE_STATE_PRESENT
    places = list(dict.fromkeys(_place(path, one) for one in found.occurrences))
    (_, line, end_line, column, end_column), *more = places or [(path, 0, 0, 0, 0)]
    reason = found.ignore_reason or Reason()
    extra = {f"{kind} {n}": match for n, (match, kind) in enumerate(parts, 1) if match}
    if reason.detail:
        extra["ignore_reason.detail"] = reason.detail
    clear = {
        "policy": found.policy,
        "validity": found.validity,
        "ignore_reason": reason.kind,
        "known_secret": "true" if found.known_secret else "",
        "secret_vaulted": "true" if found.secret_vaulted else "",
    }
    grade = (found.incident_details or {}).get("severity")
    # ignore_sha is an unkeyed digest of the value.
    hidden = [*(credentials[1:] if present else credentials), found.ignore_sha]
    return Record(
        raw=b"%b\0%b\0%b" % (raw, path.encode("utf-8", "replace"), commit.encode()),
        tool="ggshield",
        rule_id=found.type,
        path=path,
        line=line,
        end_line=end_line,
        column=column,
        end_column=end_column,
        more_places=more,
        commit=commit,
        native_id=found.incident_url or "",
        changed_at=date,
        severity=severity(grade if isinstance(grade, str) else ""),
        validity=_VALIDITY.get(found.validity or "", pb.VALIDITY_UNSPECIFIED),
        triage=_triage(found),
        value_state=state,
        metadata={name: said for name, said in clear.items() if said},
        value=value if present else "",
        extra=extra,
        secrets=tuple(text for text in hidden if text),
    )
