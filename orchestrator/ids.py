"""Ids of findings: "<report_id>.<ordinal>"."""

from __future__ import annotations

import uuid

from runtime.errors import WinnowError

_MAX_ORDINAL = (1 << 63) - 1


def finding_id(text: str) -> tuple[uuid.UUID, int]:
    """The report's id and the finding's ordinal.

    Raises:
        WinnowError: FINDING_NOT_FOUND, also for what is no such id.
    """
    report, _, ordinal = text.partition(".")
    try:
        if ordinal.isascii() and ordinal.isdigit() and int(ordinal[:20]) <= _MAX_ORDINAL:
            return uuid.UUID(report), int(ordinal)
    except ValueError:
        pass
    raise no_finding("")


def no_finding(text: str) -> WinnowError:
    """The error for a finding that is not there; `text` is its id, canonical or empty."""
    return WinnowError(
        "FINDING_NOT_FOUND",
        "no finding has this id; it reads <report_id>.<ordinal>",
        finding_id=text,
    )
