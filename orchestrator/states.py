"""The states of a report, and the only ways between them."""

from __future__ import annotations

from runtime.errors import WinnowError
from winnow.report.v1.report_pb2 import ReportStatus

CREATED = ReportStatus.REPORT_STATUS_CREATED
INGESTED = ReportStatus.REPORT_STATUS_INGESTED
PROCESSING = ReportStatus.REPORT_STATUS_PROCESSING
DONE = ReportStatus.REPORT_STATUS_DONE
ERROR = ReportStatus.REPORT_STATUS_ERROR

_NEXT: dict[ReportStatus.ValueType, frozenset[ReportStatus.ValueType]] = {
    CREATED: frozenset({INGESTED, ERROR}),
    INGESTED: frozenset({PROCESSING, ERROR}),
    PROCESSING: frozenset({DONE, ERROR}),
    DONE: frozenset(),
    ERROR: frozenset(),
}

ENDED = frozenset({DONE, ERROR})
UNFINISHED = frozenset(_NEXT) - ENDED


def name(status: ReportStatus.ValueType) -> str:
    """The state as people write it, e.g. "created"."""
    return ReportStatus.Name(status).removeprefix("REPORT_STATUS_").lower()


def advance(now: ReportStatus.ValueType, to: ReportStatus.ValueType) -> ReportStatus.ValueType:
    """`to`, if a report may go there from `now`.

    Raises:
        WinnowError: REPORT_STATE if it may not.
    """
    if to not in _NEXT.get(now, frozenset()):
        raise WinnowError(
            "REPORT_STATE",
            f"a report that is {name(now)} cannot become {name(to)}",
            report_status=name(now),
        )
    return to
