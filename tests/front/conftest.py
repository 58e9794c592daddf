"""A house that needs keys, in one process: real services, a real database, gateways."""

from __future__ import annotations

import asyncio
import socket
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import uvicorn

import audit.app
import gateway.app
import ingestor.app
import moderator.app
import orchestrator.app
from orchestrator import store_access
from runtime import api_keys, signing
from runtime.api_keys import Shown
from runtime.config import load
from runtime.database import Database
from runtime.keyring import Keyring
from tests.harness import SEALING_KEY, serving, settings
from winnow.access.v1.api_key_pb2 import Role

RING = Keyring((SEALING_KEY,))
REPORT = b"[]"


@dataclass
class Front:
    """A running house with one gateway; more are made by `gateway`."""

    url: str
    client: httpx.AsyncClient
    database: Database
    database_url: str
    addresses: dict[str, str]
    stack: AsyncExitStack
    tenants: list[str] = field(default_factory=list)

    async def key(self, *roles: int, ring: Keyring | None = RING, tenant: str = "") -> Shown:
        """A new key, by default of a tenant of its own."""
        tenant = tenant or f"t{uuid.uuid4().hex[:12]}"
        _, secret = await self.database.run(
            store_access.create,
            tenant,
            "a test's",
            list(roles) or [Role.ROLE_SUBMIT, Role.ROLE_READ],
            None,
            "operator",
            ring,
        )
        key = api_keys.parse(secret)
        assert key is not None
        return key

    async def gateway(self, **given: Any) -> httpx.AsyncClient:
        """One more gateway, until the tests of the module are over."""
        given = {"auth": "keys", **self.addresses, **given}
        return await self.stack.enter_async_context(serve(given))

    async def orchestrator(self, **given: Any) -> str:
        """One more orchestrator on the same database; its address."""
        made = orchestrator.app.build(
            settings(
                orchestrator.app.OrchestratorSettings,
                **{
                    "database_url": self.database_url,
                    "auth": "keys",
                    **self.addresses,
                    **given,
                },
            )
        )
        address, _ = await self.stack.enter_async_context(serving(made))
        return address


@asynccontextmanager
async def serve(given: dict[str, Any]) -> AsyncIterator[httpx.AsyncClient]:
    """A gateway on a real socket, and a client of it."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    app = gateway.app.build(load(gateway.app.GatewaySettings, **given))
    server = uvicorn.Server(
        uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=2)
    )
    task = asyncio.create_task(server.serve([listener]))
    while not server.started:
        await asyncio.sleep(0.01)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    limits = httpx.Limits(max_connections=250)
    async with httpx.AsyncClient(base_url=url, timeout=30, limits=limits) as client:
        yield client
    server.should_exit = True
    await task


@pytest.fixture(scope="module")
async def front(database_url: str) -> AsyncIterator[Front]:
    database = Database(database_url, 4)
    async with AsyncExitStack() as stack:
        addresses = {}
        for name, module in (("audit", audit), ("ingestor", ingestor), ("moderator", moderator)):
            app: Any = module.app  # type: ignore[attr-defined]
            given = settings(getattr(app, f"{name.title()}Settings"), database_url, auth="keys")
            address, _ = await stack.enter_async_context(serving(app.build(given)))
            addresses[f"{name}_address"] = address
        made = orchestrator.app.build(
            settings(orchestrator.app.OrchestratorSettings, database_url, auth="keys", **addresses)
        )
        address, _ = await stack.enter_async_context(serving(made))
        addresses["orchestrator_address"] = address
        client = await stack.enter_async_context(serve({"auth": "keys", **addresses}))
        yield Front(str(client.base_url), client, database, database_url, addresses, stack)
    await database.close()


def signed(
    key: Shown, method: str, target: str, body: bytes = b"", at: float | None = None
) -> dict[str, str]:
    """The header form's fields for a request."""
    import hashlib

    path, _, query = target.partition("?")
    moment = int(time.time() if at is None else at)
    digest = hashlib.sha256(body).digest()
    return dict(signing.sign(key, method, path, query, digest, moment))
