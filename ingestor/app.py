"""The ingestor: settings and wiring. Cheap to import; `build` imports the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from runtime.config import Key, SealingSettings

if TYPE_CHECKING:
    from runtime.server import Service


class IngestorSettings(SealingSettings):
    """Settings of `winnow serve ingestor`."""

    ingestor_listen: str = Field(
        "127.0.0.1:50052", description="address of the ingestor, host:port or unix:/path"
    )
    fingerprint_key: Key = Field(description="keys the fingerprints of values")


def build(settings: IngestorSettings) -> Service:
    """Wires the service; nothing listens yet."""
    from ingestor.service import IngestService
    from runtime.keyring import Keyring
    from runtime.server import Service
    from runtime.tls import Tls
    from winnow.ingest.v1 import ingest_service_pb2 as pb
    from winnow.ingest.v1 import ingest_service_pb2_grpc as rpc

    servicer = IngestService(Keyring.of(settings), settings.fingerprint_key.get_secret_value())
    return Service(
        settings.ingestor_listen,
        [pb.DESCRIPTOR.services_by_name["IngestService"]],
        lambda server: rpc.add_IngestServiceServicer_to_server(servicer, server),
        tls=Tls.of(settings),
    )
