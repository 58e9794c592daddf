"""The services behind the gateway, and their errors as ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
from fastapi import Request

from runtime.breaker import Breaker, GuardedChannel
from runtime.channels import PeerStatus, dial
from runtime.errors import from_rpc
from runtime.tls import Tls
from winnow.access.v1.access_service_pb2_grpc import AccessServiceStub
from winnow.audit.v1.audit_service_pb2_grpc import AuditServiceStub
from winnow.queue.v1.queue_service_pb2_grpc import QueueServiceStub
from winnow.report.v1.credential_service_pb2_grpc import CredentialServiceStub
from winnow.report.v1.decision_service_pb2_grpc import DecisionServiceStub
from winnow.report.v1.report_service_pb2_grpc import ReportServiceStub
from winnow.seal.v1.seal_service_pb2_grpc import SealServiceStub

if TYPE_CHECKING:
    # Known to the type stubs only.
    from winnow.access.v1.access_service_pb2_grpc import AccessServiceAsyncStub
    from winnow.audit.v1.audit_service_pb2_grpc import AuditServiceAsyncStub
    from winnow.queue.v1.queue_service_pb2_grpc import QueueServiceAsyncStub
    from winnow.report.v1.credential_service_pb2_grpc import CredentialServiceAsyncStub
    from winnow.report.v1.decision_service_pb2_grpc import DecisionServiceAsyncStub
    from winnow.report.v1.report_service_pb2_grpc import ReportServiceAsyncStub
    from winnow.seal.v1.seal_service_pb2_grpc import SealServiceAsyncStub

ORCHESTRATOR = "orchestrator"
AUDIT = "audit service"


@dataclass(frozen=True)
class Backends:
    """Channels and stubs, one of each service, for the life of the process."""

    orchestrator: GuardedChannel
    audit_log: GuardedChannel
    reports: ReportServiceAsyncStub
    credentials: CredentialServiceAsyncStub
    decisions: DecisionServiceAsyncStub
    queue: QueueServiceAsyncStub
    keys: AccessServiceAsyncStub
    sealing: SealServiceAsyncStub
    audit: AuditServiceAsyncStub

    async def close(self) -> None:
        await self.orchestrator.close()
        await self.audit_log.close()


def connect(orchestrator_address: str, audit_address: str, tls: Tls | None) -> Backends:
    """Dials both services; channels connect when first used."""
    orchestrator = GuardedChannel(dial(orchestrator_address, tls), Breaker(ORCHESTRATOR))
    audit_log = GuardedChannel(dial(audit_address, tls), Breaker(AUDIT))
    return Backends(
        orchestrator,
        audit_log,
        ReportServiceStub(orchestrator),
        CredentialServiceStub(orchestrator),
        DecisionServiceStub(orchestrator),
        QueueServiceStub(orchestrator),
        AccessServiceStub(orchestrator),
        SealServiceStub(orchestrator),
        AuditServiceStub(audit_log),
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
