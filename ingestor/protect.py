"""The one place where plaintext turns into a `Finding`.

Safe by construction: a finding is built from an allowlist of short structural
fields, which pass the redactor; the value and all free text are only ever put
into the sealed evidence.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping, MutableMapping
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import md5, sha1, sha256, sha512
from typing import Any, NamedTuple
from urllib.parse import unquote

from ingestor.fingerprint import Fingerprints, canonical_value, normal_path, value_digest
from ingestor.preview import preview
from ingestor.records import Place, Record
from runtime.redaction import REDACTED, SHORTEST_SEARCHED, holds, mask, redact, suspects
from runtime.sealing import EVIDENCE, Sealer
from winnow.finding.v1 import finding_pb2 as pb
from winnow.finding.v1.finding_batch_pb2 import FindingBatch
from winnow.finding.v1.plain_evidence_pb2 import PlainEvidence

BATCH_FINDINGS = 256
BATCH_BYTES = 1 << 20

_MAX_PATH = 4096  # characters
_MAX_TEXT = 256
_MAX_ENTRIES = 32
_LONGEST_WORD = 12
_MAX_PLACES = 64
_MAX_UINT32 = (1 << 32) - 1
_CAP_VALUE = 64 << 10  # bytes
_CAP_MESSAGE = 16 << 10
_TIMES = 4096  # commits have many findings
_OVERHEAD = 320  # bytes of a finding beside its texts and its seal

# Controls (C0, DEL, C1), lone surrogates, bidi marks, line separators.
_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\ud800-\udfff\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]"
)
# What may be an unkeyed digest in hex: for a weak value that is the value.
_HEX = re.compile(r"[0-9A-Fa-f]{32,}")
_DIGESTS = {32: md5, 40: sha1, 64: sha256, 128: sha512}  # by their hex digits
_URL_PASSWORD = re.compile(r"://[^\s/?#@:]*:([^\s/?#]{8,})@")
_SPACED_DATE = re.compile(r"(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)(?:\.\d+)? ?([+-]\d\d):?(\d\d)")


class IngestKeys(NamedTuple):
    """What seals a report's evidence, and what keys an installation's fingerprints; 32 bytes each."""

    sealing: bytes
    fingerprint: bytes


def visible(text: str) -> str:
    """`text` with everything that a terminal or a page would act on, or not
    show, as `\\uXXXX` escapes.
    """
    return _UNSEEN.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


@lru_cache(_TIMES)
def timestamp(text: str) -> int | None:
    """A scanner's time in seconds since 1970; None if it cannot be read.

    RFC 3339, and Go's `2006-01-02 15:04:05 -0700 MST` as TruffleHog prints it.
    Without a zone it is taken for UTC.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        match = _SPACED_DATE.match(text)
        if match is None:
            return None
        try:
            moment = datetime.fromisoformat(f"{match[1]}T{match[2]}{match[3]}:{match[4]}")
        except ValueError:
            return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    try:
        return int(moment.timestamp()) if moment.year > 1 else None
    except (OverflowError, ValueError):
        return None


def _cut(text: str, most: int) -> str:
    """At most `most` bytes of UTF-8."""
    if len(text) * 4 <= most:
        return text
    data = text.encode("utf-8", "replace")
    return text if len(data) <= most else data[:most].decode("utf-8", "ignore")


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _uint32(number: int) -> int:
    return number if 0 <= number <= _MAX_UINT32 else 0


def _location(place: Place) -> dict[str, Any]:
    """Fields of a `Location`; unknown (0) ones are left out."""
    path, line, end_line, column, end_column = place
    fields: dict[str, Any] = {"path": path} if path else {}
    if line:
        fields["line"] = _uint32(line)
    if end_line:
        fields["end_line"] = _uint32(end_line)
    if column:
        fields["column"] = _uint32(column)
    if end_column:
        fields["end_column"] = _uint32(end_column)
    return fields


class Protector:
    """Collects records of one report into batches of findings.

    Args:
        keys: see `IngestKeys`.
        report_id: what sealed evidence is bound to.
    """

    def __init__(self, keys: IngestKeys, report_id: uuid.UUID) -> None:
        self._sealer = Sealer(keys.sealing, report_id, EVIDENCE)
        self._fingerprints = Fingerprints(keys.fingerprint)
        self._staged: list[tuple[Record, dict[str, Any]]] = []
        self._texts: list[str] = []
        self._bytes = 0

    @property
    def full(self) -> bool:
        """Whether the batch should be taken before the next record."""
        return len(self._staged) >= BATCH_FINDINGS or self._bytes >= BATCH_BYTES // 2

    def add(self, record: Record, ordinal: int) -> None:
        """Seals and masks one record; it appears in the next `take`."""
        written = record.value
        value = record.value = canonical_value(written) if written else ""
        secrets = record.secrets
        if secrets:
            bare = [canonical_value(secret) for secret in secrets]
            secrets = tuple(dict.fromkeys((*secrets, *bare)))
        state = record.value_state
        shown = preview(value, state)
        path = normal_path(record.path)
        prints = self._fingerprints
        fields: dict[str, Any] = {
            "ordinal": ordinal,
            "kind": record.kind,
            "value_state": state,
            "sealed_evidence": self._seal(record, ordinal),
        }
        if shown:
            fields["value_preview"] = shown
        identity = f"{shown}{record.native_id}"
        digest = record.digest
        if state == pb.VALUE_STATE_PRESENT:
            digest, identity = value_digest(value), value
        elif state == pb.VALUE_STATE_DIGEST:
            identity = digest
        if digest:
            fields["value_fingerprint"] = prints.value(digest)
            fields["place_fingerprint"] = prints.place(digest, path)
        fields["occurrence_fingerprint"] = prints.occurrence(
            record.rule_id, path, record.line, record.commit, identity + record.purl
        )
        if record.changed_at and (moment := timestamp(record.changed_at)) is not None:
            fields["changed_at"] = {"seconds": moment}
        if len(record.more_places) > _MAX_PLACES:
            record.metadata = {"places": str(1 + len(record.more_places)), **record.metadata}
            record.more_places = record.more_places[:_MAX_PLACES]
        text = self._clear_text(record)
        if value and (runs := _HEX.findall(text)):
            secrets = (*secrets, *_digests(set(runs), {written, value}))
        if value:
            secrets = (*secrets, *_parts(text, written, value))
        odd = (
            not text.isprintable()
            or (value and _repeats(text, value))
            or (len(text) > _MAX_TEXT and _too_long(record))
            or (secrets and any(_repeats(text, secret) for secret in secrets))
        )
        if odd:
            # Of a record's thousands only those that stand there.
            values = (value, *(secret for secret in secrets if _repeats(text, secret)))
            words = frozenset(filter(_is_word, values))
            others = tuple(one for one in values if one not in words)

            def clean_name(name: str) -> str:
                return REDACTED if name in words else redact(mask(name, others))

            # Tokens too, before anything is cut: what is left of one has no form.
            _scrub(record, lambda clear: redact(mask(clear, values)), clean_name)
            path = normal_path(record.path)
        # Between the two: a separator changed inside a value would hide it from
        # the mask, and an escape is no separator.
        record.path = path
        if record.more_places:
            record.more_places = [(normal_path(p[0]), *p[1:]) for p in record.more_places]
        if odd:
            _scrub(record, visible)
            text = self._clear_text(record)
        self._texts.append(text)
        self._staged.append((record, fields))
        self._bytes += len(fields["sealed_evidence"]) + len(text) + _OVERHEAD

    def take(self) -> FindingBatch:
        """The findings of the records added since the last call."""
        for index in suspects(self._texts):
            _scrub(self._staged[index][0], redact)
        batch = FindingBatch()
        add = batch.findings.add
        for record, fields in self._staged:
            _fill(fields, record)
            finding = add(**fields)
            if record.metadata:
                _put(finding.raw_metadata, record.metadata)
        self._staged, self._texts, self._bytes = [], [], 0
        return batch

    def _seal(self, record: Record, ordinal: int) -> bytes:
        fields: dict[str, Any] = {}
        if record.value:
            fields["value"] = _cut(record.value, _CAP_VALUE)
        if record.match:
            fields["match"] = _cut(record.match, _CAP_VALUE)
        if record.context:
            fields["context"] = _cut(record.context, _CAP_VALUE)
        if record.message:
            fields["message"] = _cut(record.message, _CAP_MESSAGE)
        if record.variable:
            fields["variable"] = _cut(record.variable, _CAP_MESSAGE)
        if record.decoder:
            fields["decoder"] = _cut(record.decoder, _CAP_MESSAGE)
        evidence = PlainEvidence(**fields)
        if record.extra:
            extra = {
                _short(key, _MAX_TEXT): _cut(text, _CAP_MESSAGE)
                for key, text in list(record.extra.items())[:_MAX_ENTRIES]
            }
            _put(evidence.extra, extra)
        return self._sealer.seal(evidence.SerializeToString(), ordinal)

    @staticmethod
    def _clear_text(record: Record) -> str:
        """All clear fields in one line: one look at it answers for all."""
        text = (
            f"{record.path} {record.rule_id} {record.rule_name} {record.commit} "
            f"{record.container} {record.native_id} {record.tool}"
        )
        if record.purl or record.component_ref:
            text = f"{text} {record.purl} {record.package_version} {record.component_ref}"
        if record.metadata:
            text = f"{text} {' '.join(record.metadata.values())}"
        if record.aliases:
            text = f"{text} {' '.join(record.aliases)}"
        if record.more_places:
            text = f"{text} {' '.join([place[0] for place in record.more_places])}"
        return text


def _digests(runs: set[str], values: set[str]) -> list[str]:
    """The unkeyed digests of values that stand in runs of hex digits, as written."""
    found = []
    for run in runs:
        size = len(run)
        # Most are commits: only of a run that is none's length may a part be one.
        sizes = [size] if size in _DIGESTS else [part for part in _DIGESTS if part < size]
        for value in values if sizes else ():
            data = value.encode("utf-8", "surrogatepass")
            for part in sizes:
                digest = _DIGESTS[part](data, usedforsecurity=False).hexdigest()
                at = run.lower().find(digest)
                if at >= 0:
                    found.append(run[at : at + part])
    return found


def _parts(text: str, written: str, value: str) -> list[str]:
    """What of a value is secret also where it stands alone, if it does in `text`: the
    value as the scanner wrote it; the password of a URL; of several words or lines
    those that nobody would write for a word.
    """
    wholes = [written] if written != value else []
    if "://" in value:
        for password in _URL_PASSWORD.findall(value):
            wholes += [password, unquote(password)]
    found = [whole for whole in wholes if not _is_word(whole) and holds(text, whole)]
    words = value.split()
    if len(words) > 1:
        # As they are only: there may be as many as a report is long.
        found += [
            word
            for word in words
            if len(word) >= _LONGEST_WORD and word in text and not _is_plain(word)
        ]
    return found


def _repeats(text: str, secret: str) -> bool:
    # Short secrets are only masked where they are a whole field: look closer.
    return bool(secret) and (len(secret) < SHORTEST_SEARCHED or holds(text, secret))


def _too_long(record: Record) -> bool:
    return (
        len(record.path) > _MAX_PATH
        or len(record.metadata) > _MAX_ENTRIES
        or len(record.aliases) > _MAX_ENTRIES
        or any(len(place[0]) > _MAX_PATH for place in record.more_places)
        or any(
            len(text) > _MAX_TEXT
            for text in (
                record.rule_id,
                record.rule_name,
                record.commit,
                record.container,
                record.native_id,
                record.tool,
                record.purl,
                record.package_version,
                record.component_ref,
                *record.metadata.values(),
                *record.aliases,
            )
        )
    )


def _is_word(value: str) -> bool:
    """Whether a value is one plain word, as weak passwords are: the same word in the
    name of a folder or of a rule says nothing about it, and is needed there; it is
    masked where it is the whole name.
    """
    return len(value) < _LONGEST_WORD and _is_plain(value)


def _is_plain(text: str) -> bool:
    """Whether a text is letters of one case, or of a name's."""
    return (
        text.isascii() and text.isalpha() and (text.islower() or text.isupper() or text.istitle())
    )


def _scrub(
    record: Record, clean: Callable[[str], str], names: Callable[[str], str] | None = None
) -> None:
    """Passes every clear field through `clean`, those that name files and rules
    through `names` if it is given, and cuts each to its limit.
    """
    named = names or clean

    def short(text: str) -> str:
        return _short(clean(text), _MAX_TEXT) if text else text

    record.path = _short(named(record.path), _MAX_PATH)
    record.rule_id = _short(named(record.rule_id), _MAX_TEXT)
    record.rule_name = _short(named(record.rule_name), _MAX_TEXT)
    record.commit = short(record.commit)
    record.container = short(record.container)
    record.native_id = short(record.native_id)
    record.tool = short(record.tool)
    record.purl = short(record.purl)
    record.package_version = short(record.package_version)
    record.component_ref = short(record.component_ref)
    record.metadata = {
        key: short(text) for key, text in list(record.metadata.items())[:_MAX_ENTRIES]
    }
    record.aliases = [short(text) for text in record.aliases[:_MAX_ENTRIES]]
    record.more_places = [
        (_short(named(place[0]), _MAX_PATH), *place[1:]) for place in record.more_places
    ]


def _code(record: Record) -> dict[str, Any]:
    """Fields of a `CodeSubject`."""
    code: dict[str, Any] = {
        "location": _location(
            (record.path, record.line, record.end_line, record.column, record.end_column)
        )
    }
    if record.commit:
        code["commit"] = record.commit
    if record.container:
        code["container"] = record.container
    if record.more_places:
        code["more_locations"] = [_location(place) for place in record.more_places]
    return code


def _fill(fields: dict[str, Any], record: Record) -> None:
    """Adds the scrubbed clear fields; empty ones are left out, for speed."""
    tool = record.tool
    # Only here: patterns of tokens, and the value, are told by their case.
    fields["tool"] = tool if REDACTED in tool else tool.lower()
    fields["rule_id"] = record.rule_id
    if record.purl or record.component_ref:
        fields["package"] = {
            "purl": record.purl,
            "version": record.package_version,
            "component_ref": record.component_ref,
        }
        if record.path:
            record.metadata = {"path": record.path, **record.metadata}
    else:
        fields["code"] = _code(record)
    if record.rule_name:
        fields["rule_name"] = record.rule_name
    if record.severity:
        fields["severity"] = record.severity
    if record.validity:
        fields["validity"] = record.validity
    if record.triage:
        fields["triage"] = record.triage
    if record.native_id:
        fields["native_id"] = record.native_id
    if record.aliases:
        fields["aliases"] = record.aliases


def _put(field: MutableMapping[str, str], texts: Mapping[str, str]) -> None:
    """Fills a map of a message: given to its constructor, a map takes twice as long."""
    for name, text in texts.items():
        field[name] = text
