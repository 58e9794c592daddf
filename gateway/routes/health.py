"""Is the process up, and can it do its work."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request, Response

from gateway import answers, docs
from gateway.backends import backends
from runtime.errors import WinnowError
from runtime.server import healthy

router = APIRouter()


@router.get("/healthz", **docs.HEALTH)
async def healthz() -> Response:
    return answers.json({"status": "ok"})


@router.get("/readyz", **docs.READY)
async def readyz(request: Request) -> Response:
    services = backends(request)
    channels = {"orchestrator": services.orchestrator, "audit": services.audit_log}
    serving = await asyncio.gather(*map(healthy, channels.values()))
    down = [name for name, up in zip(channels, serving, strict=True) if not up]
    if down:
        raise WinnowError(
            "UPSTREAM_UNAVAILABLE",
            f"not serving: {', '.join(down)}",
            retry_after=1.0,
            service=",".join(down),
        )
    return answers.json({"status": "ok"})
