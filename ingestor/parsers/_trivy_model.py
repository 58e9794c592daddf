"""The records of Trivy's reports (trivy, pkg/types and pkg/fanal/types), and those
of its operator's custom resources.
"""

from __future__ import annotations

from typing import Any

from ingestor.dialect import Exact


class Identifier(Exact):
    PURL: str | None = None
    BOMRef: str | None = None
    UID: Any = None


class Layer(Exact):
    Digest: str | None = None
    DiffID: str | None = None
    CreatedBy: Any = None
    Size: Any = None


class Line(Exact):
    Content: str | None = None
    Number: Any = None
    IsCause: Any = None
    Annotation: Any = None
    Truncated: Any = None
    Highlighted: Any = None
    FirstCause: Any = None
    LastCause: Any = None


class Code(Exact):
    Lines: list[Line] | None = None


class Vulnerability(Exact):
    PkgName: str
    VulnerabilityID: str | None = None
    PkgID: str | None = None
    PkgPath: str | None = None
    PkgIdentifier: Identifier | None = None
    InstalledVersion: str | None = None
    FixedVersion: str | None = None
    Status: str | None = None
    VendorIDs: list[str] | None = None
    Layer: Layer | None = None
    Severity: str | None = None
    SeveritySource: str | None = None
    Title: str | None = None
    Description: str | None = None
    CweIDs: list[str] | None = None
    Fingerprint: str | None = None
    Ref: Any = None
    DataSource: Any = None
    PrimaryURL: Any = None
    VendorSeverity: Any = None
    CVSS: Any = None
    References: Any = None
    PublishedDate: Any = None
    LastModifiedDate: Any = None
    Custom: Any = None


class Secret(Exact):
    RuleID: str
    Category: str | None = None
    Severity: str | None = None
    Title: str | None = None
    StartLine: int | None = None
    EndLine: int | None = None
    Code: Code | None = None
    Match: str | None = None
    Layer: Layer | None = None
    Fingerprint: str | None = None
    Offset: Any = None
    Deleted: Any = None


class Cause(Exact):
    Resource: str | None = None
    StartLine: int | None = None
    EndLine: int | None = None
    Code: Code | None = None
    Provider: Any = None
    Service: Any = None
    Occurrences: Any = None
    RenderedCause: Any = None


class Misconfiguration(Exact):
    ID: str
    AVDID: str | None = None
    Title: str | None = None
    Description: str | None = None
    Message: str | None = None
    Severity: str | None = None
    Status: str | None = None
    CauseMetadata: Cause | None = None
    Layer: Layer | None = None
    Fingerprint: str | None = None
    Type: Any = None
    Namespace: Any = None
    Query: Any = None
    Resolution: Any = None
    PrimaryURL: Any = None
    References: Any = None
    Traces: Any = None
    # Before 0.34.
    IacMetadata: Any = None


class License(Exact):
    Name: str
    Severity: str | None = None
    Category: str | None = None
    PkgName: str | None = None
    FilePath: str | None = None
    Fingerprint: str | None = None
    Text: Any = None
    Confidence: Any = None
    Link: Any = None


class Modified(Exact):
    """A finding that a policy or a VEX document took out of the others."""

    Finding: dict[str, Any]
    Type: str | None = None
    Status: str | None = None
    Statement: str | None = None
    Source: Any = None


class OperatorSecret(Exact):
    ruleID: str
    target: str | None = None
    title: str | None = None
    category: str | None = None
    severity: str | None = None
    match: str | None = None


class OperatorVulnerability(Exact, rename={"class_": "class"}):
    vulnerabilityID: str
    resource: str | None = None
    installedVersion: str | None = None
    fixedVersion: str | None = None
    severity: str | None = None
    title: str | None = None
    description: str | None = None
    target: str | None = None
    packagePURL: str | None = None
    packageType: str | None = None
    packagePath: str | None = None
    pkgPath: str | None = None
    score: Any = None
    primaryLink: Any = None
    links: Any = None
    publishedDate: Any = None
    lastModifiedDate: Any = None
    cvss: Any = None
    cvsssource: Any = None
    class_: Any = None


class OperatorCheck(Exact):
    checkID: str
    title: str | None = None
    description: str | None = None
    severity: str | None = None
    success: bool | None = None
    messages: list[str] | None = None
    category: str | None = None
    target: Any = None
    remediation: Any = None
    scope: Any = None
