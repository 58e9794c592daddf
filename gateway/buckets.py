"""Buckets in PostgreSQL, which the gateway does not reach: the orchestrator takes from them."""

from __future__ import annotations

from collections.abc import Callable

from gateway.backends import ORCHESTRATOR, Backends, calling
from runtime.channels import call
from runtime.limits import LONGEST_SECONDS
from winnow.access.v1.access_service_pb2 import TakeTokensRequest


class OrchestratorStore:
    """A `runtime.limits.Store` behind the orchestrator.

    Args:
        backends: the services behind the gateway, once there are any.
    """

    name = "postgres"

    def __init__(self, backends: Callable[[], Backends]) -> None:
        self._backends = backends

    async def take(
        self, bucket: str, span: float, most: float, *, owed: bool
    ) -> tuple[bool, float]:
        wanted = TakeTokensRequest(
            bucket=bucket, span_us=_micros(span), most_us=_micros(most), owed=owed
        )
        with calling(ORCHESTRATOR):
            answer = await self._backends().keys.TakeTokens(wanted, **call())
        return answer.taken, answer.full_us / 1e6

    async def close(self) -> None:
        """Nothing to close: the channel is everybody's."""


def _micros(seconds: float) -> int:
    return round(min(seconds, LONGEST_SECONDS) * 1e6)
