"""Who may call what: API keys, roles, and the one table of RPCs and roles.

A key decides who a caller is: its tenant, its name, what it may do. It is looked up
in `access.api_keys` and held for a moment, so that a busy key costs no query a call
and a revoked one is refused soon (`FRESH_SECONDS`). Both services that own data check
keys: the orchestrator, which also makes and revokes them, and the audit service.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    DateTime,
    Identity,
    Index,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    func,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY

from runtime import api_keys, context
from runtime.api_keys import Shown
from runtime.clock import now
from runtime.database import Database
from runtime.errors import WinnowError
from winnow.access.v1.api_key_pb2 import Role

# For how long what is known of a key is believed.
FRESH_SECONDS = 2.0
# Of keys that were never seen, how many wait to be looked up.
_STRANGERS = 64

metadata = MetaData(schema="access")

keys = Table(
    "api_keys",
    metadata,
    Column("key_id", Text, primary_key=True),
    Column("number", BigInteger, Identity(always=True), nullable=False),
    Column("tenant_id", Text, nullable=False),
    Column("name", Text, nullable=False),
    # Numbers of winnow.access.v1.Role.
    Column("roles", ARRAY(SmallInteger), nullable=False),
    Column("secret_sha256", LargeBinary, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("created_by", Text, nullable=False),
    Column("expires_at", DateTime(timezone=True)),
    Column("revoked_at", DateTime(timezone=True)),
    Column("last_used_at", DateTime(timezone=True)),
    Index("api_keys_by_tenant", "tenant_id", "number"),
)


class Rule(NamedTuple):
    """Who may call an RPC.

    Args:
        roles: of which a key must have one.
        peer: services of the house call it, and they show no key.
    """

    roles: frozenset[Role.ValueType]
    peer: bool = False


_SUBMIT = Rule(frozenset({Role.ROLE_SUBMIT}))
_READ = Rule(frozenset({Role.ROLE_READ}))
_FOLLOW = Rule(frozenset({Role.ROLE_SUBMIT, Role.ROLE_READ}))
_RAW = Rule(frozenset({Role.ROLE_RAW}))
_MODERATE = Rule(frozenset({Role.ROLE_MODERATE}))
_ADMIN = Rule(frozenset({Role.ROLE_ADMIN}))
_ANY = Rule(frozenset(Role.values()) - {Role.ROLE_UNSPECIFIED})
_PEER = Rule(frozenset(), peer=True)

# Every RPC of the services that check keys; a test holds it against the contracts.
RULES: dict[str, Rule] = {
    f"/winnow.{service}/{method}": rule
    for service, methods in {
        "report.v1.ReportService": {
            "SubmitReport": _SUBMIT,
            "CancelReport": _SUBMIT,
            "WatchReport": _FOLLOW,
            "GetReport": _READ,
            "ListReports": _READ,
            "ListFindings": _READ,
            "GetFinding": _READ,
            "ListRejected": _READ,
            "ListFormats": _ANY,
            "RejudgeReport": _MODERATE,
            "GetRawReport": _RAW,
            "ShredReport": _ADMIN,
            "DeleteReport": _ADMIN,
        },
        "report.v1.CredentialService": {"ListCredentials": _READ, "GetCredential": _READ},
        "report.v1.DecisionService": {
            "DecideFinding": _MODERATE,
            "DecideFindings": _MODERATE,
            "WithdrawDecision": _MODERATE,
            "ListDecisions": _READ,
        },
        "queue.v1.QueueService": {
            "GetQueueHealth": _ADMIN,
            "ListJobs": _ADMIN,
            "RetryJob": _ADMIN,
        },
        "seal.v1.SealService": {"GetSealing": _ADMIN, "RotateSealing": _ADMIN},
        "access.v1.AccessService": {
            "CreateApiKey": _ADMIN,
            "ListApiKeys": _ADMIN,
            "RevokeApiKey": _ADMIN,
            "GetCaller": _ANY,
        },
        "audit.v1.AuditService": {
            "AppendEvents": _PEER,
            "ListEvents": _READ,
            # Before it accepts a report the orchestrator asks whether the log can be written.
            "GetCheckpoint": _READ._replace(peer=True),
            "GetInclusionProof": _READ,
            "GetConsistencyProof": _READ,
            "WatchEvents": _READ,
        },
    }.items()
    for method, rule in methods.items()
}

_INCLUDED = {
    Role.ROLE_ADMIN: frozenset({Role.ROLE_SUBMIT, Role.ROLE_READ, Role.ROLE_MODERATE}),
}


def granted(roles: Iterable[Role.ValueType]) -> frozenset[Role.ValueType]:
    """The roles, and those that they include."""
    own = frozenset(roles)
    return own.union(*(more for role, more in _INCLUDED.items() if role in own))


class _Known(NamedTuple):
    """A key as it was found, and until when that is believed (monotonic seconds)."""

    until: float
    digest: bytes
    tenant: str
    caller: context.Caller
    expires_at: datetime | None
    revoked_at: datetime | None


class Access:
    """Admits calls, by the key that they show.

    Args:
        database: where keys are kept.
        required: whether a call without a key is refused, unless a peer may make it.
        notes_use: whether to write down when a key was last shown.
    """

    def __init__(self, database: Database, *, required: bool, notes_use: bool = True) -> None:
        self._database = database
        self._required = required
        self._notes_use = notes_use
        self._known: dict[str, _Known] = {}
        # Keys that were never seen are looked up one at a time: made-up ones must not stand
        # in the way of those that are known.
        self._strangers = asyncio.Lock()
        self._queued = 0

    async def admit(self, method: str, sent: Sequence[tuple[str, str | bytes]]) -> None:
        """Sets tenant and caller of the current task's context from the key that is shown.

        Args:
            method: full name of the RPC, as gRPC has it.
            sent: the call's metadata.

        Raises:
            WinnowError: UNAUTHENTICATED, PERMISSION_DENIED; DATABASE_UNAVAILABLE if
                the key cannot be looked up.
        """
        rule = RULES[method]
        key = api_keys.shown(
            value for name, value in sent if name == api_keys.HEADER and isinstance(value, str)
        )
        if key is None:
            if self._required and not rule.peer:
                raise api_keys.needed()
            return
        known = await self._look_up(key)
        if not rule.roles:
            raise WinnowError("PERMISSION_DENIED", "services call this, and no key allows it")
        if not rule.roles & known.caller.roles:
            names = [Role.Name(role)[len("ROLE_") :].lower() for role in sorted(rule.roles)]
            raise WinnowError(
                "PERMISSION_DENIED",
                f"the API key lacks the role {' or '.join(names)}",
                role=names[0],
            )
        if any(name == context.TENANT_KEY and value != known.tenant for name, value in sent):
            raise WinnowError(
                "PERMISSION_DENIED",
                f"{context.TENANT_KEY} names another tenant than the API key's; leave it out",
                role="tenant",
            )
        context.tenant.set(known.tenant)
        context.caller.set(known.caller)

    async def until_refused(
        self, method: str, sent: Sequence[tuple[str, str | bytes]]
    ) -> WinnowError:
        """Returns once a call that was admitted would no longer be, and why."""
        while True:
            await asyncio.sleep(FRESH_SECONDS)
            try:
                await self.admit(method, sent)
            except WinnowError as error:
                # A database that is away refuses nobody who is already in.
                if not error.retryable:
                    return error

    def forget(self, key_id: str) -> None:
        """Has the key looked up anew: it was changed here."""
        self._known.pop(key_id, None)

    async def _look_up(self, key: Shown) -> _Known:
        known = self._known.get(key.key_id)
        if known is None or known.until <= time.monotonic():
            known = await (self._database.run(self._load, key) if known else self._meet(key))
            if known is not None:
                # As many as there are keys: none is kept of an id that nobody has.
                self._known[key.key_id] = known
        if known is None or not hmac.compare_digest(known.digest, key.digest):
            raise api_keys.refused("the API key is not known here")
        if known.revoked_at is not None:
            raise api_keys.refused("the API key was revoked")
        if known.expires_at is not None and known.expires_at <= now():
            raise api_keys.refused("the API key has expired")
        return known

    async def _meet(self, key: Shown) -> _Known | None:
        if self._queued >= _STRANGERS:
            raise WinnowError("OVERLOADED", "too many unknown API keys at once", retry_after=2.0)
        self._queued += 1
        try:
            async with self._strangers:
                return await self._database.run(self._load, key)
        finally:
            self._queued -= 1

    def _load(self, connection: Connection, key: Shown) -> _Known | None:
        row = connection.execute(select(keys).where(keys.c.key_id == key.key_id)).one_or_none()
        if row is None:
            return None
        if self._notes_use and hmac.compare_digest(row.secret_sha256, key.digest):
            minute = func.date_trunc("minute", func.now())
            if row.last_used_at is None or row.last_used_at <= now() - timedelta(minutes=1):
                connection.execute(
                    update(keys).where(keys.c.key_id == key.key_id).values(last_used_at=minute)
                )
        return _Known(
            time.monotonic() + FRESH_SECONDS,
            row.secret_sha256,
            row.tenant_id,
            context.Caller(row.key_id, row.name, granted(row.roles)),
            row.expires_at,
            row.revoked_at,
        )
