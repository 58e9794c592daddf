"""The queue of durable work, for those who keep it running."""

from __future__ import annotations

import uuid

from fastapi import APIRouter, Request, Response

from gateway import answers, body, docs
from gateway.backends import ORCHESTRATOR, backends, calling
from gateway.query import bind
from gateway.translate import to_json
from runtime.channels import call
from runtime.errors import WinnowError
from winnow.queue.v1.queue_service_pb2 import (
    GetQueueHealthRequest,
    ListJobsRequest,
    RetryJobRequest,
)

router = APIRouter()


@router.get("/queue/health", **docs.QUEUE_HEALTH)
async def queue_health(request: Request) -> Response:
    query = bind(GetQueueHealthRequest, request.query_params.multi_items())
    with calling(ORCHESTRATOR):
        health = await backends(request).queue.GetQueueHealth(query, **call())
    return answers.json(to_json(health))


@router.get("/queue/jobs", **docs.LIST_JOBS)
async def list_jobs(request: Request) -> Response:
    query = bind(ListJobsRequest, request.query_params.multi_items())
    with calling(ORCHESTRATOR):
        page = await backends(request).queue.ListJobs(query, **call())
    return answers.json(to_json(page))


@router.post("/queue/jobs/{job_id}/retry", **docs.RETRY_JOB)
async def retry_job(request: Request) -> Response:
    try:
        job_id = str(uuid.UUID(request.path_params["job_id"]))
    except ValueError:
        raise WinnowError("JOB_NOT_FOUND", "no job has this id; it is a UUID") from None
    retried = RetryJobRequest(job_id=job_id)
    await body.fill(request, retried, path=("job_id",), optional=True)
    with calling(ORCHESTRATOR):
        answer = await backends(request).queue.RetryJob(retried, **call())
    return answers.json(to_json(answer))
