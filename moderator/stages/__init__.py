"""Which stages run, in order. The first never abstains; each later one is asked
about what the ones before it left undecided."""

from __future__ import annotations

from moderator.stage import Stage
from moderator.stages import heuristics

STAGES: tuple[Stage, ...] = (heuristics.STAGE,)
