"""A server as its gateway shows it: the REST API."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO
from urllib.parse import quote

import httpx
from google.api import annotations_pb2

from cli.errors import ClientError
from cli.wire import (
    METHODS,
    PATIENCE,
    TIMEOUT,
    Declaration,
    Json,
    Terms,
    about,
    chunks,
    unreachable,
    whole,
)
from runtime.errors import MAPPINGS

_SILENCE = 60.0  # of a stream that says every 15 seconds that it is there
# What REST takes beside a request's fields.
_SAID = {"ReportService.GetReport": {"findings": "false"}}
_MAY_PASS = (502, 503, 504)
# The events that a report ends with, as server-sent events are named.
_FINAL = ("report.done", "report.failed")


class RestWire:
    """A gateway.

    Args:
        http: a client whose base URL is the gateway's.
        server: how the user named it, for messages.
    """

    def __init__(self, http: httpx.Client, server: str) -> None:
        self._http = http
        self._server = server

    def call(self, rpc: str, /, **values: Any) -> Json:
        rule = METHODS[rpc].GetOptions().Extensions[annotations_pb2.http]
        verb = rule.WhichOneof("pattern")
        path = getattr(rule, verb)
        rest = {name: value for name, value in values.items() if f"{{{name}}}" not in path}
        asked: Any = {"params": rest | _SAID.get(rpc, {})}
        if rule.body:
            asked = {"json": rest.get(rule.body, rest)}
        with self._reaching():
            answer = self._http.request(
                verb.upper(), _path(path, **values), timeout=PATIENCE.get(rpc, TIMEOUT), **asked
            )
        return self._checked(answer)

    def submit(
        self, data: BinaryIO, declared: Declaration, terms: Terms, sent: Callable[[int], None]
    ) -> Json:
        parameters = [
            (name, value)
            for name in ("scanner_type", "repository", "ref", "commit")
            if (value := getattr(declared, name))
        ]
        parameters += [("label", f"{name}={value}") for name, value in declared.labels.items()]
        # A file is a report, also one that has a member of that name.
        parameters.append(("envelope", "false"))
        if terms.reuse:
            parameters.append(("duplicates", "reuse"))
        headers = {
            "Content-Type": "application/octet-stream",
            "Prefer": f"respond-async, wait={terms.wait}",
        }
        if terms.key:
            headers["Idempotency-Key"] = terms.key
        with self._reaching():
            answer = self._http.post(
                "/reports",
                params=parameters,
                headers=headers,
                content=chunks(data, sent),
                timeout=httpx.Timeout(TIMEOUT, read=TIMEOUT + terms.wait),
            )
        told = self._checked(answer)
        replayed = answer.headers.get("idempotent-replayed") == "true"
        return {**told, "replayed": True} if replayed else told

    def watch(self, report_id: str, after: int) -> Iterator[Json]:
        path = _path("/reports/{report_id}/events/stream", report_id=report_id)
        # The server is never silent for longer, however long a report takes.
        timeout = httpx.Timeout(TIMEOUT, read=_SILENCE)
        with (
            self._reaching(),
            self._http.stream("GET", path, params={"after": after}, timeout=timeout) as answer,
        ):
            if answer.status_code not in (httpx.codes.OK, httpx.codes.NO_CONTENT):
                answer.read()
                self._checked(answer)
            event = ""
            for line in answer.iter_lines():
                name, _, value = line.partition(": ")
                if name == "event":
                    event = value
                elif name == "data" and event in ("error", "cut"):
                    raise _problem(json.loads(value))
                elif name == "data":
                    yield json.loads(value)
            # A server that stops ends the stream as one that has told everything does.
            if answer.status_code == httpx.codes.OK and event not in _FINAL:
                raise self._broken()

    def raw(self, report_id: str) -> Iterator[bytes]:
        path = _path("/reports/{report_id}/raw", report_id=report_id)
        with self._reaching(), self._http.stream("GET", path) as answer:
            if answer.status_code != httpx.codes.OK:
                answer.read()
                self._checked(answer)
            digest = answer.headers.get("repr-digest", "").partition(":")[2].rstrip(":")
            yield from whole(answer.iter_raw(), base64.b64decode(digest).hex())

    def event_proof(self, event_id: str) -> Json:
        return self.call("AuditService.GetInclusionProof", event_id=event_id)

    def _checked(self, answer: httpx.Response) -> Json:
        if answer.status_code == httpx.codes.NO_CONTENT:
            return {}
        try:
            content = answer.json()
        except ValueError:
            content = None
        if not isinstance(content, dict):
            raise ClientError(
                f"{self._server} does not answer as a Winnow server does",
                may_pass=answer.status_code in _MAY_PASS,
            )
        if answer.is_success:
            return content
        raise _problem(content, answer.headers.get("retry-after", ""))

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        try:
            yield
        except httpx.TimeoutException:
            raise ClientError(f"{self._server} did not answer in time", may_pass=True) from None
        except httpx.ConnectError as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise ClientError(
                    f"the certificate of {self._server} is not accepted; "
                    "SSL_CERT_FILE may name the file of its CA"
                ) from None
            raise unreachable(self._server) from None
        except httpx.TransportError:
            # A server of HTTPS breaks what is plain without a word.
            plain = self._http.base_url.scheme == "http"
            raise self._broken(" (https:// if it serves HTTPS)" if plain else "") from None

    def _broken(self, hint: str = "") -> ClientError:
        said = f"the connection to {self._server} broke; try again{hint}"
        return ClientError(said, may_pass=True)


def _path(template: str, **values: Any) -> str:
    """The path with its fields, which are texts, filled in."""
    return template.format_map(
        {name: quote(value, safe="") for name, value in values.items() if isinstance(value, str)}
    )


def _problem(problem: Json, retry_after: str = "") -> ClientError:
    """A problem (RFC 9457) in one line."""
    title, detail = problem.get("title", "the server failed"), problem.get("detail", "")
    reason = f" ({problem['reason']})" if "reason" in problem else ""
    named = about(problem.get("reason"), problem.get("report_id"))
    known = MAPPINGS.get(str(problem.get("reason")))
    # A problem that names its report is that report's end.
    ended = "report_id" in problem
    return ClientError(
        f"{title}: {detail}{reason}{named}" if detail else f"{title}{reason}{named}",
        may_pass=not ended and (known.retry if known else problem.get("status") in _MAY_PASS),
        after=float(retry_after) if retry_after.isascii() and retry_after.isdigit() else 0.0,
        reason=str(problem.get("reason", "")),
    )
