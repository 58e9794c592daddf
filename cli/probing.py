"""`winnow probe`: does a service of this machine serve? For health checks of containers."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer

from cli.usage import ERROR, FOUND, ServiceName, complain

_ANY = {"0.0.0.0": "localhost", "[::]": "localhost"}  # noqa: S104 -- dialled, not bound
_SECONDS = 5.0


def probe(service: Annotated[ServiceName, typer.Argument(help="Which service.")]) -> None:
    """Ask a service of this machine whether it serves, where its settings say it is.

    gRPC services are asked over mutual TLS, with their own certificate; the gateway
    whether it can take reports, as `GET /readyz` does. Of the service's settings its
    address and its certificates are needed.

    Exit codes: 0 it serves, 1 it does not, 2 it cannot be asked.
    """
    from runtime import config

    try:
        settings = _settings(service.value)
        asking = _gateway if service is ServiceName.GATEWAY else _grpc
        trouble = asyncio.run(asking(settings, getattr(settings, f"{service.value}_listen")))
    except config.ConfigError as error:
        complain(str(error))
        raise typer.Exit(ERROR) from None
    if trouble:
        complain(f"{service.value}: {trouble}")
        raise typer.Exit(FOUND)


def register(app: typer.Typer) -> None:
    """Adds this command to the `winnow` command."""
    app.command()(probe)


def _settings(service: str) -> Any:
    """Where a service is and what certificates there are: no key, no database.

    Raises:
        runtime.config.ConfigError: the settings are wrong.
    """
    from pydantic import create_model

    from cli.serve import SETTINGS
    from runtime import config

    wanted: dict[str, Any] = {
        name: (field.annotation, field)
        for name, field in SETTINGS[service].model_fields.items()
        if name == f"{service}_listen" or name.startswith("gateway_tls_")
    }
    return config.load(create_model("Probed", __base__=config.Settings, **wanted))


def _here(listen: str) -> str:
    """The address of a listener, as this machine dials it."""
    host, colon, port = listen.rpartition(":")
    return f"{_ANY.get(host, host)}{colon}{port}"


async def _grpc(settings: Any, listen: str) -> str:
    from runtime.channels import dial
    from runtime.server import trouble
    from runtime.tls import Tls

    async with dial(_here(listen), Tls.of(settings)) as channel:
        return await trouble(channel, _SECONDS)


async def _gateway(settings: Any, listen: str) -> str:
    import httpx

    from cli.up import believing

    certificate = settings.gateway_tls_certificate
    url = f"{'https' if certificate else 'http'}://{_here(listen)}/readyz"
    async with httpx.AsyncClient(
        timeout=_SECONDS, trust_env=False, verify=believing(certificate)
    ) as client:
        try:
            answer = await client.get(url)
        except httpx.HTTPError:
            return "no answer"
    return "" if answer.is_success else "not ready"
