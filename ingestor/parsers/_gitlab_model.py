"""What a vulnerability of a GitLab report has, in all versions of the schema."""

from __future__ import annotations

from typing import Any

import msgspec

from ingestor.dialect import Exact


class Commit(Exact):
    sha: str | None = None
    date: str | None = None
    message: str | None = None
    author: Any = None


class Package(Exact):
    name: str | None = None


class Dependency(Exact):
    package: Package | None = None
    version: str | None = None
    iid: Any = None
    direct: Any = None
    dependency_path: Any = None


class Location(Exact):
    file: str | None = None
    start_line: int | None = None
    end_line: int | None = None
    start_column: int | None = None
    end_column: int | None = None
    commit: Commit | None = None
    dependency: Dependency | None = None
    image: str | None = None
    class_: Any = msgspec.field(default=None, name="class")
    method: Any = None
    module: Any = None
    item: Any = None
    operating_system: Any = None
    default_branch_image: Any = None
    kubernetes_resource: Any = None


class Identifier(Exact):
    type: str | None = None
    name: str | None = None
    value: str | int | None = None
    url: Any = None
    vendor: Any = None


class Flag(Exact):
    type: str | None = None
    origin: Any = None
    description: Any = None


class Scanner(Exact):
    id: str | None = None
    name: Any = None
    vendor: Any = None
    url: Any = None
    version: Any = None


class Vulnerability(Exact):
    location: Location
    identifiers: list[Identifier] | None = None
    id: str | None = None
    category: str | None = None
    name: str | None = None
    message: str | None = None
    description: str | None = None
    severity: str | None = None
    confidence: str | None = None
    raw_source_code_extract: str | list[str] | None = None  # lines: Semgrep's exporter
    commit: Commit | None = None  # there as well
    scanner: Scanner | None = None
    solution: str | None = None
    flags: list[Flag] | None = None
    cve: Any = None
    links: Any = None
    tracking: Any = None
    details: Any = None
    evidence: Any = None
    assets: Any = None
    discovered_at: Any = None
    cvss_vectors: Any = None
    reachability: Any = None


class Message(msgspec.Struct, gc=False):
    level: str = ""


class Scan(msgspec.Struct, gc=False):
    status: str = ""
    messages: list[Message] | None = None
