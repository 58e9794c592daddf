"""Which calls are admitted: the key, its roles, its tenant, and for how long."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Iterable
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from orchestrator import store_access
from runtime import access as access_module
from runtime import api_keys, context
from runtime.access import RULES, Access, granted
from runtime.clock import now
from runtime.database import Database
from runtime.errors import WinnowError
from runtime.keyring import Keyring
from winnow.access.v1 import access_service_pb2
from winnow.access.v1.api_key_pb2 import Role

LIST = "/winnow.report.v1.ReportService/ListReports"
DECIDE = "/winnow.report.v1.DecisionService/DecideFinding"
APPEND = "/winnow.audit.v1.AuditService/AppendEvents"
VERIFY = "/winnow.access.v1.AccessService/VerifySignature"
WHOAMI = "/winnow.access.v1.AccessService/GetCaller"
# They keep nothing, and check no keys.
STATELESS = ("winnow.ingest.", "winnow.moderate.")


RING = Keyring((b"k" * 32,))
EVERY = frozenset(Role.values()) - {Role.ROLE_UNSPECIFIED}


def sent(key: str, tenant: str = "") -> tuple[tuple[str, str], ...]:
    """The metadata of a call with a key."""
    named = (("x-winnow-tenant", tenant),) if tenant else ()
    return (("authorization", f"Bearer {key}"), *named)


class Keys:
    """Makes keys of a tenant that has no others, and counts what they cost."""

    def __init__(self, database: Database) -> None:
        self.tenant = f"t{uuid.uuid4().hex[:12]}"
        self._database = database
        self.queries = 0
        self.access = Access(self, required=True, keyring=RING)  # type: ignore[arg-type]

    async def run(self, work: Any, *arguments: Any) -> Any:
        self.queries += 1
        return await self._database.run(work, *arguments)

    async def make(self, *roles: int, ends: timedelta | None = None) -> tuple[str, str]:
        key, secret = await self._database.run(
            store_access.create,
            self.tenant,
            "a test's",
            list(roles),
            now() + ends if ends else None,
            "operator",
        )
        return key.key_id, secret

    async def revoke(self, key_id: str) -> None:
        await self._database.run(store_access.revoke, self.tenant, key_id, "operator")

    async def refusal(self, method: str, metadata: Any) -> WinnowError:
        with pytest.raises(WinnowError) as caught:
            await self.access.admit(method, metadata)
        assert not any(part in str(caught.value) for part in ("wnw_a", self.tenant))
        return caught.value


@pytest.fixture
def keys(database: Database) -> Keys:
    return Keys(database)


def methods() -> Iterable[str]:
    """Every RPC of the contracts whose service checks keys."""
    root = Path(access_service_pb2.__file__).parents[3]
    for file in root.rglob("*_service_pb2.py"):
        name = ".".join(file.relative_to(root).with_suffix("").parts)
        if not name.startswith(STATELESS):
            for service in import_module(name).DESCRIPTOR.services_by_name.values():
                yield from (f"/{service.full_name}/{method.name}" for method in service.methods)


def test_every_rpc_has_its_rule_and_every_rule_its_rpc() -> None:
    assert set(RULES) == set(methods())
    assert len(RULES) > 30


def test_the_document_says_the_same() -> None:
    text = (Path(__file__).parents[2] / "docs" / "access.md").read_text()
    told: dict[str, set[str]] = {}
    for role in (*(Role.Name(number)[5:].lower() for number in EVERY), "any"):
        (row,) = re.findall(rf"^\| {role} \| (.*) \|$", text, re.MULTILINE)
        for method in re.findall(r"`(\w+)`", row):
            told.setdefault(method, set()).add(role)
    assert told == {
        method.rpartition("/")[2]: {"any"}
        if rule.roles == EVERY
        else {Role.Name(role)[5:].lower() for role in rule.roles}
        for method, rule in RULES.items()
        if rule.roles
    }


def test_only_peers_go_without_a_role() -> None:
    assert [method for method, rule in RULES.items() if not rule.roles] == [VERIFY, APPEND]
    for rule in RULES.values():
        assert Role.ROLE_UNSPECIFIED not in rule.roles
        assert rule.roles or rule.peer


def test_admin_includes_all_but_the_raw_bytes() -> None:
    assert granted([Role.ROLE_ADMIN]) == EVERY - {Role.ROLE_RAW}
    for role in EVERY - {Role.ROLE_ADMIN}:
        assert granted([role]) == {role}


async def test_a_key_says_who_calls(keys: Keys) -> None:
    key_id, secret = await keys.make(Role.ROLE_READ)
    await keys.access.admit(LIST, sent(secret))
    assert context.tenant.get() == keys.tenant
    assert context.caller.get() == (key_id, "a test's", {Role.ROLE_READ})
    await keys.access.admit(LIST, sent(secret, keys.tenant))


async def test_another_tenant_than_the_keys_is_refused(keys: Keys) -> None:
    _, secret = await keys.make(Role.ROLE_READ)
    error = await keys.refusal(LIST, sent(secret, "default"))
    assert (error.reason, error.metadata) == ("PERMISSION_DENIED", {"role": "tenant"})


async def test_a_missing_role_is_named(keys: Keys) -> None:
    _, secret = await keys.make(Role.ROLE_READ, Role.ROLE_RAW)
    error = await keys.refusal(DECIDE, sent(secret))
    assert (error.reason, error.metadata) == ("PERMISSION_DENIED", {"role": "moderate"})
    assert "lacks the role moderate" in error.message


async def test_without_a_key_only_peers_call_where_keys_are_needed(keys: Keys) -> None:
    assert (await keys.refusal(LIST, ())).reason == "UNAUTHENTICATED"
    assert (await keys.refusal(WHOAMI, (("authorization", "Basic x"),))).reason == "UNAUTHENTICATED"
    await keys.access.admit(APPEND, ())
    assert context.caller.get() == context.LOCAL
    _, secret = await keys.make(*EVERY)
    error = await keys.refusal(APPEND, sent(secret))
    assert (error.reason, error.metadata) == ("PERMISSION_DENIED", {})


async def test_where_no_key_is_needed_one_that_is_shown_is_checked(database: Database) -> None:
    lenient = Access(database, required=False)
    await lenient.admit(LIST, ())
    with pytest.raises(WinnowError, match="not known here"):
        await lenient.admit(LIST, sent(api_keys.make().text))


async def test_a_wrong_secret_is_compared_in_constant_time(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    key_id, secret = await keys.make(Role.ROLE_READ)
    compared: list[tuple[bytes, bytes]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return one == other

    monkeypatch.setattr(access_module.hmac, "compare_digest", compare)
    guessed = api_keys.Shown(key_id, api_keys.make().secret)
    right = api_keys.parse(secret)
    assert right is not None
    for _ in range(2):  # looked up, and held
        error = await keys.refusal(LIST, sent(guessed.text))
        assert error.message == "the API key is not known here"
    assert compared
    assert set(compared) == {(right.digest, guessed.digest)}
    # A guess is no use of the key.
    assert await last_used(keys, key_id) is None
    await keys.access.admit(LIST, sent(secret))


async def test_an_expired_key_is_refused_at_that_moment(keys: Keys) -> None:
    _, secret = await keys.make(Role.ROLE_READ, ends=timedelta(seconds=0.5))
    await keys.access.admit(LIST, sent(secret))
    await asyncio.sleep(0.55)
    assert "expired" in (await keys.refusal(LIST, sent(secret))).message


async def test_a_busy_key_costs_no_query_and_a_revoked_one_is_soon_refused(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert access_module.FRESH_SECONDS < 5
    clock = [1000.0]
    monkeypatch.setattr(access_module.time, "monotonic", lambda: clock[0])
    key_id, secret = await keys.make(Role.ROLE_READ)
    for _ in range(100):
        await keys.access.admit(LIST, sent(secret))
    assert keys.queries == 1
    await keys.revoke(key_id)
    await keys.access.admit(LIST, sent(secret))
    clock[0] += access_module.FRESH_SECONDS
    assert "revoked" in (await keys.refusal(LIST, sent(secret))).message
    assert keys.queries == 2


async def test_whoever_revokes_refuses_at_once(keys: Keys) -> None:
    key_id, secret = await keys.make(Role.ROLE_READ)
    await keys.access.admit(LIST, sent(secret))
    await keys.revoke(key_id)
    keys.access.forget(key_id)
    assert "revoked" in (await keys.refusal(LIST, sent(secret))).message


async def test_keys_that_nobody_has_fill_no_memory(keys: Keys) -> None:
    for _ in range(20):
        await keys.refusal(LIST, sent(api_keys.make().text))
    assert keys.access._known == {}


async def test_a_stream_is_told_when_its_key_ends(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_module, "FRESH_SECONDS", 0.05)
    key_id, secret = await keys.make(Role.ROLE_READ)
    await keys.access.admit(LIST, sent(secret))
    watching = asyncio.create_task(keys.access.until_refused())
    await asyncio.sleep(0.2)
    assert not watching.done()
    await keys.revoke(key_id)
    async with asyncio.timeout(5):
        assert (await watching).reason == "UNAUTHENTICATED"


async def last_used(keys: Keys, key_id: str) -> Any:
    query = text("SELECT last_used_at FROM access.api_keys WHERE key_id = :id")
    return await keys._database.run(lambda c: c.execute(query, {"id": key_id}).scalar_one())


async def test_use_is_written_down_to_the_minute_by_who_may_write(keys: Keys) -> None:
    key_id, secret = await keys.make(Role.ROLE_READ)
    reader = Access(keys._database, required=True)
    await reader.admit(LIST, sent(secret))
    assert await last_used(keys, key_id) is None
    await keys.access.admit(LIST, sent(secret))
    used = await last_used(keys, key_id)
    assert (used.second, used.microsecond) == (0, 0)
    assert timedelta(0) <= now() - used < timedelta(minutes=2)


async def test_what_is_kept_opens_nothing(keys: Keys) -> None:
    key_id, secret = await keys.make(Role.ROLE_READ)
    query = text("SELECT row_to_json(k)::text FROM access.api_keys AS k WHERE key_id = :id")
    row = await keys._database.run(lambda c: c.execute(query, {"id": key_id}).scalar_one())
    shown = api_keys.parse(secret)
    assert shown is not None
    assert shown.digest.hex() in row
    assert shown.secret not in row


async def test_made_up_keys_wait_apart(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever floods a service with them is refused; a key that was seen is not held up."""
    key_id, secret = await keys.make(Role.ROLE_READ)
    await keys.access.admit(LIST, sent(secret))
    look_up, asked, let = keys.run, [], asyncio.Event()

    async def slow(work: Any, *arguments: Any) -> Any:
        if arguments[0] != key_id:
            asked.append(arguments[0])
            await let.wait()
        return await look_up(work, *arguments)

    monkeypatch.setattr(keys, "run", slow)
    made_up = [sent(api_keys.make().text) for _ in range(access_module._STRANGERS + 3)]
    calls = [asyncio.create_task(keys.refusal(LIST, one)) for one in made_up]
    await asyncio.sleep(0.05)
    assert len(asked) == 1
    monkeypatch.setattr(access_module, "FRESH_SECONDS", 0.0)
    keys.access._known[key_id] = keys.access._known[key_id]._replace(until=0.0)
    await keys.access.admit(LIST, sent(secret))
    let.set()
    reasons = [error.reason for error in await asyncio.gather(*calls)]
    assert sorted(set(reasons)) == ["OVERLOADED", "UNAUTHENTICATED"]
    assert reasons.count("OVERLOADED") == 3
