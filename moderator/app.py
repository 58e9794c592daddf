"""The moderator: settings and wiring. Cheap to import; `build` imports the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, SecretStr

from runtime.config import SealingSettings

if TYPE_CHECKING:
    from moderator.stages.llm import LanguageModel
    from runtime.server import Service


class ModeratorSettings(SealingSettings):
    """Settings of `winnow serve moderator`."""

    moderator_listen: str = Field(
        "127.0.0.1:50053", description="address of the moderator, host:port or unix:/path"
    )
    moderator_profile: Literal["strict", "balanced", "quiet"] = Field(
        "balanced", description="how readily findings are called dangerous"
    )
    llm_api_key: SecretStr | None = Field(
        None, description="key of the Anthropic API; without one no language model is asked"
    )
    llm_base_url: str = Field(
        "https://api.anthropic.com", description="endpoint that speaks the Messages API"
    )
    llm_model: str = Field("claude-haiku-5-5", description="language model to ask")
    llm_concurrency: int = Field(8, ge=1, description="calls to the language model at once")
    llm_timeout: float = Field(20.0, gt=0, description="seconds for a call, its retry included")
    llm_report_timeout: float = Field(
        120.0, gt=0, description="seconds for all calls of a report, from its first"
    )
    llm_budget_report: int = Field(100, ge=0, description="questions about a report")
    llm_budget_day: float = Field(10.0, ge=0, description="US dollars a UTC day for calls")
    llm_budget_tenant: float = Field(5.0, ge=0, description="US dollars a UTC day for one tenant")
    llm_price_input: float = Field(1.0, ge=0, description="US dollars a million tokens read")
    llm_price_output: float = Field(5.0, ge=0, description="US dollars a million tokens written")


def build(settings: ModeratorSettings) -> Service:
    """Wires the service; nothing listens yet."""
    from moderator.pipeline import Pipeline
    from moderator.service import ModerateService
    from moderator.stages import stages
    from runtime.keyring import Keyring
    from runtime.server import Service
    from runtime.tls import Tls
    from winnow.moderate.v1 import moderate_service_pb2 as pb
    from winnow.moderate.v1 import moderate_service_pb2_grpc as rpc

    model = _language_model(settings)
    pipeline = Pipeline(stages(settings.moderator_profile))
    servicer = ModerateService(pipeline, Keyring.of(settings), model)
    return Service(
        settings.moderator_listen,
        [pb.DESCRIPTOR.services_by_name["ModerateService"]],
        lambda server: rpc.add_ModerateServiceServicer_to_server(servicer, server),
        tls=Tls.of(settings),
        close=model.close if model else None,
    )


def _language_model(settings: ModeratorSettings) -> LanguageModel | None:
    """The language model to ask last; without a key the SDK is not even imported."""
    key = settings.llm_api_key.get_secret_value() if settings.llm_api_key else ""
    if not key:
        return None
    from moderator.llm.breaker import Breaker
    from moderator.llm.budget import Budget
    from moderator.llm.client import Client, Prices
    from moderator.stages.llm import LanguageModel, Limits
    from runtime import metrics

    client = Client(
        key,
        settings.llm_base_url,
        settings.llm_model,
        settings.llm_timeout,
        settings.llm_concurrency,
        Prices(settings.llm_price_input, settings.llm_price_output),
    )
    budget = Budget(settings.llm_budget_day, settings.llm_budget_tenant)
    metrics.LLM_BUDGET.set_function(budget.used)
    return LanguageModel(
        client,
        budget,
        Breaker(),
        Limits(settings.llm_budget_report, settings.llm_report_timeout),
        settings.llm_concurrency,
    )
