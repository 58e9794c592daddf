"""The gateway's settings and wiring."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from runtime.config import Settings

if TYPE_CHECKING:
    from fastapi import FastAPI


class GatewaySettings(Settings):
    """What the gateway needs beside the shared settings."""

    gateway_listen: str = Field("127.0.0.1:8080", description="where REST is served, host:port")
    orchestrator_address: str = Field(
        "127.0.0.1:50051", description="orchestrator, host:port or unix:/path"
    )
    audit_address: str = Field(
        "127.0.0.1:50054", description="audit service, host:port or unix:/path"
    )
    max_report_bytes: int = Field(2 * 2**30, gt=0, description="largest body of POST /reports")
    request_timeout: float = Field(
        600.0, gt=0, description="seconds from a report's first byte to its answer"
    )


def build(settings: GatewaySettings) -> FastAPI:
    """The gateway as an ASGI application."""
    import asyncio
    from collections.abc import AsyncIterator
    from contextlib import asynccontextmanager

    from fastapi import FastAPI

    from gateway import docs, problems
    from gateway.backends import connect
    from gateway.middleware import Requests, expect
    from gateway.routes import audit, credentials, decisions, events, health, queue, reports, submit
    from gateway.watching import Watches

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        # Channels belong to the event loop that serves.
        app.state.backends = connect(settings.orchestrator_address, settings.audit_address)
        app.state.watches = Watches(app.state.backends)
        yield
        await app.state.backends.close()

    # No documentation pages: they would load scripts from elsewhere.
    app = FastAPI(
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        # A redirect would repeat the path that was asked for: it may hold anything.
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
        **docs.ABOUT,
    )
    app.state.settings = settings
    # Set when the server stops: what is streamed for as long as it lasts ends then.
    app.state.draining = asyncio.Event()
    for routes in (submit, reports, decisions, credentials, events, audit, queue, health):
        app.include_router(routes.router)
        expect(routes.router.routes)
    app.add_middleware(Requests, tenant=settings.tenant)
    problems.install(app)
    docs.install(app)
    return app
