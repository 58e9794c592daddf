"""The ways in and out: REST, gRPC, the command line. What comes back is noted."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import httpx
from google.protobuf.message import Message

from runtime.channels import OPTIONS
from tools.canary.heard import Heard
from winnow.audit.v1.audit_service_pb2 import ListEventsRequest, WatchEventsRequest
from winnow.audit.v1.audit_service_pb2_grpc import AuditServiceStub
from winnow.finding.v1.finding_batch_pb2 import FindingBatch
from winnow.ingest.v1.ingest_service_pb2 import IngestHeader, IngestRequest
from winnow.ingest.v1.ingest_service_pb2_grpc import IngestServiceStub
from winnow.moderate.v1.moderate_service_pb2 import ModerateBatchRequest, ModerateHeader
from winnow.moderate.v1.moderate_service_pb2_grpc import ModerateServiceStub
from winnow.report.v1.report_service_pb2 import (
    FindingView,
    GetFindingRequest,
    GetRawReportRequest,
    GetReportRequest,
    ListFindingsRequest,
    ListRejectedRequest,
    RejudgeMode,
    RejudgeReportRequest,
    ReportDeclaration,
    SubmitReportEnd,
    SubmitReportHeader,
    SubmitReportRequest,
    WatchReportRequest,
)
from winnow.report.v1.report_service_pb2_grpc import ReportServiceStub

Json = dict[str, Any]

_WINNOW = Path(sys.executable).parent / "winnow"
_SECONDS = 60.0
_CHUNK = 1 << 17
_PAGE = 1000
_AT_ONCE = 256  # findings that a moderator is asked about


class Rest:
    """The gateway.

    Args:
        url: its address.
        heard: where answers are noted.
    """

    def __init__(self, url: str, heard: Heard) -> None:
        self.url = url
        self._heard = heard
        self._http = httpx.Client(base_url=url, timeout=_SECONDS, trust_env=False)

    def ask(self, method: str, path: str, label: str, place: str = "rest", **more: Any) -> Json:
        """An answer's body; empty if it is none, or no JSON.

        Args:
            place: where a good answer belongs; others are errors.
            more: as httpx takes them.
        """
        try:
            answer = self._http.request(method, path, **more)
        except (httpx.TransportError, httpx.InvalidURL, ValueError):
            # A server that was made to die, or what no client would send.
            return {}
        headers = repr(answer.headers.raw).encode()
        said = (f"{answer.status_code}".encode(), headers, answer.content)
        self._heard.note(place if answer.is_success else "errors", label, *said)
        with contextlib.suppress(ValueError):
            body = answer.json()
            if isinstance(body, dict):
                return body
        return {}

    def submit(self, body: bytes, label: str, **more: Any) -> str:
        """A report's id; empty if it was refused."""
        answer = self.ask("POST", "/reports", label, content=body, **more)
        return str(answer.get("report_id", ""))

    def read(self, report_id: str, label: str, *, stream: bool = True) -> list[str]:
        """Everything that there is to read of a report; the ids of its findings.

        Args:
            stream: whether its events are followed too.
        """
        at = f"/reports/{report_id}"
        self.ask("GET", at, f"{label}: GET report")
        pages = self._pages(f"{at}/findings", f"{label}: GET findings", view="full")
        ids = [one["id"] for page in pages for one in page.get("findings", ())]
        for _ in self._pages(f"{at}/rejected", f"{label}: GET rejected"):
            pass
        self.ask("GET", f"{at}/events?page_size=1000", f"{label}: GET events", "audit")
        for form in ("winnow", "cloudevents") if stream else ():
            self.ask("GET", f"{at}/events/stream", f"{label}: stream", params={"format": form})
        return ids

    def raw(self, report_id: str, label: str) -> None:
        """A report's own bytes: the one answer in which secrets may stand, and so the one
        body that is not noted."""
        answer = self._http.get(f"/reports/{report_id}/raw")
        headers = repr(answer.headers.raw).encode()
        body = b"" if answer.is_success else answer.content
        place = "rest" if answer.is_success else "errors"
        self._heard.note(place, label, f"{answer.status_code}".encode(), headers, body)

    def _pages(self, path: str, label: str, **query: str) -> Iterator[Json]:
        query |= {"page_size": str(_PAGE)}
        while page := self.ask("GET", path, label, params=query):
            yield page
            if not page.get("next_page_token"):
                return
            query["page_token"] = page["next_page_token"]

    def close(self) -> None:
        """Ends its connections."""
        self._http.close()


class Grpc:
    """The services themselves.

    Args:
        address: where each is, by name.
        heard: where answers are noted.
    """

    def __init__(self, address: Callable[[str], str], heard: Heard) -> None:
        self._heard = heard
        self._channels = {
            name: grpc.insecure_channel(address(name), options=OPTIONS)
            for name in ("orchestrator", "audit", "ingestor", "moderator")
        }
        self._reports = ReportServiceStub(self._channels["orchestrator"])
        self._audit = AuditServiceStub(self._channels["audit"])
        self._ingestor = IngestServiceStub(self._channels["ingestor"])
        self._moderator = ModerateServiceStub(self._channels["moderator"])

    def _noted(self, label: str, call: Callable[[], Any], place: str = "grpc") -> list[Any]:
        """The answers of a call, noted as they crossed the wire; so is its error."""
        found: list[Any] = []
        try:
            answer = call()
            for message in [answer] if isinstance(answer, Message) else answer:
                self._heard.note(place, label, message.SerializeToString())
                found.append(message)
        except grpc.RpcError as error:
            trailers = repr(error.trailing_metadata()).encode()
            self._heard.note("errors", label, str(error.details()).encode(), trailers)
        return found

    def submit(self, body: bytes, label: str, **declared: Any) -> str:
        """A report's id once it has ended; empty if it was refused."""
        header = SubmitReportHeader(declaration=ReportDeclaration(**declared), wait=True)
        requests = [
            SubmitReportRequest(header=header),
            *(SubmitReportRequest(chunk=chunk) for chunk in _chunks(body)),
            SubmitReportRequest(end=SubmitReportEnd(size_bytes=len(body))),
        ]
        answers = self._noted(
            label, lambda: self._reports.SubmitReport(iter(requests), timeout=_SECONDS)
        )
        return answers[0].report.report_id if answers else ""

    def cut(self, body: bytes, label: str) -> None:
        """Uploads that end too early, or are not as agreed."""
        header = SubmitReportRequest(header=SubmitReportHeader(wait=True))
        chunk = SubmitReportRequest(chunk=body[:_CHUNK])
        wrong = SubmitReportRequest(end=SubmitReportEnd(size_bytes=1))
        for requests in ([header, chunk], [chunk], [header, chunk, header], [header, chunk, wrong]):
            call = partial(self._reports.SubmitReport, iter(requests), timeout=_SECONDS)
            self._noted(label, call)

    def read(self, report_id: str, label: str) -> None:
        """What there is to read of a report."""
        reports = self._reports
        asked: list[tuple[Callable[..., Any], Message, str]] = [
            (reports.GetReport, GetReportRequest(report_id=report_id), "grpc"),
            (
                reports.ListFindings,
                ListFindingsRequest(report_id=report_id, view=FindingView.FINDING_VIEW_FULL),
                "grpc",
            ),
            (reports.ListRejected, ListRejectedRequest(report_id=report_id), "grpc"),
            (reports.GetFinding, GetFindingRequest(finding_id=f"{report_id}.0"), "grpc"),
            (
                reports.RejudgeReport,
                RejudgeReportRequest(report_id=report_id, mode=RejudgeMode.REJUDGE_MODE_REPLAY),
                "grpc",
            ),
            (reports.WatchReport, WatchReportRequest(report_id=report_id), "grpc"),
            (self._audit.ListEvents, ListEventsRequest(report_id=report_id), "audit"),
        ]
        for method, request, place in asked:
            self._noted(label, partial(method, request, timeout=_SECONDS), place)

    def raw(self, report_id: str, label: str) -> None:
        """A report's own bytes, which are not noted; what is told beside them is."""
        try:
            for part in self._reports.GetRawReport(GetRawReportRequest(report_id=report_id)):
                part.ClearField("chunk")
                self._heard.note("grpc", label, part.SerializeToString())
        except grpc.RpcError as error:
            trailers = repr(error.trailing_metadata()).encode()
            self._heard.note("errors", label, str(error.details()).encode(), trailers)

    def judge(self, body: bytes, label: str, scanner: str = "") -> None:
        """Straight to the ingestor, and what it gives to the moderator."""
        header = IngestHeader(report_id=str(uuid.uuid4()), scanner_type=scanner)
        requests = [
            IngestRequest(header=header),
            *(IngestRequest(chunk=chunk) for chunk in _chunks(body)),
        ]
        read = self._noted(label, lambda: self._ingestor.Ingest(iter(requests), timeout=_SECONDS))
        findings = [finding for answer in read for finding in answer.batch.findings]
        if findings:
            asked = ModerateBatchRequest(
                header=ModerateHeader(report_id=header.report_id),
                batch=FindingBatch(findings=findings[:_AT_ONCE]),
            )
            self._noted(label, lambda: self._moderator.ModerateBatch(asked, timeout=_SECONDS))

    def events(self) -> None:
        """The audit log from its beginning, for as long as it says something."""
        watch = self._audit.WatchEvents(WatchEventsRequest(), timeout=10)
        self._noted("WatchEvents", lambda: watch, "audit")

    def ask_for(self, text: str, label: str, number: int) -> None:
        """One of several requests with a text where an id or a word belongs."""
        asked: list[tuple[Callable[..., Any], Message]] = [
            (self._reports.GetReport, GetReportRequest(report_id=text)),
            (self._reports.GetFinding, GetFindingRequest(finding_id=text)),
            (self._reports.ListFindings, ListFindingsRequest(report_id=text, page_token=text)),
            (self._audit.ListEvents, ListEventsRequest(report_id=text, event_type=text)),
        ]
        method, request = asked[number % len(asked)]
        self._noted(label, partial(method, request, timeout=_SECONDS))

    def close(self) -> None:
        """Ends its connections."""
        for channel in self._channels.values():
            channel.close()


class CommandLine:
    """The `winnow` command.

    Args:
        servers: addresses that commands are given, in turn.
        heard: where output is noted.
        more: environment variables.
    """

    def __init__(self, servers: Iterable[str], heard: Heard, **more: str) -> None:
        self._servers = list(servers)
        self._heard = heard
        kept = {name: value for name, value in os.environ.items() if not name.startswith("WINNOW_")}
        self._environment = {**kept, **more}
        self._calls = 0

    def run(
        self,
        *words: str | Path,
        stdin: bytes = b"",
        local: bool = False,
        raw: bool = False,
    ) -> bytes:
        """What a command wrote to stdout.

        Args:
            words: of the command.
            local: whether it asks no server.
            raw: whether it writes a report's own bytes, which are not noted.
        """
        server = self._servers[self._calls % len(self._servers)]
        self._calls += 1
        done = subprocess.run(
            [_WINNOW, *words, *(() if local else ("--server", server))],
            check=False,
            capture_output=True,
            input=stdin,
            env=self._environment,
            timeout=120,
        )
        label = "winnow " + " ".join(str(word) for word in words[:1])
        self._heard.note("cli", label, b"" if raw else done.stdout, done.stderr)
        return done.stdout


def packed(report: bytes, number: int, **envelope: Any) -> tuple[bytes, Json]:
    """A report in one of the ways in which it may be sent: body, and arguments of a request."""
    match number % 5:
        case 0:
            return report, {"params": {"envelope": "false"}}
        case 1:
            return gzip.compress(report), {"headers": {"Content-Encoding": "gzip"}}
        case 2:
            return report.decode().encode("utf-16"), {"headers": {"Prefer": "wait=30"}}
        case 3:
            text = {"report": report.decode(), **envelope}
            return json.dumps(text).encode(), {}
    try:
        whole = {**envelope, "report": json.loads(report)}
    except ValueError:
        return report, {"headers": {"Prefer": "respond-async, wait=20"}}
    return json.dumps(whole, ensure_ascii=False).encode(), {}


def _chunks(data: bytes) -> Iterator[bytes]:
    return (data[start : start + _CHUNK] for start in range(0, len(data), _CHUNK))
