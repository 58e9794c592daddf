"""Runs the ingestor's core over bytes, and opens what it sealed."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from google.protobuf.json_format import MessageToDict

from ingestor.parsing import IngestKeys, read_report
from runtime.sealing import EVIDENCE, Sealer
from winnow.finding.v1.finding_pb2 import Finding
from winnow.finding.v1.plain_evidence_pb2 import PlainEvidence
from winnow.ingest.v1.format_pb2 import DetectedFormat
from winnow.ingest.v1.ingest_service_pb2 import IngestHeader, IngestResponse, IngestSummary
from winnow.ingest.v1.rejected_pb2 import Rejected, RejectReason

KEYS = IngestKeys(b"s" * 32, b"f" * 32)
REPORT = uuid.UUID(int=7)


class Outcome(NamedTuple):
    """Everything that came out of one report."""

    format: DetectedFormat
    findings: list[Finding]
    rejected: list[Rejected]
    summary: IngestSummary
    messages: list[IngestResponse]

    @property
    def reasons(self) -> list[tuple[int, str]]:
        return [
            (r.ordinal, RejectReason.Name(r.reason).removeprefix("REJECT_REASON_"))
            for r in self.rejected
        ]

    @property
    def counts(self) -> tuple[int, int, int, int]:
        s = self.summary
        return s.records_read, s.findings, s.merged, s.rejected


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[i : i + size] for i in range(0, len(data), size))


def ingest(
    data: bytes | Iterable[bytes], scanner: str = "", *, size: int = 1 << 18, **header: Any
) -> Outcome:
    """Reads a whole report and checks what holds for every report."""
    chunks = pieces(data, size) if isinstance(data, bytes) else data
    asked = IngestHeader(report_id=str(REPORT), scanner_type=scanner, **header)
    messages = list(read_report(chunks, asked, KEYS))
    assert messages[0].WhichOneof("payload") == "format"
    assert messages[-1].WhichOneof("payload") == "summary"
    findings: list[Finding] = []
    rejected: list[Rejected] = []
    ordinals: list[int] = []
    for message in messages[1:-1]:
        batch = message.batch.findings or message.rejected.rejected
        assert 0 < len(batch) <= 256
        assert message.ByteSize() < 2 << 20
        ordinals += [item.ordinal for item in batch]
        findings += message.batch.findings
        rejected += message.rejected.rejected
    assert ordinals == sorted(set(ordinals))
    summary = messages[-1].summary
    assert summary.records_read == summary.findings + summary.merged + summary.rejected
    if not asked.start_ordinal:
        assert (len(findings), len(rejected)) == (summary.findings, summary.rejected)
    return Outcome(messages[0].format, findings, rejected, summary, messages)


def evidence(finding: Finding) -> PlainEvidence:
    opened = Sealer(KEYS.sealing, REPORT, EVIDENCE).open(finding.sealed_evidence, finding.ordinal)
    return PlainEvidence.FromString(opened)


def clear_strings(finding: Finding) -> list[str]:
    """Every string of a finding that is not sealed."""
    code = finding.code
    return [
        finding.tool,
        finding.rule_id,
        finding.rule_name,
        finding.value_preview,
        finding.native_id,
        *finding.aliases,
        *finding.raw_metadata,
        *finding.raw_metadata.values(),
        code.location.path,
        code.commit,
        code.container,
        *(place.path for place in code.more_locations),
    ]


def gitleaks(number: int = 0, **fields: Any) -> dict[str, Any]:
    """One gitleaks record; distinct for each number."""
    return {
        "RuleID": "generic-api-key",
        "Description": "Detected a key.",
        "StartLine": number + 1,
        "EndLine": number + 1,
        "StartColumn": 9,
        "EndColumn": 40,
        "Match": f'key = "made-up-{number:08d}"',
        "Secret": f"made-up-{number:08d}",
        "File": f"src/app_{number}.py",
        "SymlinkFile": "",
        "Commit": f"{number:040x}",
        "Entropy": 3.25,
        "Author": "Ada Marlow",
        "Email": "ada@example.test",
        "Date": "2024-03-01T10:00:00Z",
        "Message": "add the key",
        "Tags": [],
        "Fingerprint": f"{number:040x}:src/app_{number}.py:generic-api-key:{number + 1}",
        **fields,
    }


def trufflehog(number: int = 0, **fields: Any) -> dict[str, Any]:
    """One TruffleHog 3 record; distinct for each number."""
    return {
        "SourceMetadata": {
            "Data": {
                "Git": {
                    "commit": f"{number:040x}",
                    "file": f"src/app_{number}.py",
                    "email": "Ada Marlow <ada@example.test>",
                    "repository": "https://example.test/repository",
                    "timestamp": "2023-10-19 02:56:37 +0000",
                    "line": number + 1,
                }
            }
        },
        "SourceID": 1,
        "SourceType": 16,
        "SourceName": "trufflehog - git",
        "DetectorType": 2,
        "DetectorName": "AWS",
        "DecoderName": "PLAIN",
        "Verified": False,
        "Raw": f"made-up-{number:08d}",
        "RawV2": "",
        "Redacted": "",
        "ExtraData": None,
        "StructuredData": None,
        **fields,
    }


def sarif(*results: Any, driver: str = "gitleaks", **run: Any) -> dict[str, Any]:
    return {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{"tool": {"driver": {"name": driver}}, "results": list(results), **run}],
    }


def dump(value: Any, **options: Any) -> bytes:
    return json.dumps(value, **options).encode()


DRAWN = ("sealedEvidence", "valueFingerprint", "placeFingerprint", "occurrenceFingerprint")


def golden(finding: Finding) -> dict[str, Any]:
    """A finding without what differs from run to run or is a digest."""
    fields = MessageToDict(finding)
    return {name: value for name, value in fields.items() if name not in DRAWN}


def only(report: Any) -> Finding:
    [finding] = ingest(dump(report)).findings
    return finding
