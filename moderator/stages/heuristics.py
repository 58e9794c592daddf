"""Heuristics: judges a finding by what the rule pack knows. Never abstains.

Three small scans (value, name, line) and cached looks at path and rule give the
clues of a finding. All else depends on the clues alone, so that it is worked
out once for each distinct set and reused: a report of a million findings has a
few thousand such sets. Nothing that is cached holds text of a sealed part.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache

from moderator import shape
from moderator.rules import Clue, Field, RulePack, pack
from moderator.stage import Observation, Opinion, Subject
from moderator.structure import CHECKS
from moderator.weighing import weigh
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
    Finding,
    FindingKind,
    Severity,
    Triage,
)
from winnow.finding.v1.plain_evidence_pb2 import PlainEvidence
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
_SECRET_KINDS = (FINDING_KIND_POSSIBLE_SECRET, FINDING_KIND_UNSPECIFIED)
_CONTINUES = frozenset("([.")
_NOT_DECODED = ("", "PLAIN")
_MAX_PATH = 512
_MAX_VALUE = 4096
_MAX_LINE = 600
_MAX_NAME = 128
_MAX_OBSERVATIONS = 6
_PATHS = 16384
_RULES = 4096
_OPINIONS = 16384
_QUOTES = " \t\r\n\"'`"
# Confidence at which no later stage is asked.
_SURE_REAL = 0.97
_SURE_NOT = 0.05


class Heuristics:
    """The stage over one rule pack."""

    name = "heuristics"
    version = 1
    source = VERDICT_SOURCE_HEURISTIC

    def __init__(self, rules: RulePack) -> None:
        self._pack = rules
        self._signals = rules.signals
        self.inputs = {"rules": rules.digest}
        self._of_status = {
            (field, number): (rules.signals[f"{field}.{word}"],)
            for field, words in (("validity", _VALIDITY), ("triage", _TRIAGE))
            for number, word in words.items()
        }
        self._of_path = lru_cache(_PATHS)(self._look_at_path)
        self._of_rule = lru_cache(_RULES)(self._look_at_rule)
        self._opinion = lru_cache(_OPINIONS)(self._weigh)

    def prepare(self) -> None:
        """Compiles the pack's patterns."""
        rules = self._pack
        for field in (rules.value, rules.name, rules.line, rules.place, rules.scanner):
            field.matcher.hits(b"")

    def judge(self, batch: Sequence[Subject]) -> list[Opinion | None]:
        """An opinion on every subject, in order; see `Stage`."""
        return [
            self._opinion(self._look(subject.finding, subject.evidence))
            if subject.finding.kind in _SECRET_KINDS
            else _by_severity(
                subject.finding.kind, subject.finding.severity, subject.finding.triage
            )
            for subject in batch
        ]

    def _look(self, finding: Finding, evidence: PlainEvidence | None) -> tuple[Clue, ...]:
        """All clues of one finding. Runs once for each: what it does is counted in µs."""
        path = finding.code.location.path
        clues = [*self._of_rule(finding.tool, finding.rule_id, finding.rule_name)]
        clues += self._of_path(path[-_MAX_PATH:])
        if finding.validity or finding.triage:
            clues += self._of_status.get(("validity", finding.validity), ())
            clues += self._of_status.get(("triage", finding.triage), ())
        if evidence is None:
            clues.append(self._signals["value.redacted"])
            return tuple(clues)
        match, context, name = evidence.match, evidence.context, evidence.variable
        if finding.value_state != VALUE_STATE_PRESENT:
            clues.append(self._signals["value.redacted"])
            clues += self._hits(self._pack.name, name[-_MAX_NAME:])
            clues += self._hits(self._pack.line, (match or context)[:_MAX_LINE])
            return tuple(clues)
        value = (evidence.value or match)[:_MAX_VALUE].strip(_QUOTES)
        line, start = _line_of(value, context, match)
        if not name and start > 0:
            name = _name_before(line, start)
        self._look_at_value(clues, value)
        if name:
            clues += self._hits(self._pack.name, name[-_MAX_NAME:])
            if 3 < len(value) <= len(name) + 3 and _same_words(value, name):
                clues.append(self._signals["shape.same_as_name"])
        if line:
            clues += self._hits(self._pack.line, line)
            if start > 0:
                self._look_around(clues, line, start, start + len(value), path)
        if evidence.decoder not in _NOT_DECODED:
            clues.append(self._signals["decoder.encoded"])
        return tuple(clues)

    @staticmethod
    def _hits(field: Field, text: str) -> list[Clue]:
        clues = field.clues
        return [clues[index] for index in field.matcher.hits(text.encode())]

    def _look_at_path(self, path: str) -> tuple[Clue, ...]:
        field = self._pack.place
        return tuple([field.clues[index] for index in field.matcher.hits(path.encode())])

    def _look_at_rule(self, tool: str, rule: str, name: str) -> tuple[Clue, ...]:
        field = self._pack.scanner
        hits = set(field.matcher.hits(rule.encode())) | set(field.matcher.hits(name.encode()))
        base = self._signals["base"]
        if hits:
            return (base, *(field.clues[index] for index in sorted(hits)))
        return (base, self._signals["rule.specific"]) if rule else (base,)

    def _look_at_value(self, clues: list[Clue], value: str) -> None:
        data = value.encode()
        signals = self._signals
        for clue in self._hits(self._pack.value, value):
            clues.append(clue)
            if clue.provider is not None and clue.provider.check:
                clues += [signals[seen] for seen in CHECKS[clue.provider.check](value)]
        samples = self._pack.samples
        if len(data) in self._pack.sample_lengths:
            sample = samples.get(hashlib.sha256(data).digest())
            if sample is not None:
                clues.append(sample)
        clues += [signals[seen] for seen in shape.signals(data)]

    def _look_around(self, clues: list[Clue], line: str, start: int, end: int, path: str) -> None:
        """Is the value a literal, or a piece of an expression?"""
        before = line[:start]
        if '"' in before or "'" in before or "`" in before:
            return
        if line[end : end + 1] in _CONTINUES:
            clues.append(self._signals["code.continues"])
        elif path[path.rfind(".") :] in self._pack.code_endings and not before.isspace():
            clues.append(self._signals["code.unquoted"])

    def _weigh(self, seen: tuple[Clue, ...]) -> Opinion:
        weighed = weigh(self._pack, seen)
        confidence = weighed.confidence
        return Opinion(
            risk=weighed.risk,
            confidence=round(confidence, 4),
            reason=reason(weighed),
            observations=tuple(map(_observation, weighed.clues[:_MAX_OBSERVATIONS])),
            decisive=confidence >= _SURE_REAL or confidence <= _SURE_NOT,
        )


@lru_cache(maxsize=4096)  # by identity: a clue is made once, with its pack
def _observation(clue: Clue) -> Observation:
    return Observation(clue.id, clue.where, clue.weight, clue.says)


def _line_of(value: str, context: str, match: str) -> tuple[str, int]:
    """The line that holds the value's beginning, and where in it; (text, -1) if none does."""
    head = value.partition("\n")[0]
    for text in (context, match):
        at = text.find(head) if head else -1
        if at >= 0:
            first = text.rfind("\n", 0, at) + 1
            last = text.find("\n", at)
            if at - first > _MAX_LINE // 2:
                first = at - _MAX_LINE // 2
            return text[first : last if last >= 0 else len(text)][:_MAX_LINE], at - first
    return (match or context)[:_MAX_LINE], -1


def _name_before(line: str, start: int) -> str:
    """The name that the value is given to, as far as the line tells."""
    before = line[: max(start, 0)].rstrip(" \t\"'`([{")
    if not before or before[-1] not in "=:>":
        return ""
    return before.rstrip("=:> \t\"'`").rpartition(" ")[2][-_MAX_NAME:]


def _same_words(value: str, name: str) -> bool:
    plain = value.replace("_", "").replace("-", "").lower()
    return len(plain) > 3 and plain in name.replace("_", "").replace("-", "").lower()


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


STAGE = Heuristics(pack())
