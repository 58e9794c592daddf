"""Fail closed: no report without an audit log that can be written."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import grpc
import pytest
from sqlalchemy import func, select

import audit.app
import orchestrator.app
from orchestrator.tables import reports
from runtime.database import Database
from runtime.errors import from_rpc
from tests.harness import serving, settings
from tests.orchestrator.conftest import upload
from winnow.report.v1.report_service_pb2_grpc import ReportServiceStub


async def open_house(
    stack: AsyncExitStack, database_url: str, audit_address: str, required: bool
) -> Any:
    given = settings(
        orchestrator.app.OrchestratorSettings,
        database_url,
        audit_address=audit_address,
        audit_required=required,
    )
    _, channel = await stack.enter_async_context(serving(orchestrator.app.build(given)))
    return ReportServiceStub(channel)


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as made:
        yield made


async def count(database: Database) -> int:
    query = select(func.count()).select_from(reports)
    return await database.run(lambda connection: connection.execute(query).scalar_one())


async def test_without_an_audit_log_no_report_is_accepted(
    stack: AsyncExitStack, database: Database, database_url: str
) -> None:
    house = await open_house(stack, database_url, "127.0.0.1:1", required=True)
    before = await count(database)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await house.SubmitReport(upload(b"[]", "gitleaks", wait=False))
    refused = from_rpc(caught.value, "orchestrator")
    assert (refused.reason, refused.retryable) == ("AUDIT_UNAVAILABLE", True)
    assert await count(database) == before


async def test_unless_it_is_required_events_wait_for_the_audit_log(
    stack: AsyncExitStack, database_url: str
) -> None:
    house = await open_house(stack, database_url, "127.0.0.1:1", required=False)
    answer = await house.SubmitReport(upload(b"[]", "gitleaks", wait=False))
    assert answer.report.report_id


async def test_with_an_audit_log_that_can_be_written_reports_are_accepted(
    stack: AsyncExitStack, database_url: str
) -> None:
    given = settings(audit.app.AuditSettings, database_url)
    address, _ = await stack.enter_async_context(serving(audit.app.build(given)))
    house = await open_house(stack, database_url, address, required=True)
    answer = await house.SubmitReport(upload(b"[]", "gitleaks", wait=False))
    assert answer.report.report_id
