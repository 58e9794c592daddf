"""Query parameters to request messages, in the manner of grpc-gateway.

A GET's parameters are the scalar fields of its request message, by name; enum
values are written as answers write them (`risk=high`). Limits are the contract's
own, checked by the service behind.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message

from gateway.translate import enum_names
from runtime.errors import WinnowError

M = TypeVar("M", bound=Message)

_MOST = {FieldDescriptor.TYPE_UINT32: 2**32 - 1, FieldDescriptor.TYPE_UINT64: 2**63 - 1}


def bind(
    message_type: type[M],
    parameters: Iterable[tuple[str, str]],
    *,
    also: tuple[str, ...] = (),
    **path: str,
) -> M:
    """A request message from a URL's parameters.

    Args:
        message_type: the request.
        parameters: names and values from the query.
        also: parameters that are not the message's, and are left alone.
        path: fields that the path gives; not accepted from the query.

    Raises:
        WinnowError: INVALID_ARGUMENT naming the parameter, or the known ones.
    """
    message = message_type(**path)
    fields = parameter_fields(message_type.DESCRIPTOR, path)
    for name, value in parameters:
        if name in fields:
            setattr(message, name, _parse(fields[name], value))
        elif name not in also:
            raise unknown([*fields, *also])
    return message


def parameter_fields(descriptor: Any, path: Iterable[str] = ()) -> dict[str, FieldDescriptor]:
    """The fields that may stand in the query."""
    return {
        field.name: field
        for field in descriptor.fields
        if field.name not in path and field.message_type is None and not field.is_repeated
    }


def enum_numbers(enum: EnumDescriptor) -> dict[str, int]:
    """The values of an enum by their JSON names; not the unspecified one."""
    return {name: number for number, name in enum_names(enum).items() if name is not None}


def unknown(known: Iterable[str]) -> WinnowError:
    """The error for a query parameter that is not one of `known`."""
    return WinnowError(
        "INVALID_ARGUMENT",
        f"the query has a parameter that is not one of: {', '.join(known)}",
        field="query",
        rule="known_parameter",
    )


def _parse(field: FieldDescriptor, value: str) -> Any:
    if field.enum_type is not None:
        numbers = enum_numbers(field.enum_type)
        if value not in numbers:
            raise _invalid(field, "enum", f"must be one of: {', '.join(numbers)}")
        return numbers[value]
    if most := _MOST.get(field.type):
        if not (value.isascii() and value.isdigit() and int(value[:20]) <= most):
            raise _invalid(field, "whole number", f"must be a whole number, 0 to {most}")
        return int(value)
    if field.type == FieldDescriptor.TYPE_BOOL:
        if value not in ("true", "false"):
            raise _invalid(field, "bool", "must be true or false")
        return value == "true"
    return value


def _invalid(field: FieldDescriptor, rule: str, words: str) -> WinnowError:
    return WinnowError(
        "INVALID_ARGUMENT", f"query parameter {field.name} {words}", field=field.name, rule=rule
    )
