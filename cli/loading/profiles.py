"""When requests are sent: a profile is a rate over time, and a rate gives moments.

Pure. A profile is a list of spans in which the rate changes linearly; the moments are
where the integral of the rate reaches one half, one and a half, and so on, or, at
random, the sums of exponential steps (a Poisson process).
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, model_validator

Rate = Annotated[float, Field(ge=0, le=10_000, allow_inf_nan=False)]
Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]


class Span(NamedTuple):
    """`seconds` in which the rate goes from `first` to `last` requests a second."""

    seconds: float
    first: float
    last: float

    @property
    def requests(self) -> float:
        """The integral of the rate."""
        return self.seconds * (self.first + self.last) / 2

    def reached(self, requests: float) -> float:
        """Seconds into the span at which its integral is `requests`."""
        slope = (self.last - self.first) / self.seconds
        # The root of first·t + slope·t²/2 in the form that no slope of zero upsets.
        root = math.sqrt(max(0.0, self.first**2 + 2 * slope * requests))
        return min(self.seconds, 2 * requests / (self.first + root)) if requests else 0.0


class _Profile(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Constant(_Profile):
    """The same rate all the time."""

    kind: Literal["constant"]
    rate: Rate

    def spans(self, seconds: float) -> Iterator[Span]:
        yield Span(seconds, self.rate, self.rate)


class Ramp(_Profile):
    """A rate that changes evenly from the start to the end."""

    kind: Literal["ramp"]
    from_: Rate = Field(alias="from")
    to: Rate

    def spans(self, seconds: float) -> Iterator[Span]:
        yield Span(seconds, self.from_, self.to)


class Burst(_Profile):
    """A rate, and for the last `lasting` of every `every` seconds a higher one."""

    kind: Literal["burst"]
    rate: Rate
    peak: Rate
    every: Seconds
    lasting: Seconds

    @model_validator(mode="after")
    def _fits(self) -> Burst:
        if self.lasting >= self.every:
            raise ValueError("lasting must be shorter than every")
        return self

    def spans(self, seconds: float) -> Iterator[Span]:
        left = seconds
        while left > 0:
            for length, rate in ((self.every - self.lasting, self.rate), (self.lasting, self.peak)):
                if left > 0:
                    yield Span(min(length, left), rate, rate)
                    left -= length


class Soak(_Profile):
    """A rate that is reached gently, within `warm_up` seconds, and then held."""

    kind: Literal["soak"]
    rate: Rate
    warm_up: Seconds = 10.0

    def spans(self, seconds: float) -> Iterator[Span]:
        yield Span(min(self.warm_up, seconds), 0.0, self.rate * min(1.0, seconds / self.warm_up))
        if seconds > self.warm_up:
            yield Span(seconds - self.warm_up, self.rate, self.rate)


Profile = Annotated[Constant | Ramp | Burst | Soak, Field(discriminator="kind")]


def peak(profile: Profile, seconds: float) -> float:
    """The highest rate within `seconds`, in requests a second."""
    return max(max(span.first, span.last) for span in profile.spans(seconds))


def expected(profile: Profile, seconds: float) -> float:
    """How many requests the rate makes in `seconds`."""
    return sum(span.requests for span in profile.spans(seconds))


def moments(profile: Profile, seconds: float, rng: random.Random | None = None) -> Iterator[float]:
    """Seconds from the start, in order, each below or at `seconds`.

    Args:
        rng: draws the steps between them; without one they follow the rate exactly.
    """
    step = (lambda: rng.expovariate(1.0)) if rng else (lambda: 1.0)
    due = step() if rng else 0.5
    begin = before = 0.0
    for span in profile.spans(seconds):
        while due < before + span.requests:
            yield begin + span.reached(due - before)
            due += step()
        begin += span.seconds
        before += span.requests
