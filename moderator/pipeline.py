"""The cascade: opens evidence, asks the stages, writes the verdicts.

The first decisive opinion wins; where none is, the last stage that had one
decides. What every asked stage saw stands in the verdict, the decider's first.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from moderator.stage import Observation, Opinion, Stage, Subject
from runtime.sealing import Sealer
from winnow.finding.v1.finding_batch_pb2 import FindingBatch
from winnow.finding.v1.finding_pb2 import Finding
from winnow.finding.v1.plain_evidence_pb2 import PlainEvidence
from winnow.finding.v1.verdict_pb2 import Evidence, Verdict, VerdictBatch
from winnow.moderate.v1.moderate_service_pb2 import ModerateHeader

_RENDERED = 16384

# A stage's index and its opinion.
_Asked = tuple[int, Opinion]


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
        self._inputs = {name: digest for stage in stages for name, digest in stage.inputs.items()}
        # Opinions are compared by identity: a stage that reuses one gets its bytes reused.
        self._rendered = lru_cache(_RENDERED)(self._render)

    def judge(self, header: ModerateHeader, batch: FindingBatch, sealer: Sealer) -> VerdictBatch:
        """One verdict for each finding, in the batch's order.

        Args:
            header: what the findings share.
            batch: at most 256 findings.
            sealer: of the findings' report, for its evidence.

        Raises:
            WinnowError: SEAL_BROKEN if evidence does not open.
        """
        subjects = [_open(finding, sealer, header) for finding in batch.findings]
        result = VerdictBatch(inputs=self._inputs)
        add = result.verdicts.add
        for subject, asked in zip(subjects, self._ask(subjects), strict=True):
            add(ordinal=subject.finding.ordinal).MergeFromString(self._rendered(asked))
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
        """A serialised verdict without its ordinal."""
        decider, opinion = asked[-1]
        stage = self._stages[decider]
        verdict = Verdict(
            risk=opinion.risk,
            reason=opinion.reason,
            source=stage.source,
            confidence=opinion.confidence,
            decided_by=f"{stage.name}/{stage.version}",
            evidence=[
                _evidence(self._stages[index].name, seen)
                for index, given in reversed(asked)
                for seen in given.observations
            ],
        )
        return verdict.SerializeToString(deterministic=True)


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
