"""The stage in a running moderator: bad days, bounds, order, what is written."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from typing import Any

import grpc
import pytest
import structlog

from cli.fake_llm import BEHAVIOURS
from moderator.llm.prompt import Answer, digest
from runtime.channels import call
from runtime.errors import from_rpc
from tests.moderator.llm.conftest import CLEAR, DOUBTFUL, batch, fake, judging, marks, sealed
from tests.moderator.subjects import HEADER, drawn
from winnow.finding.v1 import finding_pb2
from winnow.finding.v1.verdict_pb2 import VERDICT_SOURCE_LLM, Verdict
from winnow.moderate.v1 import moderate_service_pb2 as pb

pytestmark = pytest.mark.usefixtures("stated")

ANSWERING = {"ok", "lowest", "highest", "unsure"}
# What verdicts say of each bad day.
SAID = {
    "refusal": "llm.refused",
    "rate_limited": "llm.rate_limited",
    "rate_limited_long": "llm.timeout",
    "overloaded": "llm.overloaded",
    "error": "llm.unavailable",
    "hang_up": "llm.unavailable",
    "unauthorized": "llm.misconfigured",
    "redirect": "llm.misconfigured",
    "slow": "llm.timeout",
    "silent": "llm.timeout",
}


def without_marks(verdict: Verdict) -> Verdict:
    """A verdict as it would be without a language model."""
    plain = Verdict()
    plain.CopyFrom(verdict)
    plain.ClearField("inputs")
    plain.ClearField("evidence")
    plain.evidence.extend(seen for seen in verdict.evidence if seen.stage != "llm")
    return plain


def prompts(requests: Any) -> list[dict[str, Any]]:
    """The envelopes that a fake server received."""
    return [json.loads(json.loads(raw)["messages"][0]["content"]) for raw in requests]


@pytest.mark.parametrize("behaviour", sorted(set(BEHAVIOURS) - ANSWERING))
async def test_a_bad_day_leaves_the_best_verdict_without_it(behaviour: str) -> None:
    given = sealed(variable="db_password")
    async with judging() as plain, fake(behaviour) as (url, _):
        expected = await plain.one(given)
        # Only those who never answer in time are worth no waiting for.
        waits = SAID.get(behaviour) != "llm.timeout"
        async with judging(url, llm_timeout=20.0 if waits else 1.0) as judge:
            verdict = await judge.one(given)
    assert marks(verdict) == [SAID.get(behaviour, "llm.invalid")]
    assert without_marks(verdict) == expected
    assert verdict.inputs["prompt"].startswith("sha256:")
    assert "answer" not in verdict.inputs


async def test_nobody_there() -> None:
    async with judging("http://127.0.0.1:1", llm_timeout=2.0) as judge:
        verdict = await judge.one(sealed())
    assert marks(verdict) == ["llm.unavailable"]


async def test_an_answer_decides_and_leaves_its_receipt() -> None:
    async with fake("highest") as (url, server), judging(url, llm_model="a-model") as judge:
        verdict = await judge.one(sealed(variable="db_password"))
    assert verdict.source == VERDICT_SOURCE_LLM
    assert verdict.decided_by == "llm/1"
    assert verdict.evidence[0].rule == "llm.answer"
    assert [seen.stage for seen in verdict.evidence] == ["llm", "stated"]
    stored = Answer.of_text(verdict.evidence[0].detail)
    assert verdict.inputs["answer"] == digest(stored.text())
    assert verdict.inputs["llm_model"] == "a-model"
    (request,) = map(json.loads, server.requests)
    sent = request["system"][0]["text"] + "\n" + request["messages"][0]["content"]
    assert verdict.inputs["prompt"] == digest(sent)
    assert request["model"] == "a-model"
    assert request["system"][0]["cache_control"]["type"] == "ephemeral"


async def test_only_doubt_is_asked_about() -> None:
    findings = [
        sealed(CLEAR, ordinal=0),
        sealed(ordinal=1, validity=finding_pb2.VALIDITY_DEAD),
        sealed(ordinal=2, triage=finding_pb2.TRIAGE_FALSE_POSITIVE),
        sealed(ordinal=3, kind=finding_pb2.FINDING_KIND_CODE),
        sealed(ordinal=4, value_state=finding_pb2.VALUE_STATE_REDACTED),
        sealed(ordinal=5, validity=finding_pb2.VALIDITY_LIVE),
        sealed(ordinal=6),
    ]
    async with judging() as plain, fake("lowest") as (url, server), judging(url) as judge:
        verdicts = await judge.verdicts(batch(findings))
        alone = await plain.verdicts(batch(findings))
    assert len(server.requests) == 1
    assert [bool(marks(verdict)) for verdict in verdicts] == [False] * 6 + [True]
    assert verdicts[:6] == alone[:6]


async def test_verdicts_that_do_not_wait_are_not_held_up() -> None:
    findings = [sealed(ordinal=0), sealed(CLEAR, ordinal=1)]
    async with fake("silent") as (url, _), judging(url, llm_timeout=2.0) as judge:
        later = batch([sealed(CLEAR, ordinal=2)])
        came = [
            [verdict.ordinal for verdict in response.verdicts.verdicts]
            async for response in judge.each(batch(findings), later)
        ]
    # The summary, without verdicts, is the last.
    assert came == [[1], [2], [0], []]


async def test_the_unary_twin_waits_for_all() -> None:
    findings = [sealed(ordinal=0), sealed(CLEAR, ordinal=1)]
    async with fake("ok") as (url, _), judging(url) as judge:
        request = pb.ModerateBatchRequest(header=HEADER, batch=batch(findings))
        response = await judge.stub.ModerateBatch(request, **call())
    assert sorted(verdict.ordinal for verdict in response.verdicts.verdicts) == [0, 1]
    assert response.summary.findings == 2


async def test_the_same_envelope_is_asked_once() -> None:
    findings = [sealed(ordinal=ordinal) for ordinal in range(20)]
    async with fake("ok") as (url, server), judging(url, llm_concurrency=1) as judge:
        first = await judge.verdicts(batch(findings))
        again = await judge.verdicts(*(batch([one]) for one in findings))
    assert len(server.requests) == 1
    assert first == again
    assert {marks(verdict)[0] for verdict in first} == {"llm.answer"}
    assert len({verdict.inputs["prompt"] for verdict in first}) == 1


async def test_a_report_has_so_many_questions() -> None:
    findings = [sealed(ordinal=n, variable=f"{word}_password") for n, word in enumerate("abcde")]
    async with fake("ok") as (url, server), judging(url, llm_budget_report=2) as judge:
        verdicts = await judge.verdicts(batch(findings[:3]), batch(findings[3:]))
    assert len(server.requests) == 2
    assert [marks(verdict)[0] for verdict in verdicts].count("llm.budget") == 3


async def test_a_report_without_questions_left_says_so() -> None:
    findings = [sealed(ordinal=0), sealed(CLEAR, ordinal=1)]
    async with (
        judging() as plain,
        fake("ok") as (url, server),
        judging(url, llm_budget_report=0) as judge,
    ):
        verdicts = await judge.verdicts(batch(findings))
        alone = await plain.verdicts(batch(findings))
    assert [marks(verdict) for verdict in verdicts] == [["llm.budget"], []]
    assert [without_marks(verdict) for verdict in verdicts] == alone
    assert not server.requests


async def test_a_tenant_has_so_many_dollars() -> None:
    async with (
        fake("ok") as (url, server),
        judging(url, llm_budget_tenant=0.001, llm_budget_day=1.0) as judge,
    ):
        verdict = await judge.one(sealed())
    assert marks(verdict) == ["llm.budget"]
    assert "prompt" not in verdict.inputs
    assert not server.requests


async def test_after_failures_in_a_row_nobody_waits() -> None:
    findings = [sealed(ordinal=n, variable=f"{word}_password") for n, word in enumerate("abcdefg")]
    async with (
        fake("garbage") as (url, server),
        judging(url, llm_concurrency=1) as judge,
    ):
        verdicts = await judge.verdicts(batch(findings))
    assert sorted(marks(verdict)[0] for verdict in verdicts) == (
        ["llm.breaker"] * 2 + ["llm.invalid"] * 5
    )
    assert len(server.requests) == 5


async def test_a_report_waits_so_long_and_no_longer() -> None:
    findings = [sealed(ordinal=n, variable=f"{word}_password") for n, word in enumerate("abcd")]
    async with (
        fake("silent") as (url, _),
        judging(url, llm_concurrency=1, llm_report_timeout=0.5) as judge,
    ):
        began = time.perf_counter()
        verdicts = await judge.verdicts(batch(findings))
        assert time.perf_counter() - began < 10
    assert {marks(verdict)[0] for verdict in verdicts} == {"llm.deadline"}


async def test_calls_at_once_are_limited() -> None:
    findings = [sealed(ordinal=n, variable=f"{word}_password") for n, word in enumerate("abcdef")]
    async with (
        fake("silent") as (url, server),
        judging(url, llm_concurrency=2, llm_report_timeout=0.7) as judge,
    ):
        await judge.verdicts(batch(findings))
    assert len(server.requests) == 2


async def test_a_broken_seal_is_still_an_error() -> None:
    broken = sealed(ordinal=1)
    broken.ordinal = 9
    async with fake("silent") as (url, _), judging(url) as judge:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await judge.verdicts(batch([sealed(ordinal=0), broken]))
    assert from_rpc(caught.value, "moderator").reason == "SEAL_BROKEN"


async def test_a_caller_that_goes_away_ends_the_calls() -> None:
    async with fake("silent") as (url, server), judging(url, llm_concurrency=1) as judge:
        stream = judge.each(batch([sealed(ordinal=0), sealed(ordinal=1, variable="a_password")]))
        reading = asyncio.create_task(anext(stream))  # type: ignore[arg-type]
        while not server.requests:
            await asyncio.sleep(0.01)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        # The slot is free again: the next report's question gets out.
        async with asyncio.timeout(5):
            asking = asyncio.create_task(judge.one(sealed(variable="b_password")))
            while len(server.requests) < 2:
                await asyncio.sleep(0.01)
        asking.cancel()


async def test_logs_have_figures_and_no_text() -> None:
    secret = drawn(20)
    context = [structlog.contextvars.merge_contextvars]
    with structlog.testing.capture_logs(processors=context) as lines:
        async with fake("highest") as (url, _), judging(url) as judge:
            await judge.one(sealed(secret, path="config/app.ini", rule="some-rule"))
            await judge.one(sealed(DOUBTFUL, variable="speaking_name"))
    (line,) = [line for line in lines if line["event"] == "llm.call"][:1]
    assert set(line) >= {"model", "prompt", "input_tokens", "output_tokens", "cost_usd"}
    assert line["status"] == "ok"
    assert line["report_id"] == HEADER.report_id
    assert line["cost_usd"] > 0
    written = json.dumps(lines, default=str)
    for text in (secret, DOUBTFUL, "speaking_name", "config/app.ini", "issued_shape", "some-rule"):
        assert text not in written


def test_without_a_key_the_sdk_is_not_loaded() -> None:
    program = (
        "import sys; from moderator.app import ModeratorSettings, build; "
        "import base64; key = base64.b64encode(b'k' * 32).decode(); "
        "build(ModeratorSettings(sealing_key=key, llm_api_key='')); "
        "print('anthropic' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": ":".join(path for path in sys.path if path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert result.stdout.split() == ["False"]
