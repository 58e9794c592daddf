"""One golden message of each kind: what v1 means on the wire, for ever.

Each golden file holds the message as JSON and as deterministic bytes (base64).
The bytes were written when v1 was released; a reader of today must understand
them and a writer of today must write the same.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from google.protobuf import json_format
from google.protobuf.message import Message

from winnow.event.v1.envelope_pb2 import Envelope
from winnow.finding.v1.finding_pb2 import Finding, FindingKind
from winnow.finding.v1.plain_evidence_pb2 import PlainEvidence
from winnow.finding.v1.verdict_pb2 import Verdict, VerdictSource

GOLDEN = Path(__file__).parent / "golden"
TYPES: dict[str, type[Message]] = {
    "finding": Finding,
    "verdict": Verdict,
    "event": Envelope,
    "evidence": PlainEvidence,
}


def _files() -> list[Path]:
    return sorted(GOLDEN.glob("*.json"))


@pytest.mark.parametrize("path", _files(), ids=lambda path: path.stem)
def test_golden_bytes_are_read_and_written_as_ever(path: Path) -> None:
    golden = json.loads(path.read_text())
    message_type = TYPES[path.stem.split("_")[0]]
    raw = base64.b64decode(golden["bytes"])
    message = message_type.FromString(raw)
    assert json_format.MessageToDict(message, preserving_proto_field_name=True) == golden["json"]
    assert message.SerializeToString(deterministic=True) == raw
    assert json_format.ParseDict(golden["json"], message_type()) == message


def test_every_kind_and_subject_has_a_golden_finding() -> None:
    found = [json.loads(path.read_text())["json"] for path in GOLDEN.glob("finding_*.json")]
    kinds = {finding["kind"] for finding in found}
    assert kinds == set(FindingKind.keys()) - {"FINDING_KIND_UNSPECIFIED"}
    subjects = {
        name for finding in found for name in ("code", "package", "asset", "log") if name in finding
    }
    assert subjects == {"code", "package", "asset", "log"}


def test_every_judge_has_a_golden_verdict() -> None:
    found = {
        json.loads(path.read_text())["json"]["source"] for path in GOLDEN.glob("verdict_*.json")
    }
    assert found == set(VerdictSource.keys()) - {"VERDICT_SOURCE_UNSPECIFIED"}
