"""What parsers give: records with plaintext in them, inside this process only."""

from __future__ import annotations

from string import punctuation

import msgspec

from winnow.finding.v1 import finding_pb2 as pb
from winnow.ingest.v1 import rejected_pb2
from winnow.ingest.v1.rejected_pb2 import Rejected

# path, line, end_line, column, end_column
Place = tuple[str, int, int, int, int]


class Record(msgspec.Struct, gc=False, kw_only=True):
    """One record of a report in the field's terms, in plaintext.

    `protect.Protector` alone turns it into a `Finding`. The first block of
    fields is what may appear there in the clear, once redacted.

    Attributes:
        raw: the record's bytes, for the recognition of exact repeats.
        changed_at: the scanner's own spelling.
        place, more_places: 0 means unknown, as in `Location`.
        secrets: further values that must not stand in the clear fields.
        purl, package_version, component_ref: of the component, for findings
            about one; `path` then says where it is declared.
        digest: SHA-1 of the value as 40 hex digits, where the report carries
            that and not the value (`VALUE_STATE_DIGEST`). It never leaves the
            ingestor: the fingerprints are made from it.
    """

    raw: bytes
    tool: str
    rule_id: str
    kind: pb.FindingKind.ValueType = pb.FINDING_KIND_POSSIBLE_SECRET
    rule_name: str = ""
    path: str = ""
    line: int = 0
    end_line: int = 0
    column: int = 0
    end_column: int = 0
    more_places: list[Place] = []
    commit: str = ""
    container: str = ""
    native_id: str = ""
    changed_at: str = ""
    severity: pb.Severity.ValueType = pb.SEVERITY_UNSPECIFIED
    validity: pb.Validity.ValueType = pb.VALIDITY_UNSPECIFIED
    triage: pb.Triage.ValueType = pb.TRIAGE_UNSPECIFIED
    value_state: pb.ValueState.ValueType = pb.VALUE_STATE_UNSPECIFIED
    aliases: list[str] = []
    metadata: dict[str, str] = {}
    purl: str = ""
    package_version: str = ""
    component_ref: str = ""

    digest: str = ""
    value: str = ""
    match: str = ""
    context: str = ""
    variable: str = ""
    message: str = ""
    decoder: str = ""
    extra: dict[str, str] = {}
    secrets: tuple[str, ...] = ()


def state_of(value: str) -> pb.ValueState.ValueType:
    """What a secret scanner's value field carries.

    Scanners redact to `REDACTED`, to `[REDACTED:…]` around a digest that differs
    from run to run, to a prefix and "...", or to asterisks; none of these is a
    credential's identity. A value may look like that by chance, so it is masked in
    the clear fields all the same (`Record.secrets`).
    """
    if not value:
        return pb.VALUE_STATE_ABSENT
    if value.endswith("...") or not value.strip("*"):
        return pb.VALUE_STATE_REDACTED
    if value[:8] == "REDACTED" and not value[8:].strip(punctuation):
        return pb.VALUE_STATE_REDACTED
    if value.startswith("[REDACTED:") and value.endswith("]"):
        return pb.VALUE_STATE_REDACTED
    return pb.VALUE_STATE_PRESENT


def reject(reason: str, detail: str, field: str = "", at_byte: int = 0) -> Rejected:
    """A rejection; `reason` is a `RejectReason` without its prefix. Its
    ordinal is set where ordinals are counted.
    """
    return Rejected(
        reason=rejected_pb2.RejectReason.Value(f"REJECT_REASON_{reason}"),
        detail=detail,
        field=field,
        at_byte=at_byte,
    )
