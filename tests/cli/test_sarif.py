"""SARIF 2.1.0: what the specification demands of the members that we write."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote, urlsplit

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cli.sarif import sarif
from gateway.translate import to_json
from winnow.report.v1.report_finding_pb2 import ReportFinding
from winnow.report.v1.report_pb2 import Report

text = st.text(max_size=12)


@st.composite
def findings(draw: st.DrawFn) -> ReportFinding:
    finding = ReportFinding(
        id=draw(text),
        path=draw(text | st.sampled_from(["a b/c#d.py", "C:/x", "/abs", "x:y"])),
        line=draw(st.none() | st.integers(0, 2**32 - 1)),
        kind=draw(st.integers(0, 6)),
        risk=draw(st.integers(0, 3)),
        rule=draw(text),
        reason=draw(st.none() | text),
        confidence=draw(st.none() | st.floats(0, 1)),
    )
    if draw(st.booleans()):
        finding.detail.value_fingerprint = draw(st.sampled_from(["", "ab"]))
    return finding


# Drawing whole findings takes a moment on a busy machine.
@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(findings(), max_size=4), st.integers(1, 2))
def test_log_is_valid(rows: list[ReportFinding], count: int) -> None:
    report = to_json(Report(report_id="r", status=4, scanner_type="gitleaks"))
    report["findings"] = [to_json(row) for row in rows]
    log = sarif([report] * count)
    assert log["version"] == "2.1.0"
    assert len(log["runs"]) == count
    for run in log["runs"]:
        rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
        assert len(set(rules)) == len(rules)
        assert len(run["results"]) == len(rows)
        for row, result in zip(rows, run["results"], strict=True):
            _check(row, result, rules)


def _check(row: ReportFinding, result: dict[str, Any], rules: list[str]) -> None:
    assert result["ruleId"] in rules
    assert result["ruleId"]
    assert result["message"]["text"]
    assert result["level"] == ("none", "error", "warning", "note")[row.risk]
    if row.path:
        (location,) = result["locations"]
        place = location["physicalLocation"]
        uri = place["artifactLocation"]["uri"]
        assert uri.isascii()
        assert not urlsplit(uri).scheme
        assert unquote(uri) == row.path
        assert place.get("region", {"startLine": 1})["startLine"] >= 1
    else:
        assert "locations" not in result
    fingerprints = result.get("partialFingerprints", {})
    assert fingerprints == ({"winnowValue/v1": "ab"} if row.detail.value_fingerprint else {})
    assert all(value is not None for value in result["properties"].values())
