"""What happens around every RPC, in one place and one order.

1. context: request id and tenant from metadata, into context variables and logs;
   then who calls, and whether he may: by his certificate (runtime.peers) where
   services speak mutual TLS, by the key that he shows (runtime.access) where keys count;
2. limits: what a key may send, unless the gateway has counted it (runtime.limits); calls
   at once; streams of events, and of health, which are bounded apart; what the caller has
   left, or a minute, bounds a unary handler; silence bounds a stream of requests;
3. validation: protovalidate rules of headers and unary requests;
4. the handler;
5. errors: `WinnowError` to a rich status; anything else is a defect and becomes
   INTERNAL with an id that the log line carries, and nothing else.

Handlers that stream may be async generators or, like the standard health
service's Watch, coroutines that write: both shapes are kept.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    aclosing,
    asynccontextmanager,
    contextmanager,
    nullcontext,
)
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import grpc
import protovalidate
import structlog
from google.protobuf.message import DecodeError, Message
from grpc_status import rpc_status

from runtime import context
from runtime.calls import Call
from runtime.clock import uuid7
from runtime.errors import WinnowError, to_status
from runtime.limits import Streams
from runtime.log import get_logger
from runtime.peers import GATEWAY, Peers, identity_of
from runtime.streams import idle

if TYPE_CHECKING:
    from runtime.access import Access
    from runtime.limits import Limits

_log = get_logger()
_Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[Any]]

# What a unary call may take whose caller sets no deadline.
UNARY_SECONDS = 60.0
# A caller may wait for a peer of its own while it streams to us.
IDLE_SECONDS = 180.0

_NO_RETRY = ("grpc-retry-pushback-ms", "-1")

# What waits for events, as all methods of this name do.
_WATCH = "/Watch"
# What the gateway asks before a request has its turn.
_BEFORE = (
    "/winnow.access.v1.AccessService/GetCaller",
    "/winnow.access.v1.AccessService/TakeTokens",
)
# Infrastructure calls are frequent and dull.
_QUIET = ("/grpc.health.", "/grpc.reflection.")
# Who watches how we are is a neighbour, or a balancer: anybody may, so few can.
_QUIET_STREAMS = 64


def validate(message: Message) -> None:
    """Checks a message against the rules in its contract.

    Raises:
        WinnowError: INVALID_ARGUMENT naming the field and the rule, not the value.
    """
    try:
        protovalidate.validate(message)
    except protovalidate.ValidationError as error:
        violation = error.violations[0].proto
        elements = violation.field.elements if violation.field is not None else []
        field = ".".join(element.field_name for element in elements)
        raise WinnowError(
            "INVALID_ARGUMENT",
            f"{field}: {violation.message}",
            field=field,
            rule=violation.rule_id,
        ) from None


class _Places:
    """Bounds the calls that are worked on at once, and the streams that are open; whoever
    comes too late is told so."""

    def __init__(self, number: int) -> None:
        self._free = number
        self._quiet = Streams(_QUIET_STREAMS, _QUIET_STREAMS)
        self._watches = Streams()
        self.watching: set[asyncio.Task[Any]] = set()

    @contextmanager
    def taken(self, method: str, caller: str, *, streaming: bool) -> Iterator[None]:
        """Is entered while a call is worked on.

        Args:
            method: its full name.
            caller: whose streams are counted together.
            streaming: whether its answer is a stream.

        Raises:
            WinnowError: OVERLOADED.
        """
        # Who only watches, or asks how we are, takes nobody's place.
        if method.startswith(_QUIET):
            with self._quiet.taken(caller) if streaming else nullcontext():
                yield
            return
        if _WATCH in method:
            task = asyncio.current_task()
            assert task is not None
            with self._watches.taken(caller):
                self.watching.add(task)
                try:
                    yield
                finally:
                    self.watching.discard(task)
            return
        if self._free == 0:
            raise WinnowError("OVERLOADED", "too many calls at once", retry_after=1.0)
        self._free -= 1
        try:
            yield
        finally:
            self._free += 1


class _Guards(NamedTuple):
    """Who look at a call before it is made; None where they have nothing to look at."""

    peers: Peers | None
    access: Access | None
    limits: Limits | None


class ServiceInterceptor(grpc.aio.ServerInterceptor):
    """Wraps every handler of a server; see the module's text for the order.

    Args:
        at_once: calls that are worked on at a time.
        peers: who may call, where callers have certificates.
        access: admits calls; None where no keys are checked.
        limits: of callers with keys; None for none.
    """

    def __init__(
        self,
        at_once: int,
        peers: Peers | None = None,
        access: Access | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._places = _Places(at_once)
        self._guards = _Guards(peers, access, limits)

    def end_watches(self) -> None:
        """Ends what only watches: it would hold up a drain for as long as it may."""
        for task in list(self._places.watching):
            task.cancel()

    async def intercept_service(
        self, continuation: _Continuation, details: grpc.HandlerCallDetails
    ) -> Any:
        handler: Any = await continuation(details)
        if handler is None:
            return None
        method: str = details.method
        if handler.response_streaming:
            inner = handler.stream_stream or handler.unary_stream
            wrapped = _streaming(
                method, inner, handler.request_streaming, self._places, self._guards
            )
            make = (
                grpc.stream_stream_rpc_method_handler
                if handler.request_streaming
                else grpc.unary_stream_rpc_method_handler
            )
        else:
            inner = handler.stream_unary or handler.unary_unary
            wrapped = _unary(method, inner, handler.request_streaming, self._places, self._guards)
            make = (
                grpc.stream_unary_rpc_method_handler
                if handler.request_streaming
                else grpc.unary_unary_rpc_method_handler
            )
        return make(
            wrapped,
            request_deserializer=_lenient(handler.request_deserializer),
            response_serializer=handler.response_serializer,
        )


class _Scope:
    """One call: its context, its log line, its metrics and span, its way out."""

    def __init__(self, method: str, servicer_context: Any, guards: _Guards) -> None:
        self._method = method
        self._context = servicer_context
        self._peers = guards.peers
        self._access = None if method.startswith(_QUIET) else guards.access
        self._limits = guards.limits
        self._metadata = tuple(servicer_context.invocation_metadata() or ())
        self._started = time.perf_counter()
        self._seen = None if method.startswith(_QUIET) else Call(method, servicer_context)

    async def enter(self) -> None:
        """Sets the context from the call's metadata, if the call may be made."""
        context.enter(self._metadata)
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(
            request_id=context.request_id.get(), tenant=context.tenant.get()
        )
        if self._peers is not None:
            self._peers.check(self._method, self._context)
        if self._access is not None:
            await self._access.admit(self._method, self._metadata)
            if key_id := context.caller.get().key_id:
                structlog.contextvars.bind_contextvars(tenant=context.tenant.get(), key_id=key_id)

    def within_limits(self, size: int) -> AbstractAsyncContextManager[Callable[[int], None] | None]:
        """Is entered once what the call costs is paid, unless nobody counts it here.

        Args:
            size: bytes of the request.

        Returns:
            What is to be told how many bytes have come later.

        Raises:
            WinnowError: RATE_LIMITED, OVERLOADED.
        """
        key = context.caller.get().key_id
        certified = self._peers is not None and identity_of(self._context) == GATEWAY
        if self._limits is None or not key or certified:
            return nullcontext()
        # Anybody on this machine could say so: he has his turns like others.
        counted = self._peers is None and context.THROUGH_GATEWAY in self._metadata
        turn = _WATCH not in self._method and not (counted and self._method in _BEFORE)
        return self._limits.within(context.tenant.get(), key, size, counted=counted, turn=turn)

    @property
    def caller(self) -> str:
        """Whom the call is from: a key, or else an identity, or an address without its port."""
        if key_id := context.caller.get().key_id:
            return key_id
        if self._peers is not None:
            return identity_of(self._context)
        peer: str = self._context.peer()
        return peer.rpartition(":")[0]

    @asynccontextmanager
    async def admitted(self) -> AsyncIterator[None]:
        """Ends the call once its key would no longer be admitted: a stream may last.

        Raises:
            WinnowError: why it would not be.
        """
        if self._access is None or not context.caller.get().key_id:
            yield
            return
        handling = asyncio.current_task()
        assert handling is not None
        guard = asyncio.create_task(self._access.until_refused())
        guard.add_done_callback(lambda done: None if done.cancelled() else handling.cancel())
        try:
            yield
        except asyncio.CancelledError:
            if not guard.done():
                raise
            handling.uncancel()
            raise guard.result() from None
        finally:
            guard.cancel()

    def done(self, status: str, **more: str) -> None:
        if self._seen is None:
            return
        self._seen.end(more.get("reason", ""))
        took = round((time.perf_counter() - self._started) * 1000, 2)
        level = _log.debug if status == "ok" else _log.info
        level("rpc", method=self._method, status=status, duration_ms=took, **more)

    async def fail(self, error: Exception) -> NoReturn:
        if isinstance(error, NotImplementedError):
            # Of the contract's, but the servicer has none: generated code raises it.
            self.done("error", reason="UNIMPLEMENTED")
            await self._context.abort(grpc.StatusCode.UNIMPLEMENTED, "not served here")
        if not isinstance(error, WinnowError):
            error_id = str(uuid7())
            _log.error("rpc.defect", method=self._method, error_id=error_id, exc_info=error)
            error = WinnowError(
                "INTERNAL", f"internal error {error_id}; the log has it", error_id=error_id
            )
        caller = {"peer": error.metadata["peer"]} if "peer" in error.metadata else {}
        self.done("error", reason=error.reason, **caller)
        status = rpc_status.to_status(to_status(error))
        # Who has too much to do is not helped by being asked once more (gRFC A6).
        pushback = (_NO_RETRY,) if error.reason == "OVERLOADED" else ()
        await self._context.abort(
            status.code, status.details, (*status.trailing_metadata, *pushback)
        )
        raise AssertionError("abort returned")

    def remaining(self) -> float | None:
        left: float | None = self._context.time_remaining()
        return left


class _Undecodable:
    """In the place of a message whose bytes were none: grpc itself would answer
    with Python's own words."""


def _lenient(decode: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    def deserialize(raw: bytes) -> Any:
        try:
            return decode(raw)
        except DecodeError:
            return _Undecodable()

    return deserialize


def _decoded(message: Any) -> Any:
    if isinstance(message, _Undecodable):
        raise WinnowError(
            "INVALID_ARGUMENT", "the message's bytes are not a protobuf message", field="message"
        )
    return message


def _size(message: Any) -> int:
    return message.ByteSize() if isinstance(message, Message) else 0


async def _each_decoded(
    requests: AsyncIterator[Any], count: Callable[[int], None] | None
) -> AsyncIterator[Any]:
    async for request in idle(requests, IDLE_SECONDS, "caller"):
        if count:
            count(_size(request))
        yield _decoded(request)


def _unary(
    method: str, inner: Callable[..., Any], streamed: bool, places: _Places, guards: _Guards
) -> Callable[..., Any]:
    async def handle(request: Any, servicer_context: Any) -> Any:
        scope = _Scope(method, servicer_context, guards)
        try:
            await scope.enter()
            async with scope.within_limits(0 if streamed else _size(request)) as count:
                remaining = scope.remaining()
                if streamed:
                    request = _each_decoded(request, count)
                else:
                    validate(_decoded(request))
                    remaining = UNARY_SECONDS if remaining is None else remaining
                with places.taken(method, scope.caller, streaming=False):
                    async with asyncio.timeout(remaining) as limit:
                        # What is read as it comes may last, as streams of answers do.
                        async with scope.admitted() if streamed else nullcontext():
                            response = await inner(request, servicer_context)
        except TimeoutError as error:
            if not limit.expired():
                await scope.fail(error)
            await scope.fail(WinnowError("DEADLINE_EXCEEDED", "the call's deadline passed"))
        except grpc.aio.AbortError:
            raise
        except Exception as error:  # noqa: BLE001 -- the one place that maps all errors
            await scope.fail(error)
        scope.done("ok")
        return response

    return handle


def _streaming(
    method: str, inner: Callable[..., Any], streamed: bool, places: _Places, guards: _Guards
) -> Callable[..., Any]:
    async def handle(request: Any, servicer_context: Any) -> AsyncIterator[Any]:
        scope = _Scope(method, servicer_context, guards)
        try:
            await scope.enter()
            async with scope.within_limits(0 if streamed else _size(request)) as count:
                if not streamed:
                    validate(_decoded(request))
                elif method.startswith(_QUIET):
                    request = (_decoded(one) async for one in request)
                else:
                    request = _each_decoded(request, count)
                with places.taken(method, scope.caller, streaming=True):
                    result = inner(request, servicer_context)
                    async with scope.admitted():
                        if hasattr(result, "__aiter__"):
                            async with aclosing(result) as items:
                                async for item in items:
                                    yield item
                        else:
                            await result
        except grpc.aio.AbortError:
            raise
        except Exception as error:  # noqa: BLE001 -- the one place that maps all errors
            await scope.fail(error)
        scope.done("ok")

    return handle
