"""Is the process up, and can it do its work."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request, Response

from gateway import answers, docs
from gateway.backends import backends
from runtime.errors import WinnowError
from runtime.server import trouble

router = APIRouter()


@router.get("/healthz", **docs.HEALTH)
async def healthz() -> Response:
    return answers.json({"status": "ok"})


@router.get("/readyz", **docs.READY)
async def readyz(request: Request) -> Response:
    services = backends(request)
    channels = {"orchestrator": services.orchestrator, "audit": services.audit_log}
    found = await asyncio.gather(*map(trouble, channels.values()))
    down = {
        name: why or "no answers lately"
        for (name, channel), why in zip(channels.items(), found, strict=True)
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
