"""What OpenAPI says about each route; message schemas come from the contracts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from google.protobuf.descriptor import Descriptor

from gateway.problems import MEDIA_TYPE
from gateway.schemas import Schema, components, parameters, reference, request_schema
from runtime.errors import MAPPINGS
from winnow.audit.v1.audit_service_pb2 import ListEventsRequest, ListEventsResponse
from winnow.report.v1.credential_service_pb2 import (
    GetCredentialRequest,
    GetCredentialResponse,
    ListCredentialsRequest,
    ListCredentialsResponse,
)
from winnow.report.v1.decision_service_pb2 import (
    DecideFindingResponse,
    DecideFindingsRequest,
    DecideFindingsResponse,
    ListDecisionsRequest,
    ListDecisionsResponse,
    Ruling,
    WithdrawDecisionRequest,
    WithdrawDecisionResponse,
)
from winnow.report.v1.report_pb2 import RecordCounts, Report, RiskSummary
from winnow.report.v1.report_progress_pb2 import ReportProgress
from winnow.report.v1.report_service_pb2 import (
    GetFindingResponse,
    ListFindingsRequest,
    ListFindingsResponse,
    ListFormatsResponse,
    ListRejectedRequest,
    ListRejectedResponse,
    ListReportsRequest,
    ListReportsResponse,
    RejudgeReportRequest,
    RejudgeReportResponse,
)

ABOUT: dict[str, Any] = {
    "title": "Winnow",
    "version": "1",
    "summary": "A scanner's report in, verdicts out.",
}

_JSON = "application/json"
_TEXT: Schema = {"type": "string"}
_ID = {
    "name": "report_id",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "format": "uuid"},
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
    "Envelope": {
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
        },
        "required": ["report_id", "status", "scanner_type", "summary", "records"],
    },
    "AcceptedReport": {
        "type": "object",
        "properties": {
            "report_id": {"type": "string", "format": "uuid"},
            "status": _TEXT,
            "events_url": {"type": "string", "format": "uri-reference"},
        },
        "required": ["report_id", "status", "events_url"],
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
    ListEventsResponse,
    ReportProgress,
)


def _content(schema: Schema, description: str, media_type: str = _JSON) -> Schema:
    return {"description": description, "content": {media_type: {"schema": schema}}}


def _route(
    summary: str,
    answers: dict[int, Schema],
    problems: dict[int, str],
    query: Sequence[Schema] = (),
    *,
    path: bool = True,
    **extra: Any,
) -> dict[str, Any]:
    responses = dict(answers)
    for status, text in {**problems, 500: "A defect; the log has it"}.items():
        responses[status] = _content(reference("Problem"), text, MEDIA_TYPE)
    described = [*([_ID] if path else []), *query]
    return {
        "summary": summary,
        "status_code": min(answers),
        "response_model": None,
        "responses": responses,
        "openapi_extra": {**({"parameters": described} if described else {}), **extra},
    }


def _body(descriptor: Descriptor, *path: str, required: bool = True) -> Schema:
    """A request's JSON body: the message's fields but for those of the path."""
    schema = request_schema(descriptor, path)
    return {"required": required, "content": {_JSON: {"schema": schema}}}


def _text_parameter(name: str, where: str = "query", **more: Any) -> Schema:
    return {"name": name, "in": where, "required": False, "schema": _TEXT, **more}


_BEHIND = {503: "A service behind does not answer", 504: "Deadline exceeded"}
_NO_REPORT = "No report has this id"
_BYTES: Schema = {"schema": {"description": "The report itself, as its scanner wrote it."}}

SUBMIT = _route(
    "Submit a report, or an envelope around one",
    {
        201: _content(reference("SubmittedReport"), "Every finding has its verdict"),
        202: _content(reference("AcceptedReport"), "Durable; asked for with Prefer: respond-async"),
    },
    {
        400: "A parameter is not valid, or the upload is incomplete",
        409: "The report was cancelled",
        413: "The body is larger than this server takes",
        415: "Not a media type or a content encoding that is read",
        422: "The envelope or the report cannot be read",
        **_BEHIND,
    },
    [
        _text_parameter(
            "scanner_type", description="If given, the body is always the report itself."
        ),
        _text_parameter(
            "envelope", description="false: the body is the report itself, whatever it looks like."
        ),
        *map(_text_parameter, ("report_format", "repository", "ref", "commit", "image")),
        {
            "name": "label",
            "in": "query",
            "required": False,
            "description": "name=value; may be repeated.",
            "schema": {"type": "array", "items": {"type": "string", "pattern": "^[^=]+="}},
        },
        _text_parameter("Prefer", "header", example="respond-async"),
    ],
    path=False,
    requestBody={
        "required": True,
        "content": {
            _JSON: {"schema": {"anyOf": [reference("Envelope"), {"type": ["object", "array"]}]}},
            "application/x-ndjson": _BYTES,
            "application/octet-stream": _BYTES,
            "application/sarif+json": _BYTES,
            "application/gzip": _BYTES,
            "text/csv": _BYTES,
        },
    },
)
LIST_REPORTS = _route(
    "Reports, newest first",
    {200: _content(reference("ListReportsResponse"), "A page")},
    {400: "A parameter is not valid", **_BEHIND},
    parameters(ListReportsRequest.DESCRIPTOR),
    path=False,
)
GET_REPORT = _route(
    "A report with its findings",
    {200: _content(reference("ReportWithFindings"), "The report")},
    {400: "A parameter is not valid", 404: _NO_REPORT, **_BEHIND},
    [
        {
            "name": "findings",
            "in": "query",
            "required": False,
            "description": "false leaves the findings out.",
            "schema": {"type": "boolean", "default": True},
        }
    ],
)
LIST_FINDINGS = _route(
    "A report's findings, by their order in it",
    {200: _content(reference("ListFindingsResponse"), "A page")},
    {400: "A parameter is not valid", 404: _NO_REPORT, **_BEHIND},
    parameters(ListFindingsRequest.DESCRIPTOR, ["report_id"]),
)
GET_FINDING = _route(
    "A finding in full, with every verdict that was ever given on it",
    {200: _content(reference("GetFindingResponse"), "The finding")},
    {400: "A parameter is not valid", 404: "No finding has this id", **_BEHIND},
    [{"name": "finding_id", "in": "path", "required": True, "schema": _TEXT}],
    path=False,
)
LIST_REJECTED = _route(
    "A report's records that could not be read, and why",
    {200: _content(reference("ListRejectedResponse"), "A page")},
    {400: "A parameter is not valid", 404: _NO_REPORT, **_BEHIND},
    parameters(ListRejectedRequest.DESCRIPTOR, ["report_id"]),
)
LIST_CREDENTIALS = _route(
    "Credentials over all reports, by fingerprint",
    {200: _content(reference("ListCredentialsResponse"), "A page")},
    {400: "A parameter is not valid", **_BEHIND},
    parameters(ListCredentialsRequest.DESCRIPTOR),
    path=False,
)
GET_CREDENTIAL = _route(
    "A credential, and every place where it was seen",
    {200: _content(reference("GetCredentialResponse"), "It, and a page of sightings")},
    {400: "A parameter is not valid", 404: "No finding has this fingerprint", **_BEHIND},
    [
        {"name": "fingerprint", "in": "path", "required": True, "schema": _TEXT},
        *parameters(GetCredentialRequest.DESCRIPTOR, ["fingerprint"]),
    ],
    path=False,
)
LIST_FORMATS = _route(
    "Formats that reports are read in",
    {200: _content(reference("ListFormatsResponse"), "All of them")},
    {400: "A parameter is not valid", **_BEHIND},
    path=False,
)
DECIDE_FINDING = _route(
    "Decide a finding, and by default every other one of the same value",
    {201: _content(reference("DecideFindingResponse"), "The decision, and how far it reaches")},
    {400: "A member is not valid", 404: "No finding has this id", **_BEHIND},
    [{"name": "finding_id", "in": "path", "required": True, "schema": _TEXT}],
    path=False,
    requestBody=_body(Ruling.DESCRIPTOR),
)
DECIDE_FINDINGS = _route(
    "Decide all findings of a report that a filter matches, or preview that",
    {
        200: _content(reference("DecideFindingsResponse"), "What would be decided (preview)"),
        201: _content(reference("DecideFindingsResponse"), "What was decided"),
    },
    {400: "A member is not valid", 404: _NO_REPORT, **_BEHIND},
    requestBody=_body(DecideFindingsRequest.DESCRIPTOR, "report_id"),
)
WITHDRAW_DECISION = _route(
    "End a decision: what the cascade said stands again",
    {200: _content(reference("WithdrawDecisionResponse"), "The decision, ended")},
    {
        400: "A member is not valid",
        404: "No decision has this id",
        409: "The decision has ended",
        **_BEHIND,
    },
    [{"name": "decision_id", "in": "path", "required": True, "schema": _TEXT}],
    path=False,
    requestBody=_body(WithdrawDecisionRequest.DESCRIPTOR, "decision_id", required=False),
)
LIST_DECISIONS = _route(
    "Decisions, newest first",
    {200: _content(reference("ListDecisionsResponse"), "A page")},
    {400: "A parameter is not valid", 404: "No finding has this id", **_BEHIND},
    parameters(ListDecisionsRequest.DESCRIPTOR),
    path=False,
)
REJUDGE_REPORT = _route(
    "Judge a report once more: replay, preview or apply",
    {200: _content(reference("RejudgeReportResponse"), "What came out")},
    {
        400: "A member is not valid",
        404: _NO_REPORT,
        409: "The report is not done",
        **_BEHIND,
    },
    requestBody=_body(RejudgeReportRequest.DESCRIPTOR, "report_id", required=False),
)
CANCEL_REPORT = _route(
    "Stop work on a report",
    {200: _content(reference("Report"), "The report as it stands")},
    {404: _NO_REPORT, 409: "The report has ended", **_BEHIND},
)
LIST_EVENTS = _route(
    "A report's audit trail",
    {200: _content(reference("ListEventsResponse"), "A page")},
    {400: "A parameter is not valid", 404: _NO_REPORT, **_BEHIND},
    parameters(ListEventsRequest.DESCRIPTOR, ["report_id"]),
)
WATCH_REPORT = _route(
    "A report's progress as it happens",
    {
        200: _content(
            _TEXT,
            "Server-sent events: `progress` (data: ReportProgress) on each change, then one "
            "`done` (the last ReportProgress), or `error` (a Problem)",
            "text/event-stream",
        )
    },
    {404: _NO_REPORT, **_BEHIND},
)
_OK = {"type": "object", "properties": {"status": {"const": "ok"}}, "required": ["status"]}
HEALTH = _route("Is the process up", {200: _content(_OK, "It is")}, {}, path=False)
READY = _route(
    "Can reports be taken",
    {200: _content(_OK, "They can")},
    {503: "A service behind is not serving"},
    path=False,
)


def install(app: FastAPI) -> None:
    """Makes the application's OpenAPI document name the contracts' schemas."""

    @cache
    def openapi() -> dict[str, Any]:
        document = get_openapi(routes=app.routes, **ABOUT)
        own = {**_SCHEMAS, **components(root.DESCRIPTOR for root in _ROOTS)}
        document.setdefault("components", {}).setdefault("schemas", {}).update(own)
        return document

    app.openapi = openapi  # type: ignore[method-assign]
