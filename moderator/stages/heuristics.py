"""Heuristics: judges a finding by what the rule pack knows. Never abstains.

Three small scans (value, name, line) and cached looks at path and rule give the
clues of a finding. All else depends on the clues alone, so that it is worked
out once for each distinct set and reused: a report of a million findings has a
few thousand such sets. Nothing that is cached holds text of a sealed part.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import islice

import msgspec

from moderator import shape
from moderator.reading import Reading, read
from moderator.rules import Clue, Field, RulePack, pack
from moderator.stage import Observation, Opinion, Subject
from moderator.structure import CHECKS
from moderator.weighing import PROFILES, Profile, Weighed, weigh
from moderator.wording import reason
from winnow.finding.v1.finding_pb2 import (
    FINDING_KIND_CODE,
    FINDING_KIND_LOG,
    FINDING_KIND_MISCONFIGURATION,
    FINDING_KIND_POSSIBLE_SECRET,
    FINDING_KIND_POSTURE,
    FINDING_KIND_UNSPECIFIED,
    FINDING_KIND_VULNERABILITY,
    SEVERITY_CRITICAL,
    SEVERITY_HIGH,
    SEVERITY_INFO,
    SEVERITY_LOW,
    SEVERITY_MEDIUM,
    TRIAGE_ACCEPTED,
    TRIAGE_FALSE_POSITIVE,
    TRIAGE_REVOKED,
    TRIAGE_TEST_ONLY,
    TRIAGE_TRUE_POSITIVE,
    VALIDITY_ASSUMED,
    VALIDITY_DEAD,
    VALIDITY_LIVE,
    VALIDITY_UNKNOWN,
    VALIDITY_UNVERIFIED,
    VALUE_STATE_PRESENT,
    FindingKind,
    Severity,
    Triage,
)
from winnow.finding.v1.verdict_pb2 import (
    RISK_HIGH,
    RISK_LOW,
    RISK_MEDIUM,
    VERDICT_SOURCE_HEURISTIC,
)

_VALIDITY = {
    VALIDITY_LIVE: "live",
    VALIDITY_DEAD: "dead",
    VALIDITY_UNKNOWN: "unknown",
    VALIDITY_UNVERIFIED: "unverified",
    VALIDITY_ASSUMED: "assumed",
}
_TRIAGE = {
    TRIAGE_TRUE_POSITIVE: "true_positive",
    TRIAGE_FALSE_POSITIVE: "false_positive",
    TRIAGE_ACCEPTED: "accepted",
    TRIAGE_REVOKED: "revoked",
    TRIAGE_TEST_ONLY: "test_only",
}
SECRET_KINDS = (FINDING_KIND_POSSIBLE_SECRET, FINDING_KIND_UNSPECIFIED)
_CONTINUES = frozenset("([.")
_NOT_DECODED = ("", "PLAIN")
_MAX_OBSERVATIONS = 6
_PATHS = 4096
_RULES = 4096
_OPINIONS = 8192
# Confidence at which no later stage is asked.
_SURE_REAL = 0.99
_HALF = 0.5


class Judged(msgspec.Struct, frozen=True, eq=False, gc=False):
    """What a set of clues comes to. Made once for each set, compared by identity."""

    weighed: Weighed
    opinion: Opinion


class Look(msgspec.Struct, frozen=True, eq=False, gc=False):
    """What was seen of one finding; lives as long as its batch."""

    reading: Reading
    judged: Judged


class _Value(msgspec.Struct, frozen=True, eq=False, gc=False):
    """What is seen of a value, wherever it stands; lives as long as its batch. `matched`
    is what its patterns say, `rest` what its digest and its shape do."""

    matched: tuple[Clue, ...]
    rest: tuple[Clue, ...]


class Heuristics:
    """The stage over one rule pack.

    Args:
        rules: what it knows.
        profile: how readily something is called dangerous.
    """

    name = "heuristics"
    version = 4
    source = VERDICT_SOURCE_HEURISTIC

    def __init__(self, rules: RulePack, profile: Profile) -> None:
        self._pack = rules
        self._profile = profile
        self._signals = rules.signals
        self.inputs = {"rules": rules.digest, "profile": profile.name}
        self._of_status = {
            (field, number): (rules.signals[f"{field}.{word}"],)
            for field, words in (("validity", _VALIDITY), ("triage", _TRIAGE))
            for number, word in words.items()
        }
        self._batch: Sequence[Subject] = ()  # keeps the ids in `_looks` valid
        self._looks: dict[int, Look] = {}
        self._moment = 0.0
        self._of_path = lru_cache(_PATHS)(self._look_at_path)
        self._of_rule = lru_cache(_RULES)(self._look_at_rule)
        self._judged = lru_cache(_OPINIONS)(self._weigh)

    def prepare(self) -> None:
        """Compiles the pack's patterns."""
        rules = self._pack
        for field in (rules.value, rules.name, rules.line, rules.place, rules.scanner):
            field.matcher.hits(b"")

    def judge(self, batch: Sequence[Subject]) -> list[Opinion | None]:
        """An opinion on every subject, in order; see `Stage`."""
        secrets = [subject for subject in batch if subject.finding.kind in SECRET_KINDS]
        self._batch = batch
        self._moment = _moment(batch)
        self._looks = dict(zip(map(id, secrets), self._look(secrets), strict=True))
        return [
            look.judged.opinion
            if (look := self._looks.get(id(subject))) is not None
            else _by_severity(
                subject.finding.kind, subject.finding.severity, subject.finding.triage
            )
            for subject in batch
        ]

    def looks(self, subjects: Sequence[Subject]) -> list[Look | None]:
        """What was seen of subjects of the batch that was judged last, so that a
        later stage need not look again; None for findings that are no secrets."""
        return [self._looks.get(id(subject)) for subject in subjects]

    def _look(self, subjects: Sequence[Subject]) -> list[Look]:
        """Everything about some findings. One pass for each part: a pass keeps its
        patterns in the processor's cache, which halves its cost. What they share, such
        as a value that stands in many places, is looked at once."""
        readings = [read(subject.finding, subject.evidence) for subject in subjects]
        scanned = _scan(self._pack.value, [reading.value for reading in readings])
        values = {value: self._look_at_value(value, hits) for value, hits in scanned.items()}
        names = _scan(self._pack.name, [reading.name for reading in readings])
        lines = _scan(self._pack.line, [reading.line for reading in readings])
        return [
            Look(
                one,
                self._judged(
                    self._clues(subject, one, values[one.value], names[one.name], lines[one.line])
                ),
            )
            for subject, one in zip(subjects, readings, strict=True)
        ]

    def _clues(
        self,
        subject: Subject,
        reading: Reading,
        of_value: _Value,
        of_name: tuple[Clue, ...],
        of_line: tuple[Clue, ...],
    ) -> tuple[Clue, ...]:
        """All clues of one finding. Runs once for each: what it does is counted in µs."""
        finding, evidence = subject.finding, subject.evidence
        of_rule, shaped = self._of_rule(reading.rule, finding.rule_name)
        path = reading.path
        clues = [*of_rule, *self._of_path(path)]
        if finding.validity or finding.triage:
            clues += self._of_status.get(("validity", finding.validity), ())
            clues += self._of_status.get(("triage", finding.triage), ())
        if evidence is None or finding.value_state != VALUE_STATE_PRESENT:
            clues.append(self._signals["value.redacted"])
            return (*clues, *of_name, *of_line)
        value, name, start = reading.value, reading.name, reading.start
        clues += of_value.matched
        if shaped and not _has_shape(of_value.matched, shaped):
            clues.append(self._signals["rule.contradicted"])
        clues += of_value.rest
        clues += of_name
        if 3 < len(value) <= len(name) + 3 and _same_words(value, name):
            clues.append(self._signals["shape.same_as_name"])
        clues += of_line
        if start > 0:
            self._look_around(clues, reading.line, start, start + len(value), path)
        if evidence.extra and evidence.extra.get("is_canary") == "true":
            clues.append(self._signals["check.canary"])
        if reading.decoder not in _NOT_DECODED:
            clues.append(self._signals["decoder.encoded"])
        return tuple(clues)

    def _look_at_path(self, path: str) -> tuple[Clue, ...]:
        field = self._pack.place
        return tuple([field.clues[index] for index in field.matcher.hits(path.encode())])

    def _look_at_rule(self, rule: str, name: str) -> tuple[tuple[Clue, ...], str]:
        """Clues, and how the ids of patterns begin that its credentials match."""
        field = self._pack.scanner
        hits = set(field.matcher.hits(rule.encode())) | set(field.matcher.hits(name.encode()))
        base = self._signals["base"]
        shaped = (known for pattern, known in self._pack.shaped if pattern.search(rule))
        named = (
            clue
            for pattern, clue in self._pack.titles
            if pattern.search(rule) or pattern.search(name)
        )
        titled = tuple(islice(named, 1))
        if hits:
            seen = (field.clues[index] for index in sorted(hits))
            return (base, *seen, *titled), next(shaped, "")
        specific = (self._signals["rule.specific"],) if rule else ()
        return (base, *specific, *titled), next(shaped, "")

    def _look_at_value(self, value: str, scanned: Sequence[Clue]) -> _Value:
        data = value.encode()
        signals = self._signals
        matched = []
        for clue in scanned:
            matched.append(clue)
            if clue.provider is not None and clue.provider.check:
                check = CHECKS[clue.provider.check]
                matched += [signals[one] for one in check(value, self._moment)]
        rest = [signals[one] for one in shape.signals(data)]
        if len(data) in self._pack.sample_lengths:
            sample = self._pack.samples.get(hashlib.sha256(data).digest())
            if sample is not None:
                rest.insert(0, sample)
        return _Value(tuple(matched), tuple(rest))

    def _look_around(self, clues: list[Clue], line: str, start: int, end: int, path: str) -> None:
        """Is the value a literal, or a piece of an expression?"""
        before = line[:start]
        if '"' in before or "'" in before or "`" in before:
            return
        if line[end : end + 1] in _CONTINUES:
            clues.append(self._signals["code.continues"])
        elif path[path.rfind(".") :] in self._pack.code_endings and not before.isspace():
            clues.append(self._signals["code.unquoted"])

    def _weigh(self, seen: tuple[Clue, ...]) -> Judged:
        weighed = weigh(self._pack, seen, self._profile)
        confidence = weighed.confidence
        opinion = Opinion(
            risk=weighed.risk,
            confidence=round(confidence, 4),
            reason=reason(weighed, weighed.risk, confidence < _HALF),
            observations=tuple(map(_observation, weighed.clues[:_MAX_OBSERVATIONS])),
            decisive=confidence >= _SURE_REAL or confidence <= self._profile.settled,
        )
        return Judged(weighed, opinion)


def _scan(field: Field, texts: Iterable[str]) -> dict[str, tuple[Clue, ...]]:
    """The clues of each text; of equal ones once."""
    clues, hits = field.clues, field.matcher.hits
    seen: dict[str, tuple[Clue, ...]] = {"": ()}
    for text in texts:
        if text not in seen:
            seen[text] = tuple([clues[index] for index in hits(text.encode())])
    return seen


def _has_shape(matched: Sequence[Clue], provider: str) -> bool:
    """Whether a provider whose id begins so has a pattern among those that matched."""
    return any(
        clue.provider is not None and clue.provider.id.startswith(provider) for clue in matched
    )


@lru_cache(maxsize=4096)  # by identity: a clue is made once, with its pack
def _observation(clue: Clue) -> Observation:
    return Observation(clue.id, clue.where, clue.weight, clue.says)


def _same_words(value: str, name: str) -> bool:
    plain = value.replace("_", "").replace("-", "").lower()
    return len(plain) > 3 and plain in name.replace("_", "").replace("-", "").lower()


def _moment(batch: Sequence[Subject]) -> float:
    """What findings of one report are judged as of, in seconds since 1970: said with
    them, so that the same verdicts can be derived again.
    """
    if batch and batch[0].header.HasField("judged_at"):
        return batch[0].header.judged_at.ToMicroseconds() / 1e6
    return time.time()


_ABOUT = {
    FINDING_KIND_VULNERABILITY: "vulnerabilities",
    FINDING_KIND_MISCONFIGURATION: "misconfigurations",
    FINDING_KIND_CODE: "weaknesses in code",
    FINDING_KIND_POSTURE: "the posture of assets",
    FINDING_KIND_LOG: "logs",
}
_DECIDED = {
    TRIAGE_FALSE_POSITIVE: "the report carries a person's decision that it is not real",
    TRIAGE_ACCEPTED: "the report carries a person's acceptance of the risk",
    TRIAGE_REVOKED: "the report says that it was settled",
    TRIAGE_TEST_ONLY: "the report says that it concerns tests only",
}
_RATED = {
    SEVERITY_CRITICAL: (RISK_HIGH, "critical"),
    SEVERITY_HIGH: (RISK_HIGH, "high"),
    SEVERITY_MEDIUM: (RISK_MEDIUM, "medium"),
    SEVERITY_LOW: (RISK_LOW, "low"),
    SEVERITY_INFO: (RISK_LOW, "informational"),
}


@lru_cache
def _by_severity(
    kind: FindingKind.ValueType, severity: Severity.ValueType, triage: Triage.ValueType
) -> Opinion:
    """Kinds without rules of ours: a person's decision in the report, or else the
    scanner's own word, said to be that."""
    about = _ABOUT.get(kind, "this kind of finding")
    if triage in _DECIDED:
        said = _DECIDED[triage]
        return Opinion(
            risk=RISK_LOW,
            confidence=None,
            reason=f"{said[0].upper()}{said[1:]}.",
            observations=(Observation(f"triage.{_TRIAGE[triage]}", "triage", 0.0, said),),
            decisive=False,
        )
    if severity in _RATED:
        risk, word = _RATED[severity]
        says = f"the scanner rates this {word}"
    else:
        risk, says = RISK_MEDIUM, "the scanner gives no rating"
    return Opinion(
        risk=risk,
        confidence=None,
        reason=f"{says.capitalize()}; Winnow has no rule of its own for {about} yet.",
        observations=(Observation("severity.native", "severity", 0.0, says),),
        decisive=False,
    )


STAGE = Heuristics(pack(), PROFILES["balanced"])
