"""Who is let in at the door, and what is handed on of a key."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
import uvicorn
import websockets
from structlog.testing import capture_logs
from websockets.asyncio.client import connect

from cli import certificates
from gateway.app import GatewaySettings, build
from runtime import api_keys
from runtime.config import ConfigError, load
from tests.gateway.conftest import Reports, Stack

FILES = (("certificate", "cert"), ("key", "key"), ("ca", "ca"))
KEY = api_keys.make().text
OTHER = api_keys.make().text
BEARER = {"Authorization": f"Bearer {KEY}"}


class Guarded(NamedTuple):
    """A gateway that needs keys, before the orchestrator of the others."""

    client: httpx.AsyncClient
    reports: Reports


@asynccontextmanager
async def gateway(stack: Stack, **given: Any) -> AsyncIterator[httpx.AsyncClient]:
    settings = load(
        GatewaySettings, orchestrator_address=f"127.0.0.1:{stack.orchestrator.port}", **given
    )
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(
        build(settings), log_config=None, access_log=False, timeout_graceful_shutdown=2
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve([listener]))
    while not server.started:
        await asyncio.sleep(0.01)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        yield client
    server.should_exit = True
    await serving


@pytest.fixture(scope="session")
async def guarded(stack: Stack) -> AsyncIterator[Guarded]:
    async with gateway(stack, auth="keys") as client:
        yield Guarded(client, stack.reports)


async def test_without_a_key_nothing_is_served(guarded: Guarded) -> None:
    document = (await guarded.client.get("/openapi.json")).json()
    for path, verbs in document["paths"].items():
        for verb, route in verbs.items():
            answer = await guarded.client.request(verb, path.replace("{", "").replace("}", ""))
            if route.get("security") == []:
                assert answer.status_code in (200, 503), path
                continue
            assert answer.status_code == 401, path
            assert answer.headers["www-authenticate"] == "Bearer"
            problem = answer.json()
            assert (problem["reason"], problem["header"]) == ("UNAUTHENTICATED", "authorization")
            assert "401" in route["responses"]


@pytest.mark.parametrize(
    "shown",
    ["Basic dTpw", "Bearer", "Bearer canary", f"Bearer {KEY[:-1]}", f"Bearer {KEY}x"],
    ids=["basic", "nothing", "a word", "cut", "longer"],
)
async def test_what_is_no_key_is_refused_and_not_repeated(guarded: Guarded, shown: str) -> None:
    with capture_logs() as lines:
        answer = await guarded.client.get("/reports", headers={"Authorization": shown})
    assert answer.status_code == 401
    for word in ("canary", KEY[16:40], "dTpw"):
        assert word not in answer.text + repr(lines)


async def test_a_key_in_the_query_is_none(guarded: Guarded) -> None:
    answer = await guarded.client.get(f"/reports?key={KEY}&authorization=Bearer+{KEY}")
    assert answer.status_code == 401


async def test_it_is_refused_before_its_body_is_read(guarded: Guarded) -> None:
    url = guarded.client.base_url
    before = len(guarded.reports.uploads)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(b"POST /reports HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2000000\r\n\r\n")
    async with asyncio.timeout(10):
        assert (await reader.readline()).startswith(b"HTTP/1.1 401")
    writer.close()
    assert len(guarded.reports.uploads) == before


async def test_a_key_is_handed_on_and_no_tenant_with_it(guarded: Guarded) -> None:
    given = {**BEARER, "x-winnow-tenant": "acme"}
    answer = await guarded.client.post("/reports", content=b"[]", headers=given)
    assert answer.status_code == 201
    metadata = guarded.reports.uploads[-1].metadata
    assert metadata["authorization"] == f"Bearer {KEY}"
    assert "x-winnow-tenant" not in metadata


async def test_a_key_is_handed_on_also_where_none_is_needed(stack: Stack) -> None:
    await stack.client.post("/reports", content=b"[]", headers=BEARER)
    assert stack.reports.uploads[-1].metadata["authorization"] == f"Bearer {KEY}"
    await stack.client.post("/reports", content=b"[]")
    assert "authorization" not in stack.reports.uploads[-1].metadata
    assert stack.reports.uploads[-1].metadata["x-winnow-tenant"] == "default"


async def test_who_watches_with_another_key_is_asked_about_anew(guarded: Guarded) -> None:
    """Or whoever knows an id would follow what somebody else may see."""
    report = guarded.reports.add(1)
    guarded.reports.happened(report.report_id, "REPORT_CREATED")
    before = len(guarded.reports.watched)
    path = f"/reports/{report.report_id}/events/stream"
    async with (
        guarded.client.stream("GET", path, headers=BEARER) as one,
        guarded.client.stream("GET", path, headers=BEARER) as same,
        guarded.client.stream("GET", path, headers={"Authorization": f"Bearer {OTHER}"}) as other,
    ):
        assert {one.status_code, same.status_code, other.status_code} == {200}
        assert len(guarded.reports.watched) == before + 2


async def test_a_websocket_shows_its_key_in_a_header_or_as_a_subprotocol(
    guarded: Guarded,
) -> None:
    report = guarded.reports.add(1)
    url = f"{str(guarded.client.base_url).replace('http', 'ws')}/reports/{report.report_id}/stream"
    async with connect(url, additional_headers=BEARER) as socket:
        assert json.loads(await socket.recv())["event_type"] == "REPORT_CREATED"
    offered: Any = ["winnow", f"winnow.bearer.{KEY}"]
    async with connect(url, subprotocols=offered) as socket:
        assert socket.subprotocol == "winnow"
        assert json.loads(await socket.recv())["event_type"] == "REPORT_CREATED"
        assert socket.response is not None
        assert KEY not in repr(list(socket.response.headers.raw_items()))
    for more in ({}, {"subprotocols": ["winnow", "winnow.bearer.canary"]}):
        with pytest.raises(websockets.exceptions.InvalidStatus) as caught:
            await connect(url, **more)
        refused = caught.value.response
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"] == "Bearer"
        assert refused.headers["x-request-id"]
        assert refused.body is not None
        assert json.loads(refused.body)["reason"] == "UNAUTHENTICATED"


HOSTS = {
    "localhost": 200,
    "LOCALHOST:8080": 200,
    "127.0.0.1": 200,
    "127.1.2.3:1": 200,
    "[::1]:8080": 200,
    "evil.example": 421,
    "127.0.0.1.evil.example": 421,
    "localhost.evil.example:8080": 421,
    "10.0.0.1": 421,
    "evil@localhost": 421,
    "[::1": 421,
    "": 421,
}


@pytest.mark.parametrize("host", HOSTS)
async def test_without_keys_only_the_loopbacks_names_are_answered(stack: Stack, host: str) -> None:
    answer = await stack.client.get("/reports", headers={"Host": host})
    assert answer.status_code == HOSTS[host]
    if answer.status_code == 421:
        assert answer.json()["type"] == "about:blank"
        assert "WINNOW_GATEWAY_HOSTS" in answer.json()["detail"]
        assert "evil" not in answer.text


async def test_further_names_can_be_set(stack: Stack, guarded: Guarded) -> None:
    # Nothing is to be had there without a key: any name will do, unless some are set.
    elsewhere = {**BEARER, "Host": "elsewhere.example"}
    assert (await guarded.client.get("/reports", headers=elsewhere)).status_code == 200
    names = "winnow.example, Proxy.Example"
    async with (
        gateway(stack, gateway_hosts=names) as lenient,
        gateway(stack, gateway_hosts=names, auth="keys") as strict,
    ):
        for client, local in ((lenient, 200), (strict, 421)):
            for host, status in (
                ("winnow.example", 200),
                ("proxy.example:8443", 200),
                ("elsewhere.example", 421),
                ("localhost", local),
            ):
                answer = await client.get("/reports", headers={**BEARER, "Host": host})
                assert answer.status_code == status, host


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 201),
        ({"Sec-Fetch-Site": "same-origin"}, 201),
        ({"Sec-Fetch-Site": "none"}, 201),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "https://proxied.example"}, 201),
        ({"Origin": "http://127.0.0.1:1", "Host": "127.0.0.1:1"}, 201),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        # Another port of this machine is another's page.
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        # No URL at all.
        ({"Origin": "http://[::1"}, 403),
    ],
)
async def test_no_other_origins_page_changes_anything(
    stack: Stack, headers: dict[str, str], status: int
) -> None:
    before = len(stack.reports.uploads)
    answer = await stack.client.post("/reports", content=b"[]", headers=headers)
    assert answer.status_code == status
    assert len(stack.reports.uploads) - before == (status == 201)
    # Reading is no change; no page of another origin sees the answer.
    assert (await stack.client.get("/reports", headers=headers)).status_code == 200


@pytest.mark.parametrize("header", ["Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host"])
async def test_without_keys_nothing_is_answered_through_a_proxy(
    stack: Stack, guarded: Guarded, header: str
) -> None:
    given = {**BEARER, header: "canary"}
    answer = await stack.client.get("/reports", headers=given)
    assert answer.status_code == 403
    assert "WINNOW_AUTH=keys" in answer.json()["detail"]
    assert "canary" not in answer.text
    assert (await stack.client.get("/healthz", headers=given)).status_code == 200
    assert (await guarded.client.get("/reports", headers=given)).status_code == 200


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, []),
        ({"gateway_hosts": "winnow.example"}, ["WINNOW_GATEWAY_HOSTS"]),
        ({"gateway_hosts": "winnow.example", "auth": "keys"}, []),
        ({"audit_address": "127.0.0.1:1", "orchestrator_address": "unix:/x"}, []),
    ],
)
def test_others_that_may_come_without_a_key_are_warned_of(
    given: dict[str, str], told: list[str]
) -> None:
    with capture_logs() as lines:
        build(load(GatewaySettings, **given))
    found = [line["settings"] for line in lines if line["event"] == "auth.missing"]
    assert found == ([told] if told else [])


def test_backends_elsewhere_are_warned_of(tmp_path: Path) -> None:
    certificates.init(tmp_path, [], [], 365, 3650)
    files = {f"tls_{one}": tmp_path / "gateway" / f"{file}.pem" for one, file in FILES}
    with capture_logs() as lines:
        build(load(GatewaySettings, orchestrator_address="elsewhere.example:1", **files))
    warned = [line["settings"] for line in lines if line["event"] == "auth.missing"]
    assert warned == [["WINNOW_ORCHESTRATOR_ADDRESS"]]


def test_a_gateway_that_others_reach_needs_keys() -> None:
    with pytest.raises(ConfigError, match="WINNOW_AUTH: none is for addresses"):
        build(load(GatewaySettings, gateway_listen="0.0.0.0:8080", auth="none"))
    assert load(GatewaySettings).keys_needed("0.0.0.0:8080")
    assert not load(GatewaySettings).keys_needed("127.0.0.1:8080")
