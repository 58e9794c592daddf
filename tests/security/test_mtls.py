"""Who gets in where services run apart: over real sockets, with real certificates."""

from __future__ import annotations

import asyncio
import importlib
import ipaddress
import os
import shutil
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from cli import certificates
from cli.client import connect as client
from cli.errors import ClientError
from gateway.app import GatewaySettings
from gateway.app import build as build_gateway
from ingestor.app import IngestorSettings
from ingestor.app import build as build_ingestor
from runtime import context
from runtime.channels import dial
from runtime.config import ConfigError, Settings
from runtime.errors import WinnowError, certificate_refused, from_rpc
from runtime.limits import Buckets, Limits, MemoryStore, Rate
from runtime.peers import ANYONE, CALLERS, Peers
from runtime.server import Service, trouble
from runtime.tls import Tls
from tests import certificates as papers
from tests.harness import settings
from winnow.audit.v1 import audit_service_pb2 as audit_pb
from winnow.audit.v1 import audit_service_pb2_grpc as audit_rpc
from winnow.ingest.v1.ingest_service_pb2 import ListFormatsRequest
from winnow.ingest.v1.ingest_service_pb2_grpc import IngestServiceStub
from winnow.report.v1 import report_service_pb2

GENERATED = Path(__file__).resolve().parents[2] / "gen"
REPORTS = report_service_pb2.DESCRIPTOR.services_by_name["ReportService"]
AUDIT = audit_pb.DESCRIPTOR.services_by_name["AuditService"]
OUTSIDERS = ("gateway", "moderator", "audit", "ingestor", "tool/ci")


def descriptors() -> Iterator[ServiceDescriptor]:
    """Every service of the contracts."""
    for file in GENERATED.rglob("winnow/**/*_pb2.py"):
        name = ".".join(file.relative_to(GENERATED).with_suffix("").parts)
        yield from importlib.import_module(name).DESCRIPTOR.services_by_name.values()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `winnow certs init` makes."""
    made = tmp_path_factory.mktemp("certs") / "house"
    certificates.init(made, ["audit=audit.example"], ["ci"], 365, 3650)
    return made


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of another CA."""
    made = tmp_path_factory.mktemp("certs") / "foreign"
    certificates.init(made, [], ["ci"], 365, 3650)
    return made


@pytest.fixture(scope="module")
async def ingestor(folder: Path) -> AsyncIterator[str]:
    """A real ingestor with its certificate: its address."""
    service = build_ingestor(settings(IngestorSettings, **papers.files(folder / "ingestor")))
    await service.start()
    yield f"127.0.0.1:{service.port}"
    await service.stop(0)


class Handlers(audit_rpc.AuditServiceServicer):
    """Notes who calls; its watch lasts until it is told to end."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        self.end = asyncio.Event()

    async def ListEvents(self, _request: Any, context: Any) -> Any:
        self.seen.append(context.auth_context())
        return audit_pb.ListEventsResponse()

    async def AppendEvents(self, _request: Any, context: Any) -> Any:
        return audit_pb.AppendEventsResponse()

    async def WatchEvents(self, _request: Any, _context: Any) -> Any:
        yield audit_pb.WatchEventsResponse()
        await self.end.wait()
        yield audit_pb.WatchEventsResponse()


async def started(
    tls: Tls, handlers: Handlers | None = None, named: Any = AUDIT, **more: Any
) -> tuple[Service, str]:
    service = Service(
        "127.0.0.1:0",
        [named],
        lambda server: audit_rpc.add_AuditServiceServicer_to_server(handlers or Handlers(), server),
        tls=tls,
        **more,
    )
    await service.start()
    return service, f"127.0.0.1:{service.port}"


async def refusal(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


async def list_formats(address: str, tls: Tls) -> Any:
    async with dial(address, tls) as channel:
        return await IngestServiceStub(channel).ListFormats(ListFormatsRequest(), timeout=10)


def expired(folder: Path, name: str, tmp_path: Path) -> Path:
    """A copy of the folder in which a certificate has ended."""
    copy = tmp_path / "expired"
    shutil.copytree(folder, copy)
    with papers.yesterday() as days:
        certificates.renew(copy, [name], days)
    return copy / name


async def test_the_orchestrator_may_call_the_ingestor(ingestor: str, folder: Path) -> None:
    answer = await list_formats(ingestor, papers.tls(folder / "orchestrator"))
    assert answer.formats


@pytest.mark.parametrize("name", OUTSIDERS)
async def test_nobody_else_may(name: str, ingestor: str, folder: Path) -> None:
    async with dial(ingestor, papers.tls(folder / name)) as channel:
        stub = IngestServiceStub(channel)
        for call in (
            stub.ListFormats(ListFormatsRequest(), timeout=10),
            # Nothing is written: a write under way when it is refused would fail first.
            anext(aiter(stub.Ingest(timeout=10))),
        ):
            error = await refusal(call)
            told = from_rpc(error, "ingestor")
            assert error.code() is grpc.StatusCode.PERMISSION_DENIED
            # For whoever called the caller the service is not there: it may be set up better.
            assert (told.reason, told.metadata) == (
                "UPSTREAM_UNAVAILABLE",
                {"peer": f"spiffe://winnow/{name}", "service": "ingestor"},
            )


@pytest.mark.parametrize("who", ["foreign", "expired", "none", "plain"])
async def test_without_a_certificate_that_holds_nobody_gets_in(
    who: str, ingestor: str, folder: Path, foreign: Path, tmp_path: Path
) -> None:
    ca = (folder / "ca" / "ca.pem").read_bytes()
    if who == "plain":
        channel = dial(ingestor)
    elif who == "none":
        channel = grpc.aio.secure_channel(ingestor, grpc.ssl_channel_credentials(ca))
    else:
        of = foreign / "orchestrator" if who == "foreign" else None
        of = of or expired(folder, "orchestrator", tmp_path)
        key, certificate = (of / "key.pem").read_bytes(), (of / "cert.pem").read_bytes()
        credentials = grpc.ssl_channel_credentials(ca, key, certificate)
        channel = grpc.aio.secure_channel(ingestor, credentials)
    async with channel:
        error = await refusal(
            IngestServiceStub(channel).ListFormats(ListFormatsRequest(), timeout=10)
        )
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert certificate_refused(error)
        assert await trouble(channel) == "certificate"


@pytest.mark.parametrize("what", ["foreign", "expired", "host"])
async def test_a_server_whose_certificate_does_not_hold_is_not_spoken_to(
    what: str, folder: Path, foreign: Path, tmp_path: Path
) -> None:
    of = {"foreign": foreign / "audit", "host": folder / "tool" / "ci"}.get(what)
    service, address = await started(papers.tls(of or expired(folder, "audit", tmp_path)))
    async with dial(address, papers.tls(folder / "orchestrator")) as channel:
        call = audit_rpc.AuditServiceStub(channel).ListEvents(audit_pb.ListEventsRequest())
        error = await refusal(call)
        assert await trouble(channel) == "certificate"
    await service.stop(0)
    told = from_rpc(error, "audit service")
    assert (told.reason, told.message) == (
        "UPSTREAM_UNAVAILABLE",
        "the audit service cannot be reached: one of us does not accept the other's certificate",
    )


@pytest.mark.parametrize("name", ["gateway", "moderator"])
async def test_who_may_not_call_a_service_is_told_when_he_asks_for_its_health(
    name: str, folder: Path
) -> None:
    service, address = await started(papers.tls(folder / "audit"))
    async with dial(address, papers.tls(folder / name)) as channel:
        assert await trouble(channel) == ""
        told = await trouble(channel, service=AUDIT.full_name)
    assert told == ("" if name == "gateway" else "this certificate's identity may not call it")
    await service.stop(0)


async def test_a_host_must_be_in_the_certificate(folder: Path) -> None:
    """Each service has its own name, so none can pass for another where names are dialled."""
    service, address = await started(papers.tls(folder / "audit"))
    credentials = papers.tls(folder / "orchestrator").client()
    for name, allowed in (("audit", True), ("audit.example", True), ("orchestrator", False)):
        options = [("grpc.default_authority", name)]
        async with grpc.aio.secure_channel(address, credentials, options=options) as channel:
            assert await trouble(channel) == ("" if allowed else "certificate")
    await service.stop(0)


async def test_what_grpc_tells_of_a_caller(folder: Path) -> None:
    handlers = Handlers()
    service, address = await started(papers.tls(folder / "audit"), handlers)
    async with dial(address, papers.tls(folder / "gateway")) as channel:
        await audit_rpc.AuditServiceStub(channel).ListEvents(audit_pb.ListEventsRequest())
    await service.stop(0)
    (seen,) = handlers.seen
    assert seen["transport_security_type"] == [b"ssl"]
    assert seen["ssl_tls_version"] == [b"TLSv1.3"]
    assert seen["peer_spiffe_id"] == seen["peer_uri"] == [b"spiffe://winnow/gateway"]
    names = seen["x509_subject_alternative_name"]
    assert names[:3] == [b"spiffe://winnow/gateway", b"gateway", b"localhost"]


async def test_the_gateway_reads_the_audit_log_and_writes_nothing(folder: Path) -> None:
    service, address = await started(papers.tls(folder / "audit"))
    async with dial(address, papers.tls(folder / "gateway")) as channel:
        stub = audit_rpc.AuditServiceStub(channel)
        await stub.ListEvents(audit_pb.ListEventsRequest())
        error = await refusal(stub.AppendEvents(audit_pb.AppendEventsRequest()))
        assert error.code() is grpc.StatusCode.PERMISSION_DENIED
    async with dial(address, papers.tls(folder / "orchestrator")) as channel:
        error = await refusal(
            audit_rpc.AuditServiceStub(channel).AppendEvents(audit_pb.AppendEventsRequest())
        )
        assert from_rpc(error, "audit").reason == "INVALID_ARGUMENT"  # let in, and then looked at
    await service.stop(0)


class Lets:
    """Takes everybody for the holder of one key."""

    async def admit(self, *_: object) -> None:
        context.caller.set(context.Caller("akey", "a test's", context.LOCAL.roles))

    async def until_refused(self) -> None:
        await asyncio.Event().wait()


async def test_the_gateway_is_known_by_its_certificate_and_not_by_its_word(folder: Path) -> None:
    """What it hands on it has counted; nobody else escapes his rate by saying so."""
    tls = papers.tls(folder / "audit", "winnow.audit.v1.AuditService=spiffe://winnow/tool/ci")
    rate = Rate(Buckets(MemoryStore(), 1, 0.01), 0)
    access: Any = Lets()
    service, address = await started(tls, access=access, limits=Limits(rate, None))
    told: dict[str, list[grpc.StatusCode]] = {}
    for name in ("gateway", "tool/ci"):
        async with dial(address, papers.tls(folder / name)) as channel:
            stub = audit_rpc.AuditServiceStub(channel)
            for _ in range(2):
                call = stub.ListEvents(
                    audit_pb.ListEventsRequest(), metadata=(context.THROUGH_GATEWAY,)
                )
                told.setdefault(name, []).append(await call.code())
    await service.stop(0)
    ok, spent = grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED
    assert told == {"gateway": [ok, ok], "tool/ci": [ok, spent]}


async def test_health_and_reflection_are_for_every_certificate_of_the_ca(
    ingestor: str, folder: Path, tmp_path: Path
) -> None:
    ca = certificates.Authority(folder)
    key = ec.generate_private_key(ec.SECP256R1())
    nameless = (
        certificates._begun(
            certificates._name("nobody"),
            ca._certificate.subject,
            key.public_key(),
            certificates.timedelta(days=1),
        )
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(ca._key, hashes.SHA256())
    )
    (tmp_path / "key.pem").write_bytes(certificates._private(key))
    (tmp_path / "cert.pem").write_bytes(nameless.public_bytes(Encoding.PEM))
    shutil.copy(folder / "ca" / "ca.pem", tmp_path)
    async with dial(ingestor, papers.tls(tmp_path)) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        answer = await health.Check(health_pb2.HealthCheckRequest())
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        asked = [reflection_pb2.ServerReflectionRequest(list_services="")]
        reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
        assert [one async for one in reflection.ServerReflectionInfo(iter(asked))]
        error = await refusal(IngestServiceStub(channel).ListFormats(ListFormatsRequest()))
        assert from_rpc(error, "ingestor").metadata["peer"] == "none"


async def test_renewed_certificates_are_taken_up_while_calls_go_on(
    folder: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "certs"
    shutil.copytree(folder, copy)
    handlers = Handlers()
    service, address = await started(papers.tls(copy / "audit"), handlers)
    async with dial(address, papers.tls(copy / "gateway")) as channel:
        stub = audit_rpc.AuditServiceStub(channel)
        watch = aiter(stub.WatchEvents(audit_pb.WatchEventsRequest()))
        await anext(watch)
        await stub.ListEvents(audit_pb.ListEventsRequest())
        # Of another CA altogether: what was given before holds no longer.
        shutil.rmtree(copy)
        certificates.init(copy, [], [], 365, 3650)
        await stub.ListEvents(audit_pb.ListEventsRequest())
        first, second = (one["x509_pem_cert"] for one in handlers.seen)
        assert first != second == [(copy / "gateway" / "cert.pem").read_bytes()]
        handlers.end.set()
        assert len([one async for one in watch]) == 1
    async with dial(address, papers.tls(folder / "gateway")) as channel:
        assert await trouble(channel) == "certificate"
    await service.stop(0)


async def test_files_that_are_half_renewed_change_nothing(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "certs"
    shutil.copytree(folder / "audit", copy)
    tls = papers.tls(copy)
    before = tls.files.current()
    (copy / "key.pem").write_bytes((folder / "gateway" / "key.pem").read_bytes())
    assert tls.files.current() is before
    (copy / "cert.pem").unlink()
    assert tls.files.current() is before
    (copy / "cert.pem").write_bytes((folder / "gateway" / "cert.pem").read_bytes())
    assert tls.files.current().certificate == (folder / "gateway" / "cert.pem").read_bytes()


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize(
    ("version", "allowed"), [(ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True)]
)
async def test_nothing_older_than_tls_1_2(
    version: ssl.TLSVersion, allowed: bool, ingestor: str, folder: Path
) -> None:
    context = ssl.create_default_context(cafile=folder / "ca" / "ca.pem")
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = version
    context.set_alpn_protocols(["h2"])
    context.load_cert_chain(
        folder / "orchestrator" / "cert.pem", folder / "orchestrator" / "key.pem"
    )
    host, port = ingestor.split(":")

    def shake() -> str | None:
        with (
            socket.create_connection((host, int(port)), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname=host) as wrapped,
        ):
            return wrapped.version()

    if allowed:
        assert await asyncio.to_thread(shake) == "TLSv1.2"
    else:
        with pytest.raises(ssl.SSLError, match="EOF"):
            await asyncio.to_thread(shake)


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("127.0.0.1:50051", True),
        ("127.8.9.10:1", True),
        ("localhost:50051", True),
        ("[::1]:50051", True),
        ("unix:/run/winnow/audit", True),
        ("0.0.0.0:50051", False),
        ("[::]:50051", False),
        ("10.0.0.7:50051", False),
        ("ingestor:50052", False),
        ("localhost.example:1", False),
        ("127.0.0.1.example:1", False),
        ("dns:///127.0.0.1:1", False),
        ("ipv4:127.0.0.1:1,10.0.0.7:1", False),
        ("unix-abstract:winnow", False),  # a socket without permissions
        ("[fe80::1%eth0]:1", False),
        ("", False),
    ],
)
async def test_nothing_leaves_the_machine_in_the_clear(address: str, local: bool) -> None:
    if local:
        await dial(address).close()
        return
    said = "is neither a Unix socket nor the loopback: set WINNOW_TLS_CERTIFICATE"
    with pytest.raises(ConfigError, match=said):
        dial(address)
    with pytest.raises(ConfigError, match=said):
        await Service(address, [AUDIT], lambda server: None).start()


async def test_a_gateway_says_so_before_it_listens() -> None:
    with pytest.raises(ConfigError, match="orchestrator:50051 is neither"):
        build_gateway(settings(GatewaySettings, orchestrator_address="orchestrator:50051"))


async def test_a_socket_is_for_its_owner_only(folder: Path, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        for name, tls in (("plain", None), ("tls", papers.tls(folder / "audit"))):
            service = Service(f"unix:{tmp_path / name}", [AUDIT], lambda server: None, tls=tls)
            await service.start()
            assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
            # Permissions guard it; a certificate is asked of nobody.
            async with dial(f"unix:{tmp_path / name}") as channel:
                assert await trouble(channel) == ""
            await service.stop(0)
        assert os.umask(0) == 0
    finally:
        os.umask(before)


async def readiness(gateway: Path, orchestrator: str, audit: str, between: Any) -> list[str]:
    """What a gateway says it misses, before and after something."""
    addresses = {"orchestrator_address": orchestrator, "audit_address": audit}
    app = build_gateway(settings(GatewaySettings, **addresses, **papers.files(gateway)))
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://x") as http,
    ):
        first = await http.get("/readyz")
        await between
        second = await http.get("/readyz")
    assert (first.status_code, second.status_code) == (503, 503)
    return [answer.json()["detail"] for answer in (first, second)]


async def test_readiness_tells_a_certificate_from_silence(folder: Path, foreign: Path) -> None:
    orchestrator, where = await started(papers.tls(folder / "orchestrator"), named=REPORTS)
    audit, other = await started(papers.tls(foreign / "audit"))
    said = await readiness(folder / "gateway", where, other, orchestrator.stop(0))
    await audit.stop(0)
    assert said == [
        "not serving: audit (certificate)",
        "not serving: orchestrator (no answer), audit (certificate)",
    ]


async def test_readiness_tells_whom_the_services_let_nothing_do(folder: Path) -> None:
    orchestrator, where = await started(papers.tls(folder / "orchestrator"), named=REPORTS)
    audit, other = await started(papers.tls(folder / "audit"))
    said = await readiness(folder / "moderator", where, other, audit.stop(0))
    await orchestrator.stop(0)
    why = "this certificate's identity may not call it"
    assert said == [
        f"not serving: orchestrator ({why}), audit ({why})",
        f"not serving: orchestrator ({why}), audit (no answer)",
    ]


async def test_a_command_shows_its_certificate_too(
    folder: Path, foreign: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ClientError, match="is neither a Unix socket nor the loopback"):
        client("grpc://orchestrator:50051")
    service, address = await started(
        papers.tls(folder / "audit", "winnow.audit.v1.AuditService=spiffe://winnow/tool/ci")
    )

    def events(of: Path, who: str = "tool/ci") -> list[Any]:
        for name, file in papers.files(of / who).items():
            monkeypatch.setenv(f"WINNOW_{name.upper()}", str(file))
        return client(f"grpc://{address}").events("01900000-0000-7000-8000-000000000000")

    assert await asyncio.to_thread(events, folder) == []
    with pytest.raises(ClientError, match="do not accept each other's certificates"):
        await asyncio.to_thread(events, foreign)
    with pytest.raises(ClientError, match="lets nobody with this certificate's identity call it"):
        await asyncio.to_thread(events, folder, "moderator")
    await service.stop(0)


def test_every_service_of_the_contracts_has_its_callers() -> None:
    contracts = {service.full_name: service for service in descriptors()}
    services = {name for name in CALLERS if "/" not in name}
    assert {name for name in services if not name.startswith("grpc.")} == set(contracts)
    for name in set(CALLERS) - services:
        service, method = name.split("/")
        assert method in contracts[service].methods_by_name
    open_to_all = {name for name, callers in CALLERS.items() if ANYONE in callers}
    assert open_to_all == {"grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}


class Caller:
    """The context of a call by this identity."""

    def __init__(self, identity: str) -> None:
        self._identity = identity

    def auth_context(self) -> dict[str, list[bytes]]:
        return {"peer_spiffe_id": [self._identity.encode()]} if self._identity else {}


def may(peers: Peers, identity: str, method: str) -> bool:
    try:
        peers.check(f"/{method}", Caller(identity))
    except WinnowError:
        return False
    return True


@pytest.mark.parametrize("service", sorted(descriptors(), key=lambda one: one.full_name))
def test_the_whole_table(service: ServiceDescriptor) -> None:
    """Ingestor and moderator hear the orchestrator only; nobody hears those two."""
    package = service.full_name.split(".")[1]
    for method in service.methods_by_name:
        path = f"{service.full_name}/{method}"
        allowed = {
            name
            for name in (*certificates.SERVICES, "tool/ci", "tool/a/b", "other", "")
            if may(Peers(), f"spiffe://winnow/{name}" if name else "", path)
        }
        if package in ("ingest", "moderate") or method == "AppendEvents":
            assert allowed == {"orchestrator"}, path
        elif method in ("VerifySignature", "TakeTokens"):
            assert allowed == {"gateway"}, path
        elif package == "audit":
            assert allowed == {"orchestrator", "gateway"}, path
        else:
            assert allowed == {"gateway", "tool/ci"}, path
        assert not may(Peers(), "spiffe://elsewhere/orchestrator", path)


def test_settings_add_callers_and_not_to_methods_of_their_own() -> None:
    audit = "winnow.audit.v1.AuditService"
    mesh = "spiffe://cluster.local/ns/winnow/sa/orchestrator"
    peers = Peers(
        [
            f"{audit}=spiffe://winnow/tool/auditor",
            f"{audit}/AppendEvents={mesh}",
            f"{audit}/GetCheckpoint=spiffe://winnow/tool/*",
        ]
    )
    assert may(peers, "spiffe://winnow/tool/auditor", f"{audit}/ListEvents")
    assert not may(peers, "spiffe://winnow/tool/auditor", f"{audit}/AppendEvents")
    assert not may(peers, "spiffe://winnow/tool/other", f"{audit}/ListEvents")
    assert may(peers, mesh, f"{audit}/AppendEvents")
    assert not may(peers, mesh, f"{audit}/ListEvents")
    assert may(peers, "spiffe://winnow/tool/other", f"{audit}/GetCheckpoint")
    assert may(peers, "spiffe://winnow/gateway", f"{audit}/GetCheckpoint")


@pytest.mark.parametrize(
    "entry",
    [
        "canary",
        "audit=spiffe://winnow/tool/x",
        "winnow.audit.v1.AuditService=",
        "winnow.audit.v1.AuditService=*",
        "winnow.audit.v1.AuditService=spiffe://*",
        "winnow.audit.v1.AuditService=https://winnow/tool/x",
    ],
)
def test_an_addition_that_says_nothing_is_refused(entry: str) -> None:
    with pytest.raises(ConfigError, match="WINNOW_PEERS_ALLOWED: must read") as caught:
        Tls.of(Settings(peers_allowed=entry))
    assert "canary" not in str(caught.value)


def test_an_identity_that_is_none_is_not_shown() -> None:
    for identity in ("spiffe://x/\x1b[31m", "spiffe://x/" + "a" * 500, "canary"):
        with pytest.raises(WinnowError) as caught:
            Peers().check("/winnow.seal.v1.SealService/GetSealing", Caller(identity))
        assert caught.value.metadata == {"peer": "none"}


async def test_calls_are_spread_over_all_copies_of_a_service(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whom a name of two addresses stands for; one of them says that it does not serve."""
    (one, first), (other, second) = [
        await started(papers.tls(folder / "audit")) for _ in ("one", "other")
    ]
    await other._say(health_pb2.HealthCheckResponse.NOT_SERVING)
    connect = grpc.aio.secure_channel

    def both(_target: str, *credentials: Any, options: list[tuple[str, Any]]) -> grpc.aio.Channel:
        named = [*options, ("grpc.ssl_target_name_override", "localhost")]
        return connect(f"ipv4:{first},{second}", *credentials, options=named)

    monkeypatch.setattr(grpc.aio, "secure_channel", both)
    said: list[str] = []
    async with dial("localhost:1", papers.tls(folder / "gateway")) as channel:
        while not {"", "not serving"} <= set(said) and len(said) < 200:
            said.append(await trouble(channel, 10))
        said = [await trouble(channel, 10) for _ in range(10)]
    assert (said.count(""), said.count("not serving")) == (5, 5)
    for service in (one, other):
        await service.stop(0)
