"""Protocol buffers to plain JSON, by one rule for every message.

Like google.protobuf.json_format with names as in the .proto files, apart from
what makes JSON pleasant to read, and several times faster (a page of findings
is the hot path). The rule:

- enum values: lower case without their enum's prefix (`POSSIBLE_SECRET` of
  `FindingKind` reads `possible_secret`); unspecified is null; a number that this
  build does not know stays a number;
- optional scalars, timestamps, durations and structs: null when unset; other scalars always
  present; other messages left out when unset;
- timestamps: RFC 3339, UTC, with Z; durations: seconds; bytes: hex; structs and maps: objects;
  64-bit integers: JSON numbers, not strings.

A message type is compiled once: most fields are read by one C call, and only
those that need it are mended afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC
from functools import cache
from operator import attrgetter
from typing import Any

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

Json = dict[str, Any]
_Convert = Callable[[Any], Any]

TIMESTAMP = Timestamp.DESCRIPTOR.full_name
DURATION = Duration.DESCRIPTOR.full_name
STRUCT = Struct.DESCRIPTOR.full_name


def to_json(message: Message) -> Json:
    """The message as values that any JSON encoder takes."""
    return compiled(message.DESCRIPTOR)(message)


class EnumNames(dict[int, Any]):
    """JSON name of each value of an enum, by number; None for the unspecified one."""

    def __missing__(self, number: int) -> int:
        return number


@cache
def enum_names(enum: EnumDescriptor) -> EnumNames:
    """The names of one enum's values as JSON shows them."""
    # buf's STANDARD lint holds value names to the enum's own name as prefix.
    prefix = len(enum.values_by_number[0].name) - len("UNSPECIFIED")
    return EnumNames({v.number: v.name[prefix:].lower() if v.number else None for v in enum.values})


@cache
def compiled(descriptor: Descriptor) -> Callable[[Any], Json]:
    """The translation of one message type, as a function."""
    mends: list[tuple[str, _Convert]] = []
    nullable: list[str] = []
    nested: list[tuple[str, _Convert]] = []
    names: list[str] = []
    for field in descriptor.fields:
        convert = _converter(field)
        scalar = field.message_type is None or _well_known(field.message_type)
        if field.has_presence and not scalar and convert is not None:
            # Not read unless set: reading an unset message makes one.
            nested.append((field.name, convert))
            continue
        names.append(field.name)
        if convert is not None:
            mends.append((field.name, convert))
        if field.has_presence:
            nullable.append(field.name)
    read = _reader(names)

    def translate(message: Any) -> Json:
        values: Json = dict(zip(names, read(message), strict=True))
        for name, convert in mends:
            values[name] = convert(values[name])
        if nullable or nested:
            has = message.HasField
            for name in nullable:
                if not has(name):
                    values[name] = None
            for name, convert in nested:
                if has(name):
                    values[name] = convert(getattr(message, name))
        return values

    return translate


def _reader(names: list[str]) -> Callable[[Any], tuple[Any, ...]]:
    if len(names) > 1:
        return attrgetter(*names)
    return lambda message: tuple(getattr(message, name) for name in names)


def _well_known(descriptor: Descriptor) -> bool:
    return descriptor.full_name in (TIMESTAMP, DURATION, STRUCT)


def _converter(field: FieldDescriptor) -> _Convert | None:
    """What turns a field's Python value into JSON; None where it is JSON already."""
    message = field.message_type
    if message is not None and message.GetOptions().map_entry:
        value = _scalar(message.fields_by_name["value"])
        if value is None:
            return dict
        return lambda entries: {key: value(entry) for key, entry in entries.items()}
    one = _scalar(field)
    if field.is_repeated:
        return list if one is None else lambda items: [one(item) for item in items]
    return one


def _scalar(field: FieldDescriptor) -> _Convert | None:
    if field.enum_type is not None:
        return enum_names(field.enum_type).__getitem__
    if field.type == FieldDescriptor.TYPE_BYTES:
        return bytes.hex
    if field.type == FieldDescriptor.TYPE_FLOAT:
        # Seven digits are what 32 bits hold; more would show noise (0.1 as
        # 0.10000000149).
        return lambda number: float(f"{number:.7g}")
    if field.message_type is None:
        return None
    if field.message_type.full_name == TIMESTAMP:
        return _timestamp
    if field.message_type.full_name == DURATION:
        return lambda duration: duration.ToTimedelta().total_seconds()
    if field.message_type.full_name == STRUCT:
        return _struct
    inner = field.message_type
    # Looked up when used: message types may contain themselves.
    return lambda message: compiled(inner)(message)


def _timestamp(stamp: Timestamp) -> str:
    return stamp.ToDatetime(tzinfo=UTC).isoformat(timespec="microseconds")[:-6] + "Z"


def _struct(struct: Struct) -> Json:
    return {key: _value(value) for key, value in struct.fields.items()}


def _value(value: Value) -> Any:
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return _struct(value.struct_value)
    if kind == "list_value":
        return [_value(item) for item in value.list_value.values]
    if kind == "number_value":
        number = value.number_value
        # Struct knows doubles only; counts should read 3, not 3.0.
        return int(number) if number.is_integer() and abs(number) < 2**53 else number
    return None if kind in (None, "null_value") else getattr(value, kind)
