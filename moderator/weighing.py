"""From what was seen to how likely and how much it matters.

Weights are log-odds: they add up, and a logistic curve turns the sum into the
probability that the finding is a real credential. Risk follows from that
probability, from what the credential opens, and from where it stands.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache

import msgspec

from moderator.rules import Clue, Impact, RulePack, Title
from winnow.finding.v1.verdict_pb2 import (
    RISK_HIGH,
    RISK_LOW,
    RISK_MEDIUM,
    Risk,
)

# Where credentials usually belong to nobody.
SIDE_PLACES = frozenset(
    {"test", "documentation", "example", "vendored", "generated", "lock file", "translation"}
)
_HARD_PLACES = frozenset(
    {"production configuration", "credential file", "environment file", "infrastructure code"}
)
# Generic names whose values open a service; the rest opens something limited.
_OPENS_ACCOUNT = frozenset({"AWS secret access key"})
_OPENS_SERVICE = frozenset({"password", "secret", "API key"})
# What a provider's own shape overrules: guesses about text of unknown shape.
_GUESSES = frozenset(
    {"code", "text", "digest", "generic", "base", "public", "password", "secret", "token"}
    | {"API key", "AWS secret access key", "limited", "weak"}
)
# What people decided, the provider said or a trap is: it matters not, real or not.
_SETTLED = frozenset(
    {"validity.dead", "triage.accepted", "triage.false_positive", "triage.revoked"}
    | {"triage.test_only", "check.canary"}
)


class Profile(msgspec.Struct, frozen=True):
    """How readily something is called dangerous.

    `floor` is the confidence below which a finding is low; `bars` are those from
    which it is high, by what it opens, `hard` lower in the places named above.
    `strict` judges by form alone: what is a credential in a test is one too.
    `settled` is the confidence up to which the heuristics alone decide against it.
    """

    name: str
    floor: float
    bars: Mapping[Impact, float]
    hard: float = 0.1
    strict: bool = False
    settled: float = 0.001


PROFILES: Mapping[str, Profile] = {
    profile.name: profile
    for profile in (
        Profile(
            "strict",
            0.2,
            {"account": 0.4, "service": 0.5, "limited": 0.7},
            strict=True,
            settled=0.0,
        ),
        Profile("balanced", 0.35, {"account": 0.7, "service": 0.8, "limited": 0.95}),
        Profile("quiet", 0.6, {"account": 0.85, "service": 0.9, "limited": 0.97}),
    )
}
_ENCODED_KEY = "value.base64_private_key"
# What is known of these outright weighs no less than what was learned of their text.
_KNOWN = frozenset({"check.strong_password", "both.weak_in_production"})
# And of these, no more than a doubt is left: walks over the keyboard, what is encrypted,
# tokens without a signature.
_KNOWN_NOT = frozenset({"value.keyboard_walk", "name.encrypted", "check.jwt_unsigned"})
_DOUBT = 0.3
# A whole private key is never unlikely; whose it is, its form does not say.
_WHOLE_KEY = "provider.pem.private_key"
_KEY_MISSING = frozenset({"check.pem_header", "check.pem_elided", "check.pem_encrypted"})
_EVEN = 0.5
# Real, and by its own word for nothing that matters.
_DEVELOPMENT_KEY = "value.django_insecure"
# Documentation's own tokens are real nowhere; what was learned of others says nothing of them.
_NOBODYS = frozenset({"check.jwt_sample"})
# No provider issued what fails its own checksum, but a scanner may have cut or changed it.
MISMADE = "check.failed"
_MISMADE_AT_MOST = 0.6
# What is asked of clues after they were weighed.
_MARKS = (
    _SETTLED
    | _KNOWN
    | _KNOWN_NOT
    | _KEY_MISSING
    | _NOBODYS
    | {"validity.live", "triage.true_positive", "check.passed", MISMADE}
    | {_ENCODED_KEY, _WHOLE_KEY, _DEVELOPMENT_KEY}
)
# From this confidence on the keys to everything are worth a look,
_WORTH_A_LOOK = 0.4
# and from this on what a rule of one kind has seen, and the report does not show.
_UNSEEN = 0.2

# A person confirmed it, in the report itself.
_CONFIRMED = 0.98

_PLACE_CAP = -3.0
_AGAINST_CAP = -9.0


# What is said of long text does not hold for a key that is known to be one.
_NOT_OF_KEYS = frozenset({"shape.huge", "shape.spaced", "name.key_only"})


def _counts(clue: Clue, provider: Clue | None) -> bool:
    if provider is None or clue is provider:
        return True
    if clue.provider is not None:
        return False
    if clue.where == "shape" or (clue.where in ("rule", "base") and clue.weight > 0):
        return False
    return clue.kind not in _GUESSES or clue.where in ("line", "check")


class Weighed(msgspec.Struct, frozen=True, eq=False, gc=False):
    """What a set of clues comes to: probability (0 to 1), risk, the clues that
    counted with the combinations that follow from them, strongest first, the
    provider whose shape the value has, and what the credential opens by its value and name.
    `title` is what the scanner's rule is about, where the value does not tell; `opens` what
    the credential opens by all of it; `aside` whether it stands where credentials usually
    belong to nobody. `kinds` are those of the clues; `marks` the ids among them that are asked for later."""

    confidence: float
    risk: Risk.ValueType
    clues: tuple[Clue, ...]
    provider: Clue | None
    impact: Impact
    title: Title | None
    opens: Impact
    aside: bool
    kinds: frozenset[str]
    marks: frozenset[str]


def best_provider(clues: Sequence[Clue]) -> Clue | None:
    """The provider shape that says most: the likeliest of those that matched."""
    matched = [clue for clue in clues if clue.provider is not None]
    return max(matched, key=lambda clue: clue.weight) if matched else None


def weigh(pack: RulePack, seen: Sequence[Clue], profile: Profile) -> Weighed:
    """Adds up what was seen."""
    provider = best_provider(seen)
    clues = [clue for clue in seen if _counts(clue, provider)]
    if any(clue.id == _ENCODED_KEY for clue in clues):
        clues = [clue for clue in clues if clue.id not in _NOT_OF_KEYS]
    kinds = _shared(frozenset([clue.kind for clue in clues]))
    clues += [
        clue for needs, without, clue in pack.combinations if needs <= kinds and not without & kinds
    ]
    total = 0.0
    place = worst = 0.0
    names = 0.0
    for clue in clues:
        if clue.where == "path":
            place += clue.weight
            worst = min(worst, clue.weight)
        elif clue.where == "name" and clue.weight > 0:
            names = max(names, clue.weight)  # synonyms of one fact
        else:
            total += clue.weight
    # Several folders that say the same are one fact, not several.
    total += names + max(place, min(_PLACE_CAP, worst))
    marks = _shared(_MARKS.intersection([clue.id for clue in clues]))
    confidence = 1.0 / (1.0 + math.exp(-max(min(total, 12.0), _AGAINST_CAP)))
    if _is_live(marks):
        confidence = max(confidence, 0.99)
    elif "triage.true_positive" in marks:
        confidence = max(confidence, _CONFIRMED)
    impact = _impact(provider, frozenset([clue.kind for clue in clues]))
    title = _title(clues) if provider is None else None
    opens = title.impact if title is not None else impact
    clues.sort(key=_strength)
    aside = _aside(clues, marks)
    risk = _risk(confidence, opens, title, aside, kinds, marks, profile)
    return Weighed(
        confidence, risk, tuple(clues), provider, impact, title, opens, aside, kinds, marks
    )


def bounded(weighed: Weighed, confidence: float) -> float:
    """A learned probability, not above that of the clues for what is nobody's or made up,
    nor above a doubt where they know that it is none; and not below it where they know
    better: not in tests, examples and the like, where the same form means nothing."""
    marks, known = weighed.marks, round(weighed.confidence, 4)
    if marks & _NOBODYS:
        return min(confidence, known)
    if MISMADE in marks:
        return min(confidence, _MISMADE_AT_MOST)
    if _ENCODED_KEY in marks:
        return max(confidence, known)
    if marks & _KNOWN_NOT:
        return min(confidence, _DOUBT)
    if not marks or weighed.kinds & SIDE_PLACES:
        return confidence
    if marks & _KNOWN:
        return max(confidence, known)
    if _WHOLE_KEY in marks and not marks & _KEY_MISSING:
        return max(confidence, min(known, _EVEN))
    return confidence


def risk_at(weighed: Weighed, confidence: float, profile: Profile) -> Risk.ValueType:
    """The risk under another probability, as the model gives it."""
    return _risk(
        confidence,
        weighed.opens,
        weighed.title,
        weighed.aside,
        weighed.kinds,
        weighed.marks,
        profile,
    )


@lru_cache(4096)
def _shared(some: frozenset[str]) -> frozenset[str]:
    """The same object for equal sets: thousands of sums of clues have few of them."""
    return some


def _is_live(marks: frozenset[str]) -> bool:
    """Whether the provider accepted it, and it is no trap that accepts everybody."""
    return "validity.live" in marks and "check.canary" not in marks


def _strength(clue: Clue) -> tuple[float, str]:
    return (-abs(clue.weight), clue.id)


def _aside(clues: Sequence[Clue], marks: frozenset[str]) -> bool:
    """Whether it stands among what belongs to nobody, by its path, or by its line or name
    where no checksum says otherwise."""
    made = "check.passed" in marks
    return any(clue.kind in SIDE_PLACES and (clue.where == "path" or not made) for clue in clues)


def _title(clues: Sequence[Clue]) -> Title | None:
    """What the scanner's rule is about, unless the value is nothing of the kind."""
    if any(clue.id == "rule.contradicted" for clue in clues):
        return None
    return next((clue.title for clue in clues if clue.title is not None), None)


def _impact(provider: Clue | None, kinds: frozenset[str]) -> Impact:
    """What the credential opens, if it is one."""
    if provider is not None and provider.provider is not None:
        return provider.provider.impact
    if kinds & _OPENS_ACCOUNT:
        return "account"
    return "service" if kinds & _OPENS_SERVICE else "limited"


def _risk(
    confidence: float,
    impact: Impact,
    title: Title | None,
    aside: bool,
    kinds: frozenset[str],
    marks: frozenset[str],
    profile: Profile,
) -> Risk.ValueType:
    if _is_live(marks):
        return RISK_HIGH
    if marks & _SETTLED:
        return RISK_LOW
    if "triage.true_positive" in marks:
        return RISK_HIGH
    if MISMADE in marks:
        return RISK_LOW if confidence < profile.floor else RISK_MEDIUM
    if impact == "public" or confidence < profile.floor:
        worth_a_look = impact == "account" and confidence >= min(_WORTH_A_LOOK, profile.floor)
        unseen = title is not None and "redacted" in kinds and not aside and confidence >= _UNSEEN
        return RISK_MEDIUM if worth_a_look or unseen else RISK_LOW
    if aside or "expired" in kinds:
        return RISK_MEDIUM
    if _DEVELOPMENT_KEY in marks and "production configuration" not in kinds:
        return RISK_MEDIUM
    bar = profile.bars[impact]
    if kinds & _HARD_PLACES:
        bar -= profile.hard
    return RISK_HIGH if confidence >= bar else RISK_MEDIUM
