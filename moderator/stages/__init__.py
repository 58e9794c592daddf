"""Which stages run, in order. The first never abstains; each later one is asked
about what the ones before it left undecided."""

from __future__ import annotations

from moderator.rules import pack
from moderator.stage import Stage
from moderator.stages.heuristics import Heuristics
from moderator.stages.ml import Learned
from moderator.weighing import PROFILES


def stages(profile: str = "balanced") -> tuple[Stage, ...]:
    """The stages under a profile, a key of `PROFILES`; they share the rule pack."""
    chosen = PROFILES[profile]
    first = Heuristics(pack(), chosen)
    return first, Learned(first, chosen)
