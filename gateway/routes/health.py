"""Is the process up, and can it do its work."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request, Response

from gateway import answers, docs
from gateway.backends import backends
from runtime.errors import WinnowError
from runtime.server import trouble
from winnow.audit.v1 import audit_service_pb2
from winnow.report.v1 import report_service_pb2

router = APIRouter()

_REPORTS = report_service_pb2.DESCRIPTOR.services_by_name["ReportService"].full_name
_AUDIT = audit_service_pb2.DESCRIPTOR.services_by_name["AuditService"].full_name


@router.get("/healthz", **docs.HEALTH)
async def healthz() -> Response:
    return answers.json({"status": "ok"})


@router.get("/readyz", **docs.READY)
async def readyz(request: Request) -> Response:
    services = backends(request)
    called = {
        "orchestrator": (services.orchestrator, _REPORTS),
        "audit": (services.audit_log, _AUDIT),
    }
    found = await asyncio.gather(
        *(trouble(channel, service=service) for channel, service in called.values())
    )
    down = {
        name: why or "no answers lately"
        for (name, (channel, _)), why in zip(called.items(), found, strict=True)
        if why or channel.breaker.open
    }
    if down:
        raise WinnowError(
            "UPSTREAM_UNAVAILABLE",
            f"not serving: {', '.join(f'{name} ({why})' for name, why in down.items())}",
            retry_after=1.0,
            service=",".join(down),
        )
    return answers.json({"status": "ok"})
