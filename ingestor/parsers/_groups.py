"""Objects that hold lists of records, and say once what concerns them all: the
file, the image, the package that they were found in.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping
from typing import Any

import msgspec

from ingestor.dialect import Dialect
from ingestor.framing import NOTHING_KNOWN, Source
from ingestor.parsers._words import elements
from ingestor.records import Record, reject
from winnow.ingest.v1.rejected_pb2 import Rejected

_MAX_HELD = 16 << 20  # bytes of records before what concerns them
_HELD_ITEM = 256  # bytes that holding a record takes beside its own

# The group's own members, by name.
Group = dict[str, Any]
# A record of a read value, its bytes, and its group.
Make = Callable[[Any, bytes, Group], Record | Rejected]


def grouped(
    source: Source,
    lists: Mapping[str, tuple[Dialect[Any], Make]],
    own: Mapping[str, bool],
    known: Container[str] = (),
    path: str = "",
) -> Iterator[Record | Rejected]:
    """The records in the lists of the object at the position. One that has members,
    but none that is named here, is rejected: it is something else.

    Records that stand before what concerns them are held until that is known,
    up to 16 MiB; beyond it they are read with what is known by then.

    Args:
        lists: members that hold records, and how these are read.
        own: members that concern them all, and whether records wait for them.
        known: members that are stepped over without a notice.
        path: where the object stands, for notices.
    """
    group: Group = {}
    missing = {name for name, awaited in own.items() if awaited}
    held: list[tuple[str, bytes | Rejected, int]] = []
    size = 0

    def record(name: str, raw: bytes | Rejected, at_byte: int | None) -> Record | Rejected | None:
        if isinstance(raw, Rejected):
            return raw
        dialect, make = lists[name]
        found = dialect.read(raw, source.notices)
        if isinstance(found, Rejected):
            found.at_byte = source.at_byte() if at_byte is None else at_byte
            return found
        return None if found is None else make(found, bytes(raw), group)

    def release() -> Iterator[Record | Rejected]:
        for name, raw, at_byte in held:
            if (item := record(name, raw, at_byte)) is not None:
                yield item
        held.clear()

    began, recognised, strange = source.offset(), False, False
    for name in source.members():
        where = f"{path}.{name}" if path else name
        if name in own or name in lists or name in known:
            recognised = True
        else:
            strange = True
            source.notices.unknown(where)
        if name in own:
            group[name] = plain(source)
            missing.discard(name)
            if held and not missing:
                yield from release()
        elif name in lists:
            for raw in elements(source, where):
                if not missing:
                    if (item := record(name, raw, None)) is not None:
                        yield item
                    continue
                held.append((name, raw, source.at_byte()))
                size += _HELD_ITEM + (0 if isinstance(raw, Rejected) else len(raw))
                if size > _MAX_HELD:
                    missing.clear()
                    yield from release()
        else:
            source.skip()
    yield from release()
    if strange and not recognised:
        yield reject("NOT_A_RECORD", NOTHING_KNOWN, path, began)


def groups(
    source: Source,
    lists: Mapping[str, tuple[Dialect[Any], Make]],
    own: Mapping[str, bool],
    known: Container[str] = (),
    path: str = "",
) -> Iterator[Record | Rejected]:
    """The records of every object in the array at the position, as `grouped`
    reads them. What is no such array or object is rejected.
    """
    byte, at_byte = source.peek(), source.offset()
    if byte != b"[":
        source.skip()
        if byte != b"n":
            yield reject("WRONG_TYPE", f"{path} is not an array", path, at_byte)
        return
    for _ in source.items():
        at_byte = source.offset()
        if source.peek() == b"{":
            yield from grouped(source, lists, own, known, f"{path}[]" if path else "")
        else:
            source.skip()
            yield reject("NOT_A_RECORD", "not an object", path, at_byte)


def plain(source: Source) -> Any:
    """The value at the position; None for one that cannot be read."""
    raw = source.value()
    if isinstance(raw, Rejected):
        return None
    try:
        return msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def text(group: Group, name: str) -> str:
    """A member of the group that is a text; empty for any other."""
    found = group.get(name)
    return found if isinstance(found, str) else ""
