"""Plants breaking changes in a copy of the contracts and sees each one refused."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUF = Path(sys.executable).parent / "buf"

FINDING = "finding/v1/finding.proto"
VERDICT = "finding/v1/verdict.proto"
REPORT = "report/v1/report.proto"
REPORTS = "report/v1/report_service.proto"
INGEST = "ingest/v1/ingest_service.proto"
MODERATE = "moderate/v1/moderate_service.proto"
AUDIT = "audit/v1/audit_service.proto"
EVENT = "event/v1/envelope.proto"
ERROR = "error/v1/error_reason.proto"

# What is planted: file, old text, new text.
CHANGES: dict[str, tuple[str, str, str]] = {
    "field renumbered": (FINDING, "string tool = 3;", "string tool = 30;"),
    "field type changed": (FINDING, "string rule_id = 4;", "bytes rule_id = 4;"),
    "field removed": (VERDICT, "string reason = 3;", ""),
    "field renamed": (REPORT, "string asset_key = 13;", "string asset = 13;"),
    "field made repeated": (REPORT, "string sha256 = 14;", "repeated string sha256 = 14;"),
    "presence dropped": (VERDICT, "optional double confidence = 5;", "double confidence = 5;"),
    "field moved into a oneof": (
        INGEST,
        "uint64 start_ordinal = 4;",
        "oneof place { uint64 start_ordinal = 4; }",
    ),
    "field moved out of a oneof": (
        MODERATE,
        "    ModerateSummary summary = 2;\n  }",
        "  }\n  ModerateSummary summary = 2;",
    ),
    "enum value removed": (VERDICT, "RISK_LOW = 3;", ""),
    "enum value renumbered": (FINDING, "FINDING_KIND_LOG = 6;", "FINDING_KIND_LOG = 16;"),
    "enum value renamed": (
        ERROR,
        "ERROR_REASON_REPORT_NOT_FOUND = 11;",
        "ERROR_REASON_NO_REPORT = 11;",
    ),
    "RPC removed": (
        AUDIT,
        "rpc AppendEvents(AppendEventsRequest) returns (AppendEventsResponse);",
        "",
    ),
    "RPC renamed": (INGEST, "rpc ListFormats(", "rpc GetFormats("),
    "response stream dropped": (
        MODERATE,
        "returns (stream ModerateResponse)",
        "returns (ModerateResponse)",
    ),
    "request stream dropped": (
        REPORTS,
        "rpc SubmitReport(stream SubmitReportRequest)",
        "rpc SubmitReport(SubmitReportRequest)",
    ),
    "request type changed": (
        REPORTS,
        "rpc CancelReport(CancelReportRequest)",
        "rpc CancelReport(GetReportRequest)",
    ),
    "message removed": (
        "ingest/v1/rejected.proto",
        "// Rejected records travel in batches of at most 256.\nmessage RejectedBatch {\n"
        "  // Ascending by ordinal.\n  repeated Rejected rejected = 1;\n}\n",
        "",
    ),
    "package renamed": (EVENT, "package winnow.event.v1;", "package winnow.events.v1;"),
    "service renamed": (AUDIT, "service AuditService {", "service AuditLogService {"),
}


@pytest.fixture
def contracts(tmp_path: Path) -> Path:
    for name in ("protos", "third_party"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "buf.yaml", tmp_path)
    return tmp_path


def _breaking(contracts: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [BUF, "breaking", "protos", "--against", ROOT / "protos" / "released.binpb"],
        cwd=contracts,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_contracts_as_they_are_break_nothing(contracts: Path) -> None:
    done = _breaking(contracts)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("change", CHANGES)
def test_a_breaking_change_is_refused(contracts: Path, change: str) -> None:
    name, old, new = CHANGES[change]
    path = contracts / "protos" / "winnow" / name
    text = path.read_text()
    assert old in text, "the planted change no longer fits the contract"
    path.write_text(text.replace(old, new, 1))
    assert _breaking(contracts).returncode == 100


def test_a_message_moved_to_another_file_is_refused(contracts: Path) -> None:
    source = contracts / "protos/winnow/finding/v1/finding.proto"
    target = contracts / "protos/winnow/finding/v1/log_subject.proto"
    text = source.read_text()
    start = text.index("// A record of a log or event stream.")
    end = text.index("}\n", start) + 2
    target.write_text(
        'syntax = "proto3";\n\npackage winnow.finding.v1;\n\n' + text[start:end],
    )
    source.write_text(
        (text[:start] + text[end:]).replace(
            'import "google/protobuf/timestamp.proto";',
            'import "google/protobuf/timestamp.proto";\n'
            'import "winnow/finding/v1/log_subject.proto";',
        )
    )
    done = _breaking(contracts)
    assert done.returncode == 100
    assert "LogSubject" in done.stdout


def test_an_added_field_is_allowed(contracts: Path) -> None:
    path = contracts / "protos/winnow/finding/v1/finding.proto"
    text = path.read_text()
    added = "uint64 ordinal = 1;\n  // New.\n  string added = 99;"
    path.write_text(text.replace("uint64 ordinal = 1;", added, 1))
    assert _breaking(contracts).returncode == 0
