"""Channels to the other services.

Every call is made as `stub.Method(request, **call(timeout))`: metadata and
deadline are visible where the call is made. Streams have no total deadline;
their readers use `runtime.streams.idle` instead.
"""

from __future__ import annotations

from typing import TypedDict

import grpc

from runtime.context import outgoing

UNARY_TIMEOUT = 10.0

OPTIONS: list[tuple[str, int]] = [
    # A peer that probes for bandwidth lets thousands of findings run ahead of a
    # slow reader; without it HTTP/2's own window and our credits are the bound.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
]


def dial(address: str) -> grpc.aio.Channel:
    """A channel to `unix:/path` or `host:port`; connects when first used."""
    return grpc.aio.insecure_channel(address, options=OPTIONS)


class Call(TypedDict):
    metadata: tuple[tuple[str, str], ...]
    timeout: float | None


def call(timeout: float | None = UNARY_TIMEOUT) -> Call:
    """Keyword arguments of every call: the caller's context, and seconds to the deadline."""
    return {"metadata": outgoing(), "timeout": timeout}
