"""Runs services of the house inside a test, over real sockets."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc

from runtime.channels import dial
from runtime.server import Service

SEALING_KEY = b"s" * 32
FINGERPRINT_KEY = b"f" * 32
SIGNING_KEY = b"a" * 32


def b64(key: bytes) -> str:
    """A key as settings take it."""
    return base64.b64encode(key).decode()


@asynccontextmanager
async def serving(service: Service) -> AsyncIterator[tuple[str, grpc.aio.Channel]]:
    """A started service: its address and a channel to it."""
    await service.start()
    address = service.address
    if service.port > 1:
        address = f"127.0.0.1:{service.port}"
    channel = dial(address)
    try:
        yield address, channel
    finally:
        await channel.close()
        await service.stop(drain_seconds=0.5)


def settings(settings_class: Any, database_url: str = "", **more: Any) -> Any:
    """Settings of a service with the tests' keys, on a free port."""
    fields = settings_class.model_fields
    known = {
        "sealing_key": b64(SEALING_KEY),
        "fingerprint_key": b64(FINGERPRINT_KEY),
        "audit_signing_key": b64(SIGNING_KEY),
        "database_url": database_url,
        **{name: "127.0.0.1:0" for name in fields if name.endswith("_listen")},
        **more,
    }
    return settings_class(**{name: value for name, value in known.items() if name in fields})
