"""A record's bytes as one of our types, however far they stray from it.

A record that is exactly as its dialect says takes one decoding. Any other is
read once more with tolerance: fields that nobody knows are noted and passed
over, numbers may be strings, control characters, NaN, lone surrogates and bytes
that are not UTF-8 do no harm.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Generic, TypeVar

import msgspec

from ingestor.notices import Notices
from ingestor.records import reject
from winnow.ingest.v1.rejected_pb2 import Rejected

T = TypeVar("T", bound=msgspec.Struct)

_FIELD = re.compile(r"`\$\.?([\w.\[\]]*)`$")
_MISSING = re.compile(r"missing required field `(\w+)`")
_LOG_KEYS = {"msg", "message", "ts", "time", "timestamp"}
_SURROGATE = re.compile("[\ud800-\udfff]")
_ANY = msgspec.json.Decoder()

# Known members by name, each with what is known below it; None: anything.
_Known = Mapping[str, Any]

# The type, and the default, of a member that is known and not read, where it may be
# large: it is stepped over and not built. Small ones do as `Any = None`.
Unread = msgspec.Raw
UNREAD = msgspec.Raw()
_SKIPPED: _Known = {}


class Exact(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """Base of the types that records are read as: every field that is known is
    declared, also those that are not read (as `Any = None`, large ones as `Unread = UNREAD`).
    """


class Dialect(Generic[T]):
    """One shape that records of a format have.

    Args:
        kind: a type derived from `Exact`, as all types in it.
        expected: fields at the top that every record of this dialect has.
    """

    def __init__(self, kind: type[T], expected: Iterable[str] = ()) -> None:
        self.kind = kind
        self._decode = msgspec.json.Decoder(kind).decode
        self._expected = tuple(expected)
        self._known = _members(msgspec.inspect.type_info(kind))
        self._required = {
            field.encode_name for field in msgspec.structs.fields(kind) if field.required
        }

    def read(self, raw: bytes, notices: Notices) -> T | Rejected | None:
        """One record.

        Returns:
            None for a log line in JSON, which is no record.
        """
        try:
            found = self._decode(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            tolerated = self._with_tolerance(bytes(raw), notices)
            if tolerated is None or isinstance(tolerated, Rejected):
                return tolerated
            found = tolerated
        for name in self._expected:
            if getattr(found, name) is None:
                notices.missing(name)
        return found

    def convert(self, found: object, notices: Notices) -> T | Rejected | None:
        """As `read`, of a value that was decoded already, such as a CSV row."""
        if not isinstance(found, dict):
            return reject("NOT_A_RECORD", "expected an object")
        if "level" in found and not self._required <= found.keys() and _LOG_KEYS & found.keys():
            return None
        if isinstance(self._known, Mapping):
            _strip(found, self._known, "", notices)
        try:
            return msgspec.convert(found, self.kind, strict=False)
        except msgspec.ValidationError as error:
            return _refused(str(error))

    def _with_tolerance(self, raw: bytes, notices: Notices) -> T | Rejected | None:
        try:
            found = _ANY.decode(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            try:
                # A thousand digits would take Python a moment each, so they stay text.
                found = json.loads(raw.decode("utf-8", "replace"), strict=False, parse_int=_integer)
                if b"\\u" in raw:
                    found = _visible(found)
            except RecursionError:
                return reject("TOO_DEEP", "nested too deeply")
            except ValueError:
                return reject("SYNTAX", "not valid JSON")
        return self.convert(found, notices)


def _integer(text: str) -> int | str:
    return int(text) if len(text) <= 20 else text


def _members(kind: msgspec.inspect.Type) -> _Known | None:
    """The members that are known of a type, through lists, maps and options.

    A map's members are open, so what is known of their values stands below "*".
    """
    if isinstance(kind, msgspec.inspect.StructType):
        return {field.encode_name: _members(field.type) for field in kind.fields}
    if isinstance(kind, msgspec.inspect.RawType):
        return _SKIPPED
    if isinstance(kind, msgspec.inspect.ListType):
        return _members(kind.item_type)
    if isinstance(kind, msgspec.inspect.DictType):
        inside = _members(kind.value_type)
        return None if inside is None else {"*": inside}
    if isinstance(kind, msgspec.inspect.UnionType):
        return next((known for option in kind.types if (known := _members(option))), None)
    return None


def _strip(found: Any, known: _Known, path: str, notices: Notices) -> None:
    """Takes out, and notes, the members that are not known."""
    if isinstance(found, list):
        for item in found:
            _strip(item, known, f"{path}[]", notices)
    elif isinstance(found, dict):
        if "*" in known:
            for item in found.values():
                _strip(item, known["*"], path, notices)
            return
        for name in list(found):
            where = f"{path}.{name}" if path else name
            if name not in known:
                del found[name]
                notices.unknown(where)
            elif known[name] is _SKIPPED:
                del found[name]
            elif isinstance(known[name], Mapping):
                _strip(found[name], known[name], where, notices)


def _refused(error: str) -> Rejected:
    """Why a value is no record, from msgspec's error: that names fields of our own
    types only, never the input's keys.
    """
    at = _FIELD.search(error)
    field = at[1] if at else ""
    if missing := _MISSING.search(error):
        field = f"{field}.{missing[1]}" if field else missing[1]
        return reject("MISSING_FIELD", f"the field {field} is missing", field)
    return reject("WRONG_TYPE", f"the field {field} has another type than the format's", field)


def _visible(found: Any) -> Any:
    """The same value with lone surrogates as `\\udXXX`: no encoding holds them."""
    if isinstance(found, str):
        return _SURROGATE.sub(lambda match: f"\\u{ord(match[0]):04x}", found)
    if isinstance(found, list):
        return [_visible(item) for item in found]
    if isinstance(found, dict):
        return {_visible(key): _visible(item) for key, item in found.items()}
    return found
