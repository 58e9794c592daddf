"""The rule pack: what the heuristics know, as data.

Every `.toml` file beside this one is part of it. The pack is checked when it is
loaded (shape of every entry, unique ids, weights and confidences in range) and
named by one digest over its files, which goes into every verdict.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Literal, TypeVar

import msgspec

from runtime.matching import Matcher

_T = TypeVar("_T")

Impact = Literal["account", "service", "limited", "public"]
Check = Literal["", "spread", "crc32_base62", "aws_key_id", "jwt", "pem", "url_password", "basic"]

# Families of providers whose tokens anyone can make, as tests do.
_MATERIAL = {
    "pem": "key material",
    "der": "key material",
    "putty": "key material",
    "jwk": "key material",
    "jwt": "token material",
    "jwe": "token material",
    "url": "address material",
    "basic": "address material",
}


class ProviderRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A credential of a known shape.

    `confidence` is the probability that a well-formed one is real, before the
    place is weighed; `impact` is what it opens; `check` names a test of its
    structure in `moderator.structure`; `remedy` replaces the impact's own.
    """

    id: str
    title: str
    pattern: str
    confidence: float
    impact: Impact
    check: Check = ""
    remedy: str = ""


class ClueRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Something that a pattern sees: `says` is a clause for people, `weight`
    log-odds for (positive) or against (negative) a real credential."""

    id: str
    kind: str
    weight: float
    says: str
    pattern: str


class Signal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """As `ClueRule`, for what code sees."""

    id: str
    kind: str
    weight: float
    says: str


class Combination(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A clue that follows when all kinds in `all`, and none in `none`, were seen."""

    id: str
    kind: str
    all: list[str]
    weight: float
    says: str
    none: list[str] = []


class Sample(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A published value, by the SHA-256 and the length of its UTF-8 text."""

    id: str
    sha256: str
    length: int
    says: str


class Title(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What scanners' rules of one kind are about, and what it opens."""

    pattern: str
    title: str
    impact: Impact


class Clue(msgspec.Struct, frozen=True, eq=False, gc=False):
    """One thing that can be seen, whatever sees it; the unit of all evidence."""

    id: str
    where: str
    kind: str
    weight: float
    says: str
    provider: ProviderRule | None = None
    title: Title | None = None


class _ProviderFile(msgspec.Struct, forbid_unknown_fields=True):
    rules: list[ProviderRule]


class _ScannerFile(msgspec.Struct, forbid_unknown_fields=True):
    rules: list[ClueRule]
    shaped: list[ShapedRule]
    titles: list[Title]


class _ClueFile(msgspec.Struct, forbid_unknown_fields=True):
    rules: list[ClueRule]


class ShapedRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Scanners' rules about credentials that always have a known shape: what they
    report matches a provider's pattern whose id begins with `provider`."""

    pattern: str
    provider: str


class _SignalFile(msgspec.Struct, forbid_unknown_fields=True):
    code_endings: list[str]
    signals: list[Signal]
    combinations: list[Combination]


class _SampleFile(msgspec.Struct, forbid_unknown_fields=True):
    samples: list[Sample]


def log_odds(probability: float) -> float:
    """Log-odds of a probability between 0 and 1, both excluded."""
    return math.log(probability / (1.0 - probability))


class Field(msgspec.Struct, frozen=True):
    """The patterns that meet one part of a finding, and the clue of each."""

    matcher: Matcher
    clues: tuple[Clue, ...]
    patterns: tuple[str, ...]


class RulePack:
    """The loaded pack.

    Its matchers serve one thread at a time, as `Matcher` does.

    Raises:
        ValueError: an entry of the pack is wrong; the message names it.
    """

    def __init__(self) -> None:
        sources = sorted(_toml_files(), key=lambda entry: entry[0])
        digest = hashlib.sha256()
        texts: dict[str, bytes] = {}
        for name, entry in sources:
            texts[name] = entry.read_bytes()
            digest.update(name.encode() + b"\0" + hashlib.sha256(texts[name]).digest())
        self.digest = "sha256:" + digest.hexdigest()

        self._seen: set[str] = set()
        providers: list[ProviderRule | ClueRule] = [
            rule
            for name in texts
            if name.startswith("providers/")
            for rule in _decode(texts, name, _ProviderFile).rules
        ]
        self.value = self._field(
            "value", [*providers, *_decode(texts, "values.toml", _ClueFile).rules]
        )
        self.name = self._field("name", _decode(texts, "names.toml", _ClueFile).rules)
        self.place = self._field("path", _decode(texts, "places.toml", _ClueFile).rules)
        self.line = self._field("line", _decode(texts, "lines.toml", _ClueFile).rules)
        scanners = _decode(texts, "scanners.toml", _ScannerFile)
        self.scanner = self._field("rule", scanners.rules)
        self.shaped = [(re.compile(rule.pattern), rule.provider) for rule in scanners.shaped]
        self.titles = [
            (re.compile(title.pattern), self._titled(title)) for title in scanners.titles
        ]
        known = _decode(texts, "signals.toml", _SignalFile)
        self.code_endings = frozenset(known.code_endings)
        self.signals = {
            signal.id: self._clue(signal, signal.id.partition(".")[0]) for signal in known.signals
        }
        self.combinations = [
            (frozenset(rule.all), frozenset(rule.none), self._clue(rule, "combination"))
            for rule in known.combinations
        ]
        weight = self.signals["sample.known"].weight
        self.samples: dict[bytes, Clue] = {}
        self.sample_lengths: set[int] = set()
        for sample in _decode(texts, "samples.toml", _SampleFile).samples:
            signal = Signal(id=sample.id, kind="sample", weight=weight, says=sample.says)
            self.sample_lengths.add(sample.length)
            self.samples[bytes.fromhex(sample.sha256)] = self._clue(signal, "value")

    def _field(self, where: str, rules: Sequence[ProviderRule | ClueRule]) -> Field:
        clues = tuple(self._clue(rule, where) for rule in rules)
        patterns = [(clue.id, rule.pattern) for clue, rule in zip(clues, rules, strict=True)]
        return Field(Matcher(patterns), clues, tuple(rule.pattern for rule in rules))

    @staticmethod
    def _titled(title: Title) -> Clue:
        """A clue that weighs nothing: it says what the rule is about."""
        says = f"the scanner's rule is about this: {title.title}"
        return Clue("rule.title", "rule", "title", 0.0, says, title=title)

    def _clue(self, rule: ProviderRule | ClueRule | Signal | Combination, where: str) -> Clue:
        if isinstance(rule, ProviderRule):
            if not 0.0 < rule.confidence < 1.0:
                raise ValueError(f"rule pack: confidence of {rule.id} is not between 0 and 1")
            clue = Clue(
                "provider." + rule.id,
                where,
                _MATERIAL.get(rule.id.partition(".")[0], "provider"),
                log_odds(rule.confidence),
                f"the value has the shape of this: {rule.title}",
                rule,
            )
        else:
            clue = Clue(rule.id, where, rule.kind, rule.weight, rule.says)
        if clue.id in self._seen:
            raise ValueError(f"rule pack: {clue.id} stands twice")
        if not clue.says or not clue.kind or abs(clue.weight) > 20:
            raise ValueError(f"rule pack: {clue.id} lacks a text or has no sensible weight")
        self._seen.add(clue.id)
        return clue


def _toml_files() -> Iterator[tuple[str, Traversable]]:
    root = files(__package__)
    for entry in root.iterdir():
        if entry.name.endswith(".toml"):
            yield entry.name, entry
    for entry in (root / "providers").iterdir():
        if entry.name.endswith(".toml"):
            yield f"providers/{entry.name}", entry


def _decode(texts: dict[str, bytes], name: str, kind: type[_T]) -> _T:
    try:
        return msgspec.toml.decode(texts[name], type=kind)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise ValueError(f"rule pack: {name}: {error}") from None


@cache
def pack() -> RulePack:
    """The pack that comes with this version, loaded once."""
    return RulePack()
