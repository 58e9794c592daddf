"""People's decisions on findings."""

from __future__ import annotations

import uuid

from fastapi import APIRouter, Request, Response

from gateway import answers, body, docs
from gateway.backends import ORCHESTRATOR, backends, calling
from gateway.query import bind
from gateway.translate import to_json
from runtime.channels import call
from runtime.errors import WinnowError
from winnow.report.v1.decision_service_pb2 import (
    DecideFindingRequest,
    DecideFindingsRequest,
    ListDecisionsRequest,
    WithdrawDecisionRequest,
)

router = APIRouter()

_MOST_ID = 64


@router.post("/findings/{finding_id}/decisions", **docs.DECIDE_FINDING)
async def decide_finding(request: Request) -> Response:
    decided = DecideFindingRequest(finding_id=request.path_params["finding_id"][:_MOST_ID])
    decided.ruling.SetInParent()
    await body.fill(request, decided.ruling)
    with calling(ORCHESTRATOR):
        made = await backends(request).decisions.DecideFinding(decided, **call())
    return answers.json(to_json(made), 201)


@router.post("/reports/{report_id}/decisions", **docs.DECIDE_FINDINGS)
async def decide_findings(request: Request) -> Response:
    report_id = answers.report_id(request)
    decided = DecideFindingsRequest(report_id=report_id)
    await body.fill(request, decided, path=("report_id",))
    with calling(ORCHESTRATOR):
        made = await backends(request).decisions.DecideFindings(decided, **call())
    return answers.json(to_json(made), 200 if decided.preview else 201)


@router.post("/decisions/{decision_id}/withdraw", **docs.WITHDRAW_DECISION)
async def withdraw_decision(request: Request) -> Response:
    try:
        decision_id = str(uuid.UUID(request.path_params["decision_id"]))
    except ValueError:
        raise WinnowError("DECISION_NOT_FOUND", "no decision has this id; it is a UUID") from None
    withdrawn = WithdrawDecisionRequest(decision_id=decision_id)
    await body.fill(request, withdrawn, path=("decision_id",), optional=True)
    with calling(ORCHESTRATOR):
        ended = await backends(request).decisions.WithdrawDecision(withdrawn, **call())
    return answers.json(to_json(ended))


@router.get("/decisions", **docs.LIST_DECISIONS)
async def list_decisions(request: Request) -> Response:
    query = bind(ListDecisionsRequest, request.query_params.multi_items())
    with calling(ORCHESTRATOR):
        page = await backends(request).decisions.ListDecisions(query, **call())
    return answers.json(to_json(page))
