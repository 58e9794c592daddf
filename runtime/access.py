"""Who may call what: API keys, roles, and the one table of RPCs and roles.

A key decides who a caller is: its tenant, its name, what it may do. It is looked up
in `access.api_keys` and held for a moment, so that a busy key costs no query a call
and a revoked one is refused soon (`FRESH_SECONDS`). Both services that own data check
keys: the orchestrator, which also makes and revokes them, and the audit service.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import time
import uuid
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

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

from runtime import api_keys, context, signing
from runtime.api_keys import Shown
from runtime.clock import now
from runtime.database import Database
from runtime.errors import WinnowError
from runtime.keyring import Keyring
from winnow.access.v1.api_key_pb2 import Role
from winnow.seal.v1.data_key_pb2 import DataKey

# For how long what is known of a key is believed.
FRESH_SECONDS = 2.0
# Of keys that were never seen, how many wait to be looked up. At a few milliseconds each,
# the last one's turn comes well before its caller gives up.
_STRANGERS = 512

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
    # What the key signs with (runtime.signing), wrapped by the key-encryption key named.
    Column("signing_key_id", Text),
    Column("signing_key", LargeBinary),
    Index("api_keys_by_tenant", "tenant_id", "number"),
)

# Of signed requests: what makes each the only one of its kind, and what it was granted.
nonces = Table(
    "nonces",
    metadata,
    Column("key_id", Text, primary_key=True),
    Column("nonce", Text, primary_key=True),
    Column("kept_until", DateTime(timezone=True), nullable=False),
    Column("grant_sha256", LargeBinary, nullable=False),
    Column("granted_until", DateTime(timezone=True), nullable=False),
    Index("nonces_by_grant", "grant_sha256", unique=True),
    Index("nonces_by_end", "kept_until"),
)

# In the place of a key: what a signed request was granted (runtime.signatures).
_GRANT = re.compile(r"grant +([\w-]{1,64})", re.IGNORECASE | re.ASCII)


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
            "VerifySignature": _PEER,
            # Whose key is shown, his bucket it is; the gateway also counts addresses.
            "TakeTokens": _ANY._replace(peer=True),
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


class Known(NamedTuple):
    """A key as it was found, and until when that is believed (monotonic seconds)."""

    until: float
    digest: bytes
    tenant: str
    caller: context.Caller
    expires_at: datetime | None
    revoked_at: datetime | None
    signing_key: DataKey | None

    def check(self) -> None:
        """Returns if the key holds.

        Raises:
            WinnowError: UNAUTHENTICATED.
        """
        if self.revoked_at is not None:
            raise api_keys.refused("the API key was revoked")
        if self.expires_at is not None and self.expires_at <= now():
            raise api_keys.refused("the API key has expired")


def wrapped(keyring: Keyring, key: Shown) -> DataKey:
    """What a key signs with, as it is kept."""
    return keyring.wrap(place(key.key_id), signing.signing_key(key))


def place(key_id: str) -> uuid.UUID:
    """What a key's signing key is bound to, as a report's data key is to the report."""
    return uuid.uuid5(_KEYS, key_id)


_KEYS = uuid.UUID("6c5f3c60-3f0e-5d0c-9a53-7f7fbf0a5d11")


class Access:
    """Admits calls, by the key that they show.

    Args:
        database: where keys are kept.
        required: whether a call without a key is refused, unless a peer may make it.
        keyring: seals what keys sign with; None where nothing about keys is written down.
    """

    def __init__(
        self, database: Database, *, required: bool, keyring: Keyring | None = None
    ) -> None:
        self._database = database
        self._required = required
        self._keyring = keyring
        self._known: dict[str, Known] = {}
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
        shown = [
            value for name, value in sent if name == api_keys.HEADER and isinstance(value, str)
        ]
        grant = _GRANT.fullmatch(shown[0]) if len(shown) == 1 else None
        key = None if grant else api_keys.shown(shown)
        if grant is not None:
            known = await self._granted(grant[1])
        elif key is not None:
            known = await self._look_up(key)
        else:
            if self._required and not rule.peer:
                raise api_keys.needed()
            return
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

    async def until_refused(self) -> WinnowError:
        """Returns once the key of the call that was admitted no longer holds, and why."""
        key_id = context.caller.get().key_id
        while True:
            await asyncio.sleep(FRESH_SECONDS)
            try:
                known = await self._find(key_id)
                if known is None:
                    return api_keys.refused("the API key is not known here")
                known.check()
            except WinnowError as error:
                # A database that is away refuses nobody who is already in.
                if not error.retryable:
                    return error

    def forget(self, key_id: str) -> None:
        """Has the key looked up anew: it was changed here."""
        self._known.pop(key_id, None)

    async def signing_key(self, key_id: str, where: str) -> tuple[Known, bytes]:
        """A key, and what it signs with.

        Args:
            where: the header that names the key, for errors.

        Raises:
            WinnowError: SIGNATURE_INVALID; SEALING_KEY_UNKNOWN.
        """
        assert self._keyring is not None, "keys are only looked at here"
        known = await self._find(key_id)
        if known is None or known.signing_key is None:
            raise signing.invalid(
                where,
                "no key that can sign has this id; one that was made by an older version, or by "
                "--direct, can once it was shown as a bearer token (winnow whoami)",
            )
        return known, self._keyring.open(place(key_id), known.signing_key)

    async def _look_up(self, key: Shown) -> Known:
        known = await self._find(key.key_id, key)
        if known is None or not hmac.compare_digest(known.digest, key.digest):
            raise api_keys.refused("the API key is not known here")
        known.check()
        return known

    async def _granted(self, grant: str) -> Known:
        digest = hashlib.sha256(grant.encode()).digest()
        key_id = await self._database.run(_holder, digest)
        known = await self._find(key_id) if key_id else None
        if known is None:
            raise api_keys.refused("the grant is not known here, or has ended")
        known.check()
        return known

    async def _find(self, key_id: str, shown: Shown | None = None) -> Known | None:
        known = self._known.get(key_id)
        if known is None:
            known = await self._meet(key_id, shown)
        elif known.until <= time.monotonic():
            known = await self._database.run(self._load, key_id, shown)
        if known is not None:
            # As many as there are keys: none is kept of an id that nobody has.
            self._known[key_id] = known
        return known

    async def _meet(self, key_id: str, shown: Shown | None) -> Known | None:
        if self._queued >= _STRANGERS:
            raise WinnowError("OVERLOADED", "too many unknown API keys at once", retry_after=2.0)
        self._queued += 1
        try:
            async with self._strangers:
                return await self._database.run(self._load, key_id, shown)
        finally:
            self._queued -= 1

    def _load(self, connection: Connection, key_id: str, shown: Shown | None) -> Known | None:
        row = connection.execute(select(keys).where(keys.c.key_id == key_id)).one_or_none()
        if row is None:
            return None
        kept = DataKey(key_id=row.signing_key_id, wrapped=row.signing_key or b"")
        signs = kept if row.signing_key else None
        if self._keyring and shown and hmac.compare_digest(row.secret_sha256, shown.digest):
            more: dict[str, Any] = {}
            if row.last_used_at is None or row.last_used_at <= now() - timedelta(minutes=1):
                more["last_used_at"] = func.date_trunc("minute", func.now())
            # Only now can be known what a key signs with that is of an older version.
            if signs is None or signs.key_id not in self._keyring.held:
                signs = wrapped(self._keyring, shown)
                more |= {"signing_key_id": signs.key_id, "signing_key": signs.wrapped}
            if more:
                connection.execute(update(keys).where(keys.c.key_id == key_id).values(**more))
        return Known(
            time.monotonic() + FRESH_SECONDS,
            row.secret_sha256,
            row.tenant_id,
            context.Caller(row.key_id, row.name, granted(row.roles)),
            row.expires_at,
            row.revoked_at,
            signs,
        )


def _holder(connection: Connection, grant_sha256: bytes) -> str | None:
    """Id of the key that a grant was made for, while it lasts."""
    query = select(nonces.c.key_id).where(
        nonces.c.grant_sha256 == grant_sha256, nonces.c.granted_until > func.now()
    )
    found: str | None = connection.execute(query).scalar()
    return found
