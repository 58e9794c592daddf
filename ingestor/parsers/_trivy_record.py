"""What Trivy's records mean in the field's own terms."""

from __future__ import annotations

from ingestor.notices import Notices
from ingestor.parsers import _trivy_model as model
from ingestor.parsers._code import neighbours
from ingestor.parsers._groups import Group, text
from ingestor.parsers._purl import purl
from ingestor.parsers._words import severity
from ingestor.records import Record
from winnow.finding.v1 import finding_pb2 as pb
from winnow.ingest.v1.notice_pb2 import NoticeKind

# Of VEX statements, and of Trivy's own ignore files.
_TRIAGES = {
    "ignored": pb.TRIAGE_ACCEPTED,
    "not_affected": pb.TRIAGE_FALSE_POSITIVE,
    "affected": pb.TRIAGE_TRUE_POSITIVE,
}


def _raw(raw: bytes, container: str, target: str) -> bytes:
    return b"\0".join((raw, container.encode(), target.encode()))


def _within(container: str, layer: model.Layer | None) -> str:
    digest = (layer.Digest or layer.DiffID or "") if layer else ""
    return f"{container} {digest}".strip()


def _code(found: model.Code | None) -> str:
    lines = (found.Lines if found else None) or []
    return "\n".join(line.Content or "" for line in lines)


def _filled(**texts: str | None) -> dict[str, str]:
    return {name: found for name, found in texts.items() if found}


def vulnerability(
    found: model.Vulnerability, raw: bytes, result: Group, container: str = ""
) -> Record:
    """`Vulnerabilities[]`."""
    target = text(result, "Target")
    name, version = found.PkgName, found.InstalledVersion or ""
    identifier = found.PkgIdentifier or model.Identifier()
    reference = found.PkgID or f"{name}@{version}"
    return Record(
        raw=_raw(raw, container, target),
        tool="trivy",
        rule_id=found.VulnerabilityID or "",
        kind=pb.FINDING_KIND_VULNERABILITY,
        rule_name=found.Title or "",
        path=found.PkgPath or target,
        container=_within(container, found.Layer),
        native_id=found.Fingerprint or reference,
        severity=severity(found.Severity),
        aliases=[*(found.VendorIDs or ()), *(found.CweIDs or ())],
        metadata=_filled(
            FixedVersion=found.FixedVersion,
            Status=found.Status,
            SeveritySource=found.SeveritySource,
            container=_within(container, found.Layer),
        ),
        purl=identifier.PURL or purl(text(result, "Type"), name, version),
        package_version=version,
        component_ref=identifier.BOMRef or reference,
        message=found.Description or "",
    )


def secret(found: model.Secret, raw: bytes, result: Group, container: str = "") -> Record:
    """`Secrets[]`: the value is masked in the match, and in the lines around it;
    other values in these are not.
    """
    target = text(result, "Target")
    match, code = found.Match or "", _code(found.Code)
    return Record(
        raw=_raw(raw, container, target),
        tool="trivy",
        rule_id=found.RuleID,
        rule_name=found.Title or "",
        path=target,
        line=found.StartLine or 0,
        end_line=found.EndLine or 0,
        container=_within(container, found.Layer),
        native_id=found.Fingerprint or "",
        severity=severity(found.Severity),
        metadata=_filled(Category=found.Category),
        value_state=pb.VALUE_STATE_REDACTED if "*" in match else pb.VALUE_STATE_ABSENT,
        match=match,
        context=code,
        secrets=neighbours((code, match)),
    )


def misconfiguration(
    found: model.Misconfiguration,
    raw: bytes,
    result: Group,
    container: str = "",
    notices: Notices | None = None,
) -> Record:
    """`Misconfigurations[]`: checks that failed, and on request those that passed."""
    target = text(result, "Target")
    cause = found.CauseMetadata or model.Cause()
    passed = (found.Status or "").upper() == "PASS"
    if passed and notices:
        notices.note(NoticeKind.NOTICE_KIND_NOT_OPEN)
    return Record(
        raw=_raw(raw, container, target),
        tool="trivy",
        rule_id=found.ID,
        kind=pb.FINDING_KIND_MISCONFIGURATION,
        rule_name=found.Title or "",
        path=target,
        line=cause.StartLine or 0,
        end_line=cause.EndLine or 0,
        container=_within(container, found.Layer),
        native_id=found.Fingerprint or "",
        severity=pb.SEVERITY_INFO if passed else severity(found.Severity),
        triage=pb.TRIAGE_ACCEPTED if found.Status == "EXCEPTION" else pb.TRIAGE_UNSPECIFIED,
        aliases=[found.AVDID] if found.AVDID and found.AVDID != found.ID else [],
        metadata=_filled(Status=found.Status, Resource=cause.Resource),
        message="\n".join(filter(None, (found.Message, found.Description))),
        context=_code(cause.Code),
    )


def licence(found: model.License, raw: bytes, result: Group, container: str = "") -> Record:
    """`Licenses[]`: what a policy on licences says of a package or file."""
    target = text(result, "Target")
    return Record(
        raw=_raw(raw, container, target),
        tool="trivy",
        rule_id=found.Name,
        kind=pb.FINDING_KIND_POSTURE,
        path=found.FilePath or target,
        container=container,
        native_id=found.Fingerprint or "",
        severity=severity(found.Severity),
        metadata=_filled(Category=found.Category, container=container),
        component_ref=found.PkgName or "",
    )


def triaged(record: Record, found: model.Modified, notices: Notices) -> None:
    """What was decided on a finding that stands under `ExperimentalModifiedFindings`."""
    status = found.Status or ""
    record.triage = _TRIAGES.get(status, pb.TRIAGE_UNSPECIFIED)
    record.metadata = {**record.metadata, "ModifiedStatus": status}
    if found.Statement:
        record.extra = {"Statement": found.Statement}
    if status == "fixed":
        notices.note(NoticeKind.NOTICE_KIND_NOT_OPEN)


def _owner(resource: Group) -> str:
    """What of a cluster the operator's report is about: "namespace/Kind/name container"."""
    metadata = resource.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    labels = metadata.get("labels")
    labels = labels if isinstance(labels, dict) else {}
    names = [str(labels.get(f"trivy-operator.resource.{part}", "")) for part in ("kind", "name")]
    where = "/".join(filter(None, (str(metadata.get("namespace", "")), *names)))
    return f"{where} {labels.get('trivy-operator.container.name', '')}".strip()


def operator_secret(found: model.OperatorSecret, raw: bytes, resource: Group) -> Record:
    """`report.secrets[]` of an ExposedSecretReport."""
    owner, match = _owner(resource), found.match or ""
    return Record(
        raw=_raw(raw, owner, ""),
        tool="trivy",
        rule_id=found.ruleID,
        rule_name=found.title or "",
        path=found.target or "",
        container=owner,
        severity=severity(found.severity),
        metadata=_filled(Category=found.category),
        value_state=pb.VALUE_STATE_REDACTED if "*" in match else pb.VALUE_STATE_ABSENT,
        match=match,
        secrets=neighbours((match,)),
    )


def operator_vulnerability(
    found: model.OperatorVulnerability, raw: bytes, resource: Group
) -> Record:
    """`report.vulnerabilities[]` of a VulnerabilityReport."""
    owner = _owner(resource)
    name, version = found.resource or "", found.installedVersion or ""
    return Record(
        raw=_raw(raw, owner, ""),
        tool="trivy",
        rule_id=found.vulnerabilityID,
        kind=pb.FINDING_KIND_VULNERABILITY,
        rule_name=found.title or "",
        path=found.packagePath or found.pkgPath or found.target or "",
        native_id=f"{owner} {name}@{version}",
        severity=severity(found.severity),
        metadata=_filled(FixedVersion=found.fixedVersion, container=owner),
        purl=found.packagePURL or purl(found.packageType, name, version),
        package_version=version,
        component_ref=f"{name}@{version}",
        message=found.description or "",
    )


def operator_check(
    found: model.OperatorCheck, raw: bytes, resource: Group, notices: Notices
) -> Record:
    """`report.checks[]` of a ConfigAuditReport and its kin."""
    owner = _owner(resource)
    if found.success:
        notices.note(NoticeKind.NOTICE_KIND_NOT_OPEN)
    return Record(
        raw=_raw(raw, owner, ""),
        tool="trivy",
        rule_id=found.checkID,
        kind=pb.FINDING_KIND_MISCONFIGURATION,
        rule_name=found.title or "",
        container=owner,
        severity=pb.SEVERITY_INFO if found.success else severity(found.severity),
        metadata=_filled(Category=found.category, Status="PASS" if found.success else "FAIL"),
        message="\n".join([*(found.messages or ()), found.description or ""]).strip(),
    )
