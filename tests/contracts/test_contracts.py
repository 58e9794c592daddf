"""The contracts against the code that must agree with them."""

from __future__ import annotations

import re
from pathlib import Path

from protovalidate._gen.buf.validate import validate_pb

from buf.validate import validate_pb2
from runtime.errors import MAPPINGS
from winnow.error.v1.error_reason_pb2 import ErrorReason
from winnow.finding.v1.finding_batch_pb2 import FindingBatch
from winnow.finding.v1.finding_pb2 import Finding
from winnow.ingest.v1.ingest_service_pb2 import IngestResponse
from winnow.moderate.v1.moderate_service_pb2 import ModerateRequest

ROOT = Path(__file__).resolve().parents[2]


def test_every_reason_is_mapped_and_every_mapping_is_a_reason() -> None:
    declared = {name.removeprefix("ERROR_REASON_") for name in ErrorReason.keys()}  # noqa: SIM118
    assert set(MAPPINGS) == declared - {"UNSPECIFIED"}


def test_the_contract_says_the_same_of_retries_as_the_code() -> None:
    text = (ROOT / "protos/winnow/error/v1/error_reason.proto").read_text()
    for comment, name in re.findall(r"((?:  //[^\n]*\n)+)  ERROR_REASON_(\w+) =", text):
        if name == "UNSPECIFIED":
            continue
        says = re.search(r"Retry: (yes|no|from)", comment.replace("\n  // ", " "))
        assert says, f"{name} does not say whether a retry can help"
        assert MAPPINGS[name].retry == (says[1] == "yes"), name


def test_the_vendored_rules_have_the_packages_own_numbers() -> None:
    ours = validate_pb2.DESCRIPTOR
    theirs = {
        message.name: {field.name: field.number for field in message.field}
        for message in validate_pb.desc().proto.message_type
    }
    for name, message in ours.message_types_by_name.items():
        for field in message.fields:
            assert theirs[name][field.name] == field.number, f"{name}.{field.name}"
    assert ours.extensions_by_name["field"].number == 1159


def test_a_batch_from_the_ingestor_is_a_request_to_the_moderator() -> None:
    """The orchestrator forwards the bytes; see orchestrator/relay.py."""
    given = IngestResponse.DESCRIPTOR.fields_by_name["batch"]
    taken = ModerateRequest.DESCRIPTOR.fields_by_name["batch"]
    assert (given.number, given.message_type) == (taken.number, taken.message_type)
    batch = FindingBatch(findings=[Finding(ordinal=7, rule_id="a rule")])
    raw = IngestResponse(batch=batch).SerializeToString()
    assert ModerateRequest.FromString(raw) == ModerateRequest(batch=batch)
