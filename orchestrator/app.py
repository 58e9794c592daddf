"""The orchestrator: settings and wiring. Cheap to import; `build` imports the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, SecretStr

from runtime.config import Key, Settings

if TYPE_CHECKING:
    import grpc

    from runtime.server import Service


class OrchestratorSettings(Settings):
    """Settings of `winnow serve orchestrator`."""

    orchestrator_listen: str = Field(
        "127.0.0.1:50051", description="address of the orchestrator, host:port or unix:/path"
    )
    ingestor_address: str = Field("127.0.0.1:50052", description="where the ingestor is")
    moderator_address: str = Field("127.0.0.1:50053", description="where the moderator is")
    audit_address: str = Field("127.0.0.1:50054", description="where the audit service is")
    database_url: SecretStr = Field(description="PostgreSQL, postgresql://user:password@host/name")
    sealing_key: Key = Field(description="seals raw reports and findings' evidence")
    max_report_bytes: int = Field(2 << 30, ge=1, description="largest report accepted, in bytes")
    lease_seconds: float = Field(
        10.0, ge=1, description="seconds after which work of a silent orchestrator is taken over"
    )
    audit_required: bool = Field(
        False, description="accept no report while the audit log cannot be written"
    )
    event_transport: Literal["postgres", "valkey", "nats"] = Field(
        "postgres", description="what takes events to their consumers: postgres, valkey or nats"
    )
    event_transport_url: SecretStr | None = Field(
        None, description="where the broker is, valkey://host:port or nats://host:port"
    )


def build(settings: OrchestratorSettings) -> Service:
    """Wires the service; nothing listens yet."""
    import os
    import socket
    import uuid

    from orchestrator import activity, facts, housekeeping, tables
    from orchestrator.gate import AuditGate
    from orchestrator.intake import Intake
    from orchestrator.outbox import Outbox
    from orchestrator.relay import Legs
    from orchestrator.run import RUN, Runner
    from orchestrator.service import ReportService
    from orchestrator.service_credentials import CredentialService
    from orchestrator.service_decisions import SETTLE, DecisionService, settle_due
    from orchestrator.service_queue import QueueService
    from orchestrator.submitting import Submissions
    from orchestrator.watching import Watches
    from runtime import transport as transports
    from runtime.channels import dial
    from runtime.consumers import Consumer
    from runtime.database import Database
    from runtime.jobs import Queue
    from runtime.schedules import Scheduler
    from runtime.server import Service
    from runtime.transport.delivery import Policy
    from runtime.worker import Kind, Worker, transaction
    from winnow.audit.v1.audit_service_pb2_grpc import AuditServiceStub
    from winnow.ingest.v1.ingest_service_pb2_grpc import IngestServiceStub
    from winnow.moderate.v1.moderate_service_pb2_grpc import ModerateServiceStub
    from winnow.queue.v1 import queue_service_pb2
    from winnow.queue.v1 import queue_service_pb2_grpc as queue_rpc
    from winnow.queue.v1.job_pb2 import Job
    from winnow.report.v1 import (
        credential_service_pb2,
        decision_service_pb2,
        report_service_pb2,
    )
    from winnow.report.v1 import credential_service_pb2_grpc as credential_rpc
    from winnow.report.v1 import decision_service_pb2_grpc as decision_rpc
    from winnow.report.v1 import report_service_pb2_grpc as report_rpc

    database_url = settings.database_url.get_secret_value()
    database = Database(database_url, connections=8)
    # Heartbeats must not queue behind bulk writes.
    leases = Database(database_url, connections=2, name="leases")
    key = settings.sealing_key.get_secret_value()
    channels = {
        name: dial(address)
        for name, address in (
            ("ingestor", settings.ingestor_address),
            ("moderator", settings.moderator_address),
            ("audit", settings.audit_address),
        )
    }
    me = f"{socket.gethostname()}/{os.getpid()}/{os.urandom(4).hex()}"
    queue = Queue(tables.jobs, me, settings.lease_seconds)
    url = settings.event_transport_url
    transport = transports.make(
        settings.event_transport,
        url.get_secret_value() if url else "",
        (activity.GROUP,),
        database=database,
        queue=queue,
        policy=Policy(idle_seconds=settings.lease_seconds),
    )
    counting = Consumer(activity.GROUP, database, tables.inbox, activity.count)
    audit = AuditServiceStub(channels["audit"])
    outbox = Outbox(database, audit, transport)
    gate = AuditGate(audit if settings.audit_required else None)
    watches = Watches(database)
    runner = Runner(
        database,
        queue,
        Legs(channels["ingestor"], channels["moderator"]),
        key,
        outbox,
        watches.ring,
    )
    worker = Worker(
        leases,
        queue,
        [
            runner.kind,
            Kind(SETTLE, transaction(database, queue, settle_due)),
            *housekeeping.kinds(database, queue),
        ],
        runner.ended,
    )
    scheduler = Scheduler(database, tables.schedules, housekeeping.SCHEDULES, queue, worker.ring)
    intake = Intake(database, key, settings.max_report_bytes)
    reports = ReportService(
        database,
        Submissions(database, intake, runner, worker, outbox, watches, gate),
        runner,
        worker,
        outbox,
        watches,
        IngestServiceStub(channels["ingestor"]),
        ModerateServiceStub(channels["moderator"]),
    )
    credentials = CredentialService(database)
    decisions = DecisionService(database, outbox, queue)

    def retried(job: Job) -> None:
        worker.ring()
        outbox.ring()
        if job.kind == RUN:
            watches.ring(uuid.UUID(job.key))

    queues = QueueService(database, queue, runner.reopen, retried)

    def register(server: grpc.aio.Server) -> None:
        report_rpc.add_ReportServiceServicer_to_server(reports, server)
        decision_rpc.add_DecisionServiceServicer_to_server(decisions, server)
        credential_rpc.add_CredentialServiceServicer_to_server(credentials, server)
        queue_rpc.add_QueueServiceServicer_to_server(queues, server)

    async def consume() -> None:
        await transport.consume(activity.GROUP, counting.handle)

    async def close() -> None:
        await worker.stop()
        await leases.close()
        await transport.close()
        for channel in channels.values():
            await channel.close()
        await database.close()

    return Service(
        settings.orchestrator_listen,
        (
            report_service_pb2.DESCRIPTOR.services_by_name["ReportService"],
            credential_service_pb2.DESCRIPTOR.services_by_name["CredentialService"],
            decision_service_pb2.DESCRIPTOR.services_by_name["DecisionService"],
            queue_service_pb2.DESCRIPTOR.services_by_name["QueueService"],
        ),
        register,
        background=(outbox.run, worker.run, consume, scheduler.run),
        close=close,
        facts=facts.of(leases, (RUN, SETTLE, *(one.kind for one in housekeeping.SCHEDULES))),
    )
