"""A gateway on a real socket before a queue that is kept in memory."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import uvicorn

from gateway.app import GatewaySettings, build
from runtime import log
from runtime.clock import now, uuid7
from runtime.config import load
from runtime.errors import WinnowError
from runtime.server import Service
from winnow.queue.v1 import job_pb2, queue_service_pb2, queue_service_pb2_grpc


class Jobs(queue_service_pb2_grpc.QueueServiceServicer):
    """Jobs by id, newest last."""

    def __init__(self) -> None:
        self.jobs: dict[str, job_pb2.Job] = {}
        self.requests: list[Any] = []
        self.page = 500
        self.health = queue_service_pb2.GetQueueHealthResponse()

    def add(self, kind: str, state: int, **fields: Any) -> job_pb2.Job:
        job = job_pb2.Job(
            job_id=str(uuid7()), kind=kind, key=str(uuid7()), max_failures=20, **fields
        )
        job.state = state  # type: ignore[assignment]
        job.created_at.FromDatetime(now())
        job.due_at.FromDatetime(now())
        self.jobs[job.job_id] = job
        return job

    async def GetQueueHealth(self, request: Any, context: Any) -> Any:
        return self.health

    async def ListJobs(self, request: Any, context: Any) -> Any:
        self.requests.append(request)
        rows = [
            job
            for job in reversed(self.jobs.values())
            if request.kind in ("", job.kind) and request.state in (0, job.state)
        ]
        start = int(request.page_token or 0)
        end = start + min(request.page_size or 50, self.page)
        return queue_service_pb2.ListJobsResponse(
            jobs=rows[start:end], next_page_token=str(end) if end < len(rows) else ""
        )

    async def RetryJob(self, request: Any, context: Any) -> Any:
        job = self.jobs.get(request.job_id)
        if job is None:
            raise WinnowError("JOB_NOT_FOUND", "no job has this id", job_id=request.job_id)
        if job.state != job_pb2.JOB_STATE_DEAD:
            raise WinnowError("JOB_STATE", "it is not dead", job_state="waiting")
        job.state = job_pb2.JOB_STATE_WAITING
        return queue_service_pb2.RetryJobResponse(job=job)


@dataclass
class Desk:
    """The queue, and the gateway before it."""

    url: str = ""
    grpc_url: str = ""
    queue: Jobs = field(default_factory=Jobs)


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    # To this stdout, not to the one that a command's test puts in its place.
    log.configure("gateway", "INFO")
    made = Desk()
    orchestrator = Service(
        "127.0.0.1:0",
        [queue_service_pb2.DESCRIPTOR.services_by_name["QueueService"]],
        lambda server: queue_service_pb2_grpc.add_QueueServiceServicer_to_server(
            made.queue, server
        ),
    )
    await orchestrator.start()
    settings = load(GatewaySettings, orchestrator_address=f"127.0.0.1:{orchestrator.port}")
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(build(settings), log_config=None, access_log=False))
    serving = asyncio.create_task(server.serve([listener]))
    while not server.started:
        await asyncio.sleep(0.01)
    made.grpc_url = f"grpc://127.0.0.1:{orchestrator.port}"
    made.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    yield made
    server.should_exit = True
    await serving
    await orchestrator.stop(0)


@pytest.fixture
async def client(desk: Desk) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=desk.url, timeout=30) as made:
        yield made
