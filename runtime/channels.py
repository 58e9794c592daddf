"""Channels to the other services.

Every call is made as `stub.Method(request, **call(timeout))`: metadata and
deadline are visible where the call is made. Streams have no total deadline;
their readers use `runtime.streams.idle` instead.
"""

from __future__ import annotations

import json
from collections.abc import Coroutine
from typing import Any, TypedDict

import grpc

from runtime.context import outgoing
from runtime.tls import RenewingChannel, Tls, check, is_socket

UNARY_TIMEOUT = 10.0

OPTIONS: list[tuple[str, int]] = [
    # A peer that probes for bandwidth lets thousands of findings run ahead of a
    # slow reader; without it HTTP/2's own window and our credits are the bound.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    # Despite its name: how long one attempt may take, TLS and all.
    ("grpc.min_reconnect_backoff_ms", 5_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
]
# What changes nothing is tried again by gRPC itself, with back-off and jitter, and ever
# less often where much fails (gRFC A6). Whoever says OVERLOADED is not asked again.
READS: dict[str, tuple[str, ...]] = {
    "winnow.access.v1.AccessService": ("ListApiKeys", "GetCaller"),
    "winnow.audit.v1.AuditService": (
        "ListEvents",
        "GetCheckpoint",
        "GetInclusionProof",
        "GetConsistencyProof",
    ),
    "winnow.ingest.v1.IngestService": ("ListFormats",),
    "winnow.queue.v1.QueueService": ("GetQueueHealth", "ListJobs"),
    "winnow.report.v1.CredentialService": ("ListCredentials", "GetCredential"),
    "winnow.report.v1.DecisionService": ("ListDecisions",),
    "winnow.report.v1.ReportService": (
        "GetReport",
        "ListReports",
        "ListFindings",
        "GetFinding",
        "ListRejected",
        "ListFormats",
    ),
    "winnow.seal.v1.SealService": ("GetSealing",),
}
_RETRIES = {
    "methodConfig": [
        {
            "name": [
                {"service": service, "method": method}
                for service, methods in READS.items()
                for method in methods
            ],
            "retryPolicy": {
                "maxAttempts": 3,
                "initialBackoff": "0.1s",
                "maxBackoff": "1s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
    "retryThrottling": {"maxTokens": 20, "tokenRatio": 0.1},
}
# A name with several addresses is several copies of a service: each call goes to the next.
_SPREAD = {**_RETRIES, "loadBalancingConfig": [{"round_robin": {}}]}


def dial(address: str, tls: Tls | None = None) -> grpc.aio.Channel:
    """A channel to `unix:/path` or `host:port`; connects when first used.

    Over TLS the peer's certificate must be of the CA and for the host in the address,
    and calls are spread over all that the host's name stands for.

    Raises:
        ConfigError: the address is another machine's, and there is no certificate.
    """
    check(address, tls)
    if tls is None or is_socket(address):
        return grpc.aio.insecure_channel(address, options=_options(_RETRIES))
    options = _options(_SPREAD)
    return RenewingChannel(
        lambda: grpc.aio.secure_channel(address, tls.client(), options=options), tls
    )


def _options(config: dict[str, Any]) -> list[tuple[str, int | str]]:
    return [*OPTIONS, ("grpc.service_config", json.dumps(config))]


class Call(TypedDict):
    metadata: tuple[tuple[str, str], ...]
    timeout: float | None


def call(timeout: float | None = UNARY_TIMEOUT) -> Call:
    """Keyword arguments of every call: the caller's context, and seconds to the deadline."""
    return {"metadata": outgoing(), "timeout": timeout}


class PeerStatus:
    """The status that a peer ended a call with, whatever becomes of the last write.

    A write under way when the peer ends a call fails, and grpc.aio (1.85) then
    replaces the peer's status by an INTERNAL of its own (grpc/grpc#36066). A
    peer that refuses an upload early would lose its reason that way.

    Args:
        call: a call that streams its request.
    """

    def __init__(self, call: Any) -> None:
        self._error: grpc.aio.AioRpcError | None = None
        call.add_done_callback(self._note)

    def of(self, error: grpc.aio.AioRpcError) -> grpc.aio.AioRpcError:
        """The peer's own error if there was one, else the given one."""
        return self._error or error

    def _note(self, call: Any) -> None:
        trailers = now_of(call.trailing_metadata())
        # Errors of ours carry their reason in the trailers; grpc's own have none.
        if trailers and self._error is None:
            self._error = grpc.aio.AioRpcError(
                now_of(call.code()),
                grpc.aio.Metadata(),
                trailers,
                now_of(call.details()),
            )


def now_of(ready: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine that has nothing to wait for."""
    try:
        ready.send(None)
    except StopIteration as done:
        return done.value
    ready.close()
    raise AssertionError("the call is not done")
