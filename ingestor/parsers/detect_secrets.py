"""detect-secrets: a baseline, its findings by file (detect_secrets/core/baseline.py).

A baseline has no values, only their SHA-1, and a person's decisions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import partial

from ingestor.dialect import Dialect, Exact
from ingestor.framing import Source
from ingestor.parsers._base import Parser, each, unescaped_keys
from ingestor.records import Record, reject
from winnow.finding.v1 import finding_pb2 as pb
from winnow.ingest.v1.rejected_pb2 import Rejected


class _Secret(Exact):
    type: str
    hashed_secret: str
    filename: str | None = None  # from 1.0
    line_number: int | None = None  # not with --slim
    is_secret: bool | None = None
    is_verified: bool | None = None
    verified_result: bool | None = None  # IBM's fork


_DIALECT = Dialect(_Secret)
_KNOWN = frozenset(
    (
        "version",
        "plugins_used",
        "filters_used",
        "generated_at",
        "exclude",
        "exclude_regex",
        "word_list",
        "custom_plugin_paths",
    )
)
_SHA1 = re.compile(r"[0-9a-fA-F]{40}")


def _sniff(head: bytes, _name: str) -> float:
    keys = unescaped_keys(head)
    if b"hashed_secret" in keys and b"type" in keys:
        return 1.0
    return 0.95 if keys >= {b"plugins_used", b"results"} else 0.0


def _record(path: str, found: _Secret, raw: bytes) -> Record:
    hashed = found.hashed_secret
    is_digest = _SHA1.fullmatch(hashed) is not None
    triage: pb.Triage.ValueType = pb.TRIAGE_UNSPECIFIED
    if found.is_secret is not None:
        triage = pb.TRIAGE_TRUE_POSITIVE if found.is_secret else pb.TRIAGE_FALSE_POSITIVE
    # `is_verified: false` also stands where nothing can be checked.
    validity: pb.Validity.ValueType = pb.VALIDITY_UNSPECIFIED
    if found.is_verified or found.verified_result:
        validity = pb.VALIDITY_LIVE
    elif found.verified_result is False:
        validity = pb.VALIDITY_DEAD
    return Record(
        raw=b"%b\0%b" % (raw, path.encode("utf-8", "surrogatepass")),
        tool="detect-secrets",
        rule_id=found.type,
        path=found.filename or path,
        line=found.line_number or 0,
        triage=triage,
        validity=validity,
        value_state=pb.VALUE_STATE_DIGEST if is_digest else pb.VALUE_STATE_REDACTED,
        digest=hashed.lower() if is_digest else "",
        secrets=(hashed,),
    )


def _plain(key: str) -> str:
    """A member's name as it stands in the report, with its escapes resolved."""
    if "\\" not in key:
        return key
    try:
        return str(json.loads(f'"{key}"', strict=False))
    except ValueError:
        return key


def _results(source: Source) -> Iterator[Record | Rejected]:
    if source.peek() != b"{":
        source.skip()
        return
    for name in source.members():
        if source.peek() == b"[":
            record = partial(_record, _plain(name))
            yield from each(source, source.elements(), _DIALECT, record)
        else:
            at_byte = source.offset()
            source.skip()
            yield reject("WRONG_TYPE", "a file's findings are no array", "results", at_byte)


def _dialect(head: bytes) -> str:
    keys = unescaped_keys(head)
    if b"filters_used" in keys or b"filename" in keys:
        return "detect-secrets 1.0 or newer"
    later = b"word_list" in keys or b"exclude" in keys
    return "detect-secrets 0.12 or 0.13" if later else "detect-secrets before 0.12"


def _parse(source: Source) -> Iterator[Record | Rejected]:
    source.dialect = _dialect(source.head())
    return source.documents(
        lambda: source.walk({"results": lambda: _results(source)}, known=_KNOWN)
    )


PARSER = Parser(
    id="detect-secrets",
    version="1",
    title="detect-secrets",
    aliases=("detectsecrets", "detect_secrets"),
    shapes=("object",),
    sniff=_sniff,
    parse=_parse,
    versions="0.12 to 1.5",
    notes="A baseline holds digests (SHA-1) and no values. By them its findings meet those of "
    "other tools, except where only a key's first line or a token's prefix was hashed. Audited "
    "entries keep their label, as triage.",
)
