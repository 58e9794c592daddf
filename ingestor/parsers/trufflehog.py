"""TruffleHog: one object a line (trufflehog 3, pkg/output/json.go). The records of
version 2, and of `--json-legacy`, are in `_trufflehog_legacy`.

Every source kind is read alike: below `SourceMetadata.Data` stands one object
whose member names differ little between git hosts, buckets, images and tickets.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator
from functools import lru_cache, partial
from typing import Any

from ingestor.dialect import Dialect, Exact
from ingestor.framing import Source
from ingestor.parsers import _trufflehog_legacy as legacy
from ingestor.parsers._base import Parser, each, signs, unescaped_keys
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
_HOLDERS = frozenset((*_CONTAINERS, "image", "tag"))


class _Metadata(Exact):
    # Null where the source says nothing about the place.
    Data: dict[str, dict[str, Any] | None] | None = None


class _Finding(Exact):
    SourceMetadata: _Metadata | None
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
    keys = unescaped_keys(head)
    found = _KEYS & keys
    if b"SourceMetadata" in found and len(found) > 2:
        return 0.4 + len(found) / 10
    return legacy.confidence(keys, diff=True)


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
    if not _HOLDERS & data.keys():
        return ""
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


def _free_text(found: _Finding, second: str) -> dict[str, str]:
    """What the record says beside the value, by the scanner's names."""
    texts: dict[str, Any] = {}
    if found.ExtraData:
        texts |= found.ExtraData
    if found.SecretParts:
        texts |= {f"SecretParts.{key}": part for key, part in found.SecretParts.items()}
    if second:
        texts["RawV2"] = second
    if found.Redacted:
        texts["Redacted"] = found.Redacted
    if found.VerificationError:
        texts["VerificationError"] = found.VerificationError
    return {key: _text(item) for key, item in texts.items() if item} if texts else texts


def _metadata(found: _Finding, kind: str) -> dict[str, str]:
    metadata = {"DetectorName": found.DetectorName}
    if source := _name(kind):
        metadata["Source"] = source
    if found.DetectorType is not None:
        metadata["DetectorType"] = str(found.DetectorType)
    if found.SourceType is not None:
        metadata["SourceType"] = str(found.SourceType)
    if decoder := _name(found.DecoderName):
        metadata["DecoderName"] = decoder
    if found.Verified is not None:
        metadata["Verified"] = "true" if found.Verified else "false"
    if found.VerificationFromCache:
        metadata["VerificationFromCache"] = "true"
    return metadata


def _record(found: _Finding, kind: str, data: dict[str, Any], raw: bytes) -> Record:
    value, second = found.Raw or "", found.RawV2 or ""
    if value and found.DecoderName is None:
        value = _early(value)
    secret = value or second
    state: pb.ValueState.ValueType = state_of(secret)
    if state == pb.VALUE_STATE_ABSENT and found.Redacted:
        state = pb.VALUE_STATE_REDACTED
    name = ""
    if found.DetectorName == "CustomRegex" and found.ExtraData:
        name = _name(found.ExtraData.get("name"))
    return Record(
        raw=raw,
        tool="trufflehog",
        rule_id=name or found.DetectorName,
        path=_text(next(filter(None, map(data.get, _PATHS)), "")),
        line=_number(data.get("line")),
        commit=_text(data.get("commit")),
        container=_container(data),
        changed_at=_text(data.get("timestamp")),
        validity=_validity(found),
        value_state=state,
        metadata=_metadata(found, kind),
        value=secret if state == pb.VALUE_STATE_PRESENT else "",
        message=found.DetectorDescription or "",
        decoder=found.DecoderName or "",
        extra=_free_text(found, second if second != value else ""),
        secrets=_secrets(found, secret, state),
    )


def _findings(source: Source) -> Iterator[Record | Rejected]:
    for raw in source.records(_SIGNS):
        if isinstance(raw, Rejected):
            yield raw
            continue
        found = _DIALECT.read(raw, source.notices)
        if isinstance(found, _Finding):
            data = (found.SourceMetadata or _Metadata()).Data or {"": None}
            if len(data) == 1:
                [(kind, where)] = data.items()
                yield _record(found, kind, where or {}, raw)
                continue
            found = reject(
                "WRONG_TYPE",
                "SourceMetadata.Data holds more than one source",
                "SourceMetadata.Data",
            )
        if found is not None:
            found.at_byte = source.at_byte()
            yield found


def _parse(source: Source) -> Iterator[Record | Rejected]:
    keys = unescaped_keys(source.head())
    if b"SourceMetadata" not in keys:
        source.dialect = "TruffleHog 2, or 3 with --json-legacy"
        make = partial(legacy.record, tool="trufflehog")
        return each(source, source.records(legacy.SIGNS), legacy.DIALECT, make)
    early = b"DecoderName" not in keys
    source.dialect = "TruffleHog 3 before autumn 2022" if early else "TruffleHog 3"
    return _findings(source)


PARSER = Parser(
    id="trufflehog",
    version="2",
    title="TruffleHog",
    aliases=("trufflehog-v3", "trufflehogv3", "trufflehog-v2", "trufflehog2"),
    shapes=("NDJSON", "array", "object"),
    sniff=_sniff,
    parse=_parse,
    versions="2 and 3",
    notes="All kinds of sources of 3; Raw in base64, as in its first months, is decoded. A "
    "record of 2 has no line number, and is one finding for all its strings.",
)
