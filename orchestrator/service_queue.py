"""QueueService: unpack, ask the store, pack."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection

from orchestrator import store_queue
from orchestrator.run import RUN
from runtime import context, paging
from runtime.database import Database
from runtime.errors import WinnowError
from runtime.jobs import Job, Queue
from winnow.queue.v1 import job_pb2
from winnow.queue.v1 import queue_service_pb2 as pb
from winnow.queue.v1 import queue_service_pb2_grpc as rpc

_PAGE = 50


class QueueService(rpc.QueueServiceServicer):
    """The queue of durable work, for those who keep it running.

    Args:
        database: the orchestrator's.
        queue: its jobs.
        reopen: takes up again the report of a run, in the transaction that gives the
            run another chance; REPORT_STATE if it has not failed.
        ring: told of each job that was given another chance, once that is committed.
    """

    def __init__(
        self,
        database: Database,
        queue: Queue,
        reopen: Callable[[Connection, Job], object],
        ring: Callable[[job_pb2.Job], object],
    ) -> None:
        self._database = database
        self._queue = queue
        self._reopen = reopen
        self._ring = ring

    async def GetQueueHealth(
        self, _request: pb.GetQueueHealthRequest, _context: Any
    ) -> pb.GetQueueHealthResponse:
        return await self._database.run(store_queue.health, context.tenant.get())

    async def ListJobs(self, request: pb.ListJobsRequest, _context: Any) -> pb.ListJobsResponse:
        tenant = context.tenant.get()
        query = (tenant, "jobs", request.state, request.kind)
        before = paging.after_id(request.page_token, *query)
        size = request.page_size or _PAGE
        found = await self._database.run(
            self._queue.page, tenant, request.state, request.kind, before, size + 1
        )
        page, more = paging.cut(found, size)
        token = paging.encode(page[-1].job_id, *query) if more else ""
        return pb.ListJobsResponse(jobs=page, next_page_token=token)

    async def RetryJob(self, request: pb.RetryJobRequest, _context: Any) -> pb.RetryJobResponse:
        tenant, job_id = context.tenant.get(), uuid.UUID(request.job_id)

        def retry(connection: Connection) -> job_pb2.Job:
            job = self._queue.dead(connection, job_id, tenant)
            if job.kind == RUN:
                try:
                    self._reopen(connection, job)
                except WinnowError as error:
                    # One that has not ended goes on as it stands.
                    if error.reason != "REPORT_STATE":
                        raise
            return self._queue.revive(connection, job)

        revived = await self._database.run(retry)
        self._ring(revived)
        return pb.RetryJobResponse(job=revived)
