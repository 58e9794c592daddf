"""What is written down of a run: one JSON object a line, no key and no body among them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TextIO


@dataclass(frozen=True, slots=True)
class Sent:
    """One request and its answer. Times are seconds from the start of the run.

    Args:
        number: from 0, within its emitter.
        first: number of the request whose Idempotency-Key it has; its own as a rule.
        key: label of the key; empty for none.
        planned: when it was due.
        sent: when it was really sent.
        ended: when its answer was read, or it was given up.
        status: of HTTP; 0 where there was no answer.
        reason: why it was refused; empty where it was not, or where nobody said why.
        bytes: of its body.
        report_id: of the answer, where there is one.
        replayed: whether the server says that it had answered this one before.
        report_status: as it was answered.
    """

    emitter: str
    number: int
    first: int
    kind: str
    key: str
    report_format: str
    planned: float
    sent: float
    ended: float
    status: int
    reason: str
    bytes: int
    report_id: str = ""
    replayed: bool = False
    report_status: str = ""

    @property
    def accepted(self) -> bool:
        """Whether the server took the report."""
        return 200 <= self.status < 300

    @property
    def latency(self) -> float:
        """Seconds from when it was due: what somebody waits who sends on time."""
        return self.ended - self.planned

    @property
    def service(self) -> float:
        """Seconds from when it was sent."""
        return self.ended - self.sent


@dataclass(frozen=True, slots=True)
class Ended:
    """How a report that was accepted ended; `seconds` from its making, by the server's clock."""

    report_id: str
    status: str
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Memory:
    """What the server's processes held, at seconds from the start."""

    at: float
    rss_bytes: int


Line = Sent | Ended | Memory
_KINDS = {Sent: "request", Ended: "report", Memory: "memory"}


class Telemetry:
    """Keeps what happens, for the summary, and writes it at once where that is wanted."""

    def __init__(self, file: TextIO | None = None) -> None:
        self.sent: list[Sent] = []
        self.ended: list[Ended] = []
        self.memory: list[Memory] = []
        self._file = file

    def add(self, line: Line) -> None:
        """Takes one line."""
        if isinstance(line, Sent):
            self.sent.append(line)
        elif isinstance(line, Ended):
            self.ended.append(line)
        else:
            self.memory.append(line)
        if self._file is not None:
            self._file.write(json.dumps({"type": _KINDS[type(line)], **_members(line)}) + "\n")


def _members(line: Line) -> dict[str, object]:
    members = asdict(line)
    if isinstance(line, Sent):
        members |= {"latency": line.latency, "service": line.service}
    return {
        name: round(value, 6) if isinstance(value, float) else value
        for name, value in members.items()
    }
