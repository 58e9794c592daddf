"""The cascade: opens evidence, asks the stages, writes the verdicts.

The first decisive opinion wins; where none is, the last stage that had one
decides. What every asked stage saw stands in the verdict, the decider's first.
What is left open then may be kept back for a language model (`sift`, `settle`).
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from moderator.stage import Observation, Opinion, Stage, Subject
from runtime.sealing import Sealer
from winnow.finding.v1.finding_batch_pb2 import FindingBatch
from winnow.finding.v1.finding_pb2 import Finding
from winnow.finding.v1.plain_evidence_pb2 import PlainEvidence
from winnow.finding.v1.verdict_pb2 import Evidence, Risk, Verdict, VerdictBatch
from winnow.moderate.v1.moderate_service_pb2 import ModerateHeader

if TYPE_CHECKING:
    from moderator.stages.llm import Case, LanguageModel, Outcome

_RENDERED = 4096
_NOTHING: Mapping[int, Verdict] = {}

# A stage's index and its opinion.
_Asked = tuple[int, Opinion]


class Doubt(NamedTuple):
    """A finding that the stages left open, and what they said."""

    subject: Subject
    asked: tuple[_Asked, ...]


class Pipeline:
    """Judges batches with a fixed row of stages. Serves one thread at a time.

    Building one prepares the stages, which takes seconds (patterns compile).

    Args:
        stages: in the order in which they are asked; the first never abstains.
    """

    def __init__(self, stages: Sequence[Stage]) -> None:
        if not stages:
            raise ValueError("a pipeline needs at least one stage")
        self._stages = tuple(stages)
        for stage in stages:
            stage.prepare()
        _give_back()
        self._inputs = {name: digest for stage in stages for name, digest in stage.inputs.items()}
        self._head = lru_cache(_RENDERED)(self._render_head)
        self._tail = lru_cache(_RENDERED)(self._render_tail)

    def judge(
        self,
        header: ModerateHeader,
        batch: FindingBatch,
        sealer: Sealer,
        recorded: Mapping[int, Verdict] = _NOTHING,
    ) -> VerdictBatch:
        """One verdict for each finding, in the batch's order.

        Args:
            header: what the findings share.
            batch: at most 256 findings.
            sealer: of the findings' report, for its evidence.
            recorded: earlier verdicts by ordinal in which a language model had a
                part: what it said is taken from there.

        Raises:
            WinnowError: SEAL_BROKEN if evidence does not open.
        """
        subjects = [_open(finding, sealer, header) for finding in batch.findings]
        result = VerdictBatch(inputs=self._inputs)
        add = result.verdicts.add
        for subject, asked in zip(subjects, self._ask(subjects), strict=True):
            ordinal = subject.finding.ordinal
            if recorded and (earlier := recorded.get(ordinal)):
                result.MergeFrom(self._recall(Doubt(subject, asked), earlier))
            else:
                add(ordinal=ordinal).MergeFromString(self._render(asked))
        return result

    def _recall(self, doubt: Doubt, earlier: Verdict) -> VerdictBatch:
        """The verdict that follows from what a language model said before."""
        from moderator.stages.llm import LanguageModel, recall

        last = doubt.asked[-1][1]
        outcome = recall(last, doubt.subject.finding.validity, earlier)
        made = self.settle(doubt, LanguageModel, outcome)
        made.ClearField("inputs")  # the batch's own
        return made

    def sift(
        self, header: ModerateHeader, batch: FindingBatch, sealer: Sealer, case: Case
    ) -> tuple[VerdictBatch, list[Doubt]]:
        """As `judge`, but keeps back what a language model is to be asked about.

        Args:
            case: the report, for the language model; gets the opened values.

        Returns:
            The verdicts that stand, and the findings that wait for `settle`.
        """
        subjects = [_open(finding, sealer, header) for finding in batch.findings]
        case.keep(subjects)
        result = VerdictBatch(inputs=self._inputs)
        doubts = []
        for subject, asked in zip(subjects, self._ask(subjects), strict=True):
            mark = b""
            if case.wants(subject, asked[-1][1]):
                if case.spent is None:
                    doubts.append(Doubt(subject, asked))
                    continue
                case.pass_over()
                mark = _as_part("llm", case.spent)
            made = self._render(asked) + mark
            result.verdicts.add(ordinal=subject.finding.ordinal).MergeFromString(made)
        return result, doubts

    def said(self, doubt: Doubt) -> list[tuple[str, Opinion]]:
        """The stages that had an opinion on a doubt, by name, in order."""
        return [(self._stages[index].name, opinion) for index, opinion in doubt.asked]

    def settle(
        self, doubt: Doubt, model: LanguageModel | type[LanguageModel], outcome: Outcome
    ) -> VerdictBatch:
        """The verdict on a doubt, after the language model was asked."""
        result = VerdictBatch(inputs=self._inputs)
        verdict = result.verdicts.add(ordinal=doubt.subject.finding.ordinal)
        verdict.MergeFromString(self._render(doubt.asked))
        before = list(verdict.evidence)
        seen = [_evidence(model.name, one) for one in outcome.observations]
        verdict.ClearField("evidence")
        opinion = outcome.opinion
        if opinion is None:
            verdict.evidence.extend([*before, *seen])
        else:
            verdict.evidence.extend([*seen, *before])
            verdict.risk = opinion.risk
            verdict.reason = opinion.reason
            verdict.source = model.source
            verdict.decided_by = f"{model.name}/{model.version}"
            if opinion.confidence is not None:
                verdict.confidence = opinion.confidence
        verdict.inputs.update(outcome.inputs)
        return result

    def _ask(self, subjects: Sequence[Subject]) -> list[tuple[_Asked, ...]]:
        """For each subject the opinions of all stages that had one, in their order."""
        first = self._stages[0].judge(subjects)
        asked: list[tuple[_Asked, ...]] = [
            ((0, opinion),) if opinion is not None else () for opinion in first
        ]
        for index, stage in enumerate(self._stages[1:], 1):
            open_ones = [at for at, given in enumerate(asked) if not given[-1][1].decisive]
            if not open_ones:
                break
            opinions = stage.judge([subjects[at] for at in open_ones])
            for at, opinion in zip(open_ones, opinions, strict=True):
                if opinion is not None:
                    asked[at] += ((index, opinion),)
        return asked

    def _render(self, asked: tuple[_Asked, ...]) -> bytes:
        """A serialised verdict without its ordinal. A message's parts one behind the other
        are the message, and its parts come back more often than the whole does."""
        decider, opinion = asked[-1]
        parts = [self._head(decider, opinion.risk, opinion.confidence, opinion.reason)]
        parts += [self._tail(index, given.observations) for index, given in reversed(asked)]
        return b"".join(parts)

    def _render_head(
        self, decider: int, risk: Risk.ValueType, confidence: float | None, reason: str
    ) -> bytes:
        stage = self._stages[decider]
        return Verdict(
            risk=risk,
            reason=reason,
            source=stage.source,
            confidence=confidence,
            decided_by=f"{stage.name}/{stage.version}",
        ).SerializeToString()

    def _render_tail(self, index: int, observations: tuple[Observation, ...]) -> bytes:
        name = self._stages[index].name
        return b"".join([_as_part(name, seen) for seen in observations])


def _give_back() -> None:
    """Returns to the system what compiling patterns took: a third of the memory. Only
    GNU's C library holds on to it, and can be told."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _open(finding: Finding, sealer: Sealer, header: ModerateHeader) -> Subject:
    sealed = finding.sealed_evidence
    if not sealed:
        return Subject(finding, None, header)
    plain = sealer.open(sealed, finding.ordinal)
    return Subject(finding, PlainEvidence.FromString(plain), header)


@lru_cache(maxsize=4096)  # a stage sees the same few things again and again
def _evidence(stage: str, seen: Observation) -> Evidence:
    return Evidence(
        stage=stage, rule=seen.rule, where=seen.where, weight=seen.weight, detail=seen.detail
    )


@lru_cache(maxsize=4096)
def _as_part(stage: str, seen: Observation) -> bytes:
    """A serialised verdict with this as its only evidence."""
    return Verdict(evidence=[_evidence(stage, seen)]).SerializeToString()
