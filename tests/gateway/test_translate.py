"""The one translation of messages to JSON, held against protobuf's own."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import msgspec
from google.protobuf import json_format
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.translate import to_json
from winnow.audit.v1.audit_event_pb2 import AuditEvent
from winnow.finding.v1.verdict_pb2 import Evidence, Verdict
from winnow.report.v1.report_finding_pb2 import ReportFinding
from winnow.report.v1.report_pb2 import Report

text = st.text(max_size=8)
uint64 = st.integers(0, 2**64 - 1)
moments = st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))


@st.composite
def reports(draw: st.DrawFn) -> Report:
    report = Report(
        report_id=draw(text),
        status=draw(st.integers(0, 5)),
        size_bytes=draw(uint64),
        labels=draw(st.dictionaries(text, text, max_size=3)),
    )
    if draw(st.booleans()):
        report.created_at.FromDatetime(draw(moments))
    if draw(st.booleans()):
        report.summary.high = draw(uint64)
    return report


def strip(value: Any) -> Any:
    """Without what the two ways show differently on purpose."""
    if isinstance(value, dict):
        return {k: strip(v) for k, v in value.items() if v is not None}
    return value


@settings(deadline=None)
@given(reports())
def test_reports_read_as_protobufs_own_translation_but_for_the_rule(report: Report) -> None:
    theirs = json_format.MessageToDict(
        report, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    theirs["size_bytes"] = int(theirs["size_bytes"])
    if "summary" in theirs:
        theirs["summary"] = {k: int(v) for k, v in theirs["summary"].items()}
    status = theirs["status"].removeprefix("REPORT_STATUS_").lower()
    theirs["status"] = None if status == "unspecified" else status
    if "created_at" in theirs:
        moment = datetime.fromisoformat(theirs["created_at"])
        theirs["created_at"] = moment.isoformat(timespec="microseconds")[:-6] + "Z"
    ours = to_json(report)
    assert strip(ours) == strip(theirs)
    assert ours["finished_at"] is None
    assert "error" not in ours
    assert msgspec.json.decode(msgspec.json.encode(ours)) == ours


def test_findings_of_a_later_build_keep_their_numbers() -> None:
    finding = ReportFinding(line=0, risk=1)
    finding.source = 99  # type: ignore[assignment]
    read = to_json(finding)
    assert read["source"] == 99
    assert read["risk"] == "high"
    assert read["line"] == 0
    assert read["reason"] is None
    assert "detail" not in read


def test_detail_is_there_when_set_even_if_empty() -> None:
    finding = ReportFinding()
    finding.detail.SetInParent()
    assert to_json(finding)["detail"]["evidence"] == []


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_single_precision_shows_no_noise(weight: float) -> None:
    shown = to_json(Evidence(weight=weight))["weight"]
    assert math.isclose(shown, weight, rel_tol=1e-6, abs_tol=1e-44)
    assert to_json(Evidence(weight=0.1))["weight"] == 0.1


def test_bytes_structs_and_lists() -> None:
    event = AuditEvent(leaf_hash=b"\x00\xab")
    event.event.payload.update({"n": 3, "x": 0.5, "s": "t", "l": [1, {"b": True}], "z": None})
    read = to_json(event)
    assert read["leaf_hash"] == "00ab"
    assert read["event"]["payload"] == {
        "n": 3,
        "x": 0.5,
        "s": "t",
        "l": [1, {"b": True}],
        "z": None,
    }
    assert read["event"]["occurred_at"] is None
    assert read["recorded_at"] is None


def test_nested_messages_use_the_same_rule() -> None:
    verdict = Verdict(evidence=[Evidence(stage="ml")], inputs={"model": "sha256:1"})
    read = to_json(verdict)
    assert read["evidence"][0]["stage"] == "ml"
    assert read["inputs"] == {"model": "sha256:1"}
    assert read["confidence"] is None
    assert read["decided_at"] is None
