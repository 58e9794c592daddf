"""What parsers give: records with plaintext in them, inside this process only."""

from __future__ import annotations

import json
import re
from string import punctuation
from typing import Any, TypeVar

import msgspec

from winnow.finding.v1 import finding_pb2 as pb
from winnow.ingest.v1 import rejected_pb2
from winnow.ingest.v1.rejected_pb2 import Rejected

T = TypeVar("T", bound=msgspec.Struct)

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

    Scanners redact to `REDACTED`, to a prefix and "...", or to asterisks; none
    of these is a credential's identity. A value may look like that by chance, so
    it is masked in the clear fields all the same (`Record.secrets`).
    """
    if not value:
        return pb.VALUE_STATE_ABSENT
    if value.endswith("...") or not value.strip("*"):
        return pb.VALUE_STATE_REDACTED
    if value[:8] == "REDACTED" and not value[8:].strip(punctuation):
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


def read(decoder: msgspec.json.Decoder[T], raw: bytes) -> T | Rejected | None:
    """A record's bytes as the parser's type.

    What the exact reading refuses is read once more with tolerance: numbers as
    strings, NaN, control characters, lone surrogates (as visible escapes), bytes
    that are not UTF-8 (as U+FFFD).

    Returns:
        None for a log line in JSON, which is no record.
    """
    try:
        return decoder.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _read_with_tolerance(decoder.type, bytes(raw))


_FIELD = re.compile(r"`\$\.?([\w.\[\]]*)`$")
_MISSING = re.compile(r"missing required field `(\w+)`")
_LOG_KEYS = {"msg", "message", "ts", "time", "timestamp"}


def _read_with_tolerance(kind: Any, raw: bytes) -> T | Rejected | None:
    if not raw.startswith(b"{"):
        return reject("NOT_A_RECORD", "expected an object")
    try:
        found = json.loads(raw.decode("utf-8", "replace"), strict=False)
        if b"\\u" in raw:
            found = _visible(found)
    except RecursionError:
        return reject("TOO_DEEP", "nested too deeply")
    except ValueError:
        return reject("SYNTAX", "not valid JSON")
    try:
        record: T = msgspec.convert(found, kind, strict=False)
    except msgspec.ValidationError as error:
        # msgspec names fields of our own types only, never the input's keys.
        text = str(error)
        at = _FIELD.search(text)
        field = at[1] if at else ""
        if missing := _MISSING.search(text):
            if not field and "level" in found and not _LOG_KEYS.isdisjoint(found):
                return None
            field = f"{field}.{missing[1]}" if field else missing[1]
            return reject("MISSING_FIELD", f"the field {field} is missing", field)
        return reject("WRONG_TYPE", f"the field {field} has another type than the format's", field)
    return record


_SURROGATE = re.compile("[\ud800-\udfff]")


def _visible(found: Any) -> Any:
    """The same value with lone surrogates as `\\udXXX`: no encoding holds them."""
    if isinstance(found, str):
        return _SURROGATE.sub(lambda match: f"\\u{ord(match[0]):04x}", found)
    if isinstance(found, list):
        return [_visible(item) for item in found]
    if isinstance(found, dict):
        return {_visible(key): _visible(item) for key, item in found.items()}
    return found
