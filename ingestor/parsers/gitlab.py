"""GitLab's security reports: secret detection, SAST, and what shares their schema
(gitlab-org/security-products/security-report-schemas).

`cve` holds an unkeyed digest of the value: it is not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial

import msgspec

from ingestor.dialect import Dialect
from ingestor.framing import Source
from ingestor.parsers._base import Parser, each, unescaped_keys
from ingestor.parsers._code import neighbours, only_value
from ingestor.parsers._gitlab_model import Commit, Dependency, Package, Scan, Vulnerability
from ingestor.parsers._part import part
from ingestor.parsers._words import elements, severity
from ingestor.records import Record, state_of
from winnow.finding.v1 import finding_pb2 as pb
from winnow.ingest.v1.notice_pb2 import NoticeKind
from winnow.ingest.v1.rejected_pb2 import Rejected

_DIALECT = Dialect(Vulnerability, expected=("identifiers",))
_SCAN = msgspec.json.Decoder(Scan)
_KNOWN = frozenset(("version", "schema", "$schema", "remediations", "dependency_files"))

# Scans of running applications: their reports have the same envelope.
_OTHER = re.compile(
    rb'"(?:type|category)"\s*:\s*"(?:dast|api_fuzzing|coverage_fuzzing|browser_fuzzing)"'
)
_SECRET_RULES = frozenset(("gitleaks_rule_id", "trufflehog_rule_id"))
_PUBLIC_ID = re.compile(r"(?:CWE|CVE|GHSA|OSV|USN|RHSA)-[A-Za-z0-9:-]{1,40}")
_SCAN_TYPE = re.compile(rb'(?<!\\)"type"\s*:\s*"secret_detection"')
_LONGEST_RULE = 64  # characters; some analysers put a sentence where the rule belongs


def _sniff(head: bytes, _name: str) -> float:
    keys = unescaped_keys(head)
    if b"vulnerabilities" not in keys or keys & {b"bomFormat", b"document"} or _OTHER.search(head):
        return 0.0
    if b"raw_source_code_extract" in keys and b"location" in keys:
        return 1.0
    if keys >= {b"identifiers", b"location"} and keys & {b"scan", b"remediations", b"cve"}:
        return 0.95
    if keys >= {b"scan", b"scanner", b"status"}:
        return 0.9
    # The scan stands behind everything that it found.
    if keys >= {b"version", b"identifiers", b"location", b"file", b"severity"}:
        return 0.8
    return 0.85 if keys == {b"version", b"vulnerabilities", b"remediations"} else 0.0


def _rule(found: Vulnerability, kind: pb.FindingKind.ValueType) -> str:
    identifiers = found.identifiers or []
    if kind == pb.FINDING_KIND_POSSIBLE_SECRET:
        own = [one for one in identifiers if one.type in _SECRET_RULES]
    elif kind == pb.FINDING_KIND_CODE:
        own = [one for one in identifiers if one.type not in ("cwe", "owasp")]
    else:
        own = identifiers
    for one in own or identifiers:
        # The value of a CWE is a bare number.
        for name in (one.value, one.name) if own else (one.name, one.value):
            if name is not None and 0 < len(str(name)) <= _LONGEST_RULE:
                return str(name)
    return (found.scanner.id if found.scanner else "") or ""


def _kind(found: Vulnerability, secrets: bool) -> pb.FindingKind.ValueType:
    """What it speaks of: reports of SAST once had the findings of secret scanners too.

    Args:
        secrets: whether the report says to be of secret detection.
    """
    if secrets or found.category == "secret_detection":
        return pb.FINDING_KIND_POSSIBLE_SECRET
    if any(one.type in _SECRET_RULES for one in found.identifiers or ()):
        return pb.FINDING_KIND_POSSIBLE_SECRET
    at = found.location
    if at.image or (at.dependency and at.dependency.package and at.dependency.package.name):
        return pb.FINDING_KIND_VULNERABILITY
    return pb.FINDING_KIND_CODE


def _record(secrets: bool, found: Vulnerability, raw: bytes) -> Record:
    kind = _kind(found, secrets)
    is_secret = kind == pb.FINDING_KIND_POSSIBLE_SECRET
    at = found.location
    commit = at.commit or found.commit or Commit()
    sha = commit.sha or ""
    extract = found.raw_source_code_extract or ""
    lines = "".join(extract) if isinstance(extract, list) else ""
    if isinstance(extract, list):
        extract = only_value(lines) if is_secret else lines
    # Names of findings in code are composed from that code.
    texts = (found.name if not is_secret else "", found.message, found.description, found.solution)
    record = Record(
        raw=raw,
        tool="gitlab",
        rule_id=_rule(found, kind),
        kind=kind,
        path=at.file or "",
        line=at.start_line or 0,
        end_line=at.end_line or 0,
        column=at.start_column or 0,
        end_column=at.end_column or 0,
        commit=sha if sha.strip("0") else "",  # zeros: no repository
        container=at.image or "",
        native_id=found.id or "",
        changed_at=commit.date or "",
        severity=severity(found.severity),
        aliases=[
            one.name
            for one in found.identifiers or ()
            if one.name and _PUBLIC_ID.fullmatch(one.name)
        ],
        message="\n".join(dict.fromkeys(text for text in (*texts, commit.message) if text)),
    )
    if any("false-positive" in (flag.type or "") for flag in found.flags or ()):
        record.triage = pb.TRIAGE_FALSE_POSITIVE
    metadata = {}
    if found.scanner and found.scanner.id:
        metadata["scanner"] = found.scanner.id
    if found.confidence and found.confidence != "Unknown":
        metadata["confidence"] = found.confidence
    record.metadata = metadata
    if is_secret:
        record.rule_name = found.name or ""
        record.value_state = state_of(extract)
        if record.value_state == pb.VALUE_STATE_PRESENT:
            record.value = extract
        elif extract:
            record.secrets = (extract,)
        if lines:
            record.match = lines
            record.secrets = neighbours((lines,), record.value)
    else:
        record.context = extract
    if kind == pb.FINDING_KIND_VULNERABILITY:
        dependency = at.dependency or Dependency()
        package = dependency.package or Package()
        record.component_ref = package.name or at.image or ""
        record.package_version = dependency.version or ""
        record.path = at.file or at.image or ""
    return record


def _report(source: Source, secrets: bool) -> Iterator[Record | Rejected]:
    def vulnerabilities() -> Iterator[Record | Rejected]:
        raws = elements(source, "vulnerabilities")
        return each(source, raws, _DIALECT, partial(_record, secrets))

    def scan() -> Iterator[Record | Rejected]:
        if said := part(source.value(), _SCAN):
            _note_failure(said, source)
        yield from ()

    yield from source.walk({"vulnerabilities": vulnerabilities, "scan": scan}, known=_KNOWN)


def _note_failure(scan: Scan, source: Source) -> None:
    if scan.status == "failure" or any(note.level == "fatal" for note in scan.messages or ()):
        source.notices.note(NoticeKind.NOTICE_KIND_SCAN_INCOMPLETE, "scan.status", 0)


def _parse(source: Source) -> Iterator[Record | Rejected]:
    head = source.head()
    early = unescaped_keys(head) & {b"category", b"confidence"}
    source.dialect = "GitLab report 14 or older" if early else "GitLab report 15 or newer"
    secrets = _SCAN_TYPE.search(head) is not None
    return source.documents(lambda: _report(source, secrets))


PARSER = Parser(
    id="gitlab",
    version="1",
    title="GitLab security report",
    aliases=("gitlab-secret-detection", "gitlab-secrets", "gitlab-sast", "gl-secret-detection"),
    shapes=("object",),
    sniff=_sniff,
    parse=_parse,
    versions="schema 2.3 to 15",
    kinds=(
        pb.FINDING_KIND_POSSIBLE_SECRET,
        pb.FINDING_KIND_CODE,
        pb.FINDING_KIND_VULNERABILITY,
    ),
    notes="Reports of secret detection and SAST, of dependencies and images where they have the "
    "same shape. Reports of running applications (DAST, fuzzing) are not read.",
)
