"""The gateway's settings and wiring."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from runtime.config import GuardedSettings, LimitSettings

if TYPE_CHECKING:
    from fastapi import FastAPI


class GatewaySettings(GuardedSettings, LimitSettings):
    """What the gateway needs beside the shared settings."""

    gateway_listen: str = Field("127.0.0.1:8080", description="where REST is served, host:port")
    gateway_tls_certificate: Path | None = Field(
        None, description="serves REST over HTTPS with this certificate, a PEM file"
    )
    gateway_tls_key: Path | None = Field(
        None, description="the key of that certificate, a PEM file"
    )
    gateway_hosts: str | None = Field(
        None, description="names that it is called by, comma-separated; loopback needs none"
    )
    orchestrator_address: str = Field(
        "127.0.0.1:50051", description="orchestrator, host:port or unix:/path"
    )
    audit_address: str = Field(
        "127.0.0.1:50054", description="audit service, host:port or unix:/path"
    )
    max_report_bytes: int = Field(2 * 2**30, gt=0, description="largest body of POST /reports")
    rate_by_address: bool = Field(
        False, description="whether the rate limit also counts addresses that show no key"
    )
    gateway_max_memory_bytes: int = Field(
        2 << 30, ge=0, description="memory of the gateway above which no body is taken; 0: any"
    )
    upload_floor_bytes_per_second: int = Field(
        256, ge=0, description="speed below which an upload is cut; 0: none"
    )
    request_timeout: float = Field(
        600.0, gt=0, description="seconds from a report's first byte to its answer"
    )


def _warn(settings: GatewaySettings) -> None:
    """Says by which settings others may come to a gateway that asks nobody for a key."""
    from runtime.config import PREFIX, is_local
    from runtime.log import get_logger

    told = ["gateway_hosts"] if settings.gateway_hosts else []
    backends = ("orchestrator_address", "audit_address")
    told += [name for name in backends if not is_local(getattr(settings, name))]
    if told:
        get_logger().warning(
            "auth.missing",
            status="open",
            settings=[f"{PREFIX}{name.upper()}" for name in told],
            advice="WINNOW_AUTH=keys",
        )


def build(settings: GatewaySettings) -> FastAPI:
    """The gateway as an ASGI application."""
    import asyncio
    from collections.abc import AsyncIterator
    from contextlib import asynccontextmanager

    from fastapi import FastAPI

    from gateway import document, problems
    from gateway.access import Door
    from gateway.admission import Admission
    from gateway.backends import connect
    from gateway.buckets import OrchestratorStore
    from gateway.middleware import Requests, expect
    from gateway.routes import (
        audit,
        credentials,
        decisions,
        events,
        health,
        keys,
        queue,
        reports,
        sealing,
        submit,
    )
    from gateway.watching import Watches
    from runtime.limits import Places, Rate
    from runtime.tls import Tls, check

    tls = Tls.of(settings)
    for address in (settings.orchestrator_address, settings.audit_address):
        check(address, tls)

    keys_needed = settings.keys_needed(settings.gateway_listen)
    if not keys_needed:
        _warn(settings)
    door = Door(keys=keys_needed, hosts=settings.gateway_hosts)
    admission = Admission(
        Rate.of(settings, lambda: OrchestratorStore(lambda: app.state.backends)),
        Places.of(settings),
        by_address=settings.rate_by_address,
        max_memory=settings.gateway_max_memory_bytes,
        max_body=settings.max_report_bytes,
        floor=settings.upload_floor_bytes_per_second,
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        # Channels belong to the event loop that serves.
        app.state.backends = connect(settings.orchestrator_address, settings.audit_address, tls)
        app.state.watches = Watches(app.state.backends)
        warning = asyncio.create_task(tls.files.watch()) if tls else None
        yield
        if warning:
            warning.cancel()
        await app.state.backends.close()
        await admission.close()

    # No documentation pages: they would load scripts from elsewhere.
    app = FastAPI(
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        # A redirect would repeat the path that was asked for: it may hold anything.
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
        **document.ABOUT,
    )
    app.state.settings = settings
    # Set when the server stops: what is streamed for as long as it lasts ends then.
    app.state.draining = asyncio.Event()
    served = [*app.routes]
    for routes in (
        submit,
        reports,
        sealing,
        decisions,
        credentials,
        events,
        audit,
        queue,
        keys,
        health,
    ):
        app.include_router(routes.router)
        expect(routes.router.routes)
        served += routes.router.routes
    app.add_middleware(Requests, tenant=settings.tenant, door=door, admission=admission)
    problems.install(app, served)
    document.install(app)
    return app
