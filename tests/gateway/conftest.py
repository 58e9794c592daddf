"""The gateway on a real socket, before services that keep reports in memory."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import grpc
import httpx
import pytest
import uvicorn

from gateway.app import GatewaySettings, build
from gateway.watching import Watches
from runtime import log
from runtime.clock import now, uuid7
from runtime.config import load
from runtime.context import REPLAYED_KEY, REPORT_KEY, REUSED_KEY
from runtime.errors import WinnowError
from runtime.server import Service
from winnow.access.v1 import access_service_pb2, access_service_pb2_grpc
from winnow.audit.v1 import audit_event_pb2, audit_service_pb2, audit_service_pb2_grpc
from winnow.event.v1 import envelope_pb2
from winnow.finding.v1 import finding_pb2, verdict_pb2
from winnow.ingest.v1 import rejected_pb2
from winnow.report.v1 import (
    report_finding_pb2,
    report_pb2,
    report_service_pb2,
    report_service_pb2_grpc,
)

LIMIT = 3 << 20
_FINAL = ("REPORT_DONE", "REPORT_FAILED")


@dataclass
class Upload:
    """What one SubmitReport call brought."""

    header: Any = None
    end: Any = None
    data: bytes = b""
    sizes: list[int] = field(default_factory=list)
    metadata: dict[str, str] = field(default_factory=dict)
    over: asyncio.Event = field(default_factory=asyncio.Event)


def finding(report_id: str, ordinal: int) -> report_finding_pb2.ReportFinding:
    return report_finding_pb2.ReportFinding(
        id=f"{report_id}.{ordinal}",
        path=f"src/{ordinal}.py",
        line=ordinal + 1 if ordinal % 2 else None,
        kind=finding_pb2.FINDING_KIND_POSSIBLE_SECRET,
        value_preview="gh****",
        risk=(
            verdict_pb2.RISK_HIGH,
            verdict_pb2.RISK_MEDIUM,
            verdict_pb2.RISK_LOW,
        )[ordinal % 3],
        reason="a reason",
        source=verdict_pb2.VERDICT_SOURCE_HEURISTIC,
        rule="github-pat",
    )


class Reports(report_service_pb2_grpc.ReportServiceServicer):
    def __init__(self) -> None:
        self.reports: dict[str, report_pb2.Report] = {}
        self.findings: dict[str, list[Any]] = {}
        self.uploads: list[Upload] = []
        self.requests: list[Any] = []
        # Events by report, and the calls that watched them.
        self.runs: dict[str, list[envelope_pb2.Envelope]] = {}
        self.watched: list[Any] = []
        # Of SubmitReport: what else it answers, and how often it is busy before.
        self.told: dict[str, Any] = {}
        self.busy = 0
        # Released by each call that will not end by itself.
        self.waiting = asyncio.Semaphore(0)

    def add(self, findings: int, **fields: Any) -> report_pb2.Report:
        report = report_pb2.Report(
            report_id=str(uuid7()), status=report_pb2.REPORT_STATUS_DONE, **fields
        )
        report.created_at.FromDatetime(now())
        report.summary.high = findings
        report.records.read = report.records.findings = findings
        self.reports[report.report_id] = report
        self.findings[report.report_id] = [finding(report.report_id, n) for n in range(findings)]
        return report

    async def SubmitReport(self, requests: Any, context: Any) -> Any:
        upload = Upload(metadata=dict(context.invocation_metadata()))
        self.uploads.append(upload)
        try:
            async for request in requests:
                match request.WhichOneof("payload"):
                    case "header":
                        upload.header = request.header
                        if request.header.declaration.scanner_type == "nobody":
                            raise WinnowError("SCANNER_UNKNOWN", "no such scanner", supported="x")
                        if request.header.declaration.scanner_type == "defect":
                            raise RuntimeError("quotes the input")
                    case "chunk":
                        upload.data += request.chunk
                        upload.sizes.append(len(request.chunk))
                    case "end":
                        upload.end = request.end
        finally:
            upload.over.set()
        if upload.end is None:
            raise WinnowError("UPLOAD_INCOMPLETE", "no end")
        if upload.data == b"busy" or self.busy:
            self.busy = max(self.busy - 1, 0)
            raise WinnowError("OVERLOADED", "busy", retry_after=2.5)
        if upload.data == b"bad":
            raise WinnowError("REPORT_MALFORMED", "bad", report_id=str(uuid7()), at_byte="0")
        if upload.data.endswith(b"durable"):
            report = self.add(0, scanner_type="gitleaks")
            told = {"replayed": REPLAYED_KEY, "reused": REUSED_KEY}
            earlier = [(told[name], "true") for name, said in self.told.items() if said]
            await context.send_initial_metadata([(REPORT_KEY, report.report_id), *earlier])
        if upload.data.startswith(b"cut"):
            await context.abort(grpc.StatusCode.UNAVAILABLE, "gone")
        if upload.data.startswith(b"endless"):
            self.waiting.release()
            await asyncio.Event().wait()
        report = self.add(2, scanner_type="gitleaks")
        if not upload.header.wait and not report.HasField("error"):
            report.status = report_pb2.REPORT_STATUS_CREATED
        return report_service_pb2.SubmitReportResponse(report=report, **self.told)

    def _find(self, report_id: str) -> report_pb2.Report:
        if report_id not in self.reports:
            raise WinnowError("REPORT_NOT_FOUND", "no such report", report_id=report_id)
        return self.reports[report_id]

    async def GetReport(self, request: Any, context: Any) -> Any:
        return report_service_pb2.GetReportResponse(report=self._find(request.report_id))

    async def ListReports(self, request: Any, context: Any) -> Any:
        self.requests.append(request)
        return report_service_pb2.ListReportsResponse(
            reports=self.reports.values(), next_page_token="more"
        )

    async def ListFindings(self, request: Any, context: Any) -> Any:
        self.requests.append(request)
        self._find(request.report_id)
        if request.page_token == "broken":
            raise WinnowError("PAGE_TOKEN_INVALID", "not one of ours")
        rows = self.findings[request.report_id]
        start = int(request.page_token or 0)
        end = start + (request.page_size or 100)
        return report_service_pb2.ListFindingsResponse(
            findings=rows[start:end], next_page_token=str(end) if end < len(rows) else ""
        )

    async def ListRejected(self, request: Any, context: Any) -> Any:
        self._find(request.report_id)
        return report_service_pb2.ListRejectedResponse(
            rejected=[rejected_pb2.Rejected(ordinal=3, reason=1, detail="not valid JSON")]
        )

    async def CancelReport(self, request: Any, context: Any) -> Any:
        report = self._find(request.report_id)
        if report.status == report_pb2.REPORT_STATUS_DONE:
            raise WinnowError("REPORT_STATE", "it has ended", status="done")
        return report_service_pb2.CancelReportResponse(report=report)

    def happened(self, report_id: str, *event_types: str) -> None:
        """Adds events to a report's run."""
        run = self.runs.setdefault(report_id, [])
        for event_type in event_types:
            event = envelope_pb2.Envelope(
                event_id=str(uuid7()),
                event_type=event_type,
                subject=f"reports/{report_id}",
                tenant_id="default",
                severity=envelope_pb2.EVENT_SEVERITY_INFO,
                schema=f"{event_type.lower().replace('_', '.', 1)}/1",
                service="orchestrator",
                ordinal=len(run) + 1,
            )
            event.occurred_at.FromDatetime(now())
            progress = {
                "status": "done" if event_type == "REPORT_DONE" else "processing",
                "records": {"read": 2, "findings": 2, "merged": 0, "rejected": 0},
                "judged": min(len(run), 2),
                "judged_by": {"heuristic": min(len(run), 2)},
                "summary": {"high": min(len(run), 2), "medium": 0, "low": 0},
            }
            event.payload.update({"report_id": report_id, "progress": progress})
            if event_type == "REPORT_FAILED":
                event.payload.update({"reason": "FORMAT_UNKNOWN"})
            run.append(event)

    async def WatchReport(self, request: Any, context: Any) -> AsyncIterator[Any]:
        self.watched.append(request)
        report = self._find(request.report_id)
        if report.status == report_pb2.REPORT_STATUS_CREATED:
            report.status = report_pb2.REPORT_STATUS_DONE
        if request.report_id not in self.runs:
            last = "REPORT_FAILED" if report.HasField("error") else "REPORT_DONE"
            self.happened(request.report_id, "REPORT_CREATED", "REPORT_PROGRESS", last)
        run, after = self.runs[request.report_id], request.after_ordinal
        while True:
            if report.scanner_type == "falls" and after == 1:
                raise WinnowError("DATABASE_UNAVAILABLE", "gone")
            if after == len(run) and after and run[-1].event_type in _FINAL:
                return
            if after < len(run):
                yield report_service_pb2.WatchReportResponse(event=run[after])
                after += 1
            else:
                await asyncio.sleep(0.01)


class Audit(audit_service_pb2_grpc.AuditServiceServicer):
    def __init__(self, reports: Reports) -> None:
        self._reports = reports

    async def ListEvents(self, request: Any, context: Any) -> Any:
        response = audit_service_pb2.ListEventsResponse()
        if request.report_id in self._reports.reports:
            event = audit_event_pb2.AuditEvent(sequence=7, leaf_hash=b"\x01\xff")
            event.event.event_type = "REPORT_DONE"
            event.event.payload.update({"summary": {"high": 3}, "share": 0.5})
            event.event.occurred_at.FromDatetime(now())
            response.events.append(event)
        return response


@dataclass
class Stack:
    url: str
    client: httpx.AsyncClient
    reports: Reports
    orchestrator: Service
    # Of the gateway: what it keeps of watched reports.
    watches: Watches
    # Set when the server stops.
    draining: asyncio.Event


class Keys(access_service_pb2_grpc.AccessServiceServicer):
    """Takes every key for one of the same tenant's."""

    async def GetCaller(self, _request: Any, _context: Any) -> Any:
        return access_service_pb2.GetCallerResponse(tenant_id="t1", key_id="k1")


@pytest.fixture(scope="session")
async def stack() -> AsyncIterator[Stack]:
    log.configure("gateway", "INFO")
    reports = Reports()
    audit = Audit(reports)

    def register(server: grpc.aio.Server) -> None:
        report_service_pb2_grpc.add_ReportServiceServicer_to_server(reports, server)
        access_service_pb2_grpc.add_AccessServiceServicer_to_server(Keys(), server)

    orchestrator = Service(
        "127.0.0.1:0",
        [
            report_service_pb2.DESCRIPTOR.services_by_name["ReportService"],
            access_service_pb2.DESCRIPTOR.services_by_name["AccessService"],
        ],
        register,
    )
    audit_log = Service(
        "127.0.0.1:0",
        [audit_service_pb2.DESCRIPTOR.services_by_name["AuditService"]],
        lambda server: audit_service_pb2_grpc.add_AuditServiceServicer_to_server(audit, server),
    )
    await orchestrator.start()
    await audit_log.start()
    settings = load(
        GatewaySettings,
        orchestrator_address=f"127.0.0.1:{orchestrator.port}",
        audit_address=f"127.0.0.1:{audit_log.port}",
        max_report_bytes=LIMIT,
    )
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    app = build(settings)
    config = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=2)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve([listener]))
    while not server.started:
        await asyncio.sleep(0.01)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        yield Stack(url, client, reports, orchestrator, app.state.watches, app.state.draining)
    server.should_exit = True
    await serving
    await orchestrator.stop(0)
    await audit_log.stop(0)


@pytest.fixture
async def client(stack: Stack) -> httpx.AsyncClient:
    return stack.client


@pytest.fixture
async def reports(stack: Stack) -> Reports:
    return stack.reports
