"""Who has signed a request, once: the other way in, beside showing an API key.

A signature that holds is kept by its nonce, in one statement that also decides whether
it was the first; then it is worth a grant, which the calls that serve the request show in
the place of a key (runtime.access). A grant is for the gateway, is 256 random bits of
which a digest is kept, and ends by itself; what it allows is what the key allows, for as
long as that holds.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import Connection, delete, func, update
from sqlalchemy.dialects.postgresql import insert

from runtime import signing
from runtime.access import Access, Known, keys, nonces
from runtime.clock import now
from runtime.database import Database
from runtime.errors import WinnowError
from runtime.message_signatures import MessageForm

# A report may come slowly; the calls for it begin within this time.
GRANT = timedelta(minutes=15)
# Clocks of several orchestrators and the database's differ a little.
_SPARE = timedelta(minutes=1)


class Granted(NamedTuple):
    """What a signature is worth."""

    grant: str
    until: datetime
    known: Known


class Signatures:
    """Looks at signed requests.

    Args:
        database: where nonces are kept, for all gateways and all restarts.
        access: knows the keys.
        tolerance: by how much a request's time may differ from the clock here.
    """

    def __init__(self, database: Database, access: Access, tolerance: timedelta) -> None:
        self._database = database
        self._access = access
        self._tolerance = tolerance

    async def verify(self, head: signing.Head) -> Granted:
        """Who has signed a request, and a grant for it.

        Raises:
            WinnowError: SIGNATURE_INVALID naming the header; REPLAYED; UNAUTHENTICATED for
                a key that has ended; DATABASE_UNAVAILABLE if the nonce cannot be kept.
        """
        signed = _read(head)
        if abs(now().timestamp() - signed.at) > self._tolerance.total_seconds():
            raise signing.invalid(
                signed.where["at"],
                "the time of signing is more than "
                f"{self._tolerance.total_seconds():g} seconds from this server's clock",
            )
        known, key = await self._access.signing_key(signed.key_id, signed.where["key_id"])
        signed.check(key)
        # Only to who holds the key it is told how that stands.
        known.check()
        grant = secrets.token_urlsafe(32)
        until = now() + GRANT
        kept_until = now() + max(GRANT, 2 * self._tolerance) + _SPARE
        digest = hashlib.sha256(grant.encode()).digest()
        first = await self._database.run(
            _keep, signed.key_id, signed.nonce, kept_until, digest, until
        )
        if not first:
            raise WinnowError(
                "REPLAYED",
                f"{signed.where['nonce']}: this nonce was used before; sign each request anew",
                header=signed.where["nonce"],
            )
        return Granted(grant, until, known)


def _keep(
    connection: Connection,
    key_id: str,
    nonce: str,
    kept_until: datetime,
    grant_sha256: bytes,
    granted_until: datetime,
) -> bool:
    """Keeps a nonce; whether it was not there."""
    kept = (
        insert(nonces)
        .values(
            key_id=key_id,
            nonce=nonce,
            kept_until=kept_until,
            grant_sha256=grant_sha256,
            granted_until=granted_until,
        )
        .on_conflict_do_nothing(index_elements=["key_id", "nonce"])
        .returning(nonces.c.nonce)
    )
    if connection.execute(kept).first() is None:
        return False
    minute = func.date_trunc("minute", func.now())
    stale = (keys.c.last_used_at.is_(None)) | (keys.c.last_used_at < minute)
    connection.execute(
        update(keys).where(keys.c.key_id == key_id, stale).values(last_used_at=minute)
    )
    return True


def sweep(connection: Connection) -> int:
    """Removes nonces whose requests would be refused by their time; how many."""
    return connection.execute(delete(nonces).where(nonces.c.kept_until < func.now())).rowcount


def _read(head: signing.Head) -> signing.Signed:
    """What a signed request says of itself.

    Raises:
        WinnowError: SIGNATURE_INVALID.
    """
    if head.has(signing.SIGNATURE) and (
        head.has(signing.MESSAGE_INPUT) or head.has(signing.MESSAGE_SIGNATURE)
    ):
        raise signing.invalid(signing.SIGNATURE, "a request is signed in one form, not in both")
    if head.has(signing.SIGNATURE):
        return signing.HeaderForm(head)
    return MessageForm(head)
