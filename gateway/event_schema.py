"""The committed JSON Schema of events: `python -m gateway.event_schema > docs/event.schema.json`.

What `translate` makes of a `winnow.event.v1.Envelope`, from the same descriptor.
"""

from __future__ import annotations

import json
import sys

from gateway.schemas import components
from winnow.event.v1.envelope_pb2 import Envelope


def document() -> str:
    """The document as it is committed."""
    name = Envelope.DESCRIPTOR.name
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:winnow:schema:{Envelope.DESCRIPTOR.full_name}",
        "title": name,
        "description": "An event: audit, progress, notification. Later versions add members.",
        **components([Envelope.DESCRIPTOR])[name],
    }
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(document())
