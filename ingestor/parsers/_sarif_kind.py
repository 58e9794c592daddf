"""What sort of weakness a SARIF result speaks of: the format does not say."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from ingestor.parsers._words import ADVISORY
from winnow.finding.v1 import finding_pb2 as pb

# Tools by what they look for, compared by the first word of the driver's name.
SECRET_SCANNERS = frozenset(
    (
        "gitleaks",
        "betterleaks",
        "kingfisher",
        "trufflehog",
        "trufflehog3",
        "detect-secrets",
        "ggshield",
        "gitguardian",
        "credsweeper",
        "noseyparker",
        "talisman",
        "secretlint",
        "whispers",
        "titus",
        "credscan",
        "credential",
    )
)
_VULNERABILITY_SCANNERS = frozenset(
    (
        "trivy",
        "grype",
        "snyk",
        "osv-scanner",
        "dependency-check",
        "anchore",
        "clair",
        "docker",
        "retire.js",
    )
)
_MISCONFIGURATION_SCANNERS = frozenset(
    (
        "checkov",
        "kics",
        "tfsec",
        "terrascan",
        "kube-linter",
        "kubelinter",
        "kubescape",
        "hadolint",
        "dockle",
        "prowler",
        "cfn-lint",
        "cfn_nag",
        "polaris",
        "kubesec",
        "regula",
    )
)
KNOWN_TOOLS = (
    SECRET_SCANNERS
    | _VULNERABILITY_SCANNERS
    | _MISCONFIGURATION_SCANNERS
    | frozenset(
        (
            "codeql",
            "semgrep",
            "opengrep",
            "bandit",
            "eslint",
            "gosec",
            "brakeman",
            "sonarqube",
            "pmd",
            "spotbugs",
            "clippy",
            "shellcheck",
            "mobsfscan",
            "njsscan",
            "bearer",
            "horusec",
            "devskim",
            "zizmor",
        )
    )
)
_SECRET_WORD = re.compile(
    r"\b(?:secrets?|credentials?|passwords?|hard-?coded-(?:secret|password|credential|token)s?)\b"
    r"|\bCWE[-_:/]?0*(?:798|259)\b",
    re.IGNORECASE,
)
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_MISCONFIGURATION_ID = re.compile(r"^(?:CKV\d?_|AVD-|DS\d{3}|KSV\d|KSV-)")


def kind_of(
    tool: str, rule_id: str, rule_name: str, tags: Iterable[str]
) -> pb.FindingKind.ValueType:
    """The kind, from the tool's first word in lower case, the rule and its tags."""
    return _kind_of(tool, rule_id, rule_name, tuple(tags))


@lru_cache(maxsize=1024)  # the same for every finding of a rule
def _kind_of(
    tool: str, rule_id: str, rule_name: str, tags: tuple[str, ...]
) -> pb.FindingKind.ValueType:
    if tool in SECRET_SCANNERS:
        return pb.FINDING_KIND_POSSIBLE_SECRET
    if ADVISORY.search(rule_id):
        return pb.FINDING_KIND_VULNERABILITY
    words = f"{rule_id} {rule_name}".replace("_", "-").replace(".", " ")
    # Words run together in names such as HardcodedPassword.
    words = _CAMEL.sub(" ", words)
    if _SECRET_WORD.search(words) or any(_SECRET_WORD.search(tag) for tag in tags):
        return pb.FINDING_KIND_POSSIBLE_SECRET
    if tool in _MISCONFIGURATION_SCANNERS or _MISCONFIGURATION_ID.match(rule_id):
        return pb.FINDING_KIND_MISCONFIGURATION
    if tool in _VULNERABILITY_SCANNERS:
        return pb.FINDING_KIND_VULNERABILITY
    return pb.FINDING_KIND_CODE
