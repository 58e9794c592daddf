"""What comes between the door and the routes: signatures, limits, back-pressure."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from typing import NamedTuple

from starlette.types import Message, Receive, Scope

from gateway import signed
from gateway.access import OPEN
from gateway.backends import Backends
from gateway.callers import Caller, Callers
from runtime import context, pressure
from runtime.errors import WinnowError
from runtime.limits import Places, Rate, Streams, bucket_of

# Requests that last are not worked on: they wait for events.
_WATCHING = "/stream"
# An upload's speed is looked at over so long.
_WINDOW_SECONDS = 30.0


class Admission:
    """Admits requests that the door let in.

    Args:
        rate: by key; None for none.
        places: requests at work at a time; None for as many as come.
        by_address: whether the rate counts for addresses where no key is shown.
        max_memory: bytes that this process may have before bodies are refused; 0: any.
        max_body: bytes that a body may announce; 0: any.
        floor: bytes a second that a body must bring; 0: any.
    """

    def __init__(
        self,
        rate: Rate | None,
        places: Places | None,
        *,
        by_address: bool = False,
        max_memory: int = 0,
        max_body: int = 0,
        floor: int = 0,
    ) -> None:
        self._rate = rate
        self._places = places
        self._streams = Streams()
        self._by_address = by_address
        self._max_memory = max_memory
        self._max_body = max_body
        self._floor = floor
        self._callers = Callers()

    async def admit(self, scope: Scope, receive: Receive) -> Admitted:
        """Lets a request pass, once what it costs is taken.

        Raises:
            WinnowError: SIGNATURE_INVALID, REPLAYED, UNAUTHENTICATED, REPORT_TOO_LARGE,
                RATE_LIMITED, OVERLOADED, or why nobody can say whose the request is.
        """
        held = AsyncExitStack()
        if scope["path"] in OPEN:
            return Admitted(receive, {}, held.aclose)
        size = _announced(scope)
        if size != 0:
            pressure.check_memory(self._max_memory)
        caller: Caller | None = None
        head = signed.head(scope)
        if head is not None:
            receive = signed.checked(receive, head)
            caller = await signed.admit(head, _backends(scope))
        elif context.authorization.get() and (self._rate or self._places):
            caller = await self._callers.of(_backends(scope))
        # Before it waits for a place, or its sender has sent for nothing.
        if self._max_body and size is not None and size > self._max_body:
            raise too_large(self._max_body)
        fields: dict[str, str] = {}
        if self._rate and (name := self._counted(caller, scope)):
            fields = await self._rate.take(name, size or 0)
            if size is None:
                body = _Charged(receive, self._rate, name)
                held.push_async_callback(body.settle)
                receive = body.take
        if self._floor and size != 0:
            receive = _hurried(receive, self._floor)
        if scope["path"].endswith(_WATCHING):
            held.enter_context(self._streams.taken(caller.key_id if caller else _address(scope)))
        elif self._places and caller:
            await self._places.take(caller.tenant, caller.key_id)
            held.callback(self._places.leave, caller.tenant)
        return Admitted(receive, fields, held.aclose)

    async def close(self) -> None:
        """Closes what the rate is kept in."""
        if self._rate:
            await self._rate.close()

    def _counted(self, caller: Caller | None, scope: Scope) -> str:
        if caller:
            return bucket_of(caller.key_id)
        return _address(scope) if self._by_address else ""


def too_large(limit: int) -> WinnowError:
    """What is said of a body of more than `limit` bytes."""
    return WinnowError(
        "REPORT_TOO_LARGE",
        f"the body is larger than {limit} bytes, the most that this server takes "
        "(WINNOW_MAX_REPORT_BYTES)",
        limit_bytes=str(limit),
    )


class Admitted(NamedTuple):
    """A request that may be served.

    Args:
        receive: its body, watched over.
        fields: header fields for its answer.
        leave: to be called once it has been served.
    """

    receive: Receive
    fields: dict[str, str]
    leave: Callable[[], Awaitable[None]]


def _backends(scope: Scope) -> Backends:
    found: Backends = scope["app"].state.backends
    return found


def _address(scope: Scope) -> str:
    """Where a request is from; empty where that is nowhere."""
    client = scope.get("client")
    return f"address {client[0]}" if client else ""


def _announced(scope: Scope) -> int | None:
    """Bytes of the body to come; None where nobody has said so."""
    fields = dict(scope["headers"])
    if b"transfer-encoding" in fields:
        return None
    length = fields.get(b"content-length", b"0")
    return int(length) if length.isdigit() else 0


class _Charged:
    """A body whose size nobody has announced: what came of it is taken from the rate when
    it ends, or when its request does.

    Args:
        receive: the body.
        rate: that it is taken from.
        name: of the bucket.
    """

    def __init__(self, receive: Receive, rate: Rate, name: str) -> None:
        self._receive = receive
        self._rate = rate
        self._name = name
        self._size = 0

    async def take(self) -> Message:
        """The body's next message."""
        message = await self._receive()
        if message["type"] == "http.request":
            self._size += len(message.get("body", b""))
            if not message.get("more_body", False):
                await self.settle()
        return message

    async def settle(self) -> None:
        """Takes what has come, once."""
        size, self._size = self._size, 0
        # A key that has ended meanwhile owes nothing more.
        with suppress(WinnowError):
            await self._rate.owe(self._name, size)


def _hurried(receive: Receive, floor: int) -> Receive:
    """The body, which is cut if it comes too slowly: what is waited for is counted, and not
    what the reader takes his time with."""
    waited, came, over = 0.0, 0, False

    async def take() -> Message:
        nonlocal waited, came, over
        if over:
            return await receive()
        started = time.monotonic()
        message = await pressure.within(receive(), _WINDOW_SECONDS - waited, floor)
        waited += time.monotonic() - started
        came += len(message.get("body", b""))
        over = message["type"] != "http.request" or not message.get("more_body", False)
        if waited >= _WINDOW_SECONDS or came >= floor * _WINDOW_SECONDS:
            if came < floor * _WINDOW_SECONDS and not over:
                raise pressure.too_slow(floor)
            waited, came = 0.0, 0
        return message

    return take
