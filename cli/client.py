"""A server as the commands see it: over REST, or over gRPC, with the same answers.

Answers are the JSON values of the REST API; the gRPC client makes them with the
gateway's own translation.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, BinaryIO, NamedTuple, Protocol, TypeVar
from urllib.parse import quote, urlsplit

import grpc
import httpx
from google.protobuf.message import Message

from cli.errors import ClientError
from cli.usage import api_key
from gateway.body import fill_from
from gateway.query import bind
from gateway.translate import to_json
from runtime.api_keys import HEADER
from runtime.channels import OPTIONS
from runtime.config import ConfigError, Settings, load
from runtime.errors import MAPPINGS, WinnowError, certificate_refused, from_rpc
from runtime.tls import Tls, check, is_socket
from winnow.access.v1.access_service_pb2 import (
    CreateApiKeyRequest,
    GetCallerRequest,
    ListApiKeysRequest,
    RevokeApiKeyRequest,
)
from winnow.access.v1.access_service_pb2_grpc import AccessServiceStub
from winnow.audit.v1.audit_service_pb2 import ListEventsRequest
from winnow.audit.v1.audit_service_pb2_grpc import AuditServiceStub
from winnow.queue.v1.queue_service_pb2 import (
    GetQueueHealthRequest,
    ListJobsRequest,
    RetryJobRequest,
)
from winnow.queue.v1.queue_service_pb2_grpc import QueueServiceStub
from winnow.report.v1.credential_service_pb2 import GetCredentialRequest, ListCredentialsRequest
from winnow.report.v1.credential_service_pb2_grpc import CredentialServiceStub
from winnow.report.v1.decision_service_pb2 import (
    DecideFindingRequest,
    DecideFindingsRequest,
    ListDecisionsRequest,
    WithdrawDecisionRequest,
)
from winnow.report.v1.decision_service_pb2_grpc import DecisionServiceStub
from winnow.report.v1.report_service_pb2 import (
    DeleteReportRequest,
    DuplicateHandling,
    GetFindingRequest,
    GetRawReportRequest,
    GetReportRequest,
    ListFindingsRequest,
    ListRejectedRequest,
    ListReportsRequest,
    RejudgeReportRequest,
    ReportDeclaration,
    ShredReportRequest,
    SubmitReportEnd,
    SubmitReportHeader,
    SubmitReportRequest,
    WatchReportRequest,
)
from winnow.report.v1.report_service_pb2_grpc import ReportServiceStub
from winnow.seal.v1.seal_service_pb2 import GetSealingRequest, RotateSealingRequest
from winnow.seal.v1.seal_service_pb2_grpc import SealServiceStub

Json = dict[str, Any]
M = TypeVar("M", bound=Message)

_CHUNK = 1 << 18
_PAGE = 2000
_EVENTS_PAGE = 1000
_REPORTS_PAGE = 500
_TIMEOUT = 30.0
_SILENCE = 60.0  # of a stream that says every 15 seconds that it is there
_LONG = 600.0  # for what goes through a whole report
_MAY_PASS = (502, 503, 504)


@dataclass(frozen=True)
class Declaration:
    """What the submitter says about a report; empty where nothing is said."""

    scanner_type: str = ""
    repository: str = ""
    ref: str = ""
    commit: str = ""
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Terms:
    """How a report is to be taken.

    Args:
        key: idempotency key; empty for none.
        wait: seconds to wait for its end; 0 to be answered once it is durable.
        reuse: bytes that were submitted before make no new report.
    """

    key: str = ""
    wait: int = 0
    reuse: bool = False


class Client(Protocol):
    """A server. Every method raises `ClientError`."""

    def submit(
        self, data: BinaryIO, declared: Declaration, terms: Terms, sent: Callable[[int], None]
    ) -> Json:
        """Sends one report: its `report_id`, its `status`, and, where that is so, that it
        was `reused`, is a `duplicate_of` another, or that its key was answered before
        (`replayed`).

        Args:
            sent: hears of each chunk's size.
        """
        ...

    def watch(self, report_id: str, after: int = 0) -> Iterator[Json]:
        """A report's events after an ordinal, until it has ended."""
        ...

    def report(self, report_id: str) -> Json:
        """A report without its findings."""
        ...

    def findings(self, report_id: str, *, risk: str = "", full: bool = False) -> Iterator[Json]:
        """A report's findings, by their order in it."""
        ...

    def reports(self, limit: int) -> list[Json]:
        """The newest reports."""
        ...

    def events(self, report_id: str) -> list[Json]:
        """A report's audit trail."""
        ...

    def rejected(self, report_id: str) -> list[Json]:
        """A report's records that could not be read."""
        ...

    def credentials(self, limit: int, report_id: str, min_reports: int) -> list[Json]:
        """Credentials by fingerprint: those of one report if it is given, and
        those that at least so many reports hold."""
        ...

    def credential(self, fingerprint: str, limit: int) -> Json:
        """One credential and up to `limit` sightings (at most 2,000), as REST answers."""
        ...

    def finding(self, finding_id: str) -> Json:
        """A finding and its verdicts."""
        ...

    def decide(self, finding_id: str, ruling: Json) -> Json:
        """Decides a finding; the decision and its reach."""
        ...

    def decide_many(self, report_id: str, wanted: Json) -> Json:
        """Decides, or previews, the findings of a report that a filter matches."""
        ...

    def withdraw(self, decision_id: str, actor: str) -> Json:
        """Ends a decision."""
        ...

    def decisions(self, limit: int, finding_id: str = "", active: bool = False) -> list[Json]:
        """The newest decisions."""
        ...

    def rejudge(self, report_id: str, mode: str, most: int) -> Json:
        """Judges a report once more; `mode` is replay, preview or apply."""
        ...

    def queue_health(self) -> Json:
        """How much durable work there is, and how it goes."""
        ...

    def jobs(self, limit: int, state: str, kind: str) -> list[Json]:
        """The newest jobs; those of a state and a kind if they are given."""
        ...

    def retry_job(self, job_id: str) -> Json:
        """Gives a dead job another chance; the job."""
        ...

    def create_key(self, wanted: Json) -> Json:
        """Makes an API key of `name`, `roles`, `expires_in` (seconds): `key`, and the
        key itself as `secret`."""
        ...

    def keys(self, limit: int) -> list[Json]:
        """The newest API keys."""
        ...

    def revoke_key(self, key_id: str) -> Json:
        """Ends an API key; the key."""
        ...

    def whoami(self) -> Json:
        """Who the caller is taken for."""
        ...

    def raw(self, report_id: str) -> Iterator[bytes]:
        """A report's bytes as they were submitted; whole, or a `ClientError` at the end."""
        ...

    def shred(self, report_id: str) -> Json:
        """Makes a report's bytes and values unreadable for good; the report."""
        ...

    def delete(self, report_id: str) -> None:
        """Removes a report."""
        ...

    def sealing(self) -> Json:
        """The key-encryption keys, and for how many reports each is in use."""
        ...

    def rotate_sealing(self) -> Json:
        """Has all data keys wrapped with the current key-encryption key."""
        ...


def connect(server: str) -> Client:
    """The client for a server's URL: http://, https://, grpc://host:port or grpc://unix:/path."""
    try:
        parts = urlsplit(server)
        # A password in the URL is used and never shown.
        shown = server.replace(f"{parts.netloc.rpartition('@')[0]}@", "", 1)
        if parts.scheme in ("http", "https") and parts.hostname and not parts.query:
            key = api_key(shown)
            headers = {"Authorization": f"Bearer {key}"} if key else {}
            return RestClient(
                httpx.Client(base_url=server, timeout=_TIMEOUT, headers=headers), shown
            )
        if parts.scheme == "grpc" and parts.netloc:
            channel = _dial(parts.netloc + parts.path)
            if key := api_key(shown):
                channel = grpc.intercept_channel(channel, _Showing(key))
            return GrpcClient(channel, shown)
    except (ValueError, httpx.InvalidURL):
        pass  # the same advice
    raise ClientError(
        "--server must read http://host:port, https://host, grpc://host:port or grpc://unix:/path"
    )


def _dial(address: str) -> grpc.Channel:
    """A channel that shows the certificate of the settings, if there is one."""
    try:
        tls = Tls.of(load(Settings))
        check(address, tls)
    except ConfigError as error:
        raise ClientError(str(error)) from None
    if tls is None or is_socket(address):
        return grpc.insecure_channel(address, options=OPTIONS)
    return grpc.secure_channel(address, tls.client(), options=OPTIONS)


class _Details(NamedTuple):
    """What grpc wants to know of a call that is about to be made."""

    method: str
    timeout: float | None
    metadata: list[tuple[str, str]]
    credentials: Any
    wait_for_ready: bool | None
    compression: Any


class _Showing(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
):
    """Shows an API key with every call."""

    def __init__(self, key: str) -> None:
        self._sent = (HEADER, f"Bearer {key}")

    def _go_on(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        told = _Details(
            details.method,
            details.timeout,
            [*(details.metadata or ()), self._sent],
            details.credentials,
            details.wait_for_ready,
            details.compression,
        )
        return continuation(told, request)

    intercept_unary_unary = _go_on  # type: ignore[assignment]
    intercept_unary_stream = _go_on  # type: ignore[assignment]
    intercept_stream_unary = _go_on  # type: ignore[assignment]


def _chunks(data: BinaryIO, sent: Callable[[int], None]) -> Iterator[bytes]:
    while chunk := data.read(_CHUNK):
        yield chunk
        sent(len(chunk))


def _unreachable(server: str) -> ClientError:
    return ClientError(
        f"no Winnow server answers at {server}; start one with `winnow up`, "
        "or name another with --server (or WINNOW_SERVER)",
        may_pass=True,
    )


class RestClient:
    """A gateway.

    Args:
        http: a client whose base URL is the gateway's.
        server: how the user named it, for messages.
    """

    def __init__(self, http: httpx.Client, server: str) -> None:
        self._http = http
        self._server = server

    def submit(
        self, data: BinaryIO, declared: Declaration, terms: Terms, sent: Callable[[int], None]
    ) -> Json:
        parameters = [
            (name, value)
            for name in ("scanner_type", "repository", "ref", "commit")
            if (value := getattr(declared, name))
        ]
        parameters += [("label", f"{name}={value}") for name, value in declared.labels.items()]
        # A file is a report, also one that has a member of that name.
        parameters.append(("envelope", "false"))
        if terms.reuse:
            parameters.append(("duplicates", "reuse"))
        headers = {
            "Content-Type": "application/octet-stream",
            "Prefer": f"respond-async, wait={terms.wait}",
        }
        if terms.key:
            headers["Idempotency-Key"] = terms.key
        with self._reaching():
            answer = self._http.post(
                "/reports",
                params=parameters,
                headers=headers,
                content=_chunks(data, sent),
                timeout=httpx.Timeout(_TIMEOUT, read=_TIMEOUT + terms.wait),
            )
        told = self._checked(answer)
        replayed = answer.headers.get("idempotent-replayed") == "true"
        return {**told, "replayed": True} if replayed else told

    def watch(self, report_id: str, after: int = 0) -> Iterator[Json]:
        path = f"{_path(report_id)}/events/stream"
        # The server is never silent for longer, however long a report takes.
        timeout = httpx.Timeout(_TIMEOUT, read=_SILENCE)
        with (
            self._reaching(),
            self._http.stream("GET", path, params={"after": after}, timeout=timeout) as answer,
        ):
            if answer.status_code not in (httpx.codes.OK, httpx.codes.NO_CONTENT):
                answer.read()
                self._checked(answer)
            event = ""
            for line in answer.iter_lines():
                name, _, value = line.partition(": ")
                if name == "event":
                    event = value
                elif name == "data" and event in ("error", "cut"):
                    raise _problem(json.loads(value))
                elif name == "data":
                    yield json.loads(value)

    def report(self, report_id: str) -> Json:
        return self._get(_path(report_id), findings="false")

    def findings(self, report_id: str, *, risk: str = "", full: bool = False) -> Iterator[Json]:
        query = {"page_size": str(_PAGE), "view": "full" if full else "basic"}
        if risk:
            query["risk"] = risk
        yield from self._pages(f"{_path(report_id)}/findings", "findings", query)

    def reports(self, limit: int) -> list[Json]:
        query = {"page_size": str(min(limit, _REPORTS_PAGE))}
        return _first(self._pages("/reports", "reports", query), limit)

    def events(self, report_id: str) -> list[Json]:
        query = {"page_size": str(_EVENTS_PAGE)}
        return list(self._pages(f"{_path(report_id)}/events", "events", query))

    def rejected(self, report_id: str) -> list[Json]:
        query = {"page_size": str(_PAGE)}
        return list(self._pages(f"{_path(report_id)}/rejected", "rejected", query))

    def credentials(self, limit: int, report_id: str, min_reports: int) -> list[Json]:
        query = {
            "page_size": str(min(limit, _REPORTS_PAGE)),
            "min_reports": str(min_reports),
            "report_id": report_id,
        }
        return _first(self._pages("/credentials", "credentials", query), limit)

    def credential(self, fingerprint: str, limit: int) -> Json:
        path = f"/credentials/{quote(fingerprint, safe='')}"
        return self._get(path, page_size=str(min(limit, _PAGE)))

    def finding(self, finding_id: str) -> Json:
        return self._get(f"/findings/{quote(finding_id, safe='')}")

    def decide(self, finding_id: str, ruling: Json) -> Json:
        return self._post(f"/findings/{quote(finding_id, safe='')}/decisions", ruling)

    def decide_many(self, report_id: str, wanted: Json) -> Json:
        return self._post(f"{_path(report_id)}/decisions", wanted)

    def withdraw(self, decision_id: str, actor: str) -> Json:
        path = f"/decisions/{quote(decision_id, safe='')}/withdraw"
        return self._post(path, {"actor": actor})

    def decisions(self, limit: int, finding_id: str = "", active: bool = False) -> list[Json]:
        query = {
            "page_size": str(min(limit, _REPORTS_PAGE)),
            "finding_id": finding_id,
            "active": "true" if active else "false",
        }
        return _first(self._pages("/decisions", "decisions", query), limit)

    def rejudge(self, report_id: str, mode: str, most: int) -> Json:
        asked = {"mode": mode, "max_changes": most}
        return self._post(f"{_path(report_id)}/rejudge", asked, patience=_LONG)

    def queue_health(self) -> Json:
        return self._get("/queue/health")

    def jobs(self, limit: int, state: str, kind: str) -> list[Json]:
        query = {"page_size": str(min(limit, _REPORTS_PAGE)), "kind": kind}
        if state:
            query["state"] = state
        return _first(self._pages("/queue/jobs", "jobs", query), limit)

    def retry_job(self, job_id: str) -> Json:
        answer: Json = self._post(f"/queue/jobs/{quote(job_id, safe='')}/retry", {})["job"]
        return answer

    def create_key(self, wanted: Json) -> Json:
        return self._post("/keys", wanted)

    def keys(self, limit: int) -> list[Json]:
        query = {"page_size": str(min(limit, _REPORTS_PAGE))}
        return _first(self._pages("/keys", "keys", query), limit)

    def revoke_key(self, key_id: str) -> Json:
        with self._reaching():
            answer = self._http.delete(f"/keys/{quote(key_id, safe='')}")
        key: Json = self._checked(answer)["key"]
        return key

    def whoami(self) -> Json:
        return self._get("/whoami")

    def raw(self, report_id: str) -> Iterator[bytes]:
        with (
            self._reaching(),
            self._http.stream("GET", f"{_path(report_id)}/raw") as answer,
        ):
            if answer.status_code != httpx.codes.OK:
                answer.read()
                self._checked(answer)
            digest = answer.headers.get("repr-digest", "").partition(":")[2].rstrip(":")
            yield from _whole(answer.iter_raw(), base64.b64decode(digest).hex())

    def shred(self, report_id: str) -> Json:
        return self._post(f"{_path(report_id)}/shred", {})

    def delete(self, report_id: str) -> None:
        with self._reaching():
            answer = self._http.delete(_path(report_id))
        if answer.status_code != httpx.codes.NO_CONTENT:
            self._checked(answer)

    def sealing(self) -> Json:
        return self._get("/sealing")

    def rotate_sealing(self) -> Json:
        return self._post("/sealing/rotate", {})

    def _post(self, path: str, content: Json, patience: float = _TIMEOUT) -> Json:
        with self._reaching():
            answer = self._http.post(path, json=content, timeout=patience)
        return self._checked(answer)

    def _pages(self, path: str, member: str, query: dict[str, str]) -> Iterator[Json]:
        while True:
            page = self._get(path, **query)
            yield from page[member]
            if not page["next_page_token"]:
                return
            query = {**query, "page_token": page["next_page_token"]}

    def _get(self, path: str, **query: str) -> Json:
        with self._reaching():
            answer = self._http.get(path, params=query)
        return self._checked(answer)

    def _checked(self, answer: httpx.Response) -> Json:
        try:
            content = answer.json()
        except ValueError:
            content = None
        if not isinstance(content, dict):
            raise ClientError(
                f"{self._server} does not answer as a Winnow server does",
                may_pass=answer.status_code in _MAY_PASS,
            )
        if answer.is_success:
            return content
        raise _problem(content, answer.headers.get("retry-after", ""))

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        try:
            yield
        except httpx.TimeoutException:
            raise ClientError(f"{self._server} did not answer in time", may_pass=True) from None
        except httpx.ConnectError as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise ClientError(
                    f"the certificate of {self._server} is not accepted; "
                    "SSL_CERT_FILE may name the file of its CA"
                ) from None
            raise _unreachable(self._server) from None
        except httpx.TransportError:
            raise ClientError(
                f"the connection to {self._server} broke; try again", may_pass=True
            ) from None


def _whole(chunks: Iterable[bytes], sha256: str) -> Iterator[bytes]:
    """The chunks; at the end an error unless they have this digest."""
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
        yield chunk
    if digest.hexdigest() != sha256:
        raise ClientError("what arrived is not the whole report; try again", may_pass=True)


def _path(report_id: str) -> str:
    return f"/reports/{quote(report_id, safe='')}"


def _problem(problem: Json, retry_after: str = "") -> ClientError:
    """A problem (RFC 9457) in one line."""
    title, detail = problem.get("title", "the server failed"), problem.get("detail", "")
    reason = f" ({problem['reason']})" if "reason" in problem else ""
    about = _about(problem.get("reason"), problem.get("report_id"))
    known = MAPPINGS.get(str(problem.get("reason")))
    # A problem that names its report is that report's end.
    ended = "report_id" in problem
    return ClientError(
        f"{title}: {detail}{reason}{about}" if detail else f"{title}{reason}{about}",
        may_pass=not ended and (known.retry if known else problem.get("status") in _MAY_PASS),
        after=float(retry_after) if retry_after.isascii() and retry_after.isdigit() else 0.0,
        reason=str(problem.get("reason", "")),
    )


def _about(reason: Any, report_id: Any) -> str:
    """The report that an error names, unless it says that there is none; where a key goes."""
    if reason == "UNAUTHENTICATED":
        return "; here: WINNOW_API_KEY, or `winnow --key-file FILE …`"
    return f"; report {report_id}" if report_id and reason != "REPORT_NOT_FOUND" else ""


def _first(items: Iterator[Json], limit: int) -> list[Json]:
    return [item for _, item in zip(range(limit), items, strict=False)]


class GrpcClient:
    """An orchestrator, and the audit service where it is at the same address.

    Args:
        channel: to the server.
        server: how the user named it, for messages.
    """

    def __init__(self, channel: grpc.Channel, server: str) -> None:
        self._reports = ReportServiceStub(channel)
        self._credentials = CredentialServiceStub(channel)
        self._decisions = DecisionServiceStub(channel)
        self._queue = QueueServiceStub(channel)
        self._sealing = SealServiceStub(channel)
        self._audit = AuditServiceStub(channel)
        self._keys = AccessServiceStub(channel)
        self._server = server

    def submit(
        self, data: BinaryIO, declared: Declaration, terms: Terms, sent: Callable[[int], None]
    ) -> Json:
        declaration = ReportDeclaration(scanner_type=declared.scanner_type, labels=declared.labels)
        for name in ("repository", "ref", "commit"):
            if value := getattr(declared, name):
                setattr(declaration.source, name, value)

        header = SubmitReportHeader(
            declaration=declaration,
            request_id=terms.key,
            wait=bool(terms.wait),
            duplicates=(
                DuplicateHandling.DUPLICATE_HANDLING_REUSE
                if terms.reuse
                else DuplicateHandling.DUPLICATE_HANDLING_PROCESS
            ),
        )
        if terms.wait:
            header.wait_at_most.FromSeconds(terms.wait)

        def requests() -> Iterator[SubmitReportRequest]:
            yield SubmitReportRequest(header=header)
            size = 0
            for chunk in _chunks(data, sent):
                size += len(chunk)
                yield SubmitReportRequest(chunk=chunk)
            yield SubmitReportRequest(end=SubmitReportEnd(size_bytes=size))

        with self._reaching():
            submitted = self._reports.SubmitReport(requests())
        answer = to_json(submitted.report)
        told = {
            name: answer[name]
            for name in ("report_id", "status", "duplicate_of")
            if answer.get(name)
        }
        return {
            **told,
            **{name: True for name in ("reused", "replayed") if getattr(submitted, name)},
        }

    def watch(self, report_id: str, after: int = 0) -> Iterator[Json]:
        request = WatchReportRequest(report_id=report_id, after_ordinal=after)
        with self._reaching():
            for answer in self._reports.WatchReport(request):
                yield to_json(answer.event)

    def report(self, report_id: str) -> Json:
        with self._reaching():
            request = GetReportRequest(report_id=report_id)
            return to_json(self._reports.GetReport(request, timeout=_TIMEOUT).report)

    def findings(self, report_id: str, *, risk: str = "", full: bool = False) -> Iterator[Json]:
        query = [("view", "full" if full else "basic"), *([("risk", risk)] if risk else [])]
        request = bind(ListFindingsRequest, query, report_id=report_id)
        request.page_size = _PAGE
        yield from self._pages(self._reports.ListFindings, request, "findings")

    def reports(self, limit: int) -> list[Json]:
        request = ListReportsRequest(page_size=min(limit, _REPORTS_PAGE))
        return _first(self._pages(self._reports.ListReports, request, "reports"), limit)

    def events(self, report_id: str) -> list[Json]:
        request = ListEventsRequest(report_id=report_id, page_size=_EVENTS_PAGE)
        return list(self._pages(self._audit.ListEvents, request, "events"))

    def rejected(self, report_id: str) -> list[Json]:
        request = ListRejectedRequest(report_id=report_id, page_size=_PAGE)
        return list(self._pages(self._reports.ListRejected, request, "rejected"))

    def credentials(self, limit: int, report_id: str, min_reports: int) -> list[Json]:
        request = ListCredentialsRequest(
            page_size=min(limit, _REPORTS_PAGE), report_id=report_id, min_reports=min_reports
        )
        pages = self._pages(self._credentials.ListCredentials, request, "credentials")
        return _first(pages, limit)

    def credential(self, fingerprint: str, limit: int) -> Json:
        request = GetCredentialRequest(fingerprint=fingerprint, page_size=min(limit, _PAGE))
        return self._one(self._credentials.GetCredential, request)

    def finding(self, finding_id: str) -> Json:
        request = GetFindingRequest(finding_id=finding_id)
        return self._one(self._reports.GetFinding, request)

    def decide(self, finding_id: str, ruling: Json) -> Json:
        request = _filled(DecideFindingRequest(finding_id=finding_id), {"ruling": ruling})
        return self._one(self._decisions.DecideFinding, request)

    def decide_many(self, report_id: str, wanted: Json) -> Json:
        request = _filled(DecideFindingsRequest(report_id=report_id), wanted)
        return self._one(self._decisions.DecideFindings, request)

    def withdraw(self, decision_id: str, actor: str) -> Json:
        request = WithdrawDecisionRequest(decision_id=decision_id, actor=actor)
        return self._one(self._decisions.WithdrawDecision, request)

    def decisions(self, limit: int, finding_id: str = "", active: bool = False) -> list[Json]:
        request = ListDecisionsRequest(
            page_size=min(limit, _REPORTS_PAGE), finding_id=finding_id, active=active
        )
        pages = self._pages(self._decisions.ListDecisions, request, "decisions")
        return _first(pages, limit)

    def rejudge(self, report_id: str, mode: str, most: int) -> Json:
        asked = {"mode": mode, "max_changes": most}
        request = _filled(RejudgeReportRequest(report_id=report_id), asked)
        return self._one(self._reports.RejudgeReport, request, patience=_LONG)

    def queue_health(self) -> Json:
        return self._one(self._queue.GetQueueHealth, GetQueueHealthRequest())

    def jobs(self, limit: int, state: str, kind: str) -> list[Json]:
        request = bind(ListJobsRequest, [("state", state)] if state else [], kind=kind)
        request.page_size = min(limit, _REPORTS_PAGE)
        return _first(self._pages(self._queue.ListJobs, request, "jobs"), limit)

    def retry_job(self, job_id: str) -> Json:
        answer: Json = self._one(self._queue.RetryJob, RetryJobRequest(job_id=job_id))["job"]
        return answer

    def create_key(self, wanted: Json) -> Json:
        return self._one(self._keys.CreateApiKey, _filled(CreateApiKeyRequest(), wanted))

    def keys(self, limit: int) -> list[Json]:
        request = ListApiKeysRequest(page_size=min(limit, _REPORTS_PAGE))
        return _first(self._pages(self._keys.ListApiKeys, request, "keys"), limit)

    def revoke_key(self, key_id: str) -> Json:
        request = RevokeApiKeyRequest(key_id=key_id)
        key: Json = self._one(self._keys.RevokeApiKey, request)["key"]
        return key

    def whoami(self) -> Json:
        return self._one(self._keys.GetCaller, GetCallerRequest())

    def raw(self, report_id: str) -> Iterator[bytes]:
        with self._reaching():
            parts = self._reports.GetRawReport(GetRawReportRequest(report_id=report_id))
            first = next(parts)
            rest = (part.chunk for part in parts)
            yield from _whole(chain([first.chunk], rest), first.sha256)

    def shred(self, report_id: str) -> Json:
        request = ShredReportRequest(report_id=report_id)
        answer: Json = self._one(self._reports.ShredReport, request)["report"]
        return answer

    def delete(self, report_id: str) -> None:
        self._one(self._reports.DeleteReport, DeleteReportRequest(report_id=report_id))

    def sealing(self) -> Json:
        return self._one(self._sealing.GetSealing, GetSealingRequest())

    def rotate_sealing(self) -> Json:
        return self._one(self._sealing.RotateSealing, RotateSealingRequest())

    def _one(self, method: Callable[..., Any], request: Any, patience: float = _TIMEOUT) -> Json:
        with self._reaching():
            return to_json(method(request, timeout=patience))

    def _pages(self, method: Callable[..., Any], request: Any, member: str) -> Iterator[Json]:
        while True:
            with self._reaching():
                page = method(request, timeout=_TIMEOUT)
            yield from map(to_json, getattr(page, member))
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        try:
            yield
        except grpc.RpcError as error:
            code = getattr(error, "code", lambda: None)()
            if code is grpc.StatusCode.UNIMPLEMENTED:
                raise ClientError(
                    f"{self._server} does not offer this; the orchestrator serves reports, "
                    "the audit service events, and the REST API both"
                ) from None
            if certificate_refused(error):
                raise ClientError(
                    f"{self._server} and this client do not accept each other's certificates "
                    "(WINNOW_TLS_CERTIFICATE, WINNOW_TLS_KEY, WINNOW_TLS_CA)"
                ) from None
            failure = from_rpc(error, "server")
            raise _from_winnow(failure, self._server) from None


def _filled(message: M, content: Json) -> M:
    try:
        fill_from(message, content)
    except WinnowError as error:
        raise ClientError(f"{error.title}: {error.message} ({error.reason})") from None
    return message


def _from_winnow(error: WinnowError, server: str) -> ClientError:
    if error.reason == "UPSTREAM_UNAVAILABLE" and "peer" not in error.metadata:
        return _unreachable(server)
    return ClientError(
        f"{error.title}: {error.message} ({error.reason})"
        f"{_about(error.reason, error.metadata.get('report_id'))}",
        may_pass=error.retryable and "report_id" not in error.metadata,
        after=error.retry_after or 0.0,
        reason=error.reason,
    )
