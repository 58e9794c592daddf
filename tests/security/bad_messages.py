"""Bytes that a hostile or broken peer might send in the place of a protobuf message.

Made from the contracts themselves, so that a new field is covered at once. The
same seed gives the same bytes.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

# What is sent and may not come back, nor reach a log. It looks like no token, so
# that it is the code that keeps it back and not the redactor.
MARKER = "marzipan potato"

_TEXTS = (
    *("", " ", "\x00", "a\x00b", "\ufeff", "\u202e", "\U0010ffff", "\r\nx: y", "{{7*7}}", "%s%n"),
    *("-1", "9" * 400, "1e400", "NaN", "' OR 1=1 --", "../../etc/passwd", "*" * 70_000),
)
_NUMBERS = (0, 1, 2, 255, 256, 65_535, 2**31 - 1, 2**31, 2**32 - 1, 2**53, 2**63 - 1, 2**63)
_NUMBERS_SIGNED = (0, 1, -1, 2**31 - 1, -(2**31))
_LONG_SIGNED = (*_NUMBERS_SIGNED, 2**53, 2**63 - 1, -(2**63))
_FLOATS = (0.0, -0.0, 1.5, float("nan"), float("inf"), -float("inf"), 1e308, 5e-324)
_MAX_DEPTH = 4

Chance = random.Random


def _scalar(chance: Chance, field: FieldDescriptor) -> Any:
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING if field.type == FieldDescriptor.TYPE_BYTES:
            return chance.choice((b"", b"\x00", MARKER.encode(), chance.randbytes(32)))
        case FieldDescriptor.CPPTYPE_STRING:
            known = (MARKER, f"key={MARKER}", str(uuid.UUID(int=chance.getrandbits(128))))
            return chance.choice((*known, *known, *_TEXTS))
        case FieldDescriptor.CPPTYPE_BOOL:
            return chance.random() < 0.5
        case FieldDescriptor.CPPTYPE_ENUM:
            return chance.choice((*range(8), 99, 2**31 - 1, -1))
        case FieldDescriptor.CPPTYPE_DOUBLE | FieldDescriptor.CPPTYPE_FLOAT:
            return chance.choice(_FLOATS)
        case FieldDescriptor.CPPTYPE_INT32:
            return chance.choice(_NUMBERS_SIGNED)
        case FieldDescriptor.CPPTYPE_INT64:
            return chance.choice(_LONG_SIGNED)
        case FieldDescriptor.CPPTYPE_UINT32:
            return chance.choice(_NUMBERS[:9])
        case _:
            return chance.choice((*_NUMBERS, 2**64 - 1))


def fill(chance: Chance, message: Message, depth: int = 0) -> None:
    """Sets about half of a message's fields to what the contract's types allow."""
    for field in message.DESCRIPTOR.fields:
        if chance.random() < 0.5 or depth > _MAX_DEPTH:
            continue
        held = field.message_type
        if held is not None and held.GetOptions().map_entry:
            # Its entries as they are on the wire: a name may be anything, and twice.
            entry = GetMessageClass(held)()
            fill(chance, entry, depth + 1)
            body = entry.SerializeToString()
            message.MergeFromString(_lengthy(field.number, body))
        elif field.is_repeated and held is not None:
            for _ in range(chance.randrange(4)):
                fill(chance, getattr(message, field.name).add(), depth + 1)
        elif field.is_repeated:
            getattr(message, field.name).extend(_scalar(chance, field) for _ in range(3))
        elif held is not None:
            getattr(message, field.name).SetInParent()
            fill(chance, getattr(message, field.name), depth + 1)
        else:
            setattr(message, field.name, _scalar(chance, field))


def valid(chance: Chance, descriptor: Descriptor) -> bytes:
    """A message that decodes, whatever its values are good for."""
    message = GetMessageClass(descriptor)()
    fill(chance, message)
    return message.SerializePartialToString()


def varint(number: int) -> bytes:
    """A number as protobuf writes it."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def _lengthy(field: int, body: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(body)) + body


def _noise(chance: Chance, _descriptor: Descriptor) -> bytes:
    return chance.randbytes(chance.choice((1, 2, 7, 64, 1000, 20_000))) + MARKER.encode()


def _flipped(chance: Chance, descriptor: Descriptor) -> bytes:
    data = bytearray(valid(chance, descriptor) or MARKER.encode())
    for _ in range(chance.randint(1, 8)):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return bytes(data)


def _cut(chance: Chance, descriptor: Descriptor) -> bytes:
    data = valid(chance, descriptor)
    return data[: chance.randrange(len(data) + 1)]


def _field(chance: Chance, descriptor: Descriptor) -> int:
    return chance.choice([*(field.number for field in descriptor.fields), 1, 2**29 - 1])


def _huge_length(chance: Chance, descriptor: Descriptor) -> bytes:
    length = chance.choice((2**16, 2**31 - 1, 2**32, 2**63))
    return varint(_field(chance, descriptor) << 3 | 2) + varint(length) + MARKER.encode()


def _wrong_type(chance: Chance, descriptor: Descriptor) -> bytes:
    return b"".join(
        varint(_field(chance, descriptor) << 3 | chance.randrange(8)) + chance.randbytes(9)
        for _ in range(chance.randint(1, 5))
    )


def _deep(chance: Chance, descriptor: Descriptor) -> bytes:
    depth = chance.choice((50, 150, 5000))
    if chance.random() < 0.5:
        return varint(_field(chance, descriptor) << 3 | 3) * depth
    body = MARKER.encode()
    for _ in range(depth):
        body = _lengthy(_field(chance, descriptor), body)
    return body


def _no_text(chance: Chance, descriptor: Descriptor) -> bytes:
    bad = chance.choice((b"\xff\xfe", b"\xed\xa0\x80", b"\xc0\x80", b"\xf5\x80\x80\x80"))
    return b"".join(
        _lengthy(field.number, MARKER.encode() + bad)
        for field in descriptor.fields
        if field.type == FieldDescriptor.TYPE_STRING or field.message_type is not None
    )


KINDS: dict[str, Callable[[Chance, Descriptor], bytes]] = {
    "valid": valid,
    "noise": _noise,
    "flipped": _flipped,
    "cut": _cut,
    "huge length": _huge_length,
    "wrong type": _wrong_type,
    "deep": _deep,
    "no text": _no_text,
}


def one_of_each(chance: Chance, descriptor: Descriptor) -> list[bytes]:
    """A message for every choice of every oneof: what streams are made of."""
    found = []
    for field in (field for oneof in descriptor.oneofs for field in oneof.fields):
        message = GetMessageClass(descriptor)()
        if field.message_type is None:
            setattr(message, field.name, _scalar(chance, field))
        else:
            getattr(message, field.name).SetInParent()
            fill(chance, getattr(message, field.name))
        found.append(message.SerializePartialToString())
    return found


def stream(chance: Chance, method: MethodDescriptor) -> list[bytes]:
    """The messages of one call, in an order that the contract may not know."""
    known = one_of_each(chance, method.input_type) or [valid(chance, method.input_type)]
    return chance.choices(known, k=chance.choice((0, 1, 2, 3, 6)))
