"""What OpenAPI says about each route."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from google.protobuf.descriptor import Descriptor

from gateway.problems import MEDIA_TYPE
from gateway.schemas import Schema, parameters, reference, request_schema
from winnow.access.v1.access_service_pb2 import (
    CreateApiKeyRequest,
    ListApiKeysRequest,
)
from winnow.audit.v1.audit_service_pb2 import (
    GetConsistencyProofRequest,
    GetInclusionProofRequest,
    ListEventsRequest,
)
from winnow.queue.v1.queue_service_pb2 import (
    ListJobsRequest,
    RetryJobRequest,
)
from winnow.report.v1.credential_service_pb2 import (
    GetCredentialRequest,
    ListCredentialsRequest,
)
from winnow.report.v1.decision_service_pb2 import (
    DecideFindingsRequest,
    ListDecisionsRequest,
    Ruling,
    WithdrawDecisionRequest,
)
from winnow.report.v1.report_service_pb2 import (
    ListFindingsRequest,
    ListRejectedRequest,
    ListReportsRequest,
    RejudgeReportRequest,
    ShredReportRequest,
)
from winnow.seal.v1.seal_service_pb2 import (
    RotateSealingRequest,
)

_JSON = "application/json"
_TEXT: Schema = {"type": "string"}
_ID = {
    "name": "report_id",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "format": "uuid"},
}

_REFUSED = {
    401: "No API key where one is needed, or one that is not known, expired or revoked",
    403: "The API key does not allow this, or another origin's page asks, or a proxy where no "
    "key is needed",
    421: "The Host header names no address of this server",
}


def _content(schema: Schema, description: str, media_type: str = _JSON) -> Schema:
    return {"description": description, "content": {media_type: {"schema": schema}}}


def _route(
    summary: str,
    answers: dict[int, Schema],
    problems: dict[int, str],
    query: Sequence[Schema] = (),
    *,
    path: bool = True,
    guarded: bool = True,
    **extra: Any,
) -> dict[str, Any]:
    responses = dict(answers)
    if guarded:
        problems = {**problems, **_REFUSED}
    else:
        extra["security"] = []
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
_SAID = {
    "Preference-Applied": {"description": "The preferences that were honoured.", "schema": _TEXT},
    "Idempotent-Replayed": {
        "description": "true: the answer to an earlier request with the same key.",
        "schema": {"const": "true"},
    },
    "Location": {"description": "The report.", "schema": _TEXT},
}

SUBMIT = _route(
    "Submit a report, or an envelope around one",
    {
        201: {
            **_content(reference("SubmittedReport"), "Every finding has its verdict"),
            "headers": _SAID,
        },
        200: {
            **_content(reference("SubmittedReport"), "An earlier report of the same bytes"),
            "headers": _SAID,
        },
        202: {
            **_content(reference("AcceptedReport"), "Durable; its verdicts are still to come"),
            "headers": _SAID,
        },
    },
    {
        400: "A parameter is not valid, or the upload is incomplete",
        409: "The report was cancelled",
        413: "The body is larger than this server takes",
        415: "Not a media type or a content encoding that is read",
        422: "The envelope or the report cannot be read, or the key was sent with another report",
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
        {
            "name": "duplicates",
            "in": "query",
            "required": False,
            "description": "reuse: bytes that were submitted before for the same asset make no "
            "new report; the answer is the first.",
            "schema": {"type": "string", "enum": ["process", "reuse"], "default": "process"},
        },
        _text_parameter(
            "Prefer",
            "header",
            description="respond-async: answer as soon as the report is durable. wait=N: answer "
            "after N seconds at the latest.",
            example="respond-async, wait=10",
        ),
        _text_parameter(
            "Idempotency-Key",
            "header",
            description="1 to 255 visible ASCII characters. Within 24 hours the same key with the "
            "same report makes no second one and gets the same answer.",
        ),
    ],
    path=False,
    requestBody={
        "required": True,
        "content": {
            _JSON: {
                "schema": {"anyOf": [reference("ReportEnvelope"), {"type": ["object", "array"]}]}
            },
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
_DIGEST = {
    "description": "SHA-256 of the report (RFC 9530).",
    "schema": {"type": "string", "pattern": "^sha-256=:[A-Za-z0-9+/=]+:$"},
}
GET_RAW_REPORT = _route(
    "A report's bytes as they were submitted, secrets among them; each time is an event",
    {
        200: {
            "description": "The bytes, in order",
            "headers": {
                "Content-Disposition": {"description": "attachment", "schema": _TEXT},
                "Repr-Digest": _DIGEST,
                "Content-Digest": _DIGEST,
            },
            "content": {
                "application/octet-stream": {"schema": {"type": "string", "format": "binary"}}
            },
        }
    },
    {
        400: "A parameter is not valid",
        404: _NO_REPORT,
        410: "The report's data key was destroyed",
        **_BEHIND,
        503: "A service behind does not answer, or does not hold the key",
    },
)
SHRED_REPORT = _route(
    "Destroy a report's data key: its bytes and values are unreadable for good",
    {200: _content(reference("Report"), "The report as it stands")},
    {400: "A member is not valid", 404: _NO_REPORT, 409: "The report has not ended", **_BEHIND},
    requestBody=_body(ShredReportRequest.DESCRIPTOR, "report_id", required=False),
)
DELETE_REPORT = _route(
    "Remove a report with everything that belongs to it, but for its audit trail",
    {204: {"description": "It is gone"}},
    {
        400: "A parameter is not valid",
        404: _NO_REPORT,
        409: "The report has not ended",
        **_BEHIND,
    },
)
GET_SEALING = _route(
    "Which key-encryption keys are in use, and for how many reports",
    {200: _content(reference("GetSealingResponse"), "The current one first")},
    {400: "A parameter is not valid", **_BEHIND},
    path=False,
)
ROTATE_SEALING = _route(
    "Wrap every data key that is not under the current key-encryption key again",
    {202: _content(reference("RotateSealingResponse"), "It goes on in the background")},
    {
        400: "A member is not valid",
        **_BEHIND,
        503: "A service behind does not answer, or does not hold a key that is in use",
    },
    path=False,
    requestBody=_body(RotateSealingRequest.DESCRIPTOR, required=False),
)
LIST_EVENTS = _route(
    "A report's audit trail",
    {200: _content(reference("ListEventsResponse"), "A page")},
    {400: "A parameter is not valid", 404: _NO_REPORT, **_BEHIND},
    parameters(ListEventsRequest.DESCRIPTOR, ["report_id"]),
)
WATCH_REPORT = _route(
    "A report's events: those that there are, then the others as they happen",
    {
        200: _content(
            _TEXT,
            "Server-sent events: `id` is the ordinal, `event` what happened (`report.created`, …), "
            "`data` an Envelope or, with format=cloudevents, a CloudEvent. The stream ends after "
            "`report.done` or `report.failed`. `error` and `cut` (data: a Problem) end it too: "
            "come back with the last ordinal",
            "text/event-stream",
        ),
        204: {"description": "The client has every event, and the report has ended"},
    },
    {400: "A parameter is not valid", 404: _NO_REPORT, **_BEHIND},
    [
        {
            "name": "after",
            "in": "query",
            "required": False,
            "description": "Ordinal of the last event that the client has.",
            "schema": {"type": "integer", "minimum": 0, "default": 0},
        },
        {
            "name": "format",
            "in": "query",
            "required": False,
            "description": "What `data` is.",
            "schema": {"type": "string", "enum": ["winnow", "cloudevents"], "default": "winnow"},
        },
        _text_parameter(
            "Last-Event-ID", "header", description="As `after`, which it wins over.", example="12"
        ),
    ],
)
GET_CHECKPOINT = _route(
    "The audit log's newest signed checkpoint",
    {200: _content(reference("GetCheckpointResponse"), "The checkpoint")},
    {400: "A parameter is not valid", **_BEHIND},
    path=False,
)
GET_EVENT_PROOF = _route(
    "An event, and the proof that it stands in the audit log",
    {200: _content(reference("EventProof"), "All that it takes to check it elsewhere")},
    {400: "A parameter is not valid", 404: "No event has this id", **_BEHIND},
    [
        {"name": "event_id", "in": "path", "required": True, "schema": _TEXT},
        *parameters(GetInclusionProofRequest.DESCRIPTOR, ["event_id"]),
    ],
    path=False,
)
GET_CONSISTENCY_PROOF = _route(
    "The proof that an older state of the audit log is the beginning of a newer one",
    {200: _content(reference("GetConsistencyProofResponse"), "The proof")},
    {400: "A parameter is not valid", 404: "The log is not that large", **_BEHIND},
    parameters(GetConsistencyProofRequest.DESCRIPTOR),
    path=False,
)
QUEUE_HEALTH = _route(
    "How much durable work there is, and how it goes",
    {200: _content(reference("GetQueueHealthResponse"), "Counts of now")},
    {400: "A parameter is not valid", **_BEHIND},
    path=False,
)
LIST_JOBS = _route(
    "Jobs of durable work, newest first",
    {200: _content(reference("ListJobsResponse"), "A page")},
    {400: "A parameter is not valid", **_BEHIND},
    parameters(ListJobsRequest.DESCRIPTOR),
    path=False,
)
RETRY_JOB = _route(
    "Give a dead job another chance; the report of a run goes on where it stood",
    {200: _content(reference("RetryJobResponse"), "The job as it stands")},
    {
        400: "A member is not valid",
        404: "No job has this id",
        409: "The job is not dead",
        **_BEHIND,
    },
    [{"name": "job_id", "in": "path", "required": True, "schema": _TEXT}],
    path=False,
    requestBody=_body(RetryJobRequest.DESCRIPTOR, "job_id", required=False),
)
CREATE_KEY = _route(
    "Make an API key; the answer is the only place where it ever stands",
    {201: _content(reference("CreateApiKeyResponse"), "The key")},
    {400: "A member is not valid", **_BEHIND},
    path=False,
    requestBody=_body(CreateApiKeyRequest.DESCRIPTOR),
)
LIST_KEYS = _route(
    "API keys, newest first, expired and revoked ones among them",
    {200: _content(reference("ListApiKeysResponse"), "A page")},
    {400: "A parameter is not valid", **_BEHIND},
    parameters(ListApiKeysRequest.DESCRIPTOR),
    path=False,
)
REVOKE_KEY = _route(
    "End an API key",
    {200: _content(reference("RevokeApiKeyResponse"), "The key as it stands")},
    {400: "A parameter is not valid", 404: "No API key has this id", **_BEHIND},
    [{"name": "key_id", "in": "path", "required": True, "schema": _TEXT}],
    path=False,
)
WHOAMI = _route(
    "Who the caller is taken for, and what is allowed",
    {200: _content(reference("GetCallerResponse"), "The caller")},
    {400: "A parameter is not valid", **_BEHIND},
    path=False,
)
_OK = {"type": "object", "properties": {"status": {"const": "ok"}}, "required": ["status"]}
HEALTH = _route("Is the process up", {200: _content(_OK, "It is")}, {}, path=False, guarded=False)
READY = _route(
    "Can reports be taken",
    {200: _content(_OK, "They can")},
    {503: "A service behind is not serving"},
    path=False,
    guarded=False,
)
