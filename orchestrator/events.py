"""The events of a report's life, and of API keys: names, payload shapes, envelopes.

Payloads carry ids, counts, digests, and who decided: never a finding's text. What a
call with an API key leads to names the key (`key_id`).
"""

from __future__ import annotations

import uuid
from typing import Any

from orchestrator import states
from runtime import context
from runtime.clock import uuid7
from winnow.event.v1.envelope_pb2 import Envelope, EventSeverity
from winnow.report.v1.report_progress_pb2 import ReportProgress

REPORT_CREATED = "REPORT_CREATED"
REPORT_INGESTED = "REPORT_INGESTED"
REPORT_PROCESSING_STARTED = "REPORT_PROCESSING_STARTED"
REPORT_PROGRESS = "REPORT_PROGRESS"
REPORT_MODERATED = "REPORT_MODERATED"
REPORT_DONE = "REPORT_DONE"
REPORT_FAILED = "REPORT_FAILED"
REPORT_RETRIED = "REPORT_RETRIED"
REPORT_VIEWED = "REPORT_VIEWED"
REPORT_REMODERATED = "REPORT_REMODERATED"
REPORT_RAW_READ = "REPORT_RAW_READ"
REPORT_SHREDDED = "REPORT_SHREDDED"
REPORT_DELETED = "REPORT_DELETED"
SEALING_ROTATED = "SEALING_ROTATED"
DECISION_MADE = "DECISION_MADE"
DECISION_WITHDRAWN = "DECISION_WITHDRAWN"
DECISION_EXPIRED = "DECISION_EXPIRED"
API_KEY_CREATED = "API_KEY_CREATED"
API_KEY_REVOKED = "API_KEY_REVOKED"

# Whose work an event records, where it is not the orchestrator's own.
_SERVICE = {REPORT_INGESTED: "ingestor", REPORT_MODERATED: "moderator"}
# A report passes every other point once, unless it is given another chance.
_REPEATED = frozenset(
    {
        REPORT_PROGRESS,
        REPORT_RETRIED,
        REPORT_FAILED,
        REPORT_VIEWED,
        REPORT_REMODERATED,
        REPORT_RAW_READ,
        DECISION_MADE,
        DECISION_WITHDRAWN,
        DECISION_EXPIRED,
    }
)


def report_event(event_type: str, report_id: uuid.UUID, tenant: str, **payload: Any) -> Envelope:
    """An envelope about a report.

    Args:
        event_type: one of the names above.
        payload: ids, counts, and objects of them.
    """
    event = _event(event_type, f"reports/{report_id}", tenant, report_id=str(report_id), **payload)
    if event_type not in _REPEATED:
        event.idempotency_key = f"{report_id}/{event_type}"
    return event


def key_event(event_type: str, key_id: str, tenant: str, **payload: Any) -> Envelope:
    """An envelope about an API key; its payload says which key was made or revoked.

    Args:
        event_type: API_KEY_CREATED or API_KEY_REVOKED.
        payload: who did it, and what it allows.
    """
    event = _event(event_type, f"keys/{key_id}", tenant, api_key_id=key_id, **payload)
    event.idempotency_key = f"{key_id}/{event_type}"
    return event


def house_event(event_type: str, subject: str, tenant: str, **payload: Any) -> Envelope:
    """An envelope about the house itself.

    Args:
        subject: what of it.
        payload: ids, counts, and lists of them.
    """
    return _event(event_type, subject, tenant, **payload)


def _event(event_type: str, subject: str, tenant: str, **payload: Any) -> Envelope:
    event_id = str(uuid7())
    event = Envelope(
        event_id=event_id,
        event_type=event_type,
        tenant_id=tenant,
        request_id=context.request_id.get(),
        subject=subject,
        severity=(
            EventSeverity.EVENT_SEVERITY_ERROR
            if event_type == REPORT_FAILED
            else EventSeverity.EVENT_SEVERITY_INFO
        ),
        schema=f"{event_type.lower().replace('_', '.', 1)}/1",
        idempotency_key=event_id,
        service=_SERVICE.get(event_type, "orchestrator"),
    )
    event.occurred_at.GetCurrentTime()
    # Microseconds: what PostgreSQL keeps, so that nothing changes on the way.
    event.occurred_at.nanos -= event.occurred_at.nanos % 1000
    if key_id := context.caller.get().key_id:
        payload["key_id"] = key_id
    event.payload.update(payload)
    return event


def run_event(
    event_type: str, report_id: uuid.UUID, tenant: str, progress: ReportProgress, **payload: Any
) -> Envelope:
    """An envelope about a report's run: how far it has come is in its payload."""
    return report_event(event_type, report_id, tenant, progress=_counts(progress), **payload)


def _counts(progress: ReportProgress) -> dict[str, Any]:
    records, summary = progress.records, progress.summary
    return {
        "status": states.name(progress.status),
        "records": {
            "read": records.read,
            "findings": records.findings,
            "merged": records.merged,
            "rejected": records.rejected,
        },
        "judged": progress.judged,
        "judged_by": dict(progress.judged_by),
        "summary": {"high": summary.high, "medium": summary.medium, "low": summary.low},
    }
