"""The parts of SARIF 2.1.0 that are read; section numbers are the standard's.

Every member is optional here, whatever the standard says: tools leave out
much, and a result without a message still is a result. Members of the standard
that are not read are declared as well, so that others are noticed. Property
bags stay open.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ingestor.dialect import UNREAD, Exact, Unread


class Message(Exact):
    """3.11, and the multiformat message of 3.12."""

    text: str | None = None
    markdown: str | None = None
    id: str | None = None
    arguments: list[str] | None = None
    properties: Any = None


class Configuration(Exact):
    """3.50."""

    level: str | None = None
    enabled: Any = None
    rank: Any = None
    parameters: Any = None
    properties: Any = None


class Rule(Exact):
    """reportingDescriptor, 3.49."""

    id: str | None = None
    guid: str | None = None
    name: str | None = None
    shortDescription: Message | None = None
    defaultConfiguration: Configuration | None = None
    messageStrings: dict[str, Message] | None = None
    properties: dict[str, Any] | None = None
    deprecatedIds: Any = None
    deprecatedGuids: Any = None
    deprecatedNames: Any = None
    fullDescription: Unread = UNREAD
    help: Unread = UNREAD
    helpUri: Any = None
    relationships: Unread = UNREAD


class Component(Exact):
    """toolComponent, 3.19."""

    name: str | None = None
    guid: str | None = None
    rules: list[Rule] | None = None
    globalMessageStrings: dict[str, Message] | None = None
    organization: Any = None
    product: Any = None
    productSuite: Any = None
    shortDescription: Any = None
    fullDescription: Unread = UNREAD
    fullName: Any = None
    version: Any = None
    semanticVersion: Any = None
    dottedQuadFileVersion: Any = None
    releaseDateUtc: Any = None
    downloadUri: Any = None
    informationUri: Any = None
    notifications: Any = None
    taxa: Any = None
    locations: Any = None
    language: Any = None
    contents: Unread = UNREAD
    isComprehensive: Any = None
    localizedDataSemanticVersion: Any = None
    minimumRequiredLocalizedDataSemanticVersion: Any = None
    associatedComponent: Any = None
    translationMetadata: Any = None
    supportedTaxonomies: Any = None
    properties: Any = None


class Tool(Exact):
    """3.18."""

    driver: Component
    extensions: list[Component] | None = None
    properties: Any = None


class ComponentReference(Exact):
    """3.54."""

    index: int | None = None
    name: str | None = None
    guid: str | None = None
    properties: Any = None


class RuleReference(Exact):
    """reportingDescriptorReference, 3.52."""

    id: str | None = None
    index: int | None = None
    guid: str | None = None
    toolComponent: ComponentReference | None = None
    properties: Any = None


class ArtifactLocation(Exact):
    """3.4."""

    uri: str | None = None
    uriBaseId: str | None = None
    index: int | None = None
    description: Any = None
    properties: Any = None


class Artifact(Exact):
    """3.24."""

    location: ArtifactLocation | None = None
    parentIndex: Any = None
    offset: Any = None
    length: Any = None
    roles: Any = None
    mimeType: Any = None
    contents: Unread = UNREAD
    encoding: Any = None
    sourceLanguage: Any = None
    hashes: Any = None
    lastModifiedTimeUtc: Any = None
    description: Any = None
    properties: Any = None


class BaseUri(msgspec.Struct, gc=False):
    """A value of originalUriBaseIds, 3.14.14."""

    uri: str | None = None
    uriBaseId: str | None = None


class VersionControl(msgspec.Struct, gc=False):
    """3.23."""

    revisionId: str | None = None


class Notification(msgspec.Struct, gc=False):
    """3.58."""

    level: str | None = None


class Invocation(msgspec.Struct, gc=False):
    """3.20."""

    executionSuccessful: bool | None = None
    toolExecutionNotifications: list[Notification] | None = None
    toolConfigurationNotifications: list[Notification] | None = None


class Snippet(Exact):
    """artifactContent, 3.3."""

    text: str | None = None
    binary: Any = None
    rendered: Any = None
    properties: Any = None


class Region(Exact):
    """3.30."""

    startLine: int | None = None
    startColumn: int | None = None
    endLine: int | None = None
    endColumn: int | None = None
    snippet: Snippet | None = None
    charOffset: Any = None
    charLength: Any = None
    byteOffset: Any = None
    byteLength: Any = None
    message: Any = None
    sourceLanguage: Any = None
    properties: Any = None


class PhysicalLocation(Exact):
    """3.29."""

    artifactLocation: ArtifactLocation | None = None
    region: Region | None = None
    contextRegion: Region | None = None
    address: Any = None
    properties: Any = None


class LogicalLocation(Exact):
    """3.33."""

    fullyQualifiedName: str | None = None
    name: str | None = None
    index: int | None = None
    decoratedName: Any = None
    kind: Any = None
    parentIndex: Any = None
    properties: Any = None


class Location(Exact):
    """3.28."""

    physicalLocation: PhysicalLocation | None = None
    logicalLocations: list[LogicalLocation] | None = None
    properties: dict[str, Any] | None = None
    id: Any = None
    message: Any = None
    annotations: Any = None
    relationships: Unread = UNREAD


class Suppression(Exact):
    """3.35."""

    kind: str | None = None
    status: str | None = None
    justification: str | None = None
    guid: Any = None
    location: Any = None
    properties: Any = None


class Result(Exact):
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
    analysisTarget: Any = None
    webRequest: Unread = UNREAD
    webResponse: Unread = UNREAD
    codeFlows: Unread = UNREAD
    graphs: Unread = UNREAD
    graphTraversals: Unread = UNREAD
    stacks: Unread = UNREAD
    relatedLocations: Unread = UNREAD
    rank: Any = None
    attachments: Unread = UNREAD
    workItemUris: Any = None
    hostedViewerUri: Any = None
    provenance: Unread = UNREAD
    fixes: Unread = UNREAD
    occurrenceCount: Any = None
