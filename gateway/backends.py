"""The services behind the gateway, and their errors as ours."""

from __future__ import annotations

from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
from fastapi import Request

from runtime.channels import dial
from runtime.errors import from_rpc
from winnow.audit.v1.audit_service_pb2_grpc import AuditServiceStub
from winnow.report.v1.report_service_pb2_grpc import ReportServiceStub

if TYPE_CHECKING:
    # Known to the type stubs only.
    from winnow.audit.v1.audit_service_pb2_grpc import AuditServiceAsyncStub
    from winnow.report.v1.report_service_pb2_grpc import ReportServiceAsyncStub

ORCHESTRATOR = "orchestrator"
AUDIT = "audit service"


@dataclass(frozen=True)
class Backends:
    """Channels and stubs, one of each service, for the life of the process."""

    orchestrator: grpc.aio.Channel
    audit_log: grpc.aio.Channel
    reports: ReportServiceAsyncStub
    audit: AuditServiceAsyncStub

    async def close(self) -> None:
        await self.orchestrator.close()
        await self.audit_log.close()


def connect(orchestrator_address: str, audit_address: str) -> Backends:
    """Dials both services; channels connect when first used."""
    orchestrator, audit_log = dial(orchestrator_address), dial(audit_address)
    return Backends(
        orchestrator, audit_log, ReportServiceStub(orchestrator), AuditServiceStub(audit_log)
    )


def backends(request: Request) -> Backends:
    """The backends of the application that serves a request."""
    found: Backends = request.app.state.backends
    return found


@contextmanager
def calling(service: str, status: PeerStatus | None = None) -> Iterator[None]:
    """Turns a failed call within the block into the `WinnowError` that it carries.

    Args:
        service: whom the call is to.
        status: what is known of the call beside its error.
    """
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise from_rpc(status.of(error) if status else error, service) from None


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
        trailers = _now(call.trailing_metadata())
        # Errors of ours carry their reason in the trailers; grpc's own have none.
        if trailers and self._error is None:
            self._error = grpc.aio.AioRpcError(
                _now(call.code()),
                grpc.aio.Metadata(),
                trailers,
                _now(call.details()),
            )


def _now(ready: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine that has nothing to wait for."""
    try:
        ready.send(None)
    except StopIteration as done:
        return done.value
    ready.close()
    raise AssertionError("the call is not done")
