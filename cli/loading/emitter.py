"""Sends what is planned, when it is planned, whatever the server does.

Open loop: a slow server does not slow the clock. A request that cannot be sent when it
is due, since too many are under way, is sent late and keeps its moment, so that its
latency tells how long somebody would have waited (no coordinated omission). Nothing is
sent twice because it failed.
"""

from __future__ import annotations

import asyncio
import hashlib
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx

from cli.loading.plan import GOOD, Bodies, Shot, endless
from cli.loading.scenario import Emitter, Scenario, ScenarioError
from cli.loading.telemetry import Ended, Sent, Telemetry
from runtime.api_keys import HEADER, Shown
from runtime.signing import sign

# Key, method, path, query, SHA-256 of the body, Unix seconds; the header fields that sign it.
Signer = Callable[[Shown, str, str, str, bytes, int], Iterable[tuple[str, str]]]
SIGNER: Signer | None = sign

_PATH, _QUERY = "/reports", "envelope=false"
# Findings whose writing takes some milliseconds.
_LARGE_FINDINGS = 500
# Below the time after which a server closes what is idle (of many, five seconds): a request
# that meets the closing would look like one that was not answered.
_IDLE_SECONDS = 2.0
# How long an oversized request waits, after its first bytes, to be refused by its head.
_REFUSAL_SECONDS = 0.25
_FINAL = ("done", "error", "cancelled")
_POLL_SECONDS = 0.5
_POLLS_AT_ONCE = 8


class _Request(NamedTuple):
    """A request as it is sent; not part of any output, since it holds keys and values.

    Args:
        first: number of the request whose Idempotency-Key it has; its own as a rule.
    """

    headers: list[tuple[str, str]]
    query: str
    body: bytes
    first: int


class Run:
    """One run of a scenario against one server.

    Args:
        server: its URL, http or https.
        keys: by label.
        run_id: makes this run's Idempotency-Keys its own.
        telemetry: hears of everything.

    Raises:
        ScenarioError: it wants signed requests, and there is no signer.
    """

    def __init__(
        self,
        scenario: Scenario,
        server: str,
        keys: Mapping[str, Shown],
        bodies: Bodies,
        run_id: str,
        telemetry: Telemetry,
    ) -> None:
        for emitter in scenario.emitters:
            if emitter.auth == "signed" and SIGNER is None:
                raise ScenarioError(
                    f"emitter {emitter.name}: this version of Winnow does not sign requests; "
                    "use auth: key"
                )
        self.telemetry = telemetry
        self.under_way = 0
        # Reports whose end is waited for, once everything has been sent.
        self.unended = 0
        self.begun = 0.0
        self._scenario = scenario
        self._keys = keys
        self._bodies = bodies
        self._run_id = run_id
        self._server = server
        self._tls = ssl.create_default_context()
        self._clients: list[httpx.AsyncClient] = []
        self._asking = self._client()
        self._base = urlsplit(server).path.rstrip("/")
        self._before: dict[tuple[str, str], _Request] = {}

    async def __aenter__(self) -> Run:
        return self

    async def __aexit__(self, *_: object) -> None:
        for client in self._clients:
            await client.aclose()

    @property
    def now(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.begun

    async def emit(self, plans: Mapping[str, list[Shot]]) -> None:
        """Sends everything and waits for every answer.

        Args:
            plans: by emitter.
        """
        self.begun = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for emitter in self._scenario.emitters:
                group.create_task(self._emit(emitter, plans[emitter.name]))

    async def settle(self) -> None:
        """Waits for the end of every report that was accepted, as long as the scenario says."""
        waiting: dict[str, str] = {}
        for one in self.telemetry.sent:
            if one.accepted and one.report_id:
                waiting.setdefault(one.report_id, one.key)
        until = time.monotonic() + self._scenario.settle
        slots = asyncio.Semaphore(_POLLS_AT_ONCE)
        while waiting:
            self.unended = len(waiting)
            async with asyncio.TaskGroup() as group:
                asked = {
                    report_id: group.create_task(self._asked(slots, report_id, key))
                    for report_id, key in waiting.items()
                }
            for report_id, task in asked.items():
                if (ended := task.result()) is not None:
                    self.telemetry.add(ended)
                    del waiting[report_id]
            if not waiting or time.monotonic() >= until:
                return
            await asyncio.sleep(_POLL_SECONDS)

    def _client(self) -> httpx.AsyncClient:
        """A client that is closed with the run."""
        client = httpx.AsyncClient(
            base_url=self._server,
            timeout=self._scenario.timeout,
            verify=self._tls,
            limits=httpx.Limits(keepalive_expiry=_IDLE_SECONDS),
            trust_env=False,
        )
        self._clients.append(client)
        return client

    async def _emit(self, emitter: Emitter, plan: list[Shot]) -> None:
        # One connection each, the last used first: a pool of many looks through all of
        # them at each request, and the time that takes would pass for the server's.
        idle: asyncio.LifoQueue[httpx.AsyncClient] = asyncio.LifoQueue()
        for _ in range(emitter.in_flight):
            idle.put_nowait(self._client())
        # What is due is sent late rather than not at all, but not for ever.
        last = self._scenario.duration + self._scenario.settle
        async with asyncio.TaskGroup() as group:
            for shot in plan:
                client = await idle.get()
                if self.now > last:
                    return
                # Before it is due; a large one in a thread, so that it holds up nothing else.
                made = partial(self._bodies.body, emitter.name, shot)
                large = shot.findings > _LARGE_FINDINGS
                body = await asyncio.to_thread(made) if large else made()
                if (early := shot.at - self.now) > 0:
                    await asyncio.sleep(early)
                request = self._request(emitter, shot, body)
                sending = group.create_task(self._send(client, emitter, shot, request))
                sending.add_done_callback(partial(_given_back, idle, client))

    def _request(self, emitter: Emitter, shot: Shot, body: bytes) -> _Request:
        before = self._before.get((emitter.name, shot.key))
        if shot.kind == "replayed" and before is not None:
            return before
        first = before.first if shot.kind == "conflicting" and before else shot.number
        headers = [("Idempotency-Key", f"load-{self._run_id}-{emitter.name}-{first}")]
        if shot.kind == GOOD and not emitter.wait:
            headers.append(("Prefer", "respond-async"))
        query = "" if shot.kind == "envelope" else _QUERY
        if shot.kind != "unsigned" and emitter.auth == "key":
            headers.append((HEADER, f"Bearer {self._keys[shot.key].text}"))
        if shot.kind != "unsigned" and emitter.auth == "signed":
            headers += self._signature(self._keys[shot.key], query, body)
        request = _Request(headers, query, body, first)
        if shot.kind == GOOD:
            self._before[emitter.name, shot.key] = request
        return request

    def _signature(self, key: Shown, query: str, body: bytes) -> Iterable[tuple[str, str]]:
        assert SIGNER is not None  # looked at when the run was made
        digest = hashlib.sha256(body).digest()
        return SIGNER(key, "POST", self._base + _PATH, query, digest, int(time.time()))

    async def _send(
        self, client: httpx.AsyncClient, emitter: Emitter, shot: Shot, request: _Request
    ) -> None:
        content: bytes | AsyncIterator[bytes] = request.body
        headers, size = request.headers, len(request.body)
        if shot.kind == "oversized":
            size = emitter.oversized_bytes
            content, headers = (
                _slowly(request.body, size),
                [*headers, ("Content-Length", str(size))],
            )
        sent, self.under_way = self.now, self.under_way + 1
        url = f"{_PATH}?{request.query}" if request.query else _PATH
        status, reason, answer, replayed = 0, "", {}, False
        try:
            async with asyncio.timeout(self._scenario.timeout):
                response = await client.post(url, content=content, headers=headers)
            status, answer = response.status_code, _object(response)
            replayed = response.headers.get("Idempotent-Replayed") == "true"
            if not response.is_success:
                reason = _text(answer, "reason")
        except (TimeoutError, httpx.TimeoutException):
            reason = "TIMEOUT"
        except httpx.HTTPError:
            reason = "CONNECTION"
        finally:
            self.under_way -= 1
        self.telemetry.add(
            Sent(
                emitter=emitter.name,
                number=shot.number,
                first=request.first,
                kind=shot.kind,
                key=shot.key,
                report_format=shot.report_format,
                planned=shot.at,
                sent=sent,
                ended=self.now,
                status=status,
                reason=reason,
                bytes=size,
                report_id=_text(answer, "report_id"),
                replayed=replayed,
                report_status=_text(answer, "status"),
            )
        )

    async def _asked(self, slots: asyncio.Semaphore, report_id: str, key: str) -> Ended | None:
        """How a report ended; None if it has not, or the server does not say."""
        headers = {HEADER: f"Bearer {self._keys[key].text}"} if key else {}
        async with slots:
            try:
                response = await self._asking.get(
                    f"{_PATH}/{report_id}", params={"findings": "false"}, headers=headers
                )
            except httpx.HTTPError:
                return None
        answer = _object(response)
        if not response.is_success or answer.get("status") not in _FINAL:
            return None
        times = [_time(answer.get(name)) for name in ("created_at", "finished_at")]
        took = (times[1] - times[0]).total_seconds() if times[0] and times[1] else None
        return Ended(report_id, _text(answer, "status"), took)


def _given_back(
    idle: asyncio.LifoQueue[httpx.AsyncClient], client: httpx.AsyncClient, _: object
) -> None:
    idle.put_nowait(client)


async def _slowly(body: bytes, size: int) -> AsyncIterator[bytes]:
    """`size` bytes, and time enough after the first to be refused for their number."""
    for number, piece in enumerate(endless(body, size)):
        yield piece
        await asyncio.sleep(0 if number else _REFUSAL_SECONDS)


def _object(response: httpx.Response) -> dict[str, Any]:
    try:
        found = response.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _text(answer: Mapping[str, Any], name: str) -> str:
    """A member that is a text; of what a server answers, no more than such a text may have."""
    found = answer.get(name)
    return found[:64] if isinstance(found, str) else ""


def _time(text: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
