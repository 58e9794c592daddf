"""The five services in one process, each with its metrics served, and a report gone through."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any, NamedTuple

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

import audit.app
import gateway.app
import ingestor.app
import moderator.app
import orchestrator.app
from cli import certificates
from cli.serve import bind
from runtime.metrics import SERVICES, Exposition
from tests import certificates as papers
from tests.fixtures.reports import load_report
from tests.harness import serving, settings

# By name, the labels of each sample, with the label `service` that a scrape adds.
Samples = dict[str, list[dict[str, str]]]


class Watched(NamedTuple):
    """A running house: its API, and its metrics by service."""

    client: httpx.AsyncClient
    metrics: dict[str, str]

    async def scrape(self, service: str, **headers: str) -> httpx.Response:
        async with httpx.AsyncClient(timeout=20, trust_env=False) as client:
            return await client.get(self.metrics[service], headers=headers)

    async def samples(self) -> Samples:
        """All that the services serve."""
        found: Samples = defaultdict(list)
        for service in self.metrics:
            text = (await self.scrape(service)).text
            for family in text_string_to_metric_families(text):
                for sample in family.samples:
                    found[sample.name].append({**sample.labels, "service": service})
        return found


@pytest.fixture(scope="module")
async def watched(
    database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Watched]:
    async with AsyncExitStack() as stack:
        facts: dict[str, Any] = {}
        addresses: dict[str, str] = {}
        for module in (audit, ingestor, moderator, orchestrator):
            name, app = module.__name__, module.app
            given = settings(
                getattr(app, f"{name.title()}Settings"),
                database_url,
                audit_checkpoint_dir=tmp_path_factory.mktemp("checkpoints"),
                llm_api_key="of no provider",
                llm_base_url="http://127.0.0.1:9",
                **addresses,
            )
            service = app.build(given)
            address, _ = await stack.enter_async_context(serving(service))
            addresses[f"{name}_address"] = address
            facts[name] = service.facts
        # As they read them who run apart; the metrics are the whole process's.
        certs = tmp_path_factory.mktemp("certs")
        certificates.init(certs, [], [], 365, 3650)
        papers.tls(certs / "gateway")
        api = gateway.app.build(settings(gateway.app.GatewaySettings, **addresses))
        await stack.enter_async_context(api.router.lifespan_context(api))
        client = httpx.AsyncClient(
            transport=httpx.ASGITransport(api), base_url="http://localhost", timeout=60
        )
        await stack.enter_async_context(client)
        urls = {}
        for name in SERVICES:
            served = Exposition(name, bind("127.0.0.1:0"), facts.get(name))
            stack.callback(served.close)
            urls[name] = f"http://127.0.0.1:{served.port}/metrics"
        answer = await client.post("/reports", content=load_report("detect-secrets.json"))
        assert answer.status_code == 201, answer.text
        assert (await client.get("/reports")).status_code == 200
        yield Watched(client, urls)


Value = Callable[..., float]


@pytest.fixture
def value() -> Value:
    """Reads a sample's value from the text that a service serves; 0 where it has none."""

    def read(text: str, name: str, **labels: str) -> float:
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    return read
