"""Reports as SARIF 2.1.0 (OASIS), for code hosts and editors."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import version
from typing import Any
from urllib.parse import quote

Json = dict[str, Any]

SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)

# Section 3.27.10; "none" is for results that are not judged.
_LEVELS = {"high": "error", "medium": "warning", "low": "note"}
_PROPERTIES = ("id", "kind", "risk", "source", "confidence", "validity", "value_preview", "commit")
# A name with its version as SARIF has it (section 3.27.17).
_FINGERPRINTS = {
    "value_fingerprint": "winnowValue/v1",
    "place_fingerprint": "winnowPlace/v1",
    "occurrence_fingerprint": "winnowOccurrence/v1",
}


def sarif(reports: Iterable[Json]) -> Json:
    """A log with one run for each report.

    Args:
        reports: as the API answers them, with findings in the full view.
    """
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [_run(report) for report in reports]}


def _run(report: Json) -> Json:
    results = [_result(finding) for finding in report["findings"]]
    rules = sorted({result["ruleId"] for result in results})
    driver = {
        "name": "Winnow",
        "semanticVersion": version("winnow"),
        "rules": [{"id": rule} for rule in rules],
    }
    return {
        "tool": {"driver": driver},
        "automationDetails": {"id": f"winnow/{report['scanner_type']}/{report['report_id']}"},
        "columnKind": "unicodeCodePoints",
        "results": results,
        "properties": {name: report[name] for name in ("report_id", "scanner_type", "status")},
    }


def _result(finding: Json) -> Json:
    detail = finding.get("detail", {})
    result: Json = {
        "ruleId": finding["rule"] or finding["kind"] or "unknown",
        "level": _LEVELS.get(finding["risk"], "none"),
        "message": {"text": finding["reason"] or "Not judged yet."},
        "properties": {name: finding[name] for name in _PROPERTIES if finding.get(name)},
    }
    if finding["path"]:
        # A path is a URI reference here; a colon in it must not make a scheme.
        place: Json = {"artifactLocation": {"uri": quote(finding["path"], safe="/")}}
        if finding["line"]:
            place["region"] = {"startLine": finding["line"]}
        result["locations"] = [{"physicalLocation": place}]
    fingerprints = {
        name: detail[member] for member, name in _FINGERPRINTS.items() if detail.get(member)
    }
    if fingerprints:
        result["partialFingerprints"] = fingerprints
    return result
