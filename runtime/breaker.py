"""A circuit breaker for each service that is called.

Closed, it counts failures in a row: a peer that is not there, or does not answer in time;
refusals are answers, and a deadline that passes while the sender has its next message still
to give says nothing of the peer. After so many it opens, and calls fail at once, which spares
the peer and whoever waits. When its time is over one call probes (half open): an answer closes it,
and another failure opens it for longer; a probe that takes its time does not keep the next
one back. Health checks pass by.
"""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable
from functools import partial
from types import TracebackType
from typing import Any

import grpc

from runtime import metrics
from runtime.channels import now_of
from runtime.errors import WinnowError
from runtime.log import get_logger

_log = get_logger()

_FAILURES = 5
_FIRST_SECONDS = 0.5
_MOST_SECONDS = 4.0
# For so long one probe is alone: it may be an upload, which lasts as its sender likes.
_PROBE_SECONDS = 1.0
_COUNTED = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED})
_HEALTH = "/grpc.health."


class Breaker:
    """Whether a service is called.

    Args:
        service: its name, for errors.
        clock: seconds.
    """

    def __init__(self, service: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._service = service
        self._clock = clock
        self._failures = 0
        self._opened = 0
        self._until = 0.0
        self._probing_until = 0.0
        # The service's name, without the word.
        peer = service.partition(" ")[0]
        self._times_opened = metrics.BREAKER_OPENED.labels(peer)
        for state in metrics.BREAKER_STATES:
            metrics.BREAKER_STATE.labels(peer, state).set_function(partial(self._is, state))

    @property
    def state(self) -> str:
        """One of runtime.metrics.BREAKER_STATES."""
        if not self._opened:
            return "closed"
        return "open" if self.open else "half_open"

    @property
    def open(self) -> bool:
        """Whether calls fail at once: not while a probe is due, or nobody would make one."""
        return self._clock() < self._until

    def _is(self, state: str) -> float:
        return float(self.state == state)

    def check(self) -> None:
        """Returns if a call may be made; what becomes of it is told by `answered`, `failed`
        or `left`.

        Raises:
            WinnowError: UPSTREAM_UNAVAILABLE.
        """
        if not self._opened:
            return
        now = self._clock()
        if now >= max(self._until, self._probing_until):
            self._probing_until = now + _PROBE_SECONDS
            return
        raise self.refusal()

    def refusal(self) -> WinnowError:
        """What is said in the place of a call."""
        wait = self._until - self._clock()
        return WinnowError(
            "UPSTREAM_UNAVAILABLE",
            f"the {self._service} has not answered several times; it is asked again shortly",
            retry_after=max(wait, _FIRST_SECONDS),
            service=self._service,
        )

    def answered(self) -> None:
        """A call was answered, be it with a refusal."""
        if self._opened:
            _log.info("breaker.closed", status="ok", peer=self._service)
        self._failures = self._opened = 0
        self._until = self._probing_until = 0.0

    def failed(self) -> None:
        """A call was not answered."""
        self._failures += 1
        # Calls that were under way when it opened say nothing new.
        if self.open:
            return
        if self._opened or self._failures >= _FAILURES:
            seconds = min(_FIRST_SECONDS * 2.0**self._opened, _MOST_SECONDS)
            self._until = self._clock() + seconds * random.uniform(0.5, 1.0)  # noqa: S311
            self._opened = min(self._opened + 1, 10)
            self._probing_until = 0.0
            self._times_opened.inc()
            _log.warning("breaker.opened", status="error", peer=self._service)

    def left(self) -> None:
        """A call ended before it could be answered: its caller left it, or was too slow."""
        self._probing_until = 0.0


class _Requests:
    """A request stream that knows whose turn it is.

    Args:
        given: the caller's messages.
    """

    def __init__(self, given: AsyncIterable[Any]) -> None:
        self._given = aiter(given)
        # Whether the caller has the next one still to give.
        self.awaited = False

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        self.awaited = True
        try:
            return await anext(self._given)
        finally:
            self.awaited = False


class GuardedChannel(grpc.aio.Channel):
    """A channel whose calls go through a breaker.

    Args:
        channel: that carries them.
        breaker: of the service behind it.
        refuses: whether calls fail at once while it is open; else whoever makes them
            looks at it before.
    """

    def __init__(
        self, channel: grpc.aio.Channel, breaker: Breaker, *, refuses: bool = True
    ) -> None:
        self._channel = channel
        self.breaker = breaker
        self._refuses = refuses

    def _guarded(self, kind: str, method: str, *serializers: Any, **more: Any) -> Any:
        make = getattr(self._channel, kind)(method, *serializers, **more)
        if method.startswith(_HEALTH):
            return make

        def start(*arguments: Any, **options: Any) -> Any:
            if self._refuses:
                self.breaker.check()
            requests = None
            if arguments and isinstance(arguments[0], AsyncIterable):
                requests = _Requests(arguments[0])
                arguments = (requests, *arguments[1:])
            call = make(*arguments, **options)
            call.add_done_callback(partial(self._note, requests))
            return call

        return start

    def _note(self, requests: _Requests | None, call: Any) -> None:
        code = now_of(call.code())
        late = code is grpc.StatusCode.DEADLINE_EXCEEDED
        if call.cancelled() or (late and requests is not None and requests.awaited):
            self.breaker.left()
            return
        trailers = now_of(call.trailing_metadata()) or ()
        # A peer that says so itself is there: it is short of something, or its database is.
        told = any(name == "grpc-status-details-bin" for name, _ in trailers)
        if code in _COUNTED and not told:
            self.breaker.failed()
        else:
            self.breaker.answered()

    def unary_unary(self, method: str, *serializers: Any, **more: Any) -> Any:
        return self._guarded("unary_unary", method, *serializers, **more)

    def unary_stream(self, method: str, *serializers: Any, **more: Any) -> Any:
        return self._guarded("unary_stream", method, *serializers, **more)

    def stream_unary(self, method: str, *serializers: Any, **more: Any) -> Any:
        return self._guarded("stream_unary", method, *serializers, **more)

    def stream_stream(self, method: str, *serializers: Any, **more: Any) -> Any:
        return self._guarded("stream_stream", method, *serializers, **more)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return self._channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        await self._channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        await self._channel.channel_ready()

    async def close(self, grace: float | None = None) -> None:
        await self._channel.close(grace)

    async def __aenter__(self) -> GuardedChannel:
        return self

    async def __aexit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        await self.close()
