"""API keys at the services themselves: each role against each RPC, and their life."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any, NamedTuple

import grpc
import pytest
from sqlalchemy import select

import audit.app
import orchestrator.app
from orchestrator import store_access
from orchestrator.tables import outbox
from runtime import access as access_module
from runtime import api_keys
from runtime.access import RULES
from runtime.channels import PeerStatus
from runtime.config import ConfigError
from runtime.database import Database
from runtime.errors import from_rpc
from tests.harness import serving, settings
from winnow.access.v1 import access_service_pb2 as pb
from winnow.access.v1.access_service_pb2_grpc import AccessServiceStub
from winnow.access.v1.api_key_pb2 import Role
from winnow.audit.v1 import audit_service_pb2
from winnow.audit.v1.audit_service_pb2_grpc import AuditServiceStub
from winnow.event.v1.envelope_pb2 import Envelope
from winnow.report.v1.report_service_pb2 import SubmitReportHeader, SubmitReportRequest
from winnow.report.v1.report_service_pb2_grpc import ReportServiceStub

ROLES = [role for role in Role.values() if role != Role.ROLE_UNSPECIFIED]
# What no message is: who is let in is told so, and nothing is done.
NONSENSE = b"\xff"


class House(NamedTuple):
    """An orchestrator and an audit service that need keys, and what they serve."""

    channels: list[grpc.aio.Channel]
    served: list[list[str]]
    keys: Any
    tenant: str


def bearer(secret: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {secret}"),)


async def make(database: Database, tenant: str, *roles: int) -> tuple[str, str]:
    """A key's id, and the key."""
    key, secret = await database.run(
        store_access.create, tenant, "a test's", list(roles), None, "operator"
    )
    return key.key_id, secret


@pytest.fixture
async def house(database_url: str) -> AsyncIterator[House]:
    async with AsyncExitStack() as stack:
        channels, served = [], []
        address = ""
        for app, name in ((audit.app, "Audit"), (orchestrator.app, "Orchestrator")):
            given = settings(
                getattr(app, f"{name}Settings"),
                database_url,
                auth="keys",
                audit_address=address,
                audit_required=True,
            )
            made = app.build(given)
            address, channel = await stack.enter_async_context(serving(made))
            channels.append(channel)
            served.append([method for method in RULES if method.split("/")[1] in made._names])
        tenant = f"t{uuid.uuid4().hex[:12]}"
        yield House(channels, served, AccessServiceStub(channels[1]), tenant)


async def outcome(channel: grpc.aio.Channel, method: str, metadata: Any) -> str:
    """The reason that a call of nonsense is refused for."""
    streams_in = method.endswith("/SubmitReport")
    streams_out = "/Watch" in method or method.endswith("/GetRawReport")
    kind = f"{'stream' if streams_in else 'unary'}_{'stream' if streams_out else 'unary'}"
    call = getattr(channel, kind)(method)(
        iter([NONSENSE]) if streams_in else NONSENSE, metadata=metadata, timeout=20
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        if streams_out:
            async for _ in call:
                raise AssertionError("nonsense was answered")
        else:
            await call
    return from_rpc(caught.value, "service").reason


async def test_each_role_may_call_what_its_rule_says_and_nothing_else(
    house: House, database: Database
) -> None:
    secrets = {role: (await make(database, house.tenant, role))[1] for role in ROLES}
    called = 0
    for channel, served in zip(house.channels, house.served, strict=True):
        for method in served:
            for role, secret in secrets.items():
                admitted = role in RULES[method].roles or (
                    role == Role.ROLE_ADMIN and RULES[method].roles - {Role.ROLE_RAW}
                )
                expected = "INVALID_ARGUMENT" if admitted else "PERMISSION_DENIED"
                assert await outcome(channel, method, bearer(secret)) == expected, (method, role)
                called += 1
    assert called >= 100


async def test_without_a_key_nothing_but_what_peers_call(house: House) -> None:
    for channel, served in zip(house.channels, house.served, strict=True):
        for method in served:
            expected = "INVALID_ARGUMENT" if RULES[method].peer else "UNAUTHENTICATED"
            assert await outcome(channel, method, ()) == expected, method
            unknown = bearer(api_keys.make().text)
            assert await outcome(channel, method, unknown) == "UNAUTHENTICATED", method


async def test_no_key_appends_to_the_audit_log(house: House, database: Database) -> None:
    _, secret = await make(database, house.tenant, *ROLES)
    stub = AuditServiceStub(house.channels[0])
    event = Envelope(event_id=str(uuid.uuid4()), event_type="FORGED", tenant_id=house.tenant)
    request = audit_service_pb2.AppendEventsRequest(events=[event])
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.AppendEvents(request, metadata=bearer(secret))
    assert from_rpc(caught.value, "audit").reason == "PERMISSION_DENIED"


async def test_a_keys_life(house: House, database: Database) -> None:
    maker, admin = await make(database, house.tenant, Role.ROLE_ADMIN)
    request = pb.CreateApiKeyRequest(name="ci", roles=[Role.ROLE_SUBMIT, Role.ROLE_READ])
    request.expires_in.FromSeconds(3600)
    made = await house.keys.CreateApiKey(request, metadata=bearer(admin))
    shown = api_keys.parse(made.secret)
    assert shown is not None
    key = made.key
    assert (key.key_id, key.name, key.tenant_id) == (shown.key_id, "ci", house.tenant)
    assert (list(key.roles), key.created_by) == ([Role.ROLE_SUBMIT, Role.ROLE_READ], maker)
    assert 3590 < key.expires_at.ToSeconds() - key.created_at.ToSeconds() <= 3601

    caller = await house.keys.GetCaller(pb.GetCallerRequest(), metadata=bearer(made.secret))
    assert (caller.tenant_id, caller.key_id, caller.name) == (house.tenant, key.key_id, "ci")
    assert list(caller.roles) == [Role.ROLE_SUBMIT, Role.ROLE_READ]

    revoke = pb.RevokeApiKeyRequest(key_id=key.key_id)
    ended = (await house.keys.RevokeApiKey(revoke, metadata=bearer(admin))).key
    assert ended.HasField("revoked_at")
    again = (await house.keys.RevokeApiKey(revoke, metadata=bearer(admin))).key
    assert again.revoked_at == ended.revoked_at
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await house.keys.GetCaller(pb.GetCallerRequest(), metadata=bearer(made.secret))
    refused = from_rpc(caught.value, "orchestrator")
    assert (refused.reason, refused.message) == ("UNAUTHENTICATED", "the API key was revoked")


async def test_keys_are_listed_by_page_newest_first_and_without_their_secrets(
    house: House, database: Database
) -> None:
    made = [await make(database, house.tenant, Role.ROLE_ADMIN) for _ in range(5)]
    await make(database, f"{house.tenant}x", Role.ROLE_ADMIN)
    listed, token = [], ""
    while True:
        request = pb.ListApiKeysRequest(page_size=2, page_token=token)
        page = await house.keys.ListApiKeys(request, metadata=bearer(made[0][1]))
        listed += [key.key_id for key in page.keys]
        token = page.next_page_token
        if not token:
            break
        assert len(page.keys) == 2
    assert listed == [key_id for key_id, _ in reversed(made)]


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        (pb.CreateApiKeyRequest(name="x"), "roles"),
        (pb.CreateApiKeyRequest(name="x", roles=[0]), "roles"),
        (pb.CreateApiKeyRequest(name="x", roles=[77]), "roles"),
        (pb.CreateApiKeyRequest(roles=[Role.ROLE_READ]), "name"),
        (pb.CreateApiKeyRequest(name="x", roles=[2], expires_in={"seconds": -1}), "expires_in"),
        (
            pb.CreateApiKeyRequest(name="x", roles=[2], expires_in={"seconds": 1 << 40}),
            "expires_in",
        ),
        (pb.CreateApiKeyRequest(name="x", roles=[2], expires_in={}), "expires_in"),
    ],
)
async def test_a_wrong_wish_names_its_field(
    house: House, database: Database, wanted: Any, field: str
) -> None:
    _, admin = await make(database, house.tenant, Role.ROLE_ADMIN)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await house.keys.CreateApiKey(wanted, metadata=bearer(admin))
    refused = from_rpc(caught.value, "orchestrator")
    assert (refused.reason, refused.metadata["field"]) == ("INVALID_ARGUMENT", field)


async def test_a_key_gives_no_more_than_it_has(house: House, database: Database) -> None:
    _, admin = await make(database, house.tenant, Role.ROLE_ADMIN)
    wanted = pb.CreateApiKeyRequest(name="x", roles=[Role.ROLE_READ, Role.ROLE_RAW])
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await house.keys.CreateApiKey(wanted, metadata=bearer(admin))
    refused = from_rpc(caught.value, "orchestrator")
    assert (refused.reason, refused.metadata) == ("PERMISSION_DENIED", {"role": "raw"})
    _, both = await make(database, house.tenant, Role.ROLE_ADMIN, Role.ROLE_RAW)
    await house.keys.CreateApiKey(wanted, metadata=bearer(both))


async def test_another_tenants_key_is_not_there(house: House, database: Database) -> None:
    _, admin = await make(database, house.tenant, Role.ROLE_ADMIN)
    theirs, secret = await make(database, f"{house.tenant}x", Role.ROLE_ADMIN)
    for key_id in (theirs, "aaaaaaaaaaaa", secret[:30]):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await house.keys.RevokeApiKey(
                pb.RevokeApiKeyRequest(key_id=key_id), metadata=bearer(admin)
            )
        refused = from_rpc(caught.value, "orchestrator")
        assert refused.reason == "API_KEY_NOT_FOUND"
        assert "wnw_" not in repr(refused.metadata)
    await house.keys.GetCaller(pb.GetCallerRequest(), metadata=bearer(secret))


async def test_keys_and_their_ends_are_in_the_outbox_once_and_without_secrets(
    database: Database,
) -> None:
    """No service runs here: nobody takes events out."""
    tenant = f"t{uuid.uuid4().hex[:12]}"
    key_id, secret = await make(database, tenant, Role.ROLE_READ)
    for _ in range(2):
        await database.run(store_access.revoke, tenant, key_id, "somebody")
    query = select(outbox.c.event).where(outbox.c.tenant_id == tenant).order_by(outbox.c.seq)
    stored = await database.run(lambda connection: connection.execute(query).scalars().all())
    made, ended = map(Envelope.FromString, stored)
    assert (made.event_type, ended.event_type) == ("API_KEY_CREATED", "API_KEY_REVOKED")
    assert made.subject == ended.subject == f"keys/{key_id}"
    assert dict(ended.payload.items()) == {"api_key_id": key_id, "actor": "somebody"}
    assert made.payload["actor"] == "operator"
    assert list(made.payload["roles"]) == ["read"]
    assert secret.rpartition("_")[2][:20] not in repr(stored)


async def test_a_stream_ends_with_its_key(
    house: House, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_module, "FRESH_SECONDS", 0.1)
    key_id, secret = await make(database, house.tenant, Role.ROLE_READ)
    stub = AuditServiceStub(house.channels[0])
    watch = stub.WatchEvents(
        audit_service_pb2.WatchEventsRequest(), metadata=bearer(secret), timeout=20
    )
    await watch.wait_for_connection()
    await database.run(store_access.revoke, house.tenant, key_id, "operator")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in watch:
            pass
    assert from_rpc(caught.value, "audit").message == "the API key was revoked"


async def test_an_upload_ends_with_its_key(
    house: House, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_module, "FRESH_SECONDS", 0.1)
    key_id, secret = await make(database, house.tenant, Role.ROLE_SUBMIT)
    begun = asyncio.Event()

    async def slowly() -> AsyncIterator[SubmitReportRequest]:
        yield SubmitReportRequest(header=SubmitReportHeader())
        yield SubmitReportRequest(chunk=b"[")
        begun.set()
        await asyncio.sleep(30)

    stub = ReportServiceStub(house.channels[1])
    upload = stub.SubmitReport(slowly(), metadata=bearer(secret), timeout=20)
    status = PeerStatus(upload)
    await begun.wait()
    await database.run(store_access.revoke, house.tenant, key_id, "operator")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await upload
    assert from_rpc(status.of(caught.value), "orchestrator").message == "the API key was revoked"


@pytest.mark.parametrize("app", [audit.app, orchestrator.app])
def test_no_service_that_others_reach_goes_without_keys(app: Any) -> None:
    name = app.__name__.split(".")[0]
    settings_class = getattr(app, f"{name.title()}Settings")
    listen = {f"{name}_listen": "0.0.0.0:0"}
    with pytest.raises(ConfigError, match="WINNOW_AUTH: none is for addresses"):
        app.build(settings(settings_class, "postgresql://h/d", auth="none", **listen))
    given = settings(settings_class, "postgresql://h/d")
    for needed in ("0.0.0.0:1", "[::]:1", "audit.example:1", "10.0.0.1:1"):
        assert given.keys_needed(needed)
    for local in ("unix:/s", "127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "localhost:1"):
        assert not given.keys_needed(local)
