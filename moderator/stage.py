"""What a moderation stage is: one file in `stages`, with a class of this shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from winnow.finding.v1.finding_pb2 import Finding
from winnow.finding.v1.plain_evidence_pb2 import PlainEvidence
from winnow.finding.v1.verdict_pb2 import Risk, VerdictSource
from winnow.moderate.v1.moderate_service_pb2 import ModerateHeader


class Subject(msgspec.Struct, frozen=True, eq=False, gc=False):
    """One finding as a stage sees it; `evidence` is None if the report held no text."""

    finding: Finding
    evidence: PlainEvidence | None
    header: ModerateHeader


class Observation(msgspec.Struct, frozen=True, eq=False, gc=False):
    """One thing seen: the fields of `winnow.finding.v1.Evidence`, without the stage.
    Compared by identity, like opinions."""

    rule: str
    where: str
    weight: float
    detail: str


class Opinion(msgspec.Struct, frozen=True, eq=False, gc=False):
    """What one stage thinks of one finding.

    `confidence` is the probability from 0 to 1 that the finding is real, None
    where the stage cannot say; `decisive` ends the cascade. `reason` and the
    observations never hold input text. A stage that tells of the same thing with
    the same observation lets the pipeline reuse its bytes.
    """

    risk: Risk.ValueType
    confidence: float | None
    reason: str
    observations: tuple[Observation, ...]
    decisive: bool


class Stage(Protocol):
    """Judges batches of findings. Serves one thread at a time."""

    @property
    def name(self) -> str:
        """Short name, as it stands in evidence."""
        ...

    @property
    def version(self) -> int:
        """Raised when the same finding may get another opinion."""
        ...

    @property
    def source(self) -> VerdictSource.ValueType:
        """How its verdicts are marked."""
        ...

    @property
    def inputs(self) -> Mapping[str, str]:
        """Digests of what it decides from, e.g. {"rules": "sha256:…"}."""
        ...

    def prepare(self) -> None:
        """Does, once and at start, what the first call of `judge` would wait for."""
        ...

    def judge(self, batch: Sequence[Subject]) -> list[Opinion | None]:
        """One opinion for each subject, in order; None abstains."""
        ...
