"""One question to the Messages API, one validated answer, or why there is none."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import NamedTuple

import anthropic
import httpx2
from anthropic.types import ParsedMessage, Usage

from moderator.llm.prompt import SYSTEM, Answer
from runtime import metrics, tracing
from runtime.log import get_logger
from winnow.moderate.v1.moderate_service_pb2 import LlmUsage

_log = get_logger()

MAX_TOKENS = 1024
_RETRIES = 1
_CONNECT_SECONDS = 5.0
# A token has rarely less than two bytes; the request's frame adds some hundreds.
_BYTES_A_TOKEN = 2
_FRAME_TOKENS = 600
_MILLION = 1e6
# Refused before a model read anything.
_FREE = frozenset({"llm.rate_limited", "llm.overloaded", "llm.misconfigured"})
# Prompt caching: written for an hour at twice, read at a tenth of the price of input.
_CACHE_WRITE, _CACHE_READ = 2.0, 0.1

# At these levels the SDK writes requests and answers, whatever ANTHROPIC_LOG says.
_CHATTY = ("anthropic", "httpx2", "httpcore2")


class Unanswered(Exception):
    """Why there is no answer: `rule`, as evidence names it. `usd` is what it cost
    nevertheless, None if nobody can tell."""

    def __init__(self, rule: str, usd: float | None = None) -> None:
        super().__init__(rule)
        self.rule = rule
        self.usd = usd


class Reply(NamedTuple):
    """An answer and what it cost in US dollars."""

    answer: Answer
    usd: float


class Prices(NamedTuple):
    """US dollars for a million tokens."""

    input: float
    output: float


class Client:
    """Talks to one endpoint about one model. Belongs to the event loop it is used in.

    Args:
        key: the API key.
        base_url: of the endpoint, without /v1.
        model: its name.
        timeout: seconds for a call with its retry.
        concurrency: connections.
        prices: of the model.
    """

    def __init__(
        self,
        key: str,
        base_url: str,
        model: str,
        timeout: float,
        concurrency: int,
        prices: Prices,
    ) -> None:
        for name in _CHATTY:
            logging.getLogger(name).setLevel(logging.WARNING)
        self.model = model
        self._timeout = timeout
        self._prices = prices
        self._client = anthropic.AsyncAnthropic(
            api_key=key,
            base_url=base_url,
            max_retries=_RETRIES,
            open_telemetry=False,
            http_client=httpx2.AsyncClient(
                timeout=httpx2.Timeout(timeout, connect=min(_CONNECT_SECONDS, timeout)),
                limits=httpx2.Limits(max_connections=concurrency),
                # A redirect would carry the envelope to somebody else.
                follow_redirects=False,
            ),
        )

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.close()

    def most(self, content: str) -> float:
        """What a call may cost at most, in US dollars, with its retry."""
        tokens = len((SYSTEM + content).encode()) / _BYTES_A_TOKEN + _FRAME_TOKENS
        once = tokens * self._prices.input * _CACHE_WRITE + MAX_TOKENS * self._prices.output
        return once * (1 + _RETRIES) / _MILLION

    async def ask(self, content: str, prompt: str, used: LlmUsage) -> Reply:
        """The answer to one envelope.

        Args:
            content: the envelope.
            prompt: its digest, for the log.
            used: what the call took is added to it.

        Raises:
            Unanswered: there is none, whatever the reason.
        """
        started = time.perf_counter()
        usage: Usage | None = None
        usd = 0.0
        status = "ok"
        span = tracing.begin("llm.call", "CLIENT", model=self.model)
        try:
            message = await self._send(content)
            usd = self._cost(message.usage)
            usage = message.usage
            return Reply(_answer_of(message), usd)
        except Exception as error:  # noqa: BLE001 -- the SDK trips over JSON of another shape
            status = _rule_of(error)
            raise Unanswered(status, 0.0 if status in _FREE else usd or None) from None
        except asyncio.CancelledError:  # the report's time is over, or its caller is gone
            status = "llm.deadline"
            raise
        finally:
            seconds = time.perf_counter() - started
            latency = round(seconds * 1000)
            metrics.observe(metrics.LLM_SECONDS, seconds)
            metrics.LLM_CALLS.labels(status.removeprefix("llm.")).inc()
            metrics.LLM_COST.inc(usd)
            span.end("ok" if status == "ok" else "failed", status=status)
            used.model = self.model
            used.calls += 1
            used.failed += status != "ok"
            used.cost_usd_micros += round(usd * 1e6)
            used.latency_ms += latency
            if usage:
                used.input_tokens += usage.input_tokens
                used.output_tokens += usage.output_tokens
                used.cache_read_tokens += usage.cache_read_input_tokens or 0
                for kind, tokens in (
                    ("input", usage.input_tokens),
                    ("output", usage.output_tokens),
                    ("cache_read", usage.cache_read_input_tokens or 0),
                ):
                    metrics.LLM_TOKENS.labels(kind).inc(tokens)
            # Figures and a digest: never the prompt, never the answer.
            write = _log.warning if status == "llm.misconfigured" else _log.info
            write(
                "llm.call",
                status=status,
                model=self.model,
                prompt=prompt,
                input_tokens=usage.input_tokens if usage else 0,
                output_tokens=usage.output_tokens if usage else 0,
                cache_read_tokens=(usage.cache_read_input_tokens or 0) if usage else 0,
                cost_usd=round(usd, 6),
                latency_ms=latency,
            )

    async def _send(self, content: str) -> ParsedMessage[Answer]:
        async with asyncio.timeout(self._timeout):
            return await self._client.messages.parse(
                model=self.model,
                max_tokens=MAX_TOKENS,
                system=[
                    {
                        "type": "text",
                        "text": SYSTEM,
                        "cache_control": {"type": "ephemeral", "ttl": "1h"},
                    }
                ],
                messages=[{"role": "user", "content": content}],
                output_format=Answer,
            )

    def _cost(self, usage: Usage) -> float:
        written = usage.cache_creation_input_tokens or 0
        read = usage.cache_read_input_tokens or 0
        tokens = usage.input_tokens + written * _CACHE_WRITE + read * _CACHE_READ
        return (tokens * self._prices.input + usage.output_tokens * self._prices.output) / _MILLION


def _rule_of(error: Exception) -> str:
    """Why there is no answer. What the SDK cannot read raises errors of many types,
    which are no `AnthropicError`: all of them are an invalid answer."""
    match error:
        case Unanswered():
            return error.rule
        case TimeoutError() | anthropic.APITimeoutError():
            return "llm.timeout"
        case anthropic.APIStatusError():
            return _of_status(error.status_code)
        case anthropic.APIConnectionError():
            return "llm.unavailable"
        case _:
            return "llm.invalid"


def _of_status(status: int) -> str:
    if status == 429:
        return "llm.rate_limited"
    if status == 529:
        return "llm.overloaded"
    return "llm.unavailable" if status >= 500 or status == 408 else "llm.misconfigured"


def _answer_of(message: ParsedMessage[Answer]) -> Answer:
    if message.stop_reason == "refusal":
        raise Unanswered("llm.refused")
    answer = message.parsed_output
    if not isinstance(answer, Answer):
        raise Unanswered("llm.invalid")
    return answer
