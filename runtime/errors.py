"""One typed error, mapped once to gRPC and once to HTTP.

Code raises `WinnowError` with a reason of `winnow.error.v1.ErrorReason`; the
server interceptor turns it into a `google.rpc.Status` with `ErrorInfo`
(AIP-193), clients turn that back into the same `WinnowError`, and the gateway
renders it as problem details (RFC 9457). Messages are composed from fixed
texts, numbers and names of ours: input is never echoed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2

DOMAIN = "winnow"


@dataclass(frozen=True)
class _Mapping:
    grpc: grpc.StatusCode
    http: int
    title: str
    retry: bool = False


_C = grpc.StatusCode

# One row for each ErrorReason; a test holds the two lists against each other.
MAPPINGS: dict[str, _Mapping] = {
    "INTERNAL": _Mapping(_C.INTERNAL, 500, "Internal error"),
    "INVALID_ARGUMENT": _Mapping(_C.INVALID_ARGUMENT, 400, "Invalid request"),
    "STREAM_PROTOCOL": _Mapping(_C.INVALID_ARGUMENT, 400, "Stream protocol broken"),
    "UPLOAD_INCOMPLETE": _Mapping(_C.ABORTED, 400, "Upload incomplete", retry=True),
    "REPORT_TOO_LARGE": _Mapping(_C.OUT_OF_RANGE, 413, "Report too large"),
    "ENVELOPE_INVALID": _Mapping(_C.INVALID_ARGUMENT, 422, "Envelope invalid"),
    "FORMAT_UNKNOWN": _Mapping(_C.INVALID_ARGUMENT, 422, "Format not recognised"),
    "FORMAT_AMBIGUOUS": _Mapping(_C.INVALID_ARGUMENT, 422, "Format ambiguous"),
    "SCANNER_MISMATCH": _Mapping(_C.INVALID_ARGUMENT, 422, "Scanner does not match content"),
    "SCANNER_UNKNOWN": _Mapping(_C.INVALID_ARGUMENT, 422, "Scanner not supported"),
    "REPORT_MALFORMED": _Mapping(_C.INVALID_ARGUMENT, 422, "Report malformed"),
    "REPORT_NOT_FOUND": _Mapping(_C.NOT_FOUND, 404, "Report not found"),
    "CREDENTIAL_NOT_FOUND": _Mapping(_C.NOT_FOUND, 404, "Credential not found"),
    "FINDING_NOT_FOUND": _Mapping(_C.NOT_FOUND, 404, "Finding not found"),
    "DECISION_NOT_FOUND": _Mapping(_C.NOT_FOUND, 404, "Decision not found"),
    "DECISION_ENDED": _Mapping(_C.FAILED_PRECONDITION, 409, "Decision has ended"),
    "PAGE_TOKEN_INVALID": _Mapping(_C.INVALID_ARGUMENT, 400, "Page token invalid"),
    "DEADLINE_EXCEEDED": _Mapping(_C.DEADLINE_EXCEEDED, 504, "Deadline exceeded", retry=True),
    "UPSTREAM_UNAVAILABLE": _Mapping(_C.UNAVAILABLE, 503, "Service unavailable", retry=True),
    "DATABASE_UNAVAILABLE": _Mapping(_C.UNAVAILABLE, 503, "Database unavailable", retry=True),
    "PARSER_CHANGED": _Mapping(_C.FAILED_PRECONDITION, 409, "Parser changed"),
    "SEAL_BROKEN": _Mapping(_C.DATA_LOSS, 500, "Seal broken"),
    "REPORT_STATE": _Mapping(_C.FAILED_PRECONDITION, 409, "Report in another state"),
    "REPORT_CANCELLED": _Mapping(_C.CANCELLED, 409, "Report cancelled"),
    "OVERLOADED": _Mapping(_C.UNAVAILABLE, 503, "Overloaded", retry=True),
    "AUDIT_NOT_FOUND": _Mapping(_C.NOT_FOUND, 404, "Not in the audit log"),
    "EVENT_CONFLICT": _Mapping(_C.ALREADY_EXISTS, 409, "Event conflicts"),
    "STREAM_CUT_SHORT": _Mapping(_C.UNAVAILABLE, 503, "Stream cut short", retry=True),
    "IDEMPOTENCY_KEY_REUSED": _Mapping(_C.ALREADY_EXISTS, 422, "Idempotency key reused"),
    "READER_TOO_SLOW": _Mapping(_C.ABORTED, 503, "Reader too slow", retry=True),
    "JOB_NOT_FOUND": _Mapping(_C.NOT_FOUND, 404, "Job not found"),
    "JOB_STATE": _Mapping(_C.FAILED_PRECONDITION, 409, "Job in another state"),
    "LEASE_LOST": _Mapping(_C.ABORTED, 409, "Lease lost"),
    "AUDIT_INCONSISTENT": _Mapping(_C.DATA_LOSS, 500, "Audit log altered"),
    "AUDIT_UNAVAILABLE": _Mapping(_C.UNAVAILABLE, 503, "Audit unavailable", retry=True),
    "UNAUTHENTICATED": _Mapping(_C.UNAUTHENTICATED, 401, "API key needed"),
    "PERMISSION_DENIED": _Mapping(_C.PERMISSION_DENIED, 403, "Not allowed"),
    "SEALING_KEY_UNKNOWN": _Mapping(_C.UNAVAILABLE, 503, "Sealing key unknown", retry=True),
    "REPORT_SHREDDED": _Mapping(_C.FAILED_PRECONDITION, 410, "Report shredded"),
    "API_KEY_NOT_FOUND": _Mapping(_C.NOT_FOUND, 404, "API key not found"),
    "SIGNATURE_INVALID": _Mapping(_C.UNAUTHENTICATED, 401, "Signature invalid"),
    "REPLAYED": _Mapping(_C.UNAUTHENTICATED, 401, "Request replayed"),
    "RATE_LIMITED": _Mapping(_C.RESOURCE_EXHAUSTED, 429, "Rate limited", retry=True),
    "UPLOAD_TOO_SLOW": _Mapping(_C.ABORTED, 408, "Upload too slow", retry=True),
    "TOO_MANY_RECORDS": _Mapping(_C.OUT_OF_RANGE, 413, "Too many records"),
}


class WinnowError(Exception):
    """A failure with a documented reason.

    Args:
        reason: name of a `winnow.error.v1.ErrorReason` without its prefix.
        message: for people: what is wrong, where, what to do.
        retry_after: seconds after which the same call may succeed.
        metadata: machine-readable details as the reason documents them.
    """

    def __init__(
        self, reason: str, message: str, *, retry_after: float | None = None, **metadata: str
    ) -> None:
        super().__init__(message)
        if reason not in MAPPINGS:
            raise ValueError(f"not a documented reason: {reason}")
        self.reason = reason
        self.message = message
        self.metadata = metadata
        self.retry_after = retry_after
        # What an answer over HTTP says beside the problem.
        self.headers: dict[str, str] = {}

    @property
    def grpc_code(self) -> grpc.StatusCode:
        return MAPPINGS[self.reason].grpc

    @property
    def http_status(self) -> int:
        return MAPPINGS[self.reason].http

    @property
    def title(self) -> str:
        return MAPPINGS[self.reason].title

    @property
    def retryable(self) -> bool:
        return MAPPINGS[self.reason].retry


def to_status(error: WinnowError) -> status_pb2.Status:
    """The error as a rich gRPC status (google.rpc.Status with ErrorInfo)."""
    details = [any_pb2.Any()]
    details[0].Pack(
        error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.metadata)
    )
    if error.retry_after is not None:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(int(error.retry_after * 1000))
        details.append(any_pb2.Any())
        details[-1].Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    number: int = error.grpc_code.value[0]
    return status_pb2.Status(
        code=code_pb2.Code.ValueType(number), message=error.message, details=details
    )


# In grpc's words: the peer's certificate does not hold; or the peer hung up on ours, which
# TLS 1.3 tells only after the handshake.
_CERTIFICATE = re.compile(
    r"(?:failed to connect to all addresses|connections to all backends failing)(?!.*unix:).*"
    r"(?:handshake failed|verification check failed|Socket closed)",
    re.IGNORECASE | re.DOTALL,
)


def certificate_refused(error: grpc.RpcError) -> bool:
    """Whether a call failed since one end does not accept the other's certificate."""
    return bool(_CERTIFICATE.search(getattr(error, "details", lambda: None)() or ""))


def from_rpc(error: grpc.RpcError, service: str) -> WinnowError:
    """The `WinnowError` that a peer raised, or the transport's failure as one.

    A peer that does not accept our certificate is one that is not there.

    Args:
        error: what a gRPC call raised (`grpc.aio.AioRpcError` or the sync kind).
        service: name of the peer, for the message.
    """
    trailers = getattr(error, "trailing_metadata", lambda: None)() or ()
    for key, value in trailers:
        if key != "grpc-status-details-bin":
            continue
        status = status_pb2.Status.FromString(value)
        retry_after = None
        info = None
        for detail in status.details:
            if detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
                retry = error_details_pb2.RetryInfo()
                detail.Unpack(retry)
                retry_after = retry.retry_delay.ToMilliseconds() / 1000
            elif detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
                info = error_details_pb2.ErrorInfo()
                detail.Unpack(info)
        if info is not None and info.domain == DOMAIN and info.reason in MAPPINGS:
            metadata = dict(info.metadata)
            if "peer" in metadata:
                # Set up wrongly, which whoever called us has no part in, and which may be mended.
                return WinnowError(
                    "UPSTREAM_UNAVAILABLE",
                    f"the {service} lets nobody with this certificate's identity call it; "
                    "its WINNOW_PEERS_ALLOWED adds callers",
                    retry_after=1.0,
                    service=service,
                    peer=metadata["peer"],
                )
            return WinnowError(info.reason, status.message, retry_after=retry_after, **metadata)
    code = getattr(error, "code", lambda: None)()
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return WinnowError("DEADLINE_EXCEEDED", f"the {service} did not answer in time")
    if certificate_refused(error):
        return WinnowError(
            "UPSTREAM_UNAVAILABLE",
            f"the {service} cannot be reached: one of us does not accept the other's certificate",
            retry_after=1.0,
            service=service,
        )
    # A defect of a peer carries its ErrorInfo, above; a bare INTERNAL is the transport's
    # (a stream reset, a write that failed) and may pass.
    return WinnowError(
        "UPSTREAM_UNAVAILABLE", f"the {service} does not answer", retry_after=1.0, service=service
    )
