"""The four gRPC services in one process, over real sockets and a real database."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, NamedTuple

import grpc
import pytest

import audit.app
import ingestor.app
import moderator.app
import orchestrator.app
from tests.harness import serving, settings
from winnow.access.v1.access_service_pb2_grpc import AccessServiceStub
from winnow.audit.v1.audit_service_pb2_grpc import AuditServiceStub
from winnow.report.v1 import report_service_pb2 as pb
from winnow.report.v1.credential_service_pb2_grpc import CredentialServiceStub
from winnow.report.v1.decision_service_pb2_grpc import DecisionServiceStub
from winnow.report.v1.report_pb2 import Report
from winnow.report.v1.report_service_pb2_grpc import ReportServiceStub


class House(NamedTuple):
    """Stubs of a running house, and where its services are."""

    reports: Any
    credentials: Any
    decisions: Any
    audit: Any
    addresses: dict[str, str]
    channel: grpc.aio.Channel


@asynccontextmanager
async def opened_house(database_url: str, **more: Any) -> AsyncIterator[House]:
    """A running house; `more` are settings of its orchestrator."""
    async with AsyncExitStack() as stack:
        addresses = {}
        for name, module in (("audit", audit), ("ingestor", ingestor), ("moderator", moderator)):
            app: Any = module.app  # type: ignore[attr-defined]
            given = settings(getattr(app, f"{name.title()}Settings"), database_url)
            address, channel = await stack.enter_async_context(serving(app.build(given)))
            addresses[f"{name}_address"] = address
            if name == "audit":
                audit_stub = AuditServiceStub(channel)
        given = settings(
            orchestrator.app.OrchestratorSettings,
            database_url,
            max_report_bytes=8 << 20,
            **addresses,
            **more,
        )
        address, channel = await stack.enter_async_context(serving(orchestrator.app.build(given)))
        addresses["orchestrator_address"] = address
        yield House(
            ReportServiceStub(channel),
            CredentialServiceStub(channel),
            DecisionServiceStub(channel),
            audit_stub,
            addresses,
            channel,
        )


@pytest.fixture
async def house(database_url: str) -> AsyncIterator[House]:
    async with opened_house(database_url) as made:
        yield made


async def upload(
    report: bytes, scanner: str = "", *, wait: bool = True, size: int | None = None, **said: Any
) -> AsyncIterator[pb.SubmitReportRequest]:
    """The request stream of one SubmitReport call."""
    declaration = pb.ReportDeclaration(scanner_type=scanner, **said)
    yield pb.SubmitReportRequest(header=pb.SubmitReportHeader(declaration=declaration, wait=wait))
    for start in range(0, len(report), 100_000):
        yield pb.SubmitReportRequest(chunk=report[start : start + 100_000])
    yield pb.SubmitReportRequest(
        end=pb.SubmitReportEnd(size_bytes=len(report) if size is None else size)
    )


class Asker:
    """Calls a house as one tenant, that has no other reports unless it is named."""

    def __init__(self, house: House, tenant: str = "") -> None:
        self.tenant = tenant or f"t{uuid.uuid4().hex[:12]}"
        self._reports = house.reports
        self.metadata = (("x-winnow-tenant", self.tenant),)
        keys = AccessServiceStub(house.channel)
        for stub in (house.reports, house.credentials, house.decisions, house.audit, keys):
            for name, method in vars(stub).items():
                setattr(self, name, self._bound(method))

    def _bound(self, method: Any) -> Any:
        return lambda request, metadata=self.metadata: method(request, metadata=metadata)

    async def submit(self, report: bytes, **more: Any) -> Report:
        call = self._reports.SubmitReport(upload(report, **more), metadata=self.metadata)
        return (await call).report


@pytest.fixture
def alone(house: House) -> Asker:
    return Asker(house)
