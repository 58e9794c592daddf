"""The orchestrator: settings and wiring. Cheap to import; `build` imports the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, SecretStr

from runtime.config import GuardedSettings, LimitSettings, SealingSettings, Span

if TYPE_CHECKING:
    import grpc

    from runtime.server import Service


class OrchestratorSettings(GuardedSettings, LimitSettings, SealingSettings):
    """Settings of `winnow serve orchestrator`."""

    orchestrator_listen: str = Field(
        "127.0.0.1:50051", description="address of the orchestrator, host:port or unix:/path"
    )
    ingestor_address: str = Field("127.0.0.1:50052", description="where the ingestor is")
    moderator_address: str = Field("127.0.0.1:50053", description="where the moderator is")
    audit_address: str = Field("127.0.0.1:50054", description="where the audit service is")
    database_url: SecretStr = Field(description="PostgreSQL, postgresql://user:password@host/name")
    raw_ttl: Span = Field(
        None, description="how long after their end reports stay readable (30d); unset: for ever"
    )
    report_ttl: Span = Field(
        None, description="how long after their end reports are kept (52w); unset: for ever"
    )
    max_report_bytes: int = Field(2 << 30, ge=1, description="largest report accepted, in bytes")
    max_records: int = Field(5_000_000, ge=1, description="records that a report may have")
    max_queue_depth: int = Field(
        10_000, ge=1, description="reports that wait or run above which no other is taken"
    )
    tenant_queue_share: float = Field(
        0.5, gt=0, le=1, description="part of max_queue_depth that one tenant's reports may be"
    )
    orchestrator_max_memory_bytes: int = Field(
        2 << 30,
        ge=0,
        description="memory of the orchestrator above which no report is taken; 0: any",
    )
    lease_seconds: float = Field(
        10.0, ge=1, description="seconds after which work of a silent orchestrator is taken over"
    )
    signature_tolerance: float = Field(
        300.0,
        gt=0,
        le=86_400,
        description="seconds by which the time of a signed request may differ from the clock",
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
    from datetime import timedelta

    from orchestrator import activity, facts, housekeeping, tables
    from orchestrator.gate import AuditGate, Crowd
    from orchestrator.intake import Intake
    from orchestrator.outbox import Outbox
    from orchestrator.raw import RawReports
    from orchestrator.rejudge import Rejudger
    from orchestrator.relay import Legs
    from orchestrator.retention import Retention
    from orchestrator.run import RUN, Runner
    from orchestrator.sealing import Rewrapping
    from orchestrator.service import ReportService
    from orchestrator.service_access import AccessService
    from orchestrator.service_credentials import CredentialService
    from orchestrator.service_decisions import SETTLE, DecisionService, settle_due
    from orchestrator.service_queue import QueueService
    from orchestrator.service_sealing import SealService
    from orchestrator.submitting import Submissions
    from orchestrator.watching import Watches
    from runtime import transport as transports
    from runtime.access import Access
    from runtime.breaker import Breaker, GuardedChannel
    from runtime.buckets import PostgresStore
    from runtime.channels import dial
    from runtime.consumers import Consumer
    from runtime.database import Database
    from runtime.jobs import Queue
    from runtime.keyring import Keyring
    from runtime.limits import Limits, Places, Rate
    from runtime.schedules import Scheduler
    from runtime.server import Service
    from runtime.signatures import Signatures
    from runtime.tls import Tls
    from runtime.transport.delivery import Policy
    from runtime.worker import Kind, Worker, transaction
    from winnow.access.v1 import access_service_pb2
    from winnow.access.v1 import access_service_pb2_grpc as access_rpc
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
    from winnow.seal.v1 import seal_service_pb2
    from winnow.seal.v1 import seal_service_pb2_grpc as seal_rpc

    required = settings.keys_needed(settings.orchestrator_listen)
    database_url = settings.database_url.get_secret_value()
    # What is done for one tenant: a caller's request, a report's run.
    database = Database(database_url, 6, role="winnow_orchestrator", one_tenant=True)
    # What is done for all of them.
    background = Database(database_url, 2, role="winnow_background", name="background")
    # Heartbeats must not queue behind sweeps.
    leases = Database(database_url, 2, role="winnow_background", name="leases")
    # Nor must whoever calls.
    doorkeeping = Database(database_url, 2, role="winnow_background", name="keys")
    # Nor they for buckets; the pool is empty unless buckets are there.
    rates = Database(database_url, 2, role="winnow_background", name="rates")
    keyring = Keyring.of(settings)
    tls = Tls.of(settings)
    channels = {
        name: GuardedChannel(dial(address, tls), Breaker(name), refuses=name == "audit")
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
        database=background,
        queue=queue,
        policy=Policy(idle_seconds=settings.lease_seconds),
    )
    counting = Consumer(activity.GROUP, background, tables.inbox, activity.count)
    audit = AuditServiceStub(channels["audit"])
    outbox = Outbox(background, audit, transport)
    crowd = Crowd(
        background,
        queue.waiting_of(RUN),
        settings.max_queue_depth,
        settings.tenant_queue_share,
        settings.orchestrator_max_memory_bytes,
    )
    gate = AuditGate(audit if settings.audit_required else None)
    watches = Watches(database, background)
    runner = Runner(
        database,
        queue,
        Legs(channels["ingestor"], channels["moderator"]),
        keyring,
        outbox,
        watches.ring,
        settings.max_records,
    )
    retention = Retention(
        database,
        background,
        queue,
        outbox,
        lambda: worker.ring(),
        settings.raw_ttl,
        settings.report_ttl,
    )
    worker = Worker(
        leases,
        queue,
        [
            runner.kind,
            Kind(SETTLE, transaction(database, queue, settle_due)),
            Rewrapping(background, queue, keyring, outbox).kind,
            *retention.kinds,
            *housekeeping.kinds(background, queue),
        ],
        runner.ended,
    )
    scheduler = Scheduler(background, tables.schedules, housekeeping.SCHEDULES, queue, worker.ring)
    intake = Intake(database, keyring, settings.max_report_bytes)
    reports = ReportService(
        database,
        Submissions(database, intake, runner, worker, outbox, watches, gate, crowd),
        runner,
        worker,
        outbox,
        watches,
        Rejudger(database, keyring, ModerateServiceStub(channels["moderator"])),
        RawReports(database, keyring, outbox),
        retention,
        IngestServiceStub(channels["ingestor"]),
    )
    # Whose a key is decides which tenant's a call is.
    access = Access(doorkeeping, required=required, keyring=keyring)
    # For gateways too, which have no way to the database.
    buckets = PostgresStore(rates)
    limits = Limits(Rate.of(settings, lambda: buckets), Places.of(settings))
    signatures = Signatures(doorkeeping, access, timedelta(seconds=settings.signature_tolerance))
    seals = SealService(background, queue, keyring, worker.ring)
    credentials = CredentialService(database)
    decisions = DecisionService(database, outbox, queue)

    def retried(job: Job) -> None:
        worker.ring()
        outbox.ring()
        if job.kind == RUN:
            watches.ring(uuid.UUID(job.key))

    keys = AccessService(database, outbox, access, signatures, keyring, buckets)
    queues = QueueService(database, queue, runner.reopen, retried)

    def register(server: grpc.aio.Server) -> None:
        report_rpc.add_ReportServiceServicer_to_server(reports, server)
        decision_rpc.add_DecisionServiceServicer_to_server(decisions, server)
        credential_rpc.add_CredentialServiceServicer_to_server(credentials, server)
        queue_rpc.add_QueueServiceServicer_to_server(queues, server)
        access_rpc.add_AccessServiceServicer_to_server(keys, server)
        seal_rpc.add_SealServiceServicer_to_server(seals, server)

    async def consume() -> None:
        await transport.consume(activity.GROUP, counting.handle)

    async def close() -> None:
        await worker.stop()
        await limits.close()
        await leases.close()
        await transport.close()
        for channel in channels.values():
            await channel.close()
        await background.close()
        await doorkeeping.close()
        await rates.close()
        await database.close()

    return Service(
        settings.orchestrator_listen,
        (
            report_service_pb2.DESCRIPTOR.services_by_name["ReportService"],
            credential_service_pb2.DESCRIPTOR.services_by_name["CredentialService"],
            decision_service_pb2.DESCRIPTOR.services_by_name["DecisionService"],
            queue_service_pb2.DESCRIPTOR.services_by_name["QueueService"],
            access_service_pb2.DESCRIPTOR.services_by_name["AccessService"],
            seal_service_pb2.DESCRIPTOR.services_by_name["SealService"],
        ),
        register,
        tls=tls,
        background=(outbox.run, worker.run, consume, scheduler.run),
        close=close,
        access=access,
        limits=limits,
        facts=facts.of(leases, (RUN, SETTLE, *(one.kind for one in housekeeping.SCHEDULES))),
    )
