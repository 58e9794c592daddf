"""The committed OpenAPI document: `python -m gateway.openapi > docs/openapi.json`."""

from __future__ import annotations

import json
import sys

from gateway.app import GatewaySettings, build
from runtime.config import load


def document() -> str:
    """The document as it is committed."""
    return json.dumps(build(load(GatewaySettings)).openapi(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(document())
