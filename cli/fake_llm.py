"""A local server that speaks the Messages API, bad days included.

For trying out and for tests: it asks nobody and costs nothing. What it does is
chosen for each request: by the header `x-fake-llm`, by the model's name
(`fake-slow`), or else by the script, one item a request, the last one for ever.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

Json = dict[str, Any]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]

SLOW_SECONDS = 3.0
_REMEMBERED = 1000
_MODEL_PREFIX = "fake-"

# Answers with an error of the API: status, type, further headers.
_ERRORS: dict[str, tuple[int, str, dict[str, str]]] = {
    "rate_limited": (429, "rate_limit_error", {"retry-after": "0.05"}),
    "rate_limited_long": (429, "rate_limit_error", {"retry-after": "3600"}),
    "overloaded": (529, "overloaded_error", {}),
    "error": (500, "api_error", {}),
    "unauthorized": (401, "authentication_error", {}),
    "redirect": (307, "api_error", {"location": "/elsewhere"}),
}
# Answers with a message that is not what was asked for: stop reason, text.
_MESSAGES: dict[str, tuple[str, str | None]] = {
    "refusal": ("refusal", None),
    "prose": ("end_turn", "I would rather not say."),
    "truncated": ("max_tokens", '{"likelihood": "unli'),
    "unknown_reason": ("end_turn", '{"likelihood": "unlikely", "reasons": ["because"]}'),
    "talkative": (
        "end_turn",
        '{"likelihood": "unlikely", "reasons": ["digest"], "note": "and more"}',
    ),
    "no_reason": ("end_turn", '{"likelihood": "very_unlikely", "reasons": []}'),
    "empty": ("end_turn", None),
}
# Answers with bytes that are no message.
_BODIES: dict[str, bytes] = {
    "garbage": b"<html>not today</html>",
    "garbage_bytes": b'{"content": "\xff\xfe',
    "cut_json": b'{"id": "msg_1", "type": "message", "content": [{"type": "te',
    "list": b"[]",
    "null_content": b'{"id": "m", "type": "message", "content": null, "usage": null}',
}
_ANSWERS: dict[str, Json] = {
    "lowest": {"likelihood": "very_unlikely", "reasons": ["placeholder"]},
    "highest": {"likelihood": "very_likely", "reasons": ["issued_shape"]},
    "unsure": {"likelihood": "unsure", "reasons": ["too_little"]},
}
BEHAVIOURS = (
    "ok",
    *_ANSWERS,
    *_MESSAGES,
    *_BODIES,
    *_ERRORS,
    "slow",
    "silent",
    "hang_up",
)


class FakeLlm:
    """The server as an ASGI application.

    Args:
        script: behaviours, one a request; empty for always "ok".

    Raises:
        ValueError: a behaviour that there is not; the message names those that there are.
    """

    def __init__(self, script: Sequence[str] = ()) -> None:
        if not set(script) <= set(BEHAVIOURS):
            raise ValueError(f"the behaviours are {', '.join(BEHAVIOURS)}")
        self._script = deque(script or ["ok"])
        self.requests: deque[bytes] = deque(maxlen=_REMEMBERED)

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        body = await _body(receive)
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        if scope["path"] != "/v1/messages":
            await _error(send, 404, "not_found_error")
            return
        self.requests.append(body)
        request = _request(body)
        if not {"authorization", "x-api-key"} & headers.keys():
            await _error(send, 401, "authentication_error")
        elif request is None:
            await _error(send, 400, "invalid_request_error")
        else:
            answering = asyncio.create_task(
                self._answer(self._behaviour(headers, request), request, send)
            )
            gone = asyncio.create_task(_gone(receive))
            await asyncio.wait([answering, gone], return_when=asyncio.FIRST_COMPLETED)
            answering.cancel()
            gone.cancel()

    def _behaviour(self, headers: Mapping[str, str], request: Json) -> str:
        for name in (headers.get("x-fake-llm"), request["model"].removeprefix(_MODEL_PREFIX)):
            if name in BEHAVIOURS:
                return name
        return self._script[0] if len(self._script) == 1 else self._script.popleft()

    async def _answer(self, behaviour: str, request: Json, send: Send) -> None:
        if behaviour == "silent":
            await asyncio.Event().wait()
        if behaviour == "slow":
            await asyncio.sleep(SLOW_SECONDS)
        if behaviour in _ERRORS:
            await _error(send, *_ERRORS[behaviour])
        elif behaviour in _BODIES:
            await _respond(send, 200, _BODIES[behaviour])
        elif behaviour == "hang_up":
            await _respond(send, 200, b"{", {"content-length": "1000"})
        elif behaviour in _MESSAGES:
            await _message(send, request, *_MESSAGES[behaviour])
        else:
            answer = _ANSWERS.get(behaviour) or _judged(request)
            await _message(send, request, "end_turn", json.dumps(answer))


def _request(body: bytes) -> Json | None:
    """A request as the API takes it, None if it is none."""
    try:
        request = json.loads(body)
        schema = request["output_config"]["format"]["schema"]
        complete = (
            isinstance(request["model"], str)
            and isinstance(request["max_tokens"], int)
            and request["messages"][0]["role"] == "user"
            and schema["additionalProperties"] is False
        )
    except (ValueError, KeyError, TypeError, IndexError):
        return None
    return request if complete else None


def _judged(request: Json) -> Json:
    """What the evidence so far says, as an answer."""
    probability = json.loads(request["messages"][0]["content"])["probability"]
    if probability == "unknown":
        return _ANSWERS["unsure"]
    if probability >= 0.5:
        return {"likelihood": "likely", "reasons": ["credential_name"]}
    return {"likelihood": "unlikely", "reasons": ["identifier"]}


async def _message(send: Send, request: Json, stop_reason: str, text: str | None) -> None:
    message = {
        "id": "msg_fake",
        "type": "message",
        "role": "assistant",
        "model": request["model"],
        "content": [] if text is None else [{"type": "text", "text": text}],
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "usage": {
            "input_tokens": len(request["messages"][0]["content"]) // 4,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": 24,
        },
    }
    await _respond(send, 200, json.dumps(message).encode())


async def _error(
    send: Send, status: int, kind: str, headers: Mapping[str, str] | None = None
) -> None:
    error = {"type": "error", "error": {"type": kind, "message": "as asked for"}}
    await _respond(send, status, json.dumps(error).encode(), headers)


async def _respond(
    send: Send, status: int, body: bytes, headers: Mapping[str, str] | None = None
) -> None:
    named = {
        "content-type": "application/json",
        "content-length": str(len(body)),
        **(headers or {}),
    }
    start = {
        "type": "http.response.start",
        "status": status,
        "headers": [(name.encode(), value.encode()) for name, value in named.items()],
    }
    await send(start)
    await send({"type": "http.response.body", "body": body})


async def _gone(receive: Receive) -> None:
    """Returns when the client has hung up."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _body(receive: Receive) -> bytes:
    parts = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)
