"""`winnow serve <service>`: one service in this process."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import importlib
import ipaddress
import logging
import os
import re
import signal
import socket
import sys
import threading
import time
from types import FrameType
from typing import Any

import uvloop

from audit.app import AuditSettings
from gateway.app import GatewaySettings
from ingestor.app import IngestorSettings
from moderator.app import ModeratorSettings
from orchestrator.app import OrchestratorSettings
from runtime import config, log, metrics, tracing
from runtime.tls import Files

SETTINGS: dict[str, type[config.Settings]] = {
    "audit": AuditSettings,
    "gateway": GatewaySettings,
    "ingestor": IngestorSettings,
    "moderator": ModeratorSettings,
    "orchestrator": OrchestratorSettings,
}

_log = log.get_logger()

_UNREAD_MS = 60_000
_DRAIN_SECONDS = 10
# Longer than proxies and clients keep what is idle (most a minute): whoever closes first
# may meet a request that is on its way, and its sender is never answered.
_IDLE_SECONDS = 75
_PARENT_SECONDS = 1.0
_SWITCH_SECONDS = 0.0005
_HOST = re.compile(r"(?:[^:\[\]]+|\[[^\[\]]+\])\Z")
_M_ARENA_MAX = -8  # malloc.h


class ServeError(Exception):
    """The service cannot start; the message says why."""


def serve(name: str, parent: int | None, fd: int | None) -> None:
    """Runs one service until SIGTERM.

    Args:
        name: a key of SETTINGS.
        parent: process whose end ends this one.
        fd: a listening socket to use (gateway only).

    Raises:
        runtime.config.ConfigError: the settings are wrong.
        ServeError: the address cannot be used.
    """
    config.check_names(SETTINGS.values())
    settings: Any = config.load(SETTINGS[name])
    log.configure(name, settings.log_level)
    # CPU work runs in threads beside the event loop; at Python's own 5 ms the
    # loop would wait that long for each message while a thread computes.
    sys.setswitchinterval(_SWITCH_SECONDS)
    _limit_arenas()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    # uvloop pays for HTTP; the gRPC services gain nothing from it.
    factory = uvloop.new_event_loop if name == "gateway" else None
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(_run(name, settings, fd))


def bind(address: str) -> socket.socket:
    """A socket that listens on `host:port`, with [] around an IPv6 host; port 0 takes a free one.

    Raises:
        ServeError: the address is none, or cannot be used.
    """
    host, port = parse(address)
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    try:
        listener = socket.create_server((host.strip("[]"), port), family=family, backlog=2048)
    except socket.gaierror as error:
        raise ServeError(f"cannot listen on {address}: {error.strerror}") from None
    except OSError as error:
        # The error's own text is longer, and Python's rather than the system's.
        reason = os.strerror(error.errno) if error.errno else "the system refuses"
        raise ServeError(f"cannot listen on {address}: {reason}") from None
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        # Who reads nothing any more is cut by the system: closing waits for what is unsent.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNREAD_MS)
    return listener


def parse(address: str) -> tuple[str, int]:
    """Host, with [] around an IPv6 one, and port.

    Raises:
        ServeError: the address is none.
    """
    host, _, port = address.rpartition(":")
    # Without a host it would be every interface of the machine.
    if not (_HOST.match(host) and port.isascii() and port.isdigit() and int(port[:6]) < 1 << 16):
        raise ServeError(
            f"cannot listen on {address}: must be host:port, for example 127.0.0.1:8080"
        )
    return host, int(port)


async def _run(name: str, settings: Any, fd: int | None) -> None:
    if settings.otlp_endpoint:
        tracing.configure(name, settings.otlp_endpoint)
    try:
        await _serve(name, settings, fd)
    finally:
        tracing.stop()


async def _serve(name: str, settings: Any, fd: int | None) -> None:
    # Built inside the loop: gRPC channels belong to the loop that they are made in.
    built = importlib.import_module(f"{name}.app").build(settings)
    # What start-up made lives as long as the process: the collector need not walk
    # it again and again while millions of short-lived messages pass.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    if settings.metrics_listen:
        _expose(name, bind(settings.metrics_listen), getattr(built, "facts", None))
    if name == "gateway":
        await _serve_http(built, settings, fd)
        return
    try:
        await built.run()
    except RuntimeError as error:  # what grpc raises when it cannot bind
        raise ServeError(f"cannot listen on {built.address}: {error}") from None


def _expose(name: str, listener: socket.socket, facts: metrics.Facts | None) -> None:
    """Serves the metrics until the process ends."""
    metrics.Exposition(name, listener, facts)
    host, port = listener.getsockname()[:2]
    # Nobody is asked who he is there.
    write = _log.info if ipaddress.ip_address(host).is_loopback else _log.warning
    write("metrics.listening", status="serving", address=f"{host}:{port}")


async def _serve_http(app: Any, settings: GatewaySettings, fd: int | None) -> None:
    import uvicorn

    from gateway.protocol import BoundedProtocol

    files = Files.of(settings, "gateway_tls_certificate", "gateway_tls_key")
    https = files.https() if files else None
    bound = bind(settings.gateway_listen) if fd is None else socket.socket(fileno=fd)

    class Server(uvicorn.Server):
        """Ends the event streams first: they would hold up a drain for as long as it may last."""

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            loop.call_soon_threadsafe(app.state.draining.set)
            super().handle_exit(sig, frame)

    logging.getLogger("uvicorn.error").addFilter(drained)
    loop = asyncio.get_running_loop()
    server = Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            http=BoundedProtocol,
            timeout_graceful_shutdown=_DRAIN_SECONDS,
            timeout_keep_alive=_IDLE_SECONDS,
            # Events are small, and each would be compressed once for every watcher.
            ws_per_message_deflate=False,
            ssl_context_factory=(lambda *_: https) if https else None,
        )
    )
    work = [files.renew(https), files.watch()] if files and https else []
    tasks = [asyncio.create_task(one) for one in work]
    await server.serve(sockets=[bound])
    for task in tasks:
        task.cancel()


def drained(record: logging.LogRecord) -> bool:
    """Whether uvicorn's own line is to be logged: not the error that a stop has waited long
    enough, for those still there are answered (202, or 503 with Retry-After)."""
    if "timeout graceful shutdown" not in record.getMessage():
        return True
    requests = next(iter(record.args or ()), 0)
    _log.info("drain.over", status="stopping", requests=requests)
    return False


def _limit_arenas() -> None:
    """Keeps glibc from giving each thread a heap of its own: they only fragment."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)


def _end_with(parent: int) -> None:
    """Ends this process when its parent is gone, however it went."""
    while os.getppid() == parent:
        time.sleep(_PARENT_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
