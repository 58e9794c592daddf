"""A server as its services show it: gRPC, with the gateway's own translation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any, BinaryIO, NamedTuple

import grpc
from google.protobuf.message_factory import GetMessageClass

from cli.errors import ClientError
from cli.wire import (
    METHODS,
    PATIENCE,
    TIMEOUT,
    Declaration,
    Json,
    Terms,
    about,
    chunks,
    unreachable,
    whole,
)
from gateway.body import fill_from
from gateway.translate import to_json
from runtime.api_keys import HEADER
from runtime.channels import OPTIONS
from runtime.config import ConfigError, Settings, load
from runtime.errors import MAPPINGS, WinnowError, certificate_refused, from_rpc
from runtime.tls import Tls, check, is_socket
from winnow.audit.v1.audit_service_pb2 import (
    GetCheckpointRequest,
    GetInclusionProofRequest,
    WatchEventsRequest,
)
from winnow.audit.v1.audit_service_pb2_grpc import AuditServiceStub
from winnow.report.v1.report_service_pb2 import (
    DuplicateHandling,
    GetRawReportRequest,
    ReportDeclaration,
    SubmitReportEnd,
    SubmitReportHeader,
    SubmitReportRequest,
    WatchReportRequest,
)
from winnow.report.v1.report_service_pb2_grpc import ReportServiceStub


def dial(address: str, key: str) -> grpc.Channel:
    """A channel that shows the certificate of the settings, if there is one, and the key.

    Args:
        key: an API key; empty for none.

    Raises:
        ClientError: the settings do not go with the address.
    """
    try:
        tls = Tls.of(load(Settings))
        check(address, tls)
    except ConfigError as error:
        raise ClientError(str(error)) from None
    if tls is None or is_socket(address):
        channel = grpc.insecure_channel(address, options=OPTIONS)
    else:
        channel = grpc.secure_channel(address, tls.client(), options=OPTIONS)
    return grpc.intercept_channel(channel, _Showing(key)) if key else channel


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


class GrpcWire:
    """An orchestrator, and the audit service where it is at the same address.

    Args:
        channel: to the server.
        server: how the user named it, for messages.
    """

    def __init__(self, channel: grpc.Channel, server: str) -> None:
        self._channel = channel
        self._reports = ReportServiceStub(channel)
        self._audit = AuditServiceStub(channel)
        self._server = server

    def call(self, rpc: str, /, **values: Any) -> Json:
        method = METHODS[rpc]
        request = GetMessageClass(method.input_type)()
        try:
            fill_from(request, values)
        except WinnowError as error:
            raise ClientError(f"{error.title}: {error.message} ({error.reason})") from None
        ask = self._channel.unary_unary(
            f"/{method.containing_service.full_name}/{method.name}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=GetMessageClass(method.output_type).FromString,
        )
        with self._reaching():
            answer = to_json(ask(request, timeout=PATIENCE.get(rpc, TIMEOUT)))
        # As REST answers: what is one report is that report.
        return answer["report"] if list(answer) == ["report"] else answer

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
            for chunk in chunks(data, sent):
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

    def watch(self, report_id: str, after: int) -> Iterator[Json]:
        request = WatchReportRequest(report_id=report_id, after_ordinal=after)
        with self._reaching():
            for answer in self._reports.WatchReport(request):
                yield to_json(answer.event)

    def raw(self, report_id: str) -> Iterator[bytes]:
        with self._reaching():
            parts = self._reports.GetRawReport(GetRawReportRequest(report_id=report_id))
            first = next(parts)
            rest = (part.chunk for part in parts)
            yield from whole(chain([first.chunk], rest), first.sha256)

    def event_proof(self, event_id: str) -> Json:
        with self._reaching():
            newest = self._audit.GetCheckpoint(GetCheckpointRequest(), timeout=TIMEOUT).checkpoint
            wanted = GetInclusionProofRequest(event_id=event_id, tree_size=newest.tree_size)
            proof = self._audit.GetInclusionProof(wanted, timeout=TIMEOUT)
            watch = self._audit.WatchEvents(WatchEventsRequest(from_sequence=proof.leaf_index))
            event = next(watch).event
            watch.cancel()
        return {"event": to_json(event), "proof": to_json(proof), "checkpoint": to_json(newest)}

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
            raise self._failure(from_rpc(error, "server")) from None

    def _failure(self, error: WinnowError) -> ClientError:
        if error.reason == "UPSTREAM_UNAVAILABLE" and "peer" not in error.metadata:
            return unreachable(self._server)
        if "peer" in error.metadata:
            # Here the caller is who called us.
            title = MAPPINGS["PERMISSION_DENIED"].title
            return ClientError(f"{title}: {error.message}", reason="PERMISSION_DENIED")
        return ClientError(
            f"{error.title}: {error.message} ({error.reason})"
            f"{about(error.reason, error.metadata.get('report_id'))}",
            may_pass=error.retryable and "report_id" not in error.metadata,
            after=error.retry_after or 0.0,
            reason=error.reason,
        )
