"""One RPC as metrics and traces see it, from its first message to its end."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from google.protobuf.descriptor import ServiceDescriptor

from runtime import metrics, tracing


def expect(services: Sequence[ServiceDescriptor]) -> None:
    """Makes the series of all RPCs of these services, at zero."""
    for service in services:
        for method in service.methods:
            for outcome in metrics.OUTCOMES:
                metrics.RPCS.labels(f"{service.name}/{method.name}", outcome)


class Call:
    """An RPC that has begun. It ends with `end`, or when gRPC is done with it.

    Args:
        method: `/package.Service/Method`.
        servicer_context: gRPC's.
    """

    def __init__(self, method: str, servicer_context: Any) -> None:
        self._method = method.rpartition(".")[2]
        self._watches = "/Watch" in method
        self._started = time.perf_counter()
        self._open = True
        sent = dict(servicer_context.invocation_metadata() or ())
        self._span = tracing.begin(self._method, "SERVER", parent=str(sent.get(tracing.HEADER, "")))
        metrics.RPCS_IN_FLIGHT.inc()
        servicer_context.add_done_callback(lambda _: self._end("cancelled"))

    def end(self, reason: str = "") -> None:
        """Says that the handler is through.

        Args:
            reason: of the error that it ended with; "" if with none.
        """
        self._end(metrics.refused(reason) if reason else "ok", reason)

    def _end(self, outcome: str, reason: str = "") -> None:
        if not self._open:
            return
        self._open = False
        metrics.RPCS_IN_FLIGHT.dec()
        metrics.RPCS.labels(self._method, outcome).inc()
        if not self._watches:
            seconds = time.perf_counter() - self._started
            metrics.observe(metrics.RPC_SECONDS.labels(self._method), seconds)
        self._span.end(outcome, **({"reason": reason} if reason else {}))
