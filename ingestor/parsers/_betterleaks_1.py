"""Betterleaks 1: gitleaks' records and more (betterleaks, report/finding.go of 1.x).

`Attributes` say where a finding stands; gitleaks' own fields for that are
deprecated, and read where an attribute is missing.
"""

from __future__ import annotations

from typing import Any

from ingestor.dialect import Dialect, Exact
from ingestor.parsers import _betterleaks_common as common
from ingestor.parsers._base import signs
from ingestor.records import Place, Record, state_of
from winnow.finding.v1 import finding_pb2 as pb

_MORE = frozenset(
    (
        b"Attributes",
        b"CaptureGroups",
        b"MatchContext",
        b"RequiredSets",
        b"ComponentSets",
        b"ValidationStatus",
    )
)
_VALUES = frozenset((b"Secret", b"Match", b"StartLine"))

SIGNS = signs((b"RuleID", b"StartLine", b"Secret", b"Match"))


class _Component(Exact):
    RuleID: str | None = None
    StartLine: int | None = None
    EndLine: int | None = None
    StartColumn: int | None = None
    EndColumn: int | None = None
    Match: str | None = None
    Secret: str | None = None
    CaptureGroups: dict[str, str] | None = None
    Optional: Any = None


class _Set(Exact):
    components: list[_Component] | None = None
    validationStatus: str | None = None
    validationReason: str | None = None


class _Finding(Exact):
    RuleID: str
    Description: str | None = None
    StartLine: int | None = None
    EndLine: int | None = None
    StartColumn: int | None = None
    EndColumn: int | None = None
    Match: str | None = None
    Secret: str | None = None
    MatchContext: str | None = None
    CaptureGroups: dict[str, str] | None = None
    Attributes: dict[str, str] | None = None
    File: str | None = None
    SymlinkFile: str | None = None
    Commit: str | None = None
    Entropy: float | None = None
    Date: str | None = None
    Message: str | None = None
    Tags: list[str] | None = None
    Fingerprint: str | None = None
    RequiredSets: list[_Set] | None = None
    ComponentSets: list[_Set] | None = None
    ValidationStatus: str | None = None
    ValidationReason: str | None = None
    ValidationMeta: dict[str, Any] | None = None
    Author: Any = None
    Email: Any = None
    Link: Any = None
    Fragment: Any = None


DIALECT = Dialect(_Finding, expected=("StartLine", "Match", "Secret"))


def confidence(keys: frozenset[bytes]) -> float:
    """That these members are those of this dialect's records, from 0 to 1."""
    return 1.0 if b"RuleID" in keys and keys & _MORE and keys & _VALUES else 0.0


def _place(path: str, found: _Component) -> Place:
    return (
        path,
        found.StartLine or 0,
        found.EndLine or 0,
        found.StartColumn or 0,
        found.EndColumn or 0,
    )


def record(found: _Finding, raw: bytes) -> Record:
    """One finding as a record; its bytes are `raw`."""
    attributes = found.Attributes or {}
    secret = found.Secret or found.Match or ""
    state = state_of(secret)
    path = attributes.get("path") or found.File or ""
    value = secret if state == pb.VALUE_STATE_PRESENT else ""
    extra = common.free_text(attributes) | common.captured(found.CaptureGroups, "CaptureGroups")
    components: list[str | None] = [] if value else [secret]
    groups = list((found.CaptureGroups or {}).values())
    places: dict[Place, None] = {}  # in order, each once
    for group in (*(found.RequiredSets or ()), *(found.ComponentSets or ())):
        for part in group.components or ():
            name = f"components.{part.RuleID or ''}"
            extra[name] = part.Secret or part.Match or ""
            extra |= common.captured(part.CaptureGroups, name)
            components.append(part.Secret)
            groups += (part.CaptureGroups or {}).values()
            places[_place(path, part)] = None
        if group.validationReason:
            extra["validationReason"] = group.validationReason
    if found.ValidationReason:
        extra["ValidationReason"] = found.ValidationReason
    for key, item in (found.ValidationMeta or {}).items():
        extra[f"ValidationMeta.{key}"] = common.shown(item)
    metadata = {}
    if found.Entropy:
        metadata["Entropy"] = f"{found.Entropy:.6g}"
    if found.Tags:
        metadata["Tags"] = ",".join(found.Tags)
    if symlink := attributes.get("fs.symlink") or found.SymlinkFile:
        metadata["SymlinkFile"] = symlink
    if resource := attributes.get("resource"):
        metadata["resource"] = resource
    if found.ValidationStatus:
        metadata["ValidationStatus"] = found.ValidationStatus
    message = attributes.get("git.message") or found.Message
    return Record(
        raw=raw,
        tool="betterleaks",
        rule_id=found.RuleID,
        path=path,
        line=found.StartLine or 0,
        end_line=found.EndLine or 0,
        column=found.StartColumn or 0,
        end_column=found.EndColumn or 0,
        more_places=list(places)[: common.MOST_PLACES],
        commit=attributes.get("git.sha") or found.Commit or "",
        container="" if path else common.container(attributes),
        native_id=found.Fingerprint or "",
        changed_at=attributes.get("git.date") or found.Date or "",
        validity=common.validity(found.ValidationStatus),
        value_state=state,
        metadata=metadata,
        value=value,
        match=found.Match or "",
        context=found.MatchContext or "",
        message="\n".join(filter(None, (found.Description, message))),
        extra=extra,
        secrets=common.secrets(value, components, groups),
    )
