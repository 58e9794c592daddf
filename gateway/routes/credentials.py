"""Credentials over all reports, and the formats that reports are read in."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from gateway import answers, docs
from gateway.backends import ORCHESTRATOR, backends, calling
from gateway.query import bind
from gateway.translate import to_json
from runtime.channels import call
from winnow.report.v1.credential_service_pb2 import GetCredentialRequest, ListCredentialsRequest
from winnow.report.v1.report_service_pb2 import ListFormatsRequest

router = APIRouter()


@router.get("/credentials", **docs.LIST_CREDENTIALS)
async def list_credentials(request: Request) -> Response:
    query = bind(ListCredentialsRequest, request.query_params.multi_items())
    with calling(ORCHESTRATOR):
        page = await backends(request).credentials.ListCredentials(query, **call())
    return answers.json(to_json(page))


@router.get("/credentials/{fingerprint}", **docs.GET_CREDENTIAL)
async def get_credential(request: Request) -> Response:
    # One that is too long is no fingerprint either: the answer is 404, as for any unknown one.
    fingerprint = request.path_params["fingerprint"][:64].lower()
    query = bind(GetCredentialRequest, request.query_params.multi_items(), fingerprint=fingerprint)
    with calling(ORCHESTRATOR):
        found = await backends(request).credentials.GetCredential(query, **call())
    return answers.json(to_json(found))


@router.get("/formats", **docs.LIST_FORMATS)
async def list_formats(request: Request) -> Response:
    bind(ListFormatsRequest, request.query_params.multi_items())
    with calling(ORCHESTRATOR):
        known = await backends(request).reports.ListFormats(ListFormatsRequest(), **call())
    return answers.json(to_json(known))
