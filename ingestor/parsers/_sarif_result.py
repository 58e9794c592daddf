"""What a SARIF result means in the field's own terms."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from ingestor.parsers._code import neighbours
from ingestor.parsers._sarif_kind import SECRET_SCANNERS, kind_of
from ingestor.parsers._sarif_model import (
    ArtifactLocation,
    BaseUri,
    Component,
    LogicalLocation,
    Message,
    Region,
    Result,
    Rule,
    Tool,
    VersionControl,
)
from ingestor.parsers._words import aliases
from ingestor.records import Place, Record, state_of
from winnow.finding.v1 import finding_pb2 as pb

_LEVELS = {
    "error": pb.SEVERITY_HIGH,
    "warning": pb.SEVERITY_MEDIUM,
    "note": pb.SEVERITY_LOW,
    "none": pb.SEVERITY_INFO,
}
_VALIDITIES = {
    "valid": pb.VALIDITY_LIVE,
    "active": pb.VALIDITY_LIVE,
    "activecredential": pb.VALIDITY_LIVE,
    "verified": pb.VALIDITY_LIVE,
    "verifiedactive": pb.VALIDITY_LIVE,
    "invalid": pb.VALIDITY_DEAD,
    "revoked": pb.VALIDITY_DEAD,
    "inactive": pb.VALIDITY_DEAD,
    "inactivecredential": pb.VALIDITY_DEAD,
    "verifiedinactive": pb.VALIDITY_DEAD,
    "unknown": pb.VALIDITY_UNKNOWN,
    "error": pb.VALIDITY_UNKNOWN,
    "needsvalidation": pb.VALIDITY_UNVERIFIED,
    "unverified": pb.VALIDITY_UNVERIFIED,
    "assumed": pb.VALIDITY_ASSUMED,
}
_VALIDITY_KEYS = ("validation_outcome", "validation_status", "validationStatus", "validity")
# gitleaks puts these into partialFingerprints, where they identify nobody's finding.
_NO_FINGERPRINT = frozenset({"commitSha", "email", "author", "date", "commitMessage"})
# Digests and UUIDs: a tool may put anything in their place, what it found too.
_DIGEST = re.compile(r"[0-9a-fA-F]{8,}(?:[:_-][0-9a-fA-F]{1,64}){0,8}")
_ARGUMENT = re.compile(r"\{(\d{1,3})\}")
_PRECISIONS = frozenset(("very-high", "high", "medium", "low"))
# Kinds of a result that say that nothing is wrong (3.27.9).
_NOTHING_WRONG = frozenset(("pass", "notApplicable", "informational"))


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _number(value: int | None) -> int:
    return value if value is not None and value > 0 else 0


class Run:
    """One run, as far as it is known, and the reading of its results."""

    def __init__(self, number: int) -> None:
        self._scope = b"" if number == 0 else b"#%d" % number
        self._driver = Component()
        self._extensions: list[Component] = []
        self._by_id: dict[str, Rule] = {}
        self._tool = "sarif"
        self._word = ""
        # Of the run's artifacts; None for one that could not be read.
        self.artifacts: list[ArtifactLocation | None] = []
        self.logical_locations: list[LogicalLocation | None] = []
        # What the tool wrote in place of what it would not say (3.14.28).
        self.redaction_tokens: list[str] = []
        self.base_uris: dict[str, BaseUri] = {}
        self.version_control: list[VersionControl] = []

    def set_tool(self, tool: Tool) -> None:
        self._driver = tool.driver
        self._extensions = tool.extensions or []
        for component in (tool.driver, *self._extensions):
            for rule in component.rules or ():
                for name in filter(None, (rule.id, rule.guid)):
                    self._by_id.setdefault(name, rule)
        self._tool = (tool.driver.name or "").strip() or "sarif"
        self._word = self._tool.lower().split()[0]

    def record(self, result: Result, raw: bytes) -> Record:
        """The result as a record; `raw` is its bytes in the report."""
        rule = self._rule(result)
        rule_id = result.ruleId or (result.rule and result.rule.id) or rule.id or ""
        tags = _tags(rule.properties, result.properties)
        kind = kind_of(self._word, rule_id, rule.name or "", tags)
        places = list(self._places(result))
        first: Place = places[0] if places else ("", 0, 0, 0, 0)
        record = Record(
            raw=raw + self._scope,
            tool=self._tool,
            rule_id=rule_id,
            kind=kind,
            rule_name=_rule_name(rule, rule_id, kind),
            path=first[0],
            line=first[1],
            end_line=first[2],
            column=first[3],
            end_column=first[4],
            more_places=places[1:],
            commit=self._commit(result),
            native_id=_native_id(result),
            changed_at=_changed_at(result),
            severity=_severity(result, rule),
            validity=_validity(result),
            triage=_triage(result),
            aliases=aliases([*tags, *(taxon.id or "" for taxon in result.taxa or ())], rule_id),
            metadata=_metadata(result),
            message=self._message(result, rule),
            extra=_extra(result),
        )
        snippet, record.context, others = _snippets(result)
        record.match = snippet
        if kind == pb.FINDING_KIND_POSSIBLE_SECRET:
            # Other tools' snippets are lines of code: evidence, but no value.
            found = _property(result, ("secret", "value", "offender"))
            if not found and self._word in SECRET_SCANNERS:
                found = snippet
            record.value_state = self._state_of(found)
            if record.value_state == pb.VALUE_STATE_PRESENT:
                record.value = found
            secrets = list(neighbours((found, snippet, *others)))
            # The path was percent-decoded, and with it what it repeats.
            secrets += [unquote(text) for text in secrets if "%" in text]
            record.secrets = tuple(
                text for text in dict.fromkeys(secrets) if text and text != record.value
            )
        return record

    def _rule(self, result: Result) -> Rule:
        reference = result.rule
        component = self._driver
        if reference and reference.toolComponent:
            index, name = reference.toolComponent.index, reference.toolComponent.name
            named = [c for c in self._extensions if name and c.name == name]
            if index is not None and 0 <= index < len(self._extensions):
                component = self._extensions[index]
            elif named:
                component = named[0]
        index = result.ruleIndex
        if index is None and reference:
            index = reference.index
        rules = component.rules or []
        rule_id = result.ruleId or (reference and (reference.id or reference.guid)) or ""
        if index is not None and 0 <= index < len(rules):
            rule = rules[index]
            if not rule_id or not rule.id or rule_id.startswith(rule.id):
                return rule
        # A hierarchical id ("CA1000/1", 3.27.5) is described by its first part.
        return self._by_id.get(rule_id) or self._by_id.get(rule_id.split("/")[0]) or Rule()

    def _places(self, result: Result) -> Iterator[Place]:
        for location in result.locations or ():
            physical = location.physicalLocation
            if physical is None:
                if name := self._logical(location.logicalLocations or []):
                    yield name, 0, 0, 0, 0
                continue
            path = self._path(physical.artifactLocation)
            region = physical.region
            if region is None:
                yield path, 0, 0, 0, 0
            else:
                yield (
                    path,
                    _number(region.startLine),
                    _number(region.endLine),
                    _number(region.startColumn),
                    _number(region.endColumn),
                )

    def _logical(self, locations: list[LogicalLocation]) -> str:
        """The name of the first logical location, which may stand in the run's list."""
        if not locations:
            return ""
        found, index = locations[0], locations[0].index
        name = found.fullyQualifiedName or found.name
        if not name and index is not None and 0 <= index < len(self.logical_locations):
            found = self.logical_locations[index] or found
            name = found.fullyQualifiedName or found.name
        return name or ""

    def _path(self, location: ArtifactLocation | None) -> str:
        """The place's path: percent-decoded, `file:` dropped, relative bases
        put in front (an absolute base only says where the scan ran).
        """
        if location is None:
            return ""
        uri, base = location.uri, location.uriBaseId
        index = location.index
        if not uri and index is not None and 0 <= index < len(self.artifacts):
            artifact = self.artifacts[index] or ArtifactLocation()
            uri, base = artifact.uri, artifact.uriBaseId
        uri = uri or ""
        for _ in range(8):  # bases may refer to bases, in bad reports in a circle
            found = self.base_uris.get(base or "")
            if found is None or re.match(r"[A-Za-z][A-Za-z0-9+.-]*:|/", found.uri or "/"):
                break
            uri, base = f"{found.uri}{uri}", found.uriBaseId
        if uri[:5].lower() == "file:":
            uri = re.sub(r"^file:(?://[^/]*)?", "", uri, flags=re.IGNORECASE)
            uri = re.sub(r"^/(?=[A-Za-z]:)", "", uri)
        return unquote(uri) if "%" in uri else uri

    def _message(self, result: Result, rule: Rule) -> str:
        message = result.message
        if message is None:
            return ""
        text = message.text or message.markdown
        if not text and message.id:
            described = (rule.messageStrings or {}).get(message.id) or (
                self._driver.globalMessageStrings or {}
            ).get(message.id, Message())
            text = described.text or described.markdown
        if not text or not message.arguments:
            return text or ""
        arguments = message.arguments

        def argument(match: re.Match[str]) -> str:
            number = int(match[1])
            return arguments[number] if number < len(arguments) else match[0]

        return _ARGUMENT.sub(argument, text)

    def _state_of(self, value: str) -> pb.ValueState.ValueType:
        if any(token and token in value for token in self.redaction_tokens):
            return pb.VALUE_STATE_REDACTED
        return state_of(value)

    def _commit(self, result: Result) -> str:
        found = _text((result.partialFingerprints or {}).get("commitSha"))
        found = found or _property(result, ("commit", "commitSha", "commit_sha"))
        found = found or _text(_git_commit(result).get("id"))
        if not found and self.version_control:
            found = self.version_control[0].revisionId or ""
        return found


def not_open(result: Result) -> bool:
    """Whether a result says that a check passed, or that what it once found is gone."""
    return result.kind in ("pass", "notApplicable") or result.baselineState == "absent"


def _properties(result: Result) -> list[dict[str, Any]]:
    """The property bags of a result and its first location."""
    first = result.locations[0].properties if result.locations else None
    return [bag for bag in (result.properties, first) if bag]


def _property(result: Result, names: tuple[str, ...]) -> str:
    for bag in _properties(result):
        for name in names:
            if found := _text(bag.get(name)):
                return found
    return ""


def _git_commit(result: Result) -> dict[str, Any]:
    """Kingfisher's `git_metadata.commit`."""
    for bag in _properties(result):
        metadata = bag.get("git_metadata")
        commit = metadata.get("commit") if isinstance(metadata, dict) else None
        if isinstance(commit, dict):
            return commit
    return {}


def _changed_at(result: Result) -> str:
    found = _text((result.partialFingerprints or {}).get("date"))
    return found or _text(_git_commit(result).get("date"))


def _tags(*bags: dict[str, Any] | None) -> list[str]:
    tags: list[object] = []
    for bag in filter(None, bags):
        for name in ("tags", "cwe", "category"):
            found = bag.get(name)
            tags += [found] if isinstance(found, str) else found if isinstance(found, list) else []
    return [tag for tag in tags if isinstance(tag, str)]


def _rule_name(rule: Rule, rule_id: str, kind: pb.FindingKind.ValueType) -> str:
    """The rule's name. Descriptions are free text: not for secrets, where tools
    write what they found into them.
    """
    name = rule.name or ""
    if not name and kind != pb.FINDING_KIND_POSSIBLE_SECRET and rule.shortDescription:
        name = rule.shortDescription.text or ""
    return "" if name == rule_id else name


def _severity(result: Result, rule: Rule) -> pb.Severity.ValueType:
    """The rule's security-severity (a CVSS-like score, as GitHub reads it),
    else the result's level, else the rule's; the default is 3.27.10's. A result
    that says that nothing is wrong has none of its rule's.
    """
    if result.kind in _NOTHING_WRONG:
        return pb.SEVERITY_INFO
    try:
        score = float((rule.properties or {}).get("security-severity", math.nan))
    except (TypeError, ValueError):
        score = math.nan
    if 0.0 <= score <= 10.0:
        if score >= 9.0:
            return pb.SEVERITY_CRITICAL
        if score >= 7.0:
            return pb.SEVERITY_HIGH
        if score >= 4.0:
            return pb.SEVERITY_MEDIUM
        return pb.SEVERITY_LOW if score > 0.0 else pb.SEVERITY_INFO
    level = result.level
    if not level and rule.defaultConfiguration:
        level = rule.defaultConfiguration.level
    if not level:
        level = "warning" if result.kind in (None, "fail") else "none"
    return _LEVELS.get(level.lower(), pb.SEVERITY_UNSPECIFIED)


def _validity(result: Result) -> pb.Validity.ValueType:
    for name in _VALIDITY_KEYS if _properties(result) else ():
        word = "".join(filter(str.isalpha, _property(result, (name,)).lower()))
        for known in (word, word[:7]):
            if known in _VALIDITIES:
                return _VALIDITIES[known]
    return pb.VALIDITY_UNSPECIFIED


def _triage(result: Result) -> pb.Triage.ValueType:
    """Suppressed if any suppression is in force (3.27.23, 3.35.3)."""
    for suppression in result.suppressions or ():
        if suppression.status in (None, "accepted"):
            return pb.TRIAGE_ACCEPTED
    return pb.TRIAGE_UNSPECIFIED


def _native_id(result: Result) -> str:
    for prints in (result.fingerprints, result.partialFingerprints):
        for name, found in sorted((prints or {}).items()):
            if name not in _NO_FINGERPRINT and isinstance(found, str) and _DIGEST.fullmatch(found):
                return found
    ids = (result.guid or "", result.correlationGuid or "")
    return next((one for one in ids if _DIGEST.fullmatch(one)), "")


def _metadata(result: Result) -> dict[str, str]:
    own = {"level": result.level, "kind": result.kind, "baselineState": result.baselineState}
    found = {name: text for name, text in own.items() if text}
    for name in ("entropy", "precision", "security-severity") if _properties(result) else ():
        text = _property(result, (name,))
        if text and (name != "precision" or text in _PRECISIONS):
            found[name] = text
    if tags := _tags(result.properties):
        found["tags"] = ",".join(tags)
    return found


def _snippets(result: Result) -> tuple[str, str, list[str]]:
    """The first location's snippet and its context, and the others' snippets."""
    snippets = []
    context = ""
    for number, location in enumerate(result.locations or ()):
        physical = location.physicalLocation
        snippets.append(_snippet(physical.region) if physical else "")
        if number == 0 and physical:
            context = _snippet(physical.contextRegion)
    return (snippets[0], context, snippets[1:]) if snippets else ("", "", [])


def _snippet(region: Region | None) -> str:
    return region.snippet.text or "" if region and region.snippet else ""


def _extra(result: Result) -> dict[str, str]:
    found = {}
    for suppression in result.suppressions or ():
        if suppression.justification:
            found["suppression"] = suppression.justification
    if message := _text((result.partialFingerprints or {}).get("commitMessage")):
        found["commitMessage"] = message
    return found
