"""Semgrep and Opengrep: `results[]` of the command line (semgrep_output_v1), and
two exports of the Semgrep platform: `findings[]`, and `vulns[]` of its supply chain.

Whoever is not logged in gets "requires login" in place of code and fingerprint.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from ingestor.dialect import Dialect, Exact
from ingestor.framing import Source
from ingestor.parsers._base import Parser, each, unescaped_keys
from ingestor.parsers._code import neighbours, only_value
from ingestor.parsers._purl import purl
from ingestor.parsers._sarif_kind import kind_of
from ingestor.parsers._words import aliases, elements, incomplete, severity, strings
from ingestor.records import Record
from winnow.finding.v1 import finding_pb2 as pb
from winnow.ingest.v1.notice_pb2 import NoticeKind
from winnow.ingest.v1.rejected_pb2 import Rejected

_WITHHELD = "requires login"
_VALIDITIES = {
    "CONFIRMED_VALID": pb.VALIDITY_LIVE,
    "CONFIRMED_INVALID": pb.VALIDITY_DEAD,
    "VALIDATION_ERROR": pb.VALIDITY_UNKNOWN,
}
_SHOWN = ("category", "confidence", "impact", "likelihood")
_OPTIONS = (
    "version",
    "paths",
    "time",
    "explanations",
    "rules_by_engine",
    "engine_requested",
    "interfile_languages_used",
    "skipped_rules",
    "subprojects",
    "mcp_scan_results",
    "profiling_results",
    "hasMore",
    "cursor",
)


class _Position(Exact):
    line: int | None = None
    col: int | None = None
    offset: Any = None


class _History(Exact):
    git_commit: str | None = None
    git_commit_timestamp: str | None = None
    git_blob: Any = None


class _Dependency(Exact):
    package: str | None = None
    version: str | None = None
    ecosystem: str | None = None
    transitivity: str | None = None
    lockfile_path: str | None = None
    manifest_path: str | None = None
    line_number: int | None = None
    allowed_hashes: Any = None
    resolved_url: Any = None
    children: Any = None
    git_ref: Any = None


class _DependencyMatch(Exact):
    found_dependency: _Dependency | None = None
    lockfile: str | None = None
    dependency_pattern: Any = None


class _SupplyChain(Exact):
    dependency_match: _DependencyMatch | None = None
    reachable: bool | None = None
    reachability_rule: Any = None
    sca_finding_schema: Any = None
    kind: Any = None


class _Extra(Exact):
    message: str | None = None
    severity: str | None = None
    metadata: dict[str, Any] | None = None
    metavars: dict[str, Any] | None = None
    lines: str | None = None
    fingerprint: str | None = None
    is_ignored: bool | None = None
    validation_state: str | None = None
    historical_info: _History | None = None
    sca_info: _SupplyChain | None = None
    engine_kind: Any = None
    dataflow_trace: Any = None
    extra_extra: Any = None
    fix: Any = None
    fix_regex: Any = None
    fixed_lines: Any = None


class _Match(Exact):
    check_id: str
    path: str
    start: _Position
    end: _Position
    extra: _Extra


class _Place(Exact):
    file_path: str | None = None
    line: int | None = None
    column: int | None = None
    end_line: int | None = None
    end_column: int | None = None


class _Rule(Exact):
    cwe_names: list[str] | None = None
    name: Any = None
    message: Any = None
    confidence: Any = None
    category: Any = None
    subcategories: Any = None
    vulnerability_classes: Any = None
    owasp_names: Any = None


class _Exported(Exact):
    rule_name: str
    location: _Place
    id: int | None = None
    rule_message: str | None = None
    severity: str | None = None
    confidence: str | None = None
    categories: list[str] | None = None
    triage_state: str | None = None
    triage_reason: str | None = None
    triage_comment: str | None = None
    state: str | None = None
    status: str | None = None
    relevant_since: str | None = None
    rule: _Rule | None = None
    validation_state: str | None = None
    ref: Any = None
    first_seen_scan_id: Any = None
    syntactic_id: Any = None
    match_based_id: Any = None
    external_ticket: Any = None
    review_comments: Any = None
    repository: Any = None
    line_of_code_url: Any = None
    created_at: Any = None
    triaged_at: Any = None
    state_updated_at: Any = None
    sourcing_policy: Any = None
    assistant: Any = None


class _Advisory(Exact):
    ruleId: str
    title: str | None = None
    description: str | None = None
    ecosystem: str | None = None
    severity: str | None = None
    references: dict[str, Any] | None = None
    reachability: str | None = None
    announcedAt: Any = None
    ruleText: Any = None
    vulnerableDependencies: Any = None
    safeDependencies: Any = None
    reachableIf: Any = None


class _Package(Exact):
    name: str | None = None
    versionSpecifier: str | None = None


class _DependencyFile(Exact):
    path: str | None = None
    startLine: Any = None
    endLine: Any = None
    startCol: Any = None
    endCol: Any = None
    url: Any = None


class _Triage(Exact):
    status: str | None = None
    dismissReason: str | None = None
    issueUrl: Any = None
    prUrl: Any = None


class _Vulnerable(Exact):
    advisory: _Advisory
    matchedDependency: _Package
    title: str | None = None
    exposureType: str | None = None
    dependencyFileLocation: _DependencyFile | None = None
    triage: _Triage | None = None
    groupKey: str | None = None
    transitivity: str | None = None
    repositoryId: Any = None
    closestSafeDependency: Any = None
    repositoryName: Any = None
    openedAt: Any = None
    firstTriagedAt: Any = None
    subdirectory: Any = None
    usages: Any = None
    packageManager: Any = None


_MATCH = Dialect(_Match)
_EXPORTED = Dialect(_Exported)
_VULNERABLE = Dialect(_Vulnerable)


def _sniff(head: bytes, _name: str) -> float:
    keys = unescaped_keys(head)
    if not head.lstrip().startswith(b"{") or keys & {b"check_type", b"checkov_version"}:
        return 0.0
    if b"results" in keys and keys >= {b"check_id", b"extra", b"path"}:
        return 1.0
    if b"findings" in keys and keys >= {b"rule_name", b"location", b"triage_state"}:
        return 0.9
    if keys >= {b"vulns", b"advisory", b"matchedDependency"}:
        return 0.9
    # Nothing found, or a long list before what was found.
    if keys >= {b"errors", b"paths", b"scanned"} or (
        keys >= {b"results", b"errors", b"version"} and b"metrics" not in keys
    ):
        return 0.7
    return 0.5 if keys == {b"results", b"errors"} else 0.0


def _matched(found: _Match) -> str:
    """The code between start and end, which `lines` has with what is around it."""
    lines = (found.extra.lines or "").split("\n")
    first, last = found.start.col or 1, found.end.col or 0
    if found.end.line != found.start.line:
        lines[-1] = lines[-1][: max(last - 1, 0)]
        lines[0] = lines[0][first - 1 :]
    else:
        lines = [lines[0][first - 1 : max(last - 1, 0)]]
    return "\n".join(lines)


def _literals(metavars: dict[str, Any]) -> Iterator[str]:
    """What the rule's variables hold of texts: quoted ones, and groups of a
    regular expression (`$1`).
    """
    for name, variable in metavars.items():
        if not isinstance(variable, dict):
            continue
        further = variable.get("propagated_value")
        inside = further.get("svalue_abstract_content") if isinstance(further, dict) else None
        for text in strings([variable.get("abstract_content"), inside]):
            if text[:1] in "\"'`" or name[1:].isdigit():
                yield text.strip("\"'`")


def _record(found: _Match, raw: bytes) -> Record:
    extra = found.extra
    metadata = extra.metadata or {}
    weaknesses = strings(metadata.get("cwe"))
    code = "" if extra.lines == _WITHHELD else extra.lines or ""
    record = Record(
        raw=raw,
        tool="semgrep",
        rule_id=found.check_id,
        kind=kind_of(
            "semgrep", found.check_id, "", [*weaknesses, *strings(metadata.get("technology"))]
        ),
        path=found.path,
        line=found.start.line or 0,
        end_line=found.end.line or 0,
        column=found.start.col or 0,
        end_column=found.end.col or 0,
        native_id="" if extra.fingerprint in (None, _WITHHELD) else extra.fingerprint,
        severity=severity(extra.severity),
        validity=_VALIDITIES.get(extra.validation_state or "", pb.VALIDITY_UNSPECIFIED),
        triage=pb.TRIAGE_ACCEPTED if extra.is_ignored else pb.TRIAGE_UNSPECIFIED,
        aliases=aliases(weaknesses, found.check_id),
        metadata={name: text for name in _SHOWN for text in strings(metadata.get(name))[:1]},
        message=extra.message or "",
        match=code,
    )
    if extra.historical_info:
        record.commit = extra.historical_info.git_commit or ""
        record.changed_at = extra.historical_info.git_commit_timestamp or ""
    if extra.sca_info:
        _add_dependency(record, extra.sca_info, metadata)
    elif record.kind == pb.FINDING_KIND_POSSIBLE_SECRET:
        value = only_value(_matched(found)) if code else ""
        masked = "***" in value
        record.value = "" if masked else value
        record.value_state = (
            pb.VALUE_STATE_REDACTED
            if masked
            else pb.VALUE_STATE_PRESENT
            if value
            else pb.VALUE_STATE_ABSENT
        )
        literals = [t for t in _literals(extra.metavars or {}) if len(t) >= 4]
        record.secrets = neighbours((code, *literals), record.value)
    return record


def _add_dependency(record: Record, found: _SupplyChain, metadata: dict[str, Any]) -> None:
    record.kind = pb.FINDING_KIND_VULNERABILITY
    match = found.dependency_match or _DependencyMatch()
    package = match.found_dependency or _Dependency()
    name, version = package.package or "", package.version or ""
    record.purl = purl(package.ecosystem, name, version)
    record.package_version = version
    record.component_ref = f"{name}@{version}"
    record.path = match.lockfile or package.lockfile_path or record.path
    record.aliases = aliases(
        [*strings(metadata.get("sca-vuln-database-identifier")), *record.aliases], record.rule_id
    )
    if found.reachable is not None:
        record.metadata["reachable"] = "true" if found.reachable else "false"
    if package.transitivity:
        record.metadata["transitivity"] = package.transitivity


def _dismissed(state: str | None, reason: str | None) -> pb.Triage.ValueType:
    """What the platform's users decided."""
    words = (reason or "").lower()
    if (state or "").lower() not in ("ignored", "dismissed", "provisionally_ignored"):
        return pb.TRIAGE_UNSPECIFIED
    return pb.TRIAGE_FALSE_POSITIVE if "false_positive" in words else pb.TRIAGE_ACCEPTED


def _exported(source: Source, found: _Exported, raw: bytes) -> Record:
    place, rule = found.location, found.rule or _Rule()
    weaknesses = rule.cwe_names or []
    if (found.status or found.state or "").lower() in ("fixed", "removed"):
        source.notices.note(NoticeKind.NOTICE_KIND_NOT_OPEN)
    metadata = {"confidence": found.confidence, "state": found.state, "status": found.status}
    record = Record(
        raw=raw,
        tool="semgrep",
        rule_id=found.rule_name,
        kind=kind_of("semgrep", found.rule_name, "", [*weaknesses, *(found.categories or [])]),
        path=place.file_path or "",
        line=place.line or 0,
        end_line=place.end_line or 0,
        column=place.column or 0,
        end_column=place.end_column or 0,
        native_id=str(found.id) if found.id is not None else "",
        changed_at=found.relevant_since or "",
        severity=severity(found.severity),
        validity=_VALIDITIES.get((found.validation_state or "").upper(), pb.VALIDITY_UNSPECIFIED),
        triage=_dismissed(found.triage_state, found.triage_reason),
        aliases=aliases(weaknesses, found.rule_name),
        metadata={name: text for name, text in metadata.items() if text},
        message=found.rule_message or "",
        extra={"triage_comment": found.triage_comment} if found.triage_comment else {},
    )
    if record.kind == pb.FINDING_KIND_POSSIBLE_SECRET:
        record.value_state = pb.VALUE_STATE_ABSENT
    return record


def _vulnerable(found: _Vulnerable, raw: bytes) -> Record:
    advisory, package = found.advisory, found.matchedDependency
    name, version = package.name or "", package.versionSpecifier or ""
    place, triage = found.dependencyFileLocation or _DependencyFile(), found.triage or _Triage()
    references = advisory.references or {}
    texts = [*strings(references.get("cveIds")), *strings(references.get("cweIds"))]
    metadata = {
        "exposureType": found.exposureType,
        "reachability": advisory.reachability,
        "transitivity": found.transitivity,
    }
    return Record(
        raw=raw,
        tool="semgrep",
        rule_id=advisory.ruleId,
        rule_name=found.title or advisory.title or "",
        kind=pb.FINDING_KIND_VULNERABILITY,
        path=place.path or "",
        native_id=found.groupKey or "",
        severity=severity(advisory.severity),
        triage=_dismissed(triage.status, triage.dismissReason),
        aliases=aliases(texts, advisory.ruleId),
        metadata={key: text for key, text in metadata.items() if text},
        purl=purl(advisory.ecosystem, name, version),
        package_version=version,
        component_ref=f"{name}@{version}",
        message=advisory.description or "",
    )


def _parse(source: Source) -> Iterator[Record | Rejected]:
    def results() -> Iterator[Record | Rejected]:
        source.dialect = "semgrep 0.40 or newer, or opengrep"
        return each(source, elements(source, "results"), _MATCH, _record)

    def findings() -> Iterator[Record | Rejected]:
        source.dialect = "semgrep platform, findings"
        make = partial(_exported, source)
        return each(source, elements(source, "findings"), _EXPORTED, make)

    def vulns() -> Iterator[Record | Rejected]:
        source.dialect = "semgrep platform, supply chain"
        return each(source, elements(source, "vulns"), _VULNERABLE, _vulnerable)

    handlers = {
        "results": results,
        "findings": findings,
        "vulns": vulns,
        "errors": lambda: incomplete(source, "errors"),
    }
    return source.documents(lambda: source.walk(handlers, _OPTIONS))


PARSER = Parser(
    id="semgrep",
    version="1",
    title="Semgrep",
    aliases=("semgrep-json", "semgrep-pro", "opengrep"),
    shapes=('{"results": […]}', '{"findings": […]}', '{"vulns": […]}'),
    sniff=_sniff,
    parse=_parse,
    versions="0.40 to 1.x, Opengrep 1, exports of the Semgrep platform",
    kinds=(
        pb.FINDING_KIND_CODE,
        pb.FINDING_KIND_POSSIBLE_SECRET,
        pb.FINDING_KIND_VULNERABILITY,
        pb.FINDING_KIND_MISCONFIGURATION,
    ),
    notes='A scan without login has "requires login" for code and fingerprint: these findings '
    "are told apart by rule and place only.",
)
