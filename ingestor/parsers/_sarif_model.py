"""The parts of SARIF 2.1.0 that are read; section numbers are the standard's.

Every member is optional here, whatever the standard says: tools leave out
much, and a result without a message still is a result.
"""

from __future__ import annotations

from typing import Any

import msgspec


class Message(msgspec.Struct, gc=False):
    """3.11, and the multiformat message of 3.12."""

    text: str | None = None
    markdown: str | None = None
    id: str | None = None
    arguments: list[str] | None = None


class Configuration(msgspec.Struct, gc=False):
    """3.50."""

    level: str | None = None


class Rule(msgspec.Struct, gc=False):
    """reportingDescriptor, 3.49."""

    id: str | None = None
    name: str | None = None
    shortDescription: Message | None = None
    defaultConfiguration: Configuration | None = None
    messageStrings: dict[str, Message] | None = None
    properties: dict[str, Any] | None = None


class Component(msgspec.Struct, gc=False):
    """toolComponent, 3.19."""

    name: str | None = None
    rules: list[Rule] | None = None
    globalMessageStrings: dict[str, Message] | None = None


class Tool(msgspec.Struct, gc=False):
    """3.18."""

    driver: Component
    extensions: list[Component] | None = None


class ComponentReference(msgspec.Struct, gc=False):
    """3.54."""

    index: int | None = None
    name: str | None = None


class RuleReference(msgspec.Struct, gc=False):
    """reportingDescriptorReference, 3.52."""

    id: str | None = None
    index: int | None = None
    toolComponent: ComponentReference | None = None


class ArtifactLocation(msgspec.Struct, gc=False):
    """3.4."""

    uri: str | None = None
    uriBaseId: str | None = None
    index: int | None = None


class Artifact(msgspec.Struct, gc=False):
    """3.24."""

    location: ArtifactLocation | None = None


class BaseUri(msgspec.Struct, gc=False):
    """A value of originalUriBaseIds, 3.14.14."""

    uri: str | None = None
    uriBaseId: str | None = None


class VersionControl(msgspec.Struct, gc=False):
    """3.23."""

    revisionId: str | None = None


class Snippet(msgspec.Struct, gc=False):
    """artifactContent, 3.3."""

    text: str | None = None


class Region(msgspec.Struct, gc=False):
    """3.30."""

    startLine: int | None = None
    startColumn: int | None = None
    endLine: int | None = None
    endColumn: int | None = None
    snippet: Snippet | None = None


class PhysicalLocation(msgspec.Struct, gc=False):
    """3.29."""

    artifactLocation: ArtifactLocation | None = None
    region: Region | None = None
    contextRegion: Region | None = None


class LogicalLocation(msgspec.Struct, gc=False):
    """3.33."""

    fullyQualifiedName: str | None = None
    name: str | None = None


class Location(msgspec.Struct, gc=False):
    """3.28."""

    physicalLocation: PhysicalLocation | None = None
    logicalLocations: list[LogicalLocation] | None = None
    properties: dict[str, Any] | None = None


class Suppression(msgspec.Struct, gc=False):
    """3.35."""

    kind: str | None = None
    status: str | None = None
    justification: str | None = None


class Result(msgspec.Struct, gc=False):
    """3.27."""

    ruleId: str | None = None
    ruleIndex: int | None = None
    rule: RuleReference | None = None
    level: str | None = None
    kind: str | None = None
    message: Message | None = None
    locations: list[Location] | None = None
    guid: str | None = None
    correlationGuid: str | None = None
    # Values are strings by the standard, objects in the wild.
    fingerprints: dict[str, Any] | None = None
    partialFingerprints: dict[str, Any] | None = None
    baselineState: str | None = None
    suppressions: list[Suppression] | None = None
    taxa: list[RuleReference] | None = None
    properties: dict[str, Any] | None = None
