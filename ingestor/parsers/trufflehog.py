"""TruffleHog 3: one object a line (trufflehog, pkg/output/json.go).

Every source kind is read alike: below `SourceMetadata.Data` stands one object
whose member names differ little between git hosts, buckets, images and tickets.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from ingestor.dialect import Dialect, Exact
from ingestor.framing import Source
from ingestor.parsers._base import Parser, signs, unescaped_keys
from ingestor.records import Record, reject, state_of
from winnow.finding.v1 import finding_pb2 as pb
from winnow.ingest.v1.rejected_pb2 import Rejected

_KEYS = {b"SourceMetadata", b"DetectorName", b"SourceName", b"Raw", b"Verified", b"DetectorType"}

_PATHS = ("file", "filename", "path")
# What holds the file, beside an image; outermost first.
_CONTAINERS = (
    "bucket",
    "layer",
    "archive",
    "project",
    "space",
    "page",
    "page_id",
    "issue",
    "ticket",
    "channel_name",
    "workspace_name",
    "collection_name",
    "job_name",
    "build_number",
    "index",
    "document_id",
)


class _Metadata(Exact):
    Data: dict[str, dict[str, Any] | None]


class _Finding(Exact):
    SourceMetadata: _Metadata
    DetectorName: str
    Raw: str | None = None
    RawV2: str | None = None
    Verified: bool | None = None
    VerificationError: str | None = None
    VerificationFromCache: bool | None = None
    DecoderName: str | None = None
    DetectorType: int | None = None
    DetectorDescription: str | None = None
    SourceType: int | None = None
    SourceName: str | None = None
    Redacted: str | None = None
    ExtraData: dict[str, Any] | None = None
    SecretParts: dict[str, Any] | None = None
    SourceID: Any = None
    StructuredData: Any = None


_SIGNS = signs(_KEYS - {b"Verified"})
_DIALECT = Dialect(_Finding, expected=("Raw", "Verified", "SourceName"))


def _sniff(head: bytes, _name: str) -> float:
    found = _KEYS & unescaped_keys(head)
    return 0.4 + len(found) / 10 if b"SourceMetadata" in found and len(found) > 2 else 0.0


def _early(raw: str) -> str:
    """`Raw` of versions before `DecoderName` (until about September 2022) is
    base64; decoded where that gives text, or fingerprints of old and new
    reports would not meet.
    """
    try:
        text = base64.b64decode(raw, validate=True).decode()
    except (binascii.Error, ValueError):
        return raw
    shown = text.replace("\n", "").replace("\r", "").replace("\t", "")
    return text if shown.isprintable() and len(text) > 3 else raw


def _text(value: object) -> str:
    return value if isinstance(value, str) else "" if value is None else str(value)


def _number(value: object) -> int:
    if isinstance(value, str) and value.isascii() and value.isdecimal():
        value = int(value[:18])
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _container(data: dict[str, Any]) -> str:
    image = ":".join(_text(data[key]) for key in ("image", "tag") if data.get(key))
    return " ".join(filter(None, (image, *(_text(data.get(key)) for key in _CONTAINERS))))


# Names of theirs are shown; anything else in their place is somebody's text.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}")
# Members of credentials in JSON whose texts are public.
_PUBLIC = frozenset(
    (
        "type",
        "project_id",
        "auth_uri",
        "token_uri",
        "auth_provider_x509_cert_url",
        "client_x509_cert_url",
        "universe_domain",
    )
)
# Members of the extra data that never are one.
_NO_CREDENTIAL = frozenset(
    ("name", "account", "resource_type", "rotation_guide", "version", "is_canary")
)
_DEEPEST = 8  # levels of what is opened


@lru_cache(maxsize=256)
def _named(text: str) -> str:
    return text if _NAME.fullmatch(text) else ""


def _name(text: object) -> str:
    return _named(text) if isinstance(text, str) else ""


def _leaves(found: object, depth: int = 0) -> Iterator[str]:
    """The texts in a value, JSON in texts opened as well."""
    if isinstance(found, str):
        yield found
        if found.lstrip()[:1] in ("{", "[") and depth < _DEEPEST:
            try:
                inside = json.loads(found, strict=False)
            except (ValueError, RecursionError):
                return
            yield from _leaves(inside, depth + 1)
    elif depth < _DEEPEST:
        if isinstance(found, dict):
            for key, item in found.items():
                if key not in _PUBLIC:
                    yield from _leaves(item, depth + 1)
        elif isinstance(found, list):
            for item in found:
                yield from _leaves(item, depth + 1)
        elif found is not None and not isinstance(found, bool):
            yield str(found)


def _secrets(found: _Finding, value: str, state: pb.ValueState.ValueType) -> tuple[str, ...]:
    """What must not stand in the clear beside the value. Of the extra data only
    texts that look like a credential: it also names accounts and regions.
    """
    kept = value if state == pb.VALUE_STATE_PRESENT else ""
    opened = not kept or kept[0] in "{["
    if not (opened or found.RawV2 or found.SecretParts or found.ExtraData):
        return ()
    texts = [*_leaves(found.RawV2), *_leaves(found.SecretParts)]
    if opened:
        texts += _leaves(value)
    for key, item in (found.ExtraData or {}).items():
        if key not in _NO_CREDENTIAL:
            texts += [t for t in _leaves(item) if len(t) >= 8 and not t.isalpha()]
    return tuple(dict.fromkeys(text for text in texts if len(text) >= 4 and text != kept))


def _validity(found: _Finding) -> pb.Validity.ValueType:
    if found.Verified:
        return pb.VALIDITY_LIVE
    if found.VerificationError:
        return pb.VALIDITY_UNKNOWN
    return pb.VALIDITY_UNSPECIFIED if found.Verified is None else pb.VALIDITY_UNVERIFIED


def _record(found: _Finding, kind: str, data: dict[str, Any], raw: bytes) -> Record:
    value, second = found.Raw or "", found.RawV2 or ""
    if value and found.DecoderName is None:
        value = _early(value)
    secret = value or second
    state: pb.ValueState.ValueType = state_of(secret)
    if state == pb.VALUE_STATE_ABSENT and found.Redacted:
        state = pb.VALUE_STATE_REDACTED
    extra_data = found.ExtraData or {}
    name = _name(extra_data.get("name")) if found.DetectorName == "CustomRegex" else ""
    free_text = {
        **extra_data,
        **{f"SecretParts.{key}": part for key, part in (found.SecretParts or {}).items()},
        "RawV2": second if second != value else "",
        "Redacted": found.Redacted,
        "VerificationError": found.VerificationError,
    }
    metadata = {"DetectorName": found.DetectorName}
    if _name(kind):
        metadata["Source"] = kind
    for key, number in (("DetectorType", found.DetectorType), ("SourceType", found.SourceType)):
        if number is not None:
            metadata[key] = str(number)
    if _name(found.DecoderName):
        metadata["DecoderName"] = _name(found.DecoderName)
    if found.Verified is not None:
        metadata["Verified"] = "true" if found.Verified else "false"
    if found.VerificationFromCache:
        metadata["VerificationFromCache"] = "true"
    return Record(
        raw=raw,
        tool="trufflehog",
        rule_id=name or found.DetectorName,
        path=next((_text(data[key]) for key in _PATHS if data.get(key)), ""),
        line=_number(data.get("line")),
        commit=_text(data.get("commit")),
        container=_container(data),
        changed_at=_text(data.get("timestamp")),
        validity=_validity(found),
        value_state=state,
        metadata=metadata,
        value=secret if state == pb.VALUE_STATE_PRESENT else "",
        message=found.DetectorDescription or "",
        decoder=found.DecoderName or "",
        extra={key: _text(item) for key, item in free_text.items() if item},
        secrets=_secrets(found, secret, state),
    )


def _parse(source: Source) -> Iterator[Record | Rejected]:
    for raw in source.records(_SIGNS):
        if isinstance(raw, Rejected):
            yield raw
            continue
        found = _DIALECT.read(raw, source.notices)
        if isinstance(found, _Finding):
            data = found.SourceMetadata.Data
            if len(data) == 1:
                [(kind, where)] = data.items()
                yield _record(found, kind, where or {}, raw)
                continue
            found = reject(
                "WRONG_TYPE",
                "SourceMetadata.Data does not hold exactly one source",
                "SourceMetadata.Data",
            )
        if found is not None:
            found.at_byte = source.at_byte()
            yield found


PARSER = Parser(
    id="trufflehog",
    version="1",
    title="TruffleHog 3",
    aliases=("trufflehog-v3", "trufflehogv3"),
    shapes=("NDJSON", "array", "object"),
    sniff=_sniff,
    parse=_parse,
)
