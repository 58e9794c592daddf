"""The moderator: settings and wiring. Cheap to import; `build` imports the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from runtime.config import Key, Settings

if TYPE_CHECKING:
    from runtime.server import Service


class ModeratorSettings(Settings):
    """Settings of `winnow serve moderator`."""

    moderator_listen: str = Field(
        "127.0.0.1:50053", description="address of the moderator, host:port or unix:/path"
    )
    sealing_key: Key = Field(description="seals raw reports and findings' evidence")


def build(settings: ModeratorSettings) -> Service:
    """Wires the service; nothing listens yet."""
    from moderator.pipeline import Pipeline
    from moderator.service import ModerateService
    from moderator.stages import STAGES
    from runtime.server import Service
    from winnow.moderate.v1 import moderate_service_pb2 as pb
    from winnow.moderate.v1 import moderate_service_pb2_grpc as rpc

    servicer = ModerateService(Pipeline(STAGES), settings.sealing_key.get_secret_value())
    return Service(
        settings.moderator_listen,
        [pb.DESCRIPTOR.services_by_name["ModerateService"]],
        lambda server: rpc.add_ModerateServiceServicer_to_server(servicer, server),
    )
