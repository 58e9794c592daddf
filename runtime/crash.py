"""Named points at which a process can be made to die, for the tests of what survives.

`WINNOW_CRASH_POINT=name` or `name:n` arms one: the process ends there, the n-th time
that it comes by, as suddenly as by a power cut. Unarmed, a point costs a comparison.
"""

from __future__ import annotations

import os

VARIABLE = "WINNOW_CRASH_POINT"

# Where the points are; the runner arms each in turn (tools/crash.py).
POINTS = {
    "intake.chunk": "a piece of an upload is stored, and it is not whole",
    "intake.admitting": "a report and its job are written, not committed",
    "intake.admitted": "a report and its job are committed, nobody has been told",
    "job.claimed": "jobs are claimed, none is begun",
    "job.again": "a job that failed has been put back",
    "schedule.firing": "the jobs of due schedules are written, not committed",
    "writer.storing": "findings or verdicts are written, not committed",
    "writer.stored": "findings or verdicts are committed",
    "run.ingesting": "a report's last findings and its next state are written, not committed",
    "run.ending": "a report's end is written, not committed",
    "run.ended": "a report's end is committed, nobody has been told",
    "decision.deciding": "a decision is written, not committed",
    "decision.decided": "a decision is committed, nobody has been told",
    "raw.read": "that a report's bytes are read is committed, none is given out",
    "report.shredding": "a report's data key is destroyed, not committed",
    "report.deleting": "a report is removed, not committed",
    "report.clearing": "some of what a deleted report has left is cleared away",
    "sealing.rewrapping": "some data keys are wrapped anew, not committed",
    "sealing.rewrapped": "some data keys are wrapped anew, others are not yet",
    "audit.appending": "events are written to the audit log, not committed",
    "audit.appended": "events are in the audit log, nobody has been told",
    "gateway.body": "a piece of a body has been handed on",
    "gateway.accepted": "a report has been accepted, and its sender has not been told",
    "gateway.event": "some of a report's events have gone to a watcher",
    "rejudge.page": "some of a report's findings have been judged again",
    "ingestor.batch": "findings have been handed on",
    "ingestor.summary": "all is read, and nobody has been told",
    "moderator.judged": "findings are judged, and nobody has been told",
    "outbox.read": "events are read from the outbox, none is shipped",
    "outbox.audited": "the audit service has events that are not marked so",
    "outbox.published": "the event transport has events that are not marked so",
    "consumer.applied": "events have had their effect and are not acknowledged",
}

# What a process that is killed by SIGKILL shows in a shell.
EXIT_CODE = 137


def _armed() -> tuple[str, int]:
    name, _, count = os.environ.get(VARIABLE, "").partition(":")
    if name and name not in POINTS:
        raise ValueError(f"{VARIABLE}: no crash point has this name")
    return name, int(count or 1)


_name, _left = _armed()


def point(name: str, reached: bool = True) -> None:
    """Ends the process if this point is armed and it was come by often enough."""
    global _left
    if name != _name or not reached:
        return
    _left -= 1
    if _left <= 0:
        os._exit(EXIT_CODE)
