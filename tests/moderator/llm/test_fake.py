"""`winnow dev fake-llm`: starts, answers the SDK, refuses what it does not know."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import anthropic
import pytest

from cli.fake_llm import FakeLlm
from moderator.llm.prompt import Answer
from tests.moderator.llm.conftest import fake

WINNOW = Path(sys.executable).parent / "winnow"
CONTENT = '{"probability": 0.8}'


async def ask(url: str, model: str = "any", headers: dict[str, str] | None = None) -> Answer:
    async with anthropic.AsyncAnthropic(
        api_key="a key of the tests", base_url=url, max_retries=0, default_headers=headers
    ) as client:
        message = await client.messages.parse(
            model=model,
            max_tokens=100,
            messages=[{"role": "user", "content": CONTENT}],
            output_format=Answer,
        )
    assert message.parsed_output is not None
    return message.parsed_output


def test_the_command_serves_what_the_sdk_reads() -> None:
    command = [WINNOW, "dev", "fake-llm", "--listen", "127.0.0.1:0", "--script", "lowest,highest"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            ready = process.stdout.readline()
            url = ready.removeprefix("fake-llm is ready: ").strip()
            answers = [asyncio.run(ask(url)) for _ in range(3)]
        finally:
            process.terminate()
    assert [answer.likelihood for answer in answers] == [
        "very_unlikely",
        "very_likely",
        "very_likely",
    ]


def test_the_command_refuses_what_it_does_not_know() -> None:
    done = subprocess.run(
        [WINNOW, "dev", "fake-llm", "--script", "sunshine"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert "rate_limited" in done.stderr
    assert "sunshine" not in done.stderr


def test_a_script_of_unknown_behaviours_is_no_script() -> None:
    with pytest.raises(ValueError, match="silent"):
        FakeLlm(["sunshine"])


async def test_header_and_model_choose_before_the_script() -> None:
    async with fake("lowest") as (url, server):
        assert (await ask(url, headers={"x-fake-llm": "highest"})).likelihood == "very_likely"
        assert (await ask(url, model="fake-unsure")).likelihood == "unsure"
        assert (await ask(url)).likelihood == "very_unlikely"
        assert (await ask(url, model="fake-ok")).likelihood == "likely"
    assert len(server.requests) == 4


async def test_what_is_no_request_of_the_api_is_refused() -> None:
    async with (
        fake() as (url, _),
        anthropic.AsyncAnthropic(api_key="a", base_url=url, max_retries=0) as client,
    ):
        with pytest.raises(anthropic.BadRequestError):
            await client.messages.create(
                model="any", max_tokens=1, messages=[{"role": "user", "content": "hello"}]
            )
        with pytest.raises(anthropic.NotFoundError):
            await client.models.list()
