"""JSON Schemas of what `translate` makes, from the same descriptors by the same rule."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from gateway.query import enum_numbers, parameter_fields
from gateway.translate import DURATION, STRUCT, TIMESTAMP

Schema = dict[str, Any]

_SIGNED = {"type": "integer"}
_UNSIGNED = {"type": "integer", "minimum": 0}
_SCALARS: dict[int, Schema] = {
    FieldDescriptor.TYPE_STRING: {"type": "string"},
    FieldDescriptor.TYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.TYPE_BYTES: {"type": "string", "pattern": "^([0-9a-f]{2})*$"},
    FieldDescriptor.TYPE_DOUBLE: {"type": "number"},
    FieldDescriptor.TYPE_FLOAT: {"type": "number"},
    FieldDescriptor.TYPE_INT32: _SIGNED,
    FieldDescriptor.TYPE_INT64: _SIGNED,
    FieldDescriptor.TYPE_UINT32: _UNSIGNED,
    FieldDescriptor.TYPE_UINT64: _UNSIGNED,
}


def reference(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def components(roots: Iterable[Descriptor]) -> dict[str, Schema]:
    """Schemas of messages and of all that they hold, by message name."""
    found: dict[str, Schema] = {}
    todo = list(roots)
    while todo:
        descriptor = todo.pop()
        if descriptor.name in found:
            continue
        found[descriptor.name] = _message(descriptor)
        todo += [held for field in descriptor.fields if (held := _held(field)) is not None]
    return dict(sorted(found.items()))


def parameters(descriptor: Descriptor, path: Iterable[str] = ()) -> list[Schema]:
    """The query parameters that `query.bind` takes for a request message."""
    return [
        {"name": name, "in": "query", "required": False, "schema": _parameter(field)}
        for name, field in parameter_fields(descriptor, path).items()
    ]


def request_schema(descriptor: Descriptor, path: Container[str] = ()) -> Schema:
    """The JSON body that `body.fill` takes for a request message: no member must be
    there, and no other may.
    """
    return {
        "type": "object",
        "properties": {
            field.name: _member(field) for field in descriptor.fields if field.name not in path
        },
        "additionalProperties": False,
    }


def _member(field: FieldDescriptor) -> Schema:
    message = field.message_type
    if message is None:
        one = _parameter(field)
        return {"type": "array", "items": one} if field.is_repeated else one
    if message.full_name == TIMESTAMP:
        return {"type": "string", "format": "date-time"}
    if message.full_name == DURATION:
        return {**_UNSIGNED, "description": "Seconds."}
    return request_schema(message)


def _parameter(field: FieldDescriptor) -> Schema:
    if field.enum_type is not None:
        return {"type": "string", "enum": list(enum_numbers(field.enum_type))}
    return _SCALARS[field.type]


def _message(descriptor: Descriptor) -> Schema:
    return {
        "type": "object",
        "properties": {field.name: _field(field) for field in descriptor.fields},
        "required": [f.name for f in descriptor.fields if f.is_repeated or not _omitted(f)],
    }


def _omitted(field: FieldDescriptor) -> bool:
    message = field.message_type
    return message is not None and message.full_name not in (TIMESTAMP, DURATION, STRUCT)


def _held(field: FieldDescriptor) -> Descriptor | None:
    message = field.message_type
    if message is None or not _omitted(field):
        return None
    return _held(message.fields_by_name["value"]) if message.GetOptions().map_entry else message


def _field(field: FieldDescriptor) -> Schema:
    message = field.message_type
    if message is not None and message.GetOptions().map_entry:
        return {"type": "object", "additionalProperties": _one(message.fields_by_name["value"])}
    one = _one(field)
    if field.is_repeated:
        return {"type": "array", "items": one}
    if field.has_presence and "type" in one:
        return {**one, "type": [one["type"], "null"]}
    return one


def _one(field: FieldDescriptor) -> Schema:
    if field.enum_type is not None:
        # Integers are values that a newer service sends.
        names = list(enum_numbers(field.enum_type))
        return {"anyOf": [{"enum": [*names, None]}, {"type": "integer"}]}
    if field.message_type is None:
        return _SCALARS[field.type]
    if field.message_type.full_name == TIMESTAMP:
        return {"type": "string", "format": "date-time"}
    if field.message_type.full_name == DURATION:
        return {"type": "number", "description": "Seconds."}
    if field.message_type.full_name == STRUCT:
        return {"type": "object"}
    return reference(field.message_type.name)
