"""What a load scenario says: a YAML file, read strictly, with errors that name the line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from cli.loading.profiles import Profile, Seconds, expected, peak

MOST_REQUESTS = 200_000
_MOST_IN_FLIGHT = 2_048
_MOST_BYTES = 256 << 10
_MOST_FINDINGS = 20_000
_DURATION = re.compile(r"(\d{1,6}(?:\.\d{1,3})?)(s|m|h)")
_UNITS = {"s": 1, "m": 60, "h": 3600}

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")]
Ratio = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Reason = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]{0,63}$")]
Kind = Literal["malformed", "unknown", "envelope", "oversized", "conflicting", "unsigned"]
Count = Annotated[int, Field(ge=0)]
Milliseconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class ScenarioError(Exception):
    """The scenario cannot be run; the message says what is wrong, where, and what to do."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Sizes(_Part):
    """Findings of a report: any number between the two, each as likely."""

    min: int = Field(ge=1, le=_MOST_FINDINGS)
    max: int = Field(ge=1, le=_MOST_FINDINGS)

    @model_validator(mode="after")
    def _ordered(self) -> Sizes:
        if self.min > self.max:
            raise ValueError("min must not be above max")
        return self


class Shares(_Part):
    """What part of the requests is not as it should be; the rest is good.

    malformed: a report cut in its middle. unknown: a text that is no report. envelope:
    one that is not as documented. oversized: larger than the server takes. replayed: an
    earlier request once more, the same in all of it. conflicting: an earlier
    Idempotency-Key with other bytes. unsigned: without the key or the signature.
    """

    malformed: Ratio = 0.0
    unknown: Ratio = 0.0
    envelope: Ratio = 0.0
    oversized: Ratio = 0.0
    replayed: Ratio = 0.0
    conflicting: Ratio = 0.0
    unsigned: Ratio = 0.0

    @model_validator(mode="after")
    def _whole(self) -> Shares:
        if sum(self.of().values()) > 1:
            raise ValueError("the shares must not add up to more than 1")
        return self

    def of(self) -> dict[str, float]:
        """Shares by name."""
        return self.model_dump()


class Emitter(_Part):
    """Who sends: how much, of what, as whom.

    Args:
        arrivals: `even` follows the rate exactly, `random` as a Poisson process does.
        keys: labels of keys, used in turn.
        wait: requests wait for the report's end, else they are answered once it is durable.
        in_flight: requests under way at once; what is due beyond that waits, and its
            latency counts from when it was due.
        oversized_bytes: what an oversized request announces.
    """

    name: Name
    profile: Profile
    arrivals: Literal["even", "random"] = "even"
    auth: Literal["none", "key", "signed"] = "none"
    keys: list[Name] = []
    formats: list[Literal["gitleaks", "trufflehog", "sarif"]] = Field(
        default=["gitleaks", "trufflehog", "sarif"], min_length=1
    )
    findings: Sizes = Sizes(min=5, max=50)
    wait: bool = False
    in_flight: int = Field(default=32, ge=1, le=512)
    share: Shares = Shares()
    oversized_bytes: int = Field(default=(2 << 30) + 1, ge=1)

    @model_validator(mode="after")
    def _known(self) -> Emitter:
        if (self.auth == "none") != (not self.keys):
            raise ValueError("auth key or signed needs keys, and auth none has none")
        if self.share.unsigned and self.auth == "none":
            raise ValueError("share.unsigned makes sense with auth key or signed only")
        return self


class Expectations(_Part):
    """What must hold at the end; what is not given is not looked at.

    Upper bounds, but for `fairness`; `verdicts_p95_ms` by key. `reasons` are the only ones that refusals may have,
    `seen` those that must occur, `kinds` the only ones by what was wrong with a request.
    """

    lost: Count | None = None
    failed: Count | None = None
    unanswered: Count | None = None
    unexplained: Count | None = None
    doubled: Count | None = None
    p50_ms: Milliseconds | None = None
    p95_ms: Milliseconds | None = None
    p99_ms: Milliseconds | None = None
    verdicts_p95_ms: dict[str, Milliseconds] | None = None
    p95_ratio: Annotated[float, Field(ge=1)] | None = None
    memory_growth: Annotated[float, Field(ge=0)] | None = None
    fairness: Ratio | None = None
    reasons: list[Reason] | None = None
    seen: list[Reason] | None = None
    kinds: dict[Kind, list[Reason]] | None = None


class Scenario(_Part):
    """A whole scenario.

    Args:
        duration: seconds of sending, or a text such as 90s, 5m, 1h.
        timeout: seconds that a request may take.
        settle: seconds that are waited, after the last request, for what was accepted.
    """

    name: Name
    description: str = Field(default="", max_length=500)
    duration: Seconds
    timeout: Seconds = 60.0
    settle: Seconds = 60.0
    emitters: list[Emitter] = Field(min_length=1, max_length=50)
    expect: Expectations = Expectations()

    @model_validator(mode="before")
    @classmethod
    def _seconds(cls, given: Any) -> Any:
        if isinstance(given, dict) and isinstance(given.get("duration"), str):
            return {**given, "duration": seconds(given["duration"])}
        return given

    @model_validator(mode="after")
    def _bounded(self) -> Scenario:
        names = [emitter.name for emitter in self.emitters]
        if len(set(names)) != len(names):
            raise ValueError("two emitters have the same name")
        if sum(emitter.in_flight for emitter in self.emitters) > _MOST_IN_FLIGHT:
            raise ValueError(f"in_flight of all emitters must not be above {_MOST_IN_FLIGHT}")
        if not set(self.expect.verdicts_p95_ms or ()) <= set(self.keys):
            raise ValueError("expect.verdicts_p95_ms has a key that no emitter has")
        # A random one may send a few more.
        if sum(expected(one.profile, self.duration) for one in self.emitters) > MOST_REQUESTS:
            raise ValueError(
                f"it makes more than {MOST_REQUESTS} requests: shorten it, or lower it"
            )
        return self

    @property
    def keys(self) -> list[str]:
        """The labels of all keys, in the order of their first use."""
        return list(dict.fromkeys(key for emitter in self.emitters for key in emitter.keys))

    @property
    def peak(self) -> float:
        """Requests a second of all emitters together, each at its highest."""
        return sum(peak(emitter.profile, self.duration) for emitter in self.emitters)


def seconds(text: str) -> float:
    """90s, 5m or 1h in seconds; 0, which no duration may be, for anything else."""
    match = _DURATION.fullmatch(text.strip().lower())
    return float(match[1]) * _UNITS[match[2]] if match else 0.0


def load(file: Path, duration: float | None = None) -> Scenario:
    """The scenario of a file.

    Args:
        duration: seconds, instead of what the file says.

    Raises:
        ScenarioError: it cannot be read, or is not as documented; with the line.
    """
    try:
        with file.open("rb") as data:
            text = data.read(_MOST_BYTES + 1)
    except OSError as error:
        raise ScenarioError(
            f"{file}: cannot be read: {(error.strerror or 'unknown error').lower()}"
        ) from None
    if len(text) > _MOST_BYTES:
        raise ScenarioError(f"{file}: is larger than {_MOST_BYTES >> 10} KiB")
    try:
        tree = yaml.compose(text, yaml.SafeLoader)
        found = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ScenarioError(f"{file}:{line}: is not YAML from here on") from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise ScenarioError(f"{file}: is not YAML in UTF-8") from None
    if not isinstance(found, dict):
        raise ScenarioError(f"{file}:1: must be a mapping with name, duration and emitters")
    if duration is not None:
        found["duration"] = duration
    try:
        return Scenario.model_validate(found)
    except ValidationError as error:
        raise ScenarioError(
            "\n".join(
                f"{file}:{_line(tree, one['loc'])}: {_place(tree, one['loc'])}{_words(one)}"
                for one in error.errors(include_url=False, include_input=False)
            )
        ) from None


def _walk(tree: yaml.Node, place: tuple[int | str, ...]) -> list[tuple[int | str, yaml.Node]]:
    """The nodes on the way to a place, as far as there are any; a union's tag is none."""
    found, node = [], tree
    for step in place:
        if isinstance(node, yaml.SequenceNode) and isinstance(step, int):
            node = node.value[step]
        elif isinstance(node, yaml.MappingNode):
            inner = [value for key, value in node.value if key.value == step]
            if not inner:
                continue
            node = inner[-1]
        else:
            continue
        found.append((step, node))
    return found


def _line(tree: yaml.Node, place: tuple[int | str, ...]) -> int:
    walked = _walk(tree, place)
    line: int = (walked[-1][1] if walked else tree).start_mark.line + 1
    return line


def _place(tree: yaml.Node, place: tuple[int | str, ...]) -> str:
    """`emitters[0].profile.rate: `; empty for the whole."""
    steps = [step for step, _ in _walk(tree, place)]
    if place and place[-1] not in steps:
        steps.append(place[-1])  # what is missing
    shown = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)
    return f"{shown.removeprefix('.')}: " if shown else ""


def _words(error: Any) -> str:
    """What is wrong, in words that repeat no input."""
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    if error["type"] == "union_tag_invalid":
        return f"kind must be one of {error['ctx']['expected_tags']}"
    if error["type"] == "extra_forbidden":
        return "is not known here; docs/load.md lists what is"
    message: str = error["msg"]
    return message[:1].lower() + message[1:]
