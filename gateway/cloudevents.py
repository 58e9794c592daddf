"""Events as CloudEvents 1.0, in their JSON format; docs/events.md has the table."""

from __future__ import annotations

from typing import Any

from gateway.translate import to_json
from winnow.event.v1.envelope_pb2 import Envelope

MEDIA_TYPE = "application/cloudevents+json"

_PREFIX = "winnow."
_SCHEMAS = "urn:winnow:schema:"


def short_type(event: Envelope) -> str:
    """The event's type without our prefix, e.g. "report.progress"."""
    return event.event_type.lower().replace("_", ".", 1)


def cloud_event(event: Envelope) -> dict[str, Any]:
    """The members of a CloudEvent; attributes that have no value are left out."""
    said = to_json(event)
    attributes = {
        "specversion": "1.0",
        "id": event.event_id,
        "source": f"winnow/{event.service}",
        "type": _PREFIX + short_type(event),
        "time": said["occurred_at"],
        "subject": event.subject,
        "datacontenttype": "application/json",
        "dataschema": _SCHEMAS + event.schema if event.schema else "",
        "tenantid": event.tenant_id,
        "requestid": event.request_id,
        "severity": said["severity"],
        "idempotencykey": event.idempotency_key,
        # The extension wants what sorts as text.
        "sequence": f"{event.ordinal:020}" if event.ordinal else "",
    }
    return {**{name: value for name, value in attributes.items() if value}, "data": said["payload"]}
