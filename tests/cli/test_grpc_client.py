"""The gRPC client against grpcio-testing's channel: what it sends, what it makes of answers."""

from __future__ import annotations

import io
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import grpc
import grpc_testing
import pytest
from google.rpc import status_pb2

from cli.client import Client
from cli.errors import ClientError
from cli.wire import Declaration, Terms
from cli.wire_grpc import GrpcWire
from runtime.errors import WinnowError, to_status
from winnow.audit.v1 import audit_service_pb2
from winnow.report.v1 import report_pb2, report_service_pb2

REPORTS = report_service_pb2.DESCRIPTOR.services_by_name["ReportService"]
AUDIT = audit_service_pb2.DESCRIPTOR.services_by_name["AuditService"]


class Server:
    """The far side of a testing channel."""

    def __init__(self) -> None:
        self.channel = grpc_testing.channel([REPORTS, AUDIT], grpc_testing.strict_real_time())
        self.client = Client(GrpcWire(self.channel, "grpc://x"))
        self._pool = ThreadPoolExecutor(1)

    def calling(self, function: Any, *arguments: Any, **named: Any) -> Future[Any]:
        return self._pool.submit(function, *arguments, **named)

    def unary(self, method: str, answer: Any, error: WinnowError | None = None) -> Any:
        descriptor = REPORTS.methods_by_name.get(method) or AUDIT.methods_by_name[method]
        _, request, call = self.channel.take_unary_unary(descriptor)
        call.send_initial_metadata(())
        call.terminate(answer, *_ending(error))
        return request


def _ending(error: WinnowError | None) -> tuple[Any, Any, str]:
    if error is None:
        return (), grpc.StatusCode.OK, ""
    status: status_pb2.Status = to_status(error)
    trailers = (("grpc-status-details-bin", status.SerializeToString()),)
    return trailers, error.grpc_code, error.message


@pytest.fixture
def server() -> Server:
    return Server()


def test_submit_sends_header_chunks_and_end(server: Server) -> None:
    data = b"[" + b" " * 600_000 + b"]"
    sent: list[int] = []
    declared = Declaration("gitleaks", ref="main", labels={"a": "b"})
    terms = Terms("key-1", wait=7, reuse=True)
    submitted = server.calling(server.client.submit, io.BytesIO(data), declared, terms, sent.append)
    _, call = server.channel.take_stream_unary(REPORTS.methods_by_name["SubmitReport"])
    call.send_initial_metadata(())
    header = call.take_request().header
    assert header.declaration.scanner_type == "gitleaks"
    assert header.declaration.source.ref == "main"
    assert dict(header.declaration.labels) == {"a": "b"}
    assert (header.request_id, header.wait, header.wait_at_most.seconds) == ("key-1", True, 7)
    assert header.duplicates == report_service_pb2.DUPLICATE_HANDLING_REUSE
    received = b""
    while (request := call.take_request()).WhichOneof("payload") == "chunk":
        received += request.chunk
    assert received == data
    assert request.end.size_bytes == len(data)
    call.requests_closed()
    answer = report_service_pb2.SubmitReportResponse(reused=True, replayed=True)
    answer.report.report_id = "r1"
    answer.report.duplicate_of = "r0"
    answer.report.status = report_pb2.REPORT_STATUS_DONE
    call.terminate(answer, *_ending(None))
    assert submitted.result(5) == {
        "report_id": "r1",
        "status": "done",
        "duplicate_of": "r0",
        "reused": True,
        "replayed": True,
    }
    assert sum(sent) == len(data)


def test_submit_tells_whether_the_same_again_may_go_well(server: Server) -> None:
    for error, may_pass in (
        (WinnowError("OVERLOADED", "busy", retry_after=2.0), True),
        (WinnowError("STREAM_CUT_SHORT", "it failed for good", report_id="r1"), False),
        (WinnowError("IDEMPOTENCY_KEY_REUSED", "another report", report_id="r1"), False),
    ):
        submitted = server.calling(
            server.client.submit, io.BytesIO(b"[]"), Declaration(), Terms(), lambda _size: None
        )
        _, call = server.channel.take_stream_unary(REPORTS.methods_by_name["SubmitReport"])
        call.send_initial_metadata(())
        header = call.take_request().header
        assert (header.request_id, header.wait, header.HasField("wait_at_most")) == (
            "",
            False,
            False,
        )
        call.terminate(None, *_ending(error))
        with pytest.raises(ClientError) as caught:
            submitted.result(5)
        assert (caught.value.may_pass, caught.value.after) == (may_pass, error.retry_after or 0)
        assert str(caught.value).endswith("; report r1") == ("report_id" in error.metadata)


def test_watch_yields_events_as_json(server: Server) -> None:
    watched = server.calling(lambda: list(server.client.watch("r1", 6)))
    _, request, call = server.channel.take_unary_stream(REPORTS.methods_by_name["WatchReport"])
    assert (request.report_id, request.after_ordinal) == ("r1", 6)
    call.send_initial_metadata(())
    for ordinal, event_type in ((7, "REPORT_PROGRESS"), (8, "REPORT_DONE")):
        answer = report_service_pb2.WatchReportResponse()
        answer.event.ordinal, answer.event.event_type = ordinal, event_type
        call.send_response(answer)
    call.terminate(*_ending(None))
    told = [(event["ordinal"], event["event_type"]) for event in watched.result(5)]
    assert told == [(7, "REPORT_PROGRESS"), (8, "REPORT_DONE")]


def test_findings_follow_the_cursor(server: Server) -> None:
    found = server.calling(lambda: list(server.client.findings("r1", risk="high", full=True)))
    first = report_service_pb2.ListFindingsResponse(next_page_token="t")
    first.findings.add(id="r1.0", risk=1)
    request = server.unary("ListFindings", first)
    assert (request.risk, request.view, request.page_token) == (1, 2, "")
    last = report_service_pb2.ListFindingsResponse()
    last.findings.add(id="r1.1")
    assert server.unary("ListFindings", last).page_token == "t"
    assert [f["id"] for f in found.result(5)] == ["r1.0", "r1.1"]


def test_report_reports_and_events(server: Server) -> None:
    shown = server.calling(server.client.report, "r1")
    answer = report_service_pb2.GetReportResponse()
    answer.report.status = report_pb2.REPORT_STATUS_DONE
    assert server.unary("GetReport", answer).report_id == "r1"
    assert shown.result(5)["status"] == "done"
    listed = server.calling(server.client.reports, 1)
    page = report_service_pb2.ListReportsResponse(next_page_token="more")
    page.reports.add(report_id="r1")
    page.reports.add(report_id="r2")
    assert server.unary("ListReports", page).page_size == 1
    assert [r["report_id"] for r in listed.result(5)] == ["r1"]
    trail = server.calling(server.client.events, "r1")
    events = audit_service_pb2.ListEventsResponse()
    events.events.add(sequence=3)
    server.unary("ListEvents", events)
    assert trail.result(5)[0]["sequence"] == 3


def test_a_caller_whose_certificate_is_refused_is_not_told_to_come_again(server: Server) -> None:
    shown = server.calling(server.client.report, "r1")
    error = WinnowError("PERMISSION_DENIED", "not for you", peer="spiffe://winnow/tool/ci")
    server.unary("GetReport", None, error)
    with pytest.raises(ClientError, match=r"^Not allowed: .*WINNOW_PEERS_ALLOWED") as caught:
        shown.result(5)
    assert (caught.value.may_pass, caught.value.reason) == (False, "PERMISSION_DENIED")


def test_errors_keep_their_reason(server: Server) -> None:
    shown = server.calling(server.client.report, "r1")
    error = WinnowError("REPORT_NOT_FOUND", "no such report")
    server.unary("GetReport", None, error)
    with pytest.raises(ClientError, match=r"Report not found: no such report \(REPORT_NOT_FOUND\)"):
        shown.result(5)
