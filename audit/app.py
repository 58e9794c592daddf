"""The audit service: settings and wiring. Cheap to import; `build` imports the rest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field, SecretStr

from runtime.config import GuardedSettings, Key, LimitSettings

if TYPE_CHECKING:
    from runtime.server import Service


class AuditSettings(GuardedSettings, LimitSettings):
    """Settings of `winnow serve audit`."""

    audit_listen: str = Field(
        "127.0.0.1:50054", description="address of the audit service, host:port or unix:/path"
    )
    database_url: SecretStr = Field(description="PostgreSQL, postgresql://user:password@host/name")
    audit_signing_key: Key = Field(description="Ed25519 seed that signs checkpoints")
    audit_checkpoint_dir: Path | None = Field(
        None, description="folder outside of the database where checkpoints are published"
    )


def build(settings: AuditSettings) -> Service:
    """Wires the service; nothing listens yet."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from audit.ledger import Ledger
    from audit.service import AuditService
    from runtime.access import Access
    from runtime.buckets import PostgresStore
    from runtime.database import Database
    from runtime.limits import Limits, Places, Rate
    from runtime.server import Service
    from runtime.tls import Tls
    from winnow.audit.v1 import audit_service_pb2 as pb
    from winnow.audit.v1 import audit_service_pb2_grpc as rpc

    required = settings.keys_needed(settings.audit_listen)
    url = settings.database_url.get_secret_value()
    database = Database(url, 2, role="winnow_audit", one_tenant=True)
    log = Database(url, 2, role="winnow_ledger")
    key = Ed25519PrivateKey.from_private_bytes(settings.audit_signing_key.get_secret_value())
    ledger = Ledger(log, key, settings.audit_checkpoint_dir)
    rates = Database(url, 2, role="winnow_ledger", name="rates")
    limits = Limits(Rate.of(settings, lambda: PostgresStore(rates)), Places.of(settings))
    servicer = AuditService(database, log, ledger, key.public_key())

    async def close() -> None:
        await ledger.close()
        await limits.close()
        await rates.close()
        await log.close()
        await database.close()

    return Service(
        settings.audit_listen,
        [pb.DESCRIPTOR.services_by_name["AuditService"]],
        lambda server: rpc.add_AuditServiceServicer_to_server(servicer, server),
        tls=Tls.of(settings),
        background=(ledger.run,),
        close=close,
        # The orchestrator writes down when a key was used: this service reads the table only.
        access=Access(log, required=required),
        limits=limits,
    )
