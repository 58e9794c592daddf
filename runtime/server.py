"""A gRPC server with the face that every service has.

Health (grpc.health.v1), reflection, the interceptor, bounded concurrency, and a
drain on SIGTERM: health says NOT_SERVING, running calls get `drain_seconds`.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from runtime import calls
from runtime.channels import OPTIONS
from runtime.errors import certificate_refused, from_rpc
from runtime.interceptors import ServiceInterceptor
from runtime.log import get_logger
from runtime.metrics import Facts
from runtime.peers import Peers
from runtime.tls import Tls, check, is_socket

if TYPE_CHECKING:
    from runtime.access import Access
    from runtime.limits import Limits

_log = get_logger()

# Our clients ping silent connections, each half minute (runtime.channels): without this
# a server takes them for abusers, and cuts all that the connection carries.
_PINGED = [("grpc.http2.min_ping_interval_without_data_ms", 10_000)]
# Who has connected is looked at again: certificates end. Callers look up the name again
# then, so that new copies get their share.
_LOOKED_AT_AGAIN = [("grpc.max_connection_age_ms", 300_000)]
# Calls that are worked on at a time, and all that may be open, watchers among them.
CALLS_AT_ONCE = 512
MAX_CONCURRENT_RPCS = 12_000


class _Health(health.aio.HealthServicer):
    """Says of a service by its name also that the caller may not call it.

    Args:
        names: of the services.
        peers: who may call, where callers have certificates.
    """

    def __init__(self, names: Sequence[str], peers: Peers | None) -> None:
        super().__init__()
        self._named = names
        self._peers = peers

    async def Check(self, request: Any, servicer_context: Any) -> Any:
        if self._peers is not None and request.service in self._named:
            self._peers.check(request.service, servicer_context)
        return await super().Check(request, servicer_context)


class Service:
    """One service as a server, ready to start.

    Args:
        address: where to listen, `unix:/path` or `host:port` (port 0: any free).
        descriptors: of what is served, for health and reflection.
        register: adds the servicers to the server.
        tls: certificates, and who may call; not used on a Unix socket, which is made
            for its owner only.
        background: coroutines that run as long as the server does.
        close: awaited after the drain: channels, pools.
        access: admits calls; None where no keys are checked.
        limits: of callers with keys; None for none.
        facts: what is asked when somebody reads the service's metrics.
    """

    def __init__(
        self,
        address: str,
        descriptors: Sequence[ServiceDescriptor],
        register: Callable[[grpc.aio.Server], None],
        *,
        tls: Tls | None = None,
        background: tuple[Callable[[], Awaitable[None]], ...] = (),
        close: Callable[[], Awaitable[None]] | None = None,
        access: Access | None = None,
        limits: Limits | None = None,
        facts: Facts | None = None,
    ) -> None:
        self.address = address
        self.facts = facts
        self.port = 0
        self._names = [descriptor.full_name for descriptor in descriptors]
        calls.expect(descriptors)
        self._register = register
        self._tls = None if is_socket(address) else tls
        self._background = (*background, tls.files.watch) if tls else background
        self._close = close
        self._tasks: list[asyncio.Task[None]] = []
        self._server: grpc.aio.Server | None = None
        self._peers = self._tls.peers if self._tls else None
        self._interceptor = ServiceInterceptor(CALLS_AT_ONCE, self._peers, access, limits)
        self._health: Any = None

    async def start(self) -> None:
        """Listens, and says SERVING.

        Raises:
            ConfigError: others would reach it, and there is no certificate.
        """
        check(self.address, self._tls)
        self._server = grpc.aio.server(
            interceptors=[self._interceptor],
            options=[
                *OPTIONS,
                *_PINGED,
                *(_LOOKED_AT_AGAIN if self._tls else ()),
                ("grpc.so_reuseport", 0),
            ],
            maximum_concurrent_rpcs=MAX_CONCURRENT_RPCS,
        )
        self._register(self._server)
        self._health = _Health(self._names, self._peers)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection(
            (*self._names, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server
        )
        self.port = self._bind(self._server)
        await self._server.start()
        self._tasks = [asyncio.create_task(_forever(work)) for work in self._background]
        await self._say(health_pb2.HealthCheckResponse.SERVING)
        _log.info("service.started", status="serving", address=self.address)

    def _bind(self, server: grpc.aio.Server) -> int:
        if self._tls:
            return server.add_secure_port(self.address, self._tls.server())
        before = os.umask(0o177)  # a socket's file is made here
        try:
            return server.add_insecure_port(self.address)
        finally:
            os.umask(before)

    async def stop(self, drain_seconds: float = 10.0) -> None:
        """Says NOT_SERVING, lets running calls end, then closes."""
        if self._server is None:
            return
        await self._say(health_pb2.HealthCheckResponse.NOT_SERVING)
        self._interceptor.end_watches()
        await self._server.stop(drain_seconds)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._close is not None:
            await self._close()
        _log.info("service.stopped", status="stopped")

    async def _say(self, status: int) -> None:
        for name in ("", *self._names):
            await self._health.set(name, status)

    async def run(self) -> None:
        """Serves until SIGTERM or SIGINT."""
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopping.set)
        await self.start()
        await stopping.wait()
        await self.stop()


async def _forever(work: Callable[[], Awaitable[None]]) -> None:
    """Runs background work; a failure is logged and the work begins again."""
    while True:
        try:
            await work()
            return
        except Exception as error:  # noqa: BLE001 -- the loop must outlive any one failure
            _log.error("background.failed", status="retrying", exc_info=error)
            await asyncio.sleep(1.0)


async def trouble(channel: grpc.aio.Channel, timeout: float = 1.0, service: str = "") -> str:
    """Why the peer does not say SERVING within `timeout` seconds; nothing if it does.

    Args:
        service: full name of what is to be called there: who may not call it is told so.
    """
    stub = health_pb2_grpc.HealthStub(channel)
    try:
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=timeout)
    except grpc.aio.AioRpcError as error:
        if certificate_refused(error):
            return "certificate"
        refused = "peer" in from_rpc(error, service).metadata
        return "this certificate's identity may not call it" if refused else "no answer"
    return "" if answer.status == health_pb2.HealthCheckResponse.SERVING else "not serving"


async def healthy(channel: grpc.aio.Channel, timeout: float = 1.0) -> bool:
    """Whether the peer says SERVING within `timeout` seconds."""
    return not await trouble(channel, timeout)
