"""What an emitter will send, and when: pure, and the same for the same seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import NamedTuple

from cli.loading.corpus import Corpus
from cli.loading.profiles import moments
from cli.loading.reports import written
from cli.loading.scenario import Emitter

GOOD = "good"
# Kinds that come back to a request before them.
AGAIN = ("replayed", "conflicting")


class Shot(NamedTuple):
    """One request to come.

    Args:
        number: from 0, within its emitter.
        at: seconds from the start.
        kind: `GOOD`, or the name of a share.
        key: label of the key; empty for none.
        findings: of its report.
    """

    number: int
    at: float
    kind: str
    key: str
    report_format: str
    findings: int


def shots(emitter: Emitter, duration: float, seed: int) -> list[Shot]:
    """All requests of an emitter, in their order."""
    rng = random.Random(f"{seed} {emitter.name}")  # noqa: S311 -- the same for the same seed
    arrivals = rng if emitter.arrivals == "random" else None
    due = list(moments(emitter.profile, duration, arrivals))
    # As many as the shares say, also in a short run, at places that are drawn.
    kinds = [
        kind for kind, share in emitter.share.of().items() for _ in range(round(share * len(due)))
    ]
    kinds = [*kinds[: len(due)], *[GOOD] * (len(due) - len(kinds))]
    rng.shuffle(kinds)
    planned: list[Shot] = []
    known = set()
    for number, (at, kind) in enumerate(zip(due, kinds, strict=True)):
        key = emitter.keys[number % len(emitter.keys)] if emitter.keys else ""
        if kind in AGAIN and key not in known:
            kind = GOOD
        if kind == GOOD:
            known.add(key)
        size = rng.randint(emitter.findings.min, emitter.findings.max)
        planned.append(Shot(number, at, kind, key, rng.choice(emitter.formats), size))
    return planned


class Bodies:
    """What requests carry; made when it is needed, of values that no file holds.

    Args:
        corpus: what findings are drawn from.
        seed: of the run.
    """

    def __init__(self, corpus: Corpus, seed: int) -> None:
        self._corpus = corpus
        self._seed = seed
        self._made: dict[str, Callable[[bytes], bytes]] = {
            "malformed": lambda report: report[: len(report) // 2],
            "unknown": lambda report: b"nothing that a scanner writes\n" * (len(report) // 30 + 1),
            "envelope": lambda report: b'{"scanner_type": "gitleaks"}',
        }

    def body(self, emitter: str, shot: Shot) -> bytes:
        """The body of a request; the same for the same shot, and nothing for a replayed one."""
        if shot.kind == "replayed":
            return b""
        rng = random.Random(f"{self._seed} {emitter} {shot.number}")  # noqa: S311 -- the same for the same seed
        # Cut in its middle, only this one is damaged beyond a record that cannot be read.
        report_format = "gitleaks" if shot.kind == "malformed" else shot.report_format
        report = b"".join(written(report_format, shot.findings, self._corpus, rng))
        return self._made.get(shot.kind, bytes)(report)


def endless(first: bytes, size: int) -> Iterator[bytes]:
    """`size` bytes that begin with `first` and go on with spaces, none of them held."""
    yield first[:size]
    left = size - len(first)
    blank = b" " * (1 << 18)
    while left > 0:
        yield blank[:left]
        left -= len(blank)
