"""Trivy: `Results[]` of schema 2, the bare array of results before it (0.20), its
reports on clusters, and the custom resources that its operator writes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from typing import Any

from ingestor.dialect import Dialect
from ingestor.framing import Handler, Source
from ingestor.parsers import _trivy_model as model
from ingestor.parsers import _trivy_record as make
from ingestor.parsers._base import Parser, unescaped_keys
from ingestor.parsers._groups import Group, Make, grouped, groups, plain, text
from ingestor.reading import Malformed
from ingestor.records import Record, reject
from winnow.finding.v1 import finding_pb2 as pb
from winnow.ingest.v1.notice_pb2 import NoticeKind
from winnow.ingest.v1.rejected_pb2 import Rejected

_VULNERABILITY = Dialect(model.Vulnerability, expected=("VulnerabilityID", "Severity"))
_SECRET = Dialect(model.Secret, expected=("StartLine", "Match", "Severity"))
_MISCONFIGURATION = Dialect(model.Misconfiguration, expected=("Status", "Severity"))
_LICENSE = Dialect(model.License)
_MODIFIED = Dialect(model.Modified, expected=("Type", "Status"))
_OPERATOR_SECRET = Dialect(model.OperatorSecret, expected=("target",))
_OPERATOR_VULNERABILITY = Dialect(model.OperatorVulnerability, expected=("resource",))
_OPERATOR_CHECK = Dialect(model.OperatorCheck)

_RESULT = ("Class", "Packages", "MisconfSummary", "CustomResources", "ModulesInfo")
_ABOUT = ("ArtifactName", "ArtifactType", "ClusterName", "metadata")
_OF_CLUSTER = ("Resources", "Findings", "Vulnerabilities", "Misconfigurations")
_REPORT = (
    "SchemaVersion",
    "Trivy",
    "ReportID",
    "CreatedAt",
    "ArtifactID",
    "Metadata",
    "apiVersion",
    "kind",
)
_OPERATOR_REPORT = (
    "artifact",
    "os",
    "registry",
    "scanner",
    "summary",
    "updateTimestamp",
    "reportName",
)
_OPERATOR = b"aquasecurity.github.io/"
_LISTS = frozenset((b"Vulnerabilities", b"Secrets", b"Misconfigurations", b"Licenses"))
_OF_REPORT = frozenset((b"SchemaVersion", b"ArtifactName", b"ClusterName"))
_SCHEMA = re.compile(rb'"SchemaVersion"\s*:\s*2\b')


def _sniff(head: bytes, _name: str) -> float:
    keys = unescaped_keys(head)
    if _SCHEMA.search(head) and keys & {b"ArtifactName", b"ArtifactType", b"ClusterName"}:
        return 1.0
    if b"Target" in keys and (keys & _LISTS or b"Results" in keys):
        return 0.9
    if keys >= {b"ClusterName"} and keys & {b"Resources", b"Findings", *_LISTS}:
        return 0.9
    if _OPERATOR in head and keys >= {b"apiVersion", b"kind", b"report"}:
        return 0.9
    return 0.8 if keys >= {b"PkgName", b"VulnerabilityID"} else 0.0


class _Reader:
    """Walks the reports of one file."""

    def __init__(self, source: Source) -> None:
        self._source = source
        # Members of the report, and of a cluster's resource, that concern all below.
        self._about: Group = {}

    def reports(self) -> Iterator[Record | Rejected]:
        """All there is.

        Raises:
            Malformed: something else stands between reports.
        """
        source = self._source
        while byte := source.peek():
            source.shape = source.shape or ("array" if byte == b"[" else "object")
            if byte == b"{":
                yield from self._report()
            elif byte == b"[" and unescaped_keys(source.head()) & _OF_REPORT:
                yield from self._objects("", self._report)  # several, as `jq -s` makes them
                source.whole = True
            elif byte == b"[":
                source.dialect = "trivy before 0.20"
                yield from self._results("")
                source.whole = True
            else:
                raise Malformed(source.offset())

    def _report(self) -> Iterator[Record | Rejected]:
        source, self._about = self._source, {}
        for name in source.members():
            if name in _ABOUT:
                self._about[name] = plain(source)
            elif name == "Results":
                source.dialect = source.dialect or "trivy 0.20 or newer"
                yield from self._results(name)
            elif name in _OF_CLUSTER:
                source.dialect = source.dialect or "trivy, of a cluster"
                yield from self._objects(name, self._resource)
            elif name == "items":
                yield from self._objects(name, self._report)
            elif name == "report" and source.peek() == b"{":
                source.dialect = source.dialect or "trivy operator"
                yield from grouped(source, self._operator_lists(), {}, _OPERATOR_REPORT, name)
            else:
                if name not in _REPORT:
                    source.notices.unknown(name)
                source.skip()

    def _objects(self, name: str, read: Handler) -> Iterator[Record | Rejected]:
        source = self._source
        byte, at_byte = source.peek(), source.offset()
        if byte != b"[":
            source.skip()
            if byte != b"n":
                yield reject("WRONG_TYPE", f"{name} is not an array", name, at_byte)
            return
        for _ in source.items():
            at_byte = source.offset()
            if source.peek() == b"{":
                yield from read()
            else:
                source.skip()
                yield reject("NOT_A_RECORD", "not an object", name, at_byte)

    def _resource(self) -> Iterator[Record | Rejected]:
        """A cluster's resource."""
        source, self._about = self._source, {"ClusterName": self._about.get("ClusterName")}
        for name in source.members():
            if name == "Results":
                yield from self._results(name)
            elif name in ("Namespace", "Kind", "Name"):
                self._about[name] = plain(source)
            elif name == "Error":
                if plain(source):
                    source.notices.note(NoticeKind.NOTICE_KIND_SCAN_INCOMPLETE, name, 0)
            else:
                if name not in ("Metadata", "Report"):
                    source.notices.unknown(f"Resources[].{name}")
                source.skip()

    def _results(self, path: str) -> Iterator[Record | Rejected]:
        own = {"Target": True, "Type": False}
        return groups(self._source, self._lists(), own, _RESULT, path)

    def _container(self) -> str:
        """The image, or the cluster's resource, that holds the targets."""
        if text(self._about, "Name"):
            names = (text(self._about, name) for name in ("Namespace", "Kind", "Name"))
            return "/".join(filter(None, names))
        image = text(self._about, "ArtifactType") == "container_image"
        return text(self._about, "ArtifactName") if image else ""

    def _lists(self) -> dict[str, tuple[Dialect[Any], Make]]:
        container, notices = self._container(), self._source.notices
        ways: dict[str, tuple[Dialect[Any], Make]] = {
            "Vulnerabilities": (_VULNERABILITY, partial(make.vulnerability, container=container)),
            "Secrets": (_SECRET, partial(make.secret, container=container)),
            "Misconfigurations": (
                _MISCONFIGURATION,
                partial(make.misconfiguration, container=container, notices=notices),
            ),
            "Licenses": (_LICENSE, partial(make.licence, container=container)),
        }
        kinds = {
            "vulnerability": ways["Vulnerabilities"],
            "secret": ways["Secrets"],
            "misconfiguration": ways["Misconfigurations"],
            "license": ways["Licenses"],
        }

        def modified(found: model.Modified, raw: bytes, result: Group) -> Record | Rejected:
            dialect, way = kinds.get(found.Type or "", kinds["vulnerability"])
            inner = dialect.convert(found.Finding, notices)
            if inner is None or isinstance(inner, Rejected):
                return inner or reject("NOT_A_RECORD", "a log line", "Finding")
            record = way(inner, raw, result)
            if isinstance(record, Record):
                make.triaged(record, found, notices)
            return record

        return {**ways, "ExperimentalModifiedFindings": (_MODIFIED, modified)}

    def _operator_lists(self) -> dict[str, tuple[Dialect[Any], Make]]:
        about, notices = self._about, self._source.notices
        return {
            "secrets": (
                _OPERATOR_SECRET,
                lambda found, raw, _: make.operator_secret(found, raw, about),
            ),
            "vulnerabilities": (
                _OPERATOR_VULNERABILITY,
                lambda found, raw, _: make.operator_vulnerability(found, raw, about),
            ),
            "checks": (
                _OPERATOR_CHECK,
                lambda found, raw, _: make.operator_check(found, raw, about, notices),
            ),
        }


def _parse(source: Source) -> Iterator[Record | Rejected]:
    return _Reader(source).reports()


PARSER = Parser(
    id="trivy",
    version="1",
    title="Trivy",
    aliases=("trivy-json", "trivy-operator", "trivy_operator"),
    shapes=('{"Results": […]}', "array", '{"Resources": […]}', "custom resources of the operator"),
    sniff=_sniff,
    parse=_parse,
    versions="0.1 to 0.6x, operator 0.x",
    kinds=(
        pb.FINDING_KIND_VULNERABILITY,
        pb.FINDING_KIND_MISCONFIGURATION,
        pb.FINDING_KIND_POSSIBLE_SECRET,
        pb.FINDING_KIND_POSTURE,
    ),
    notes="Trivy masks values itself. Licences are findings of posture. What a policy or a VEX "
    "document took out is kept, with what it says of it.",
)
