"""Submitting over real connections, some of which break."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cli.test_submit import cutting
from tests.e2e.house import WINNOW, House, environment, eventually
from tests.fixtures import load_report

Json = dict[str, Any]


def report() -> bytes:
    """A report that no other test sends."""
    return load_report("gitleaks.git.json") + b" " * (time.monotonic_ns() % 100_000)


def sent(house: House, body: bytes, query: str = "", **headers: str) -> httpx.Response:
    """A POST under a connection of its own."""
    named = {name.replace("_", "-").encode(): text.encode() for name, text in headers.items()}
    return httpx.post(
        f"{house.url}/reports{query}",
        content=body,
        headers=named,
        timeout=60,
        trust_env=False,
        verify=False,
    )


def reports_of(house: House, body: bytes) -> list[Json]:
    """The newest reports of these bytes."""
    page = house.get("/reports", page_size=200)["reports"]
    return [one for one in page if one["size_bytes"] == len(body)]


def without_request_id(problem: Json) -> Json:
    return {name: value for name, value in problem.items() if name != "request_id"}


@pytest.mark.parametrize("prefer", ["", "respond-async"])
def test_fifty_at_once_with_one_key_get_one_answer(house: House, prefer: str) -> None:
    body, key = report(), str(uuid.uuid4())
    with ThreadPoolExecutor(50) as pool:
        answers = list(
            pool.map(lambda _: sent(house, body, idempotency_key=key, prefer=prefer), range(50))
        )
    assert {answer.status_code for answer in answers} == {202 if prefer else 201}
    assert all(answer.json() == answers[0].json() for answer in answers)
    replayed = [answer.headers.get("idempotent-replayed") for answer in answers]
    assert (replayed.count(None), replayed.count("true")) == (1, 49)
    assert len(reports_of(house, body)) == 1


def test_a_key_stands_for_one_report(house: House) -> None:
    body, key = report(), str(uuid.uuid4())
    first = sent(house, body, "?ref=main", idempotency_key=key)
    for other, query in ((body + b" ", "?ref=main"), (body, "?ref=next"), (body, "")):
        refused = sent(house, other, query, idempotency_key=key)
        assert refused.status_code == 422
        assert refused.json()["reason"] == "IDEMPOTENCY_KEY_REUSED"
        assert refused.json()["report_id"] == first.json()["report_id"]
        assert key not in refused.text
    again = sent(house, body, "?ref=main", idempotency_key=key)
    assert (again.status_code, again.json()) == (201, first.json())


def test_how_a_report_is_wrapped_does_not_matter_to_its_key(house: House) -> None:
    body, key = report().strip(), str(uuid.uuid4())
    first = sent(house, body, "?ref=main&label=a=b", idempotency_key=key)
    envelope = b'{"report": %b, "labels": {"a": "b"}, "source": {"ref": "main"}}' % body
    for wrapped, encoding in ((envelope, "identity"), (gzip.compress(envelope), "gzip")):
        again = sent(house, wrapped, idempotency_key=key, content_encoding=encoding)
        assert (again.status_code, again.json()) == (201, first.json())


def test_a_failure_is_answered_again_as_it_was(house: House) -> None:
    body, key = b"no report at all", str(uuid.uuid4())
    first, again = (sent(house, body, idempotency_key=key) for _ in range(2))
    assert first.status_code == again.status_code == 422
    assert first.json()["reason"] == "FORMAT_UNKNOWN"
    assert without_request_id(again.json()) == without_request_id(first.json())


@pytest.mark.parametrize("key", ["a b", "", "k" * 256, "\xe9"])
def test_a_key_that_is_none_is_refused(house: House, key: str) -> None:
    answer = sent(house, report(), idempotency_key=key)
    assert answer.status_code == 400
    assert answer.json()["reason"] == "INVALID_ARGUMENT"


def request(house: House, body: bytes, key: str) -> bytes:
    """A whole request as it goes over the wire."""
    return (
        f"POST /reports HTTP/1.1\r\nHost: {httpx.URL(house.url).netloc.decode()}\r\n"
        f"Idempotency-Key: {key}\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body


@pytest.mark.parametrize("reset", [False, True])
def test_a_caller_who_leaves_before_the_answer_changes_nothing(house: House, reset: bool) -> None:
    body, key = report(), str(uuid.uuid4())
    url = httpx.URL(house.url)
    with socket.create_connection((url.host, url.port)) as connection:
        if reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.sendall(request(house, body, key))
        # The gateway must have read all of it: a reset throws away what it has not.
        eventually(lambda: len(reports_of(house, body)) == 1)
    ended = eventually(lambda: [one for one in reports_of(house, body) if one["finished_at"]])
    assert [one["status"] for one in ended] == ["done"]
    again = sent(house, body, idempotency_key=key)
    assert again.status_code == 201
    assert again.headers["idempotent-replayed"] == "true"
    assert again.json()["report_id"] == ended[0]["report_id"]
    assert len(reports_of(house, body)) == 1


def test_a_caller_who_leaves_within_the_body_leaves_nothing(house: House) -> None:
    body, key = report() + b" " * (3 << 20), str(uuid.uuid4())
    url = httpx.URL(house.url)
    with socket.create_connection((url.host, url.port)) as connection:
        connection.sendall(request(house, body, key)[:-100])
    whole = sent(house, body, idempotency_key=key)
    assert whole.status_code == 201
    assert "idempotent-replayed" not in whole.headers
    assert len(reports_of(house, body)) == 1


async def test_a_flaky_network_doubles_nothing(house: House, tmp_path: Path) -> None:
    body = report()
    file = tmp_path / "report.json"
    file.write_bytes(body)
    async with cutting(house.url, [0, 40]) as url:
        command = await asyncio.create_subprocess_exec(
            WINNOW,
            *("submit", str(file), "--server", url, "--format", "json"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment(),
        )
        output, errors = await asyncio.wait_for(command.communicate(), 60)
    assert command.returncode == 0, errors
    assert errors.count(b"trying again") == 2
    assert json.loads(output)["status"] == "done"
    assert len(reports_of(house, body)) == 1


def test_reuse_and_links(house: House) -> None:
    body = report()
    first = sent(house, body, "?repository=r").json()
    linked = sent(house, body, "?repository=r").json()
    assert linked["duplicate_of"] == first["report_id"]
    assert linked["report_id"] != first["report_id"]
    reused = sent(house, body, "?repository=r&duplicates=reuse")
    assert reused.status_code == 200
    assert reused.json() == {**first, "reused": True}
    assert house.get(f"/reports/{linked['report_id']}")["duplicate_of"] == first["report_id"]
