"""Five `winnow serve`, each with its own certificate, joined by TCP: a report from
HTTPS to its verdicts, and what the ports say to those who have no business there."""

from __future__ import annotations

import contextlib
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx
import psycopg
import pytest

import migrations
from cli import certificates
from cli.postgres import Postgres
from runtime.channels import dial
from runtime.errors import certificate_refused
from runtime.server import trouble
from tests import certificates as papers
from tests.e2e.house import SERVICES, WINNOW, environment, eventually, folder
from tests.e2e.test_rest import DECIDED
from tests.fixtures import load_report
from tests.harness import FINGERPRINT_KEY, SEALING_KEY, SIGNING_KEY, b64
from winnow.audit.v1.audit_service_pb2 import AppendEventsRequest
from winnow.audit.v1.audit_service_pb2_grpc import AuditServiceStub
from winnow.ingest.v1.ingest_service_pb2 import ListFormatsRequest
from winnow.ingest.v1.ingest_service_pb2_grpc import IngestServiceStub
from winnow.moderate.v1.moderate_service_pb2 import ModerateBatchRequest
from winnow.moderate.v1.moderate_service_pb2_grpc import ModerateServiceStub

pytestmark = pytest.mark.xdist_group("e2e")


@dataclass
class Apart:
    """The services, each a process that knows of the others by address only."""

    certs: Path
    ports: dict[str, int]
    processes: dict[str, subprocess.Popen[bytes]]
    http: httpx.Client
    shared: dict[str, str]

    def probe(self, name: str, **more: str) -> tuple[int, str]:
        """What `winnow probe` ends with and says, asked as the service itself would be."""
        done = subprocess.run(
            [WINNOW, "probe", name],
            env=self.shared | self.settings(name) | more,
            capture_output=True,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stderr.decode()

    def settings(self, name: str) -> dict[str, str]:
        """The certificate of a folder, as variables."""
        given = papers.files(self.certs / name)
        return {f"WINNOW_{key.upper()}": str(file) for key, file in given.items()}


def free_ports() -> dict[str, int]:
    """A port for each service; they were free a moment ago."""
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in SERVICES]
        return {name: one.getsockname()[1] for name, one in zip(SERVICES, opened, strict=True)}


def own_database(postgres: Postgres) -> str:
    """A migrated database of its own: an orchestrator runs whatever work it finds."""
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE apart")
    url = postgres.url.replace("@/winnow?", "@/apart?")
    migrations.upgrade(url)
    return url


@pytest.fixture(scope="module")
def apart(postgres: Postgres) -> Iterator[Apart]:
    with folder() as above:
        certs, ports = above / "certs", free_ports()
        certificates.init(certs, [], ["ci"], 365, 3650)
        listening = {
            f"WINNOW_{name.upper()}_LISTEN": f"127.0.0.1:{ports[name]}" for name in SERVICES
        }
        dialled = {
            f"WINNOW_{name.upper()}_ADDRESS": f"localhost:{ports[name]}"
            for name in SERVICES
            if name != "gateway"
        }
        shared = environment(
            WINNOW_DATABASE_URL=own_database(postgres),
            WINNOW_SEALING_KEY=b64(SEALING_KEY),
            WINNOW_FINGERPRINT_KEY=b64(FINGERPRINT_KEY),
            WINNOW_AUDIT_SIGNING_KEY=b64(SIGNING_KEY),
            WINNOW_GATEWAY_TLS_CERTIFICATE=str(certs / "gateway" / "cert.pem"),
            WINNOW_GATEWAY_TLS_KEY=str(certs / "gateway" / "key.pem"),
            **listening,
            **dialled,
        )
        http = httpx.Client(
            base_url=f"https://localhost:{ports['gateway']}",
            verify=ssl.create_default_context(cafile=certs / "ca" / "ca.pem"),
            timeout=60,
            trust_env=False,
        )
        house = Apart(certs, ports, {}, http, shared)
        with (above / "log").open("wb") as output:
            for name in SERVICES:
                house.processes[name] = subprocess.Popen(
                    [WINNOW, "serve", name],
                    env=shared | house.settings(name),
                    stdout=output,
                    stderr=output,
                )

        def ready() -> bool:
            with contextlib.suppress(httpx.TransportError):
                return http.get("/readyz").status_code == 200
            return False

        try:
            eventually(ready, 60)
            yield house
            http.close()
            for process in house.processes.values():
                process.terminate()
            ended = {name: one.wait(30) for name, one in house.processes.items()}
            # uvicorn ends by the signal that it was sent.
            assert ended == {name: -signal.SIGTERM if name == "gateway" else 0 for name in SERVICES}
        finally:
            http.close()
            for process in house.processes.values():
                process.kill()
                process.wait(10)


def test_a_report_goes_all_the_way(apart: Apart) -> None:
    answer = apart.http.post("/reports", content=load_report("gitleaks.git.json"))
    assert answer.status_code == 201, answer.text
    report_id = answer.json()["report_id"]
    assert answer.json()["status"] == "done"
    assert apart.http.get(f"/reports/{report_id}").json()["records"]["findings"] == 28

    def events() -> bool:
        listed = apart.http.get(f"/reports/{report_id}/events").json()["events"]
        return [one["event"]["event_type"] for one in listed][: len(DECIDED)] == DECIDED

    eventually(events)
    # The same from the orchestrator itself, for a tool of the CA.
    done = subprocess.run(
        [WINNOW, "reports", "--server", f"grpc://localhost:{apart.ports['orchestrator']}"],
        env=environment(COLUMNS="200", **apart.settings("tool/ci")),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert report_id in done.stdout.decode()


async def test_its_ports_refuse_who_has_no_business_there(apart: Apart) -> None:
    calls = {
        "ingestor": (IngestServiceStub, "ListFormats", ListFormatsRequest()),
        "moderator": (ModerateServiceStub, "ModerateBatch", ModerateBatchRequest()),
        "audit": (AuditServiceStub, "AppendEvents", AppendEventsRequest()),
    }
    for name, (stub, method, request) in calls.items():
        address = f"localhost:{apart.ports[name]}"
        for caller in ("gateway", "tool/ci"):
            async with dial(address, papers.tls(apart.certs / caller)) as channel:
                assert await trouble(channel, 10) == ""
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await getattr(stub(channel), method)(request, timeout=10)
                assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
        async with dial(f"127.0.0.1:{apart.ports[name]}") as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await getattr(stub(channel), method)(request, timeout=10)
            assert certificate_refused(caught.value)


@pytest.mark.parametrize("name", SERVICES)
def test_each_says_of_itself_whether_it_serves(apart: Apart, name: str) -> None:
    assert apart.probe(name) == (0, "")


def test_a_service_that_does_not_serve_is_told_from_one_that_cannot_be_asked(apart: Apart) -> None:
    port = free_ports()["audit"]
    nobody = f"0.0.0.0:{port}"
    assert apart.probe("audit", WINNOW_AUDIT_LISTEN=nobody) == (1, "winnow: audit: no answer\n")
    assert apart.probe("gateway", WINNOW_GATEWAY_LISTEN=nobody) == (
        1,
        "winnow: gateway: no answer\n",
    )
    # Keys that only the service needs are not asked for.
    assert apart.probe("ingestor", WINNOW_SEALING_KEY="canary") == (0, "")
    status, said = apart.probe("ingestor", WINNOW_TLS_CA="canary")
    assert status == 2
    assert said.startswith("winnow: ")
    assert "WINNOW_TLS_CA" in said


def test_it_refuses_to_be_reached_in_the_clear(apart: Apart) -> None:
    done = subprocess.run(
        [WINNOW, "serve", "ingestor"],
        env=environment(
            WINNOW_INGESTOR_LISTEN="0.0.0.0:0",
            WINNOW_SEALING_KEY=b64(SEALING_KEY),
            WINNOW_FINGERPRINT_KEY=b64(FINGERPRINT_KEY),
        ),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.decode() == (
        "winnow: 0.0.0.0:0 is neither a Unix socket nor the loopback: set "
        "WINNOW_TLS_CERTIFICATE, WINNOW_TLS_KEY and WINNOW_TLS_CA (`winnow certs init` makes them)\n"
    )
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://localhost:{apart.ports['gateway']}/healthz", trust_env=False, timeout=10)
