"""The OpenAPI document: its schemas, which are the contracts' but for a few, and its security."""

from __future__ import annotations

from functools import cache
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from gateway.schemas import Schema, components, reference
from runtime.errors import MAPPINGS
from winnow.access.v1.access_service_pb2 import (
    CreateApiKeyResponse,
    GetCallerResponse,
    ListApiKeysResponse,
    RevokeApiKeyResponse,
)
from winnow.audit.v1.audit_event_pb2 import AuditEvent, Checkpoint
from winnow.audit.v1.audit_service_pb2 import (
    GetCheckpointResponse,
    GetConsistencyProofResponse,
    GetInclusionProofResponse,
    ListEventsResponse,
)
from winnow.event.v1.envelope_pb2 import Envelope
from winnow.queue.v1.queue_service_pb2 import (
    GetQueueHealthResponse,
    ListJobsResponse,
    RetryJobResponse,
)
from winnow.report.v1.credential_service_pb2 import (
    GetCredentialResponse,
    ListCredentialsResponse,
)
from winnow.report.v1.decision_service_pb2 import (
    DecideFindingResponse,
    DecideFindingsResponse,
    ListDecisionsResponse,
    WithdrawDecisionResponse,
)
from winnow.report.v1.report_pb2 import RecordCounts, Report, RiskSummary
from winnow.report.v1.report_service_pb2 import (
    GetFindingResponse,
    ListFindingsResponse,
    ListFormatsResponse,
    ListRejectedResponse,
    ListReportsResponse,
    RejudgeReportResponse,
)
from winnow.seal.v1.seal_service_pb2 import (
    GetSealingResponse,
    RotateSealingResponse,
)

ABOUT: dict[str, Any] = {
    "title": "Winnow",
    "version": "1",
    "summary": "A scanner's report in, verdicts out.",
}

_TEXT: Schema = {"type": "string"}

_REPEATED: dict[str, Schema] = {
    "duplicate_of": {
        "description": "The first report of the same bytes, asset and scanner, if there is one.",
        "type": "string",
        "format": "uuid",
    },
    "reused": {
        "description": "Nothing new is kept: this is the earlier report (duplicates=reuse).",
        "const": True,
    },
}
_SCHEMAS: dict[str, Schema] = {
    "Problem": {
        "description": "RFC 9457. A reason's metadata stand beside the members below.",
        "type": "object",
        "properties": {
            "type": _TEXT,
            "title": _TEXT,
            "status": {"type": "integer"},
            "detail": _TEXT,
            "reason": {"type": "string", "enum": sorted(MAPPINGS)},
            "request_id": _TEXT,
        },
        "required": ["type", "title", "status", "detail", "request_id"],
        "additionalProperties": True,
    },
    "ReportEnvelope": {
        "description": "Members in any order. A report that is a string is decoded: its text "
        "is the report.",
        "type": "object",
        "properties": {
            "scanner_type": {"type": ["string", "null"]},
            "report_format": {"type": ["string", "null"]},
            "report": {"type": ["object", "array", "string", "null"]},
            "source": {
                "type": ["object", "null"],
                "properties": {
                    name: {"type": ["string", "null"]}
                    for name in ("repository", "ref", "commit", "image")
                },
                "additionalProperties": False,
            },
            "labels": {"type": ["object", "null"], "additionalProperties": _TEXT},
        },
        "required": ["report"],
        "additionalProperties": False,
    },
    "SubmittedReport": {
        "type": "object",
        "properties": {
            "report_id": {"type": "string", "format": "uuid"},
            "status": {"const": "done"},
            "scanner_type": _TEXT,
            "summary": reference(RiskSummary.DESCRIPTOR.name),
            "records": reference(RecordCounts.DESCRIPTOR.name),
            **_REPEATED,
        },
        "required": ["report_id", "status", "scanner_type", "summary", "records"],
    },
    "AcceptedReport": {
        "type": "object",
        "properties": {
            "report_id": {"type": "string", "format": "uuid"},
            "status": _TEXT,
            "events_url": {"type": "string", "format": "uri-reference"},
            **_REPEATED,
        },
        "required": ["report_id", "status", "events_url"],
    },
    "EventProof": {
        "description": "An event, that it stands in the log, and the signed checkpoint of the log.",
        "type": "object",
        "properties": {
            "event": reference(AuditEvent.DESCRIPTOR.name),
            "proof": reference(GetInclusionProofResponse.DESCRIPTOR.name),
            "checkpoint": reference(Checkpoint.DESCRIPTOR.name),
        },
        "required": ["event", "proof", "checkpoint"],
    },
    "ReportWithFindings": {
        "allOf": [
            reference(Report.DESCRIPTOR.name),
            {
                "type": "object",
                "properties": {"findings": {"type": "array", "items": reference("ReportFinding")}},
            },
        ]
    },
}
_ROOTS = (
    Report,
    ListReportsResponse,
    ListFindingsResponse,
    ListRejectedResponse,
    ListCredentialsResponse,
    GetCredentialResponse,
    GetFindingResponse,
    RejudgeReportResponse,
    DecideFindingResponse,
    DecideFindingsResponse,
    WithdrawDecisionResponse,
    ListDecisionsResponse,
    ListFormatsResponse,
    GetQueueHealthResponse,
    ListJobsResponse,
    RetryJobResponse,
    CreateApiKeyResponse,
    ListApiKeysResponse,
    RevokeApiKeyResponse,
    GetCallerResponse,
    GetSealingResponse,
    RotateSealingResponse,
    ListEventsResponse,
    GetCheckpointResponse,
    GetConsistencyProofResponse,
    GetInclusionProofResponse,
    Envelope,
)


def install(app: FastAPI) -> None:
    """Makes the application's OpenAPI document name the contracts' schemas."""

    @cache
    def openapi() -> dict[str, Any]:
        document = get_openapi(routes=app.routes, **ABOUT)
        own = {**_SCHEMAS, **components(root.DESCRIPTOR for root in _ROOTS)}
        described = document.setdefault("components", {})
        described.setdefault("schemas", {}).update(own)
        described["securitySchemes"] = {
            "key": {
                "type": "http",
                "scheme": "bearer",
                "description": "An API key, wnw_…; not needed where only this machine can call.",
            },
            "signature": {
                "type": "apiKey",
                "in": "header",
                "name": "X-Signature",
                "description": "A signed request (docs/signing.md): X-Api-Key, X-Timestamp, "
                "X-Nonce, X-Content-SHA256, X-Signature; or RFC 9421, Signature-Input and "
                "Signature.",
            },
        }
        document["security"] = [{"key": []}, {"signature": []}, {}]
        return document

    app.openapi = openapi  # type: ignore[method-assign]
