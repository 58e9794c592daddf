"""Small JSON bodies to request messages: the reverse of `translate`, by the same rule."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

import msgspec
from fastapi import Request
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from gateway.query import enum_numbers
from gateway.translate import DURATION, TIMESTAMP
from runtime.errors import WinnowError

MOST_BYTES = 64 << 10
_SECONDS = 315_576_000_000  # google.protobuf.Duration
_NUMBERS = (FieldDescriptor.CPPTYPE_UINT32, FieldDescriptor.CPPTYPE_UINT64)
_MOST = {
    FieldDescriptor.CPPTYPE_UINT32: (1 << 32) - 1,
    FieldDescriptor.CPPTYPE_UINT64: (1 << 64) - 1,
}


async def fill(
    request: Request, message: Message, *, path: Container[str] = (), optional: bool = False
) -> None:
    """Sets a message's fields from the request's body, one JSON object.

    Args:
        path: fields that the path gives; not accepted from the body.
        optional: whether the body may be empty.

    Raises:
        WinnowError: INVALID_ARGUMENT naming the field, or the known ones.
    """
    data = b""
    async for chunk in request.stream():
        data += chunk
        if len(data) > MOST_BYTES:
            raise WinnowError(
                "INVALID_ARGUMENT",
                f"the body is larger than {MOST_BYTES} bytes",
                field="body",
                rule="size",
            )
    if optional and not data.strip():
        return
    try:
        found = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _invalid("body", "must be one JSON object") from None
    fill_from(message, found, path=path)


def fill_from(message: Message, found: Any, at: str = "body", path: Container[str] = ()) -> None:
    """Sets a message's fields from plain values.

    Args:
        at: where the object stands, for errors.

    Raises:
        WinnowError: as for `fill`.
    """
    if not isinstance(found, Mapping):
        raise _invalid(at, "must be a JSON object")
    fields: dict[str, Any] = {
        field.name: field for field in message.DESCRIPTOR.fields if field.name not in path
    }
    for name, value in found.items():
        field = fields.get(name)
        if field is None:
            raise _invalid(at, f"has a member that is not one of: {', '.join(fields)}")
        if value is None:
            continue
        where = name if at == "body" else f"{at}.{name}"
        if field.is_repeated:
            if not isinstance(value, list):
                raise _invalid(where, "must be a list")
            getattr(message, name).extend(_scalar(field, one, where) for one in value)
        elif field.message_type is None:
            setattr(message, name, _scalar(field, value, where))
        elif field.message_type.full_name == TIMESTAMP:
            try:
                getattr(message, name).FromJsonString(value)
            except (ValueError, TypeError, AttributeError):
                raise _invalid(where, "must be a time as RFC 3339 writes it") from None
        elif field.message_type.full_name == DURATION:
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _SECONDS:
                raise _invalid(where, "must be a whole number of seconds")
            getattr(message, name).FromSeconds(value)
        else:
            inner = getattr(message, name)
            inner.SetInParent()
            fill_from(inner, value, where)


def _scalar(field: FieldDescriptor, value: Any, where: str) -> Any:
    if field.enum_type is not None:
        numbers = enum_numbers(field.enum_type)
        if not isinstance(value, str) or value not in numbers:
            raise _invalid(where, f"must be one of: {', '.join(numbers)}")
        return numbers[value]
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        if not isinstance(value, bool):
            raise _invalid(where, "must be true or false")
    elif field.cpp_type in _NUMBERS:
        if isinstance(value, bool) or not isinstance(value, int):
            raise _invalid(where, "must be a whole number, 0 or more")
        if not 0 <= value <= _MOST[field.cpp_type]:
            raise _invalid(where, "must be a whole number, 0 or more, and not that large")
    elif not isinstance(value, str):
        raise _invalid(where, "must be a text")
    return value


def _invalid(field: str, words: str) -> WinnowError:
    return WinnowError("INVALID_ARGUMENT", f"{field} {words}", field=field, rule="body")
