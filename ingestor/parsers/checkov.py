"""Checkov: one report of one framework, or an array of several (checkov,
common/output/report.py). Failed and skipped checks are findings; passed ones
are not.

Of a secret it says the SHA-1 (as `resource`) and a line with the value masked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from ingestor.dialect import Dialect, Exact
from ingestor.framing import Source
from ingestor.parsers._base import Parser, each, unescaped_keys
from ingestor.parsers._code import neighbours
from ingestor.parsers._purl import purl
from ingestor.parsers._words import aliases, elements, incomplete, severity
from ingestor.reading import Malformed
from ingestor.records import Record, reject
from winnow.finding.v1 import finding_pb2 as pb
from winnow.ingest.v1.rejected_pb2 import Rejected

_SHA1 = re.compile(r"[0-9a-f]{40}")
# What it digests of a private key is a part of it, so it is no identity.
_PRIVATE_KEY = "CKV_SECRET_13"
_VALIDITIES = {
    "Valid": pb.VALIDITY_LIVE,
    "Invalid": pb.VALIDITY_DEAD,
    "Unknown": pb.VALIDITY_UNKNOWN,
}


class _Result(Exact):
    result: str | None = None
    suppress_comment: str | None = None
    evaluated_keys: Any = None
    entity: Any = None
    results_configuration: Any = None
    definition: Any = None


class _Vulnerability(Exact):
    id: str | None = None
    package_name: str | None = None
    package_version: str | None = None
    package_type: str | None = None
    description: str | None = None
    severity: str | None = None
    fix_version: str | None = None
    licenses: Any = None
    status: Any = None
    cvss: Any = None
    vector: Any = None
    link: Any = None
    published_date: Any = None
    lowest_fixed_version: Any = None
    fixed_versions: Any = None
    image_details: Any = None
    risk_factors: Any = None
    root_package_name: Any = None
    root_package_version: Any = None
    root_package_alias: Any = None
    root_package_fix_version: Any = None
    root_package_file_line_range: Any = None
    is_private_fix: Any = None
    is_private_registry: Any = None
    lines: Any = None
    policy: Any = None


class _Check(Exact):
    check_id: str
    file_path: str | None = None
    file_line_range: list[int] | None = None
    check_name: str | None = None
    check_result: _Result | None = None
    bc_check_id: str | None = None
    severity: str | None = None
    resource: str | None = None
    code_block: list[tuple[Any, Any]] | None = None
    description: str | None = None
    details: list[Any] | None = None
    vulnerability_details: _Vulnerability | None = None
    validation_status: str | None = None
    added_commit_hash: str | None = None
    added_date: str | None = None
    added_by: Any = None
    removed_commit_hash: Any = None
    removed_date: Any = None
    file_abs_path: Any = None
    repo_file_path: Any = None
    evaluations: Any = None
    check_class: Any = None
    fixed_definition: Any = None
    entity_tags: Any = None
    caller_file_path: Any = None
    caller_file_line_range: Any = None
    resource_address: Any = None
    bc_category: Any = None
    benchmarks: Any = None
    short_description: Any = None
    connected_node: Any = None
    guideline: Any = None
    breadcrumbs: Any = None
    check_len: Any = None
    definition_context_file_path: Any = None


_DIALECT = Dialect(_Check, expected=("file_path", "check_name", "check_result"))
_COUNTS = ("passed", "failed", "skipped", "resource_count", "checkov_version")
_LISTS = frozenset((b"failed_checks", b"passed_checks", b"skipped_checks"))


def _sniff(head: bytes, _name: str) -> float:
    keys = unescaped_keys(head)
    if keys & _LISTS and keys & {b"check_type", b"check_id", b"check_result", b"summary"}:
        return 1.0
    return 0.9 if b"checkov_version" in keys else 0.0


def _kind(found: _Check) -> pb.FindingKind.ValueType:
    names = f"{found.check_id} {found.bc_check_id or ''}"
    if found.check_id.startswith("CKV_SECRET_") or "BC_GIT_" in names:
        return pb.FINDING_KIND_POSSIBLE_SECRET
    if "CVE_" in names or "GHSA" in names or (found.vulnerability_details or _Vulnerability()).id:
        return pb.FINDING_KIND_VULNERABILITY
    return pb.FINDING_KIND_POSTURE if "BC_LIC_" in names else pb.FINDING_KIND_MISCONFIGURATION


def _record(listed: str, found: _Check, raw: bytes) -> Record:
    lines = found.file_line_range or []
    code = "".join(text for _, text in found.code_block or () if isinstance(text, str))
    result = found.check_result or _Result()
    record = Record(
        raw=bytes(raw) + listed.encode(),
        tool="checkov",
        rule_id=found.check_id,
        kind=_kind(found),
        rule_name=found.check_name or "",
        # Relative to what was scanned, for all its leading slash.
        path=(found.file_path or "").lstrip("/\\"),
        line=max(lines[0], 0) if lines else 0,
        end_line=max(lines[1], 0) if len(lines) > 1 else 0,
        severity=severity(found.severity),
        triage=pb.TRIAGE_ACCEPTED if listed == "skipped_checks" else pb.TRIAGE_UNSPECIFIED,
        aliases=[found.bc_check_id] if found.bc_check_id else [],
        message=found.description or "",
        context=code,
        extra={"suppress_comment": result.suppress_comment} if result.suppress_comment else {},
    )
    if record.kind == pb.FINDING_KIND_POSSIBLE_SECRET:
        digest = (found.resource or "").rsplit(":", 1)[-1].lower()
        if found.check_id == _PRIVATE_KEY:
            record.value_state = pb.VALUE_STATE_ABSENT
        elif _SHA1.fullmatch(digest):
            record.digest, record.value_state = digest, pb.VALUE_STATE_DIGEST
        else:
            record.value_state = pb.VALUE_STATE_REDACTED
        record.secrets = (digest, *neighbours((code,))) if digest else neighbours((code,))
        record.validity = _VALIDITIES.get(found.validation_status or "", pb.VALIDITY_UNSPECIFIED)
        record.commit = found.added_commit_hash or ""
        record.changed_at = found.added_date or ""
    elif found.resource:
        record.metadata = {"resource": found.resource}
    if record.kind == pb.FINDING_KIND_VULNERABILITY:
        _add_package(record, found.vulnerability_details or _Vulnerability())
    return record


def _add_package(record: Record, found: _Vulnerability) -> None:
    name, version = found.package_name or "", found.package_version or ""
    record.aliases = aliases([found.id or "", record.rule_id.replace("_", "-")], record.rule_id)
    record.purl = purl(found.package_type, name, version)
    record.package_version = version
    record.component_ref = f"{name}@{version}" if name else ""
    record.severity = record.severity or severity(found.severity)
    record.message = record.message or found.description or ""
    if found.fix_version:
        record.metadata["fix_version"] = found.fix_version


def _parse(source: Source) -> Iterator[Record | Rejected]:
    def checks(listed: str) -> Callable[[], Iterator[Record | Rejected]]:
        make = partial(_record, listed)
        return lambda: each(source, elements(source, f"results.{listed}"), _DIALECT, make)

    def results() -> Iterator[Record | Rejected]:
        if source.peek() != b"{":
            yield from (item for item in elements(source, "results") if isinstance(item, Rejected))
            return
        yield from source.walk(
            {
                "failed_checks": checks("failed_checks"),
                "skipped_checks": checks("skipped_checks"),
                "parsing_errors": lambda: incomplete(source, "results.parsing_errors"),
            },
            ("passed_checks",),
            "results",
        )

    def report() -> Iterator[Record | Rejected]:
        known = ("check_type", "summary", "url", "parsing_errors", *_COUNTS)
        return source.walk({"results": results}, known)

    source.dialect = "checkov 1 to 3"
    while byte := source.peek():
        source.shape = source.shape or ("array" if byte == b"[" else "object")
        if byte == b"{":
            yield from report()
        elif byte == b"[":
            for _ in source.items():
                at_byte = source.offset()
                if source.peek() == b"{":
                    yield from report()
                else:
                    source.skip()
                    yield reject("NOT_A_RECORD", "not an object", at_byte=at_byte)
        else:
            raise Malformed(source.offset())


PARSER = Parser(
    id="checkov",
    version="1",
    title="Checkov",
    aliases=("checkov-json",),
    shapes=("object", "array"),
    sniff=_sniff,
    parse=_parse,
    versions="1 to 3",
    kinds=(
        pb.FINDING_KIND_MISCONFIGURATION,
        pb.FINDING_KIND_POSSIBLE_SECRET,
        pb.FINDING_KIND_VULNERABILITY,
        pb.FINDING_KIND_POSTURE,
    ),
    notes="Passed checks are no findings; skipped ones are kept, as accepted.",
)
