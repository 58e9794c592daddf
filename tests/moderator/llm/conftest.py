"""A moderator that asks the fake server, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import NamedTuple

import pytest
import uvicorn

import moderator.app
from cli.fake_llm import FakeLlm
from moderator.stage import Observation, Opinion, Subject
from runtime.channels import call
from runtime.sealing import EVIDENCE, Sealer
from tests.harness import SEALING_KEY, serving, settings
from tests.moderator.subjects import HEADER, finding
from winnow.finding.v1.finding_batch_pb2 import FindingBatch
from winnow.finding.v1.finding_pb2 import (
    SEVERITY_HIGH,
    SEVERITY_MEDIUM,
    SEVERITY_UNSPECIFIED,
    VALIDITY_LIVE,
    Finding,
)
from winnow.finding.v1.plain_evidence_pb2 import PlainEvidence
from winnow.finding.v1.verdict_pb2 import (
    RISK_HIGH,
    RISK_LOW,
    RISK_MEDIUM,
    VERDICT_SOURCE_HEURISTIC,
    Verdict,
)
from winnow.moderate.v1 import moderate_service_pb2 as pb
from winnow.moderate.v1.moderate_service_pb2_grpc import ModerateServiceStub

DOUBTFUL = "serendipity"
CLEAR = "${DB_PASSWORD}"


class Stated:
    """A first stage whose opinion follows from the finding's severity, so that
    these tests do not follow what the real stages think."""

    name, version, source = "stated", 1, VERDICT_SOURCE_HEURISTIC
    inputs: Mapping[str, str] = {"rules": "sha256:00"}
    _SAYS = (Observation("stated.name", "name", 0.7, "its name speaks of a password"),)
    _OPINIONS: Mapping[int, Opinion] = {
        SEVERITY_HIGH: Opinion(RISK_HIGH, 0.85, "It may well be.", _SAYS, False),
        SEVERITY_MEDIUM: Opinion(RISK_MEDIUM, 0.6, "It may be.", _SAYS, False),
        SEVERITY_UNSPECIFIED: Opinion(RISK_LOW, 0.3, "It may not be.", _SAYS, False),
    }
    _REFERENCE = Opinion(RISK_LOW, 0.02, "It is a reference.", _SAYS, True)
    _LIVE = Opinion(RISK_HIGH, 0.99, "It works.", _SAYS, True)

    def prepare(self) -> None:
        pass

    def judge(self, subjects: Sequence[Subject]) -> list[Opinion | None]:
        return [self._one(subject) for subject in subjects]

    def _one(self, subject: Subject) -> Opinion:
        if subject.finding.validity == VALIDITY_LIVE:
            return self._LIVE
        if subject.evidence is not None and subject.evidence.value == CLEAR:
            return self._REFERENCE
        return self._OPINIONS[subject.finding.severity]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "live: asks the real API; needs ANTHROPIC_API_KEY")


@pytest.fixture
def stated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Moderators judge with `Stated` alone before they ask."""
    monkeypatch.setattr("moderator.stages.stages", lambda _profile: (Stated(),))


@contextlib.asynccontextmanager
async def fake(*script: str) -> AsyncIterator[tuple[str, FakeLlm]]:
    """A running fake server: its URL and itself."""
    app = FakeLlm(script)
    bound = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve(sockets=[bound]))
    try:
        yield f"http://127.0.0.1:{bound.getsockname()[1]}", app
    finally:
        server.should_exit = True
        await task
        bound.close()


class Judge(NamedTuple):
    """A running moderator."""

    stub: ModerateServiceStub

    async def each(self, *batches: FindingBatch) -> AsyncIterator[pb.ModerateResponse]:
        """All responses to a stream of batches, as they come."""

        async def requests() -> AsyncIterator[pb.ModerateRequest]:
            yield pb.ModerateRequest(header=HEADER)
            for batch in batches:
                yield pb.ModerateRequest(batch=batch)

        async for response in self.stub.Moderate(requests(), **call(None)):
            yield response

    async def verdicts(self, *batches: FindingBatch) -> list[Verdict]:
        """The verdicts on batches by ordinal; their summary agrees."""
        found: list[Verdict] = []
        summary = None
        async for response in self.each(*batches):
            assert summary is None, "the summary comes last"
            if response.HasField("summary"):
                summary = response.summary
            found += response.verdicts.verdicts
        assert summary is not None
        assert summary.findings == len(found) == summary.high + summary.medium + summary.low
        return sorted(found, key=lambda verdict: verdict.ordinal)

    async def one(self, given: Finding) -> Verdict:
        """The verdict on one finding."""
        (verdict,) = await self.verdicts(FindingBatch(findings=[given]))
        return verdict


@contextlib.asynccontextmanager
async def judging(url: str = "", **more: object) -> AsyncIterator[Judge]:
    """A moderator that asks the model at `url`; none without one."""
    asked = {"llm_api_key": "a key of the tests", "llm_base_url": url} if url else {}
    given = settings(moderator.app.ModeratorSettings, **asked, **more)
    async with serving(moderator.app.build(given)) as (_, channel):
        yield Judge(ModerateServiceStub(channel))


def sealed(
    value: str = DOUBTFUL,
    *,
    ordinal: int = 0,
    context: str = "",
    variable: str = "",
    path: str = "src/main.py",
    rule: str = "generic-api-key",
    **fields: object,
) -> Finding:
    """A finding with its evidence sealed, as the ingestor sends it."""
    line = context or f'{variable or "password"} = "{value}"'
    plain = PlainEvidence(value=value, match=line, context=line, variable=variable)
    one = finding(path, rule, ordinal=ordinal, **fields)
    sealer = Sealer(SEALING_KEY, uuid.UUID(HEADER.report_id), EVIDENCE)
    one.sealed_evidence = sealer.seal(plain.SerializeToString(), ordinal)
    return one


def batch(findings: Sequence[Finding]) -> FindingBatch:
    return FindingBatch(findings=findings)


def marks(verdict: Verdict) -> list[str]:
    """What the verdict says of the language model, by rule."""
    return [seen.rule for seen in verdict.evidence if seen.stage == "llm"]
