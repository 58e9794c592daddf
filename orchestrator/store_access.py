"""The orchestrator's SQL on API keys. Checking them: runtime.access."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, any_, func, insert, literal, select, update

from orchestrator import events, store_outbox
from runtime import api_keys
from runtime.access import keys, place, wrapped
from runtime.keyring import Keyring
from winnow.access.v1.api_key_pb2 import ApiKey, Role
from winnow.seal.v1.data_key_pb2 import DataKey

# What a key's maker is called who sits at the machine itself.
OPERATOR = "operator"


def create(
    connection: Connection,
    tenant: str,
    name: str,
    roles: list[int],
    expires_at: datetime | None,
    created_by: str,
    keyring: Keyring | None = None,
) -> tuple[ApiKey, str]:
    """Makes a key, with its event.

    Args:
        roles: numbers of Role, at least one.
        expires_at: None: it holds until it is revoked.
        created_by: a key_id, or OPERATOR.
        keyring: seals what it signs with; without one it cannot sign yet (runtime.access).

    Returns:
        The key without its secret, and the key itself.
    """
    made = api_keys.make()
    signs = wrapped(keyring, made) if keyring else None
    row = connection.execute(
        insert(keys)
        .values(
            key_id=made.key_id,
            tenant_id=tenant,
            name=name,
            roles=sorted(set(roles)),
            secret_sha256=made.digest,
            created_by=created_by,
            expires_at=expires_at,
            signing_key_id=signs.key_id if signs else None,
            signing_key=signs.wrapped if signs else None,
        )
        .returning(keys)
    ).one()
    names = [Role.Name(role).removeprefix("ROLE_").lower() for role in row.roles]
    event = events.key_event(
        events.API_KEY_CREATED, made.key_id, tenant, actor=created_by, roles=names
    )
    store_outbox.put(connection, [event])
    return _message(row), made.text


def page(connection: Connection, tenant: str, before: int, limit: int) -> list[tuple[int, ApiKey]]:
    """A tenant's keys, newest first, with their numbers.

    Args:
        before: the number that the page before ended with; negative for the first.
    """
    query = select(keys).where(keys.c.tenant_id == tenant)
    if before >= 0:
        query = query.where(keys.c.number < before)
    rows = connection.execute(query.order_by(keys.c.number.desc()).limit(limit))
    return [(row.number, _message(row)) for row in rows]


def revoke(connection: Connection, tenant: str, key_id: str, actor: str) -> ApiKey | None:
    """Ends a key, with its event; one that was revoked before stays as it is.

    Returns:
        The key as it stands; None if the tenant has no such key.
    """
    mine = (keys.c.key_id == key_id) & (keys.c.tenant_id == tenant)
    ended = connection.execute(
        update(keys)
        .where(mine, keys.c.revoked_at.is_(None))
        .values(revoked_at=func.now())
        .returning(keys)
    ).one_or_none()
    if ended is not None:
        event = events.key_event(events.API_KEY_REVOKED, key_id, tenant, actor=actor)
        store_outbox.put(connection, [event])
        return _message(ended)
    row = connection.execute(select(keys).where(mine)).one_or_none()
    return None if row is None else _message(row)


def has_admin(connection: Connection, tenant: str) -> bool:
    """Whether a tenant has a key that can make others."""
    held = (keys.c.expires_at.is_(None)) | (keys.c.expires_at > func.now())
    query = select(keys.c.key_id).where(
        keys.c.tenant_id == tenant,
        keys.c.revoked_at.is_(None),
        held,
        literal(int(Role.ROLE_ADMIN)) == any_(keys.c.roles),
    )
    return connection.execute(query.limit(1)).first() is not None


def rewrap(connection: Connection, keyring: Keyring) -> int:
    """Wraps what keys sign with again, where that is not under the current key-encryption
    key and can be opened; how many."""
    others = [name for name in keyring.held if name != keyring.current]
    rows = connection.execute(
        select(keys.c.key_id, keys.c.signing_key_id, keys.c.signing_key)
        .where(keys.c.signing_key_id.in_(others))
        .with_for_update()
    ).all()
    for row in rows:
        kept = DataKey(key_id=row.signing_key_id, wrapped=row.signing_key)
        made = keyring.wrap(place(row.key_id), keyring.open(place(row.key_id), kept))
        connection.execute(
            update(keys)
            .where(keys.c.key_id == row.key_id)
            .values(signing_key_id=made.key_id, signing_key=made.wrapped)
        )
    return len(rows)


def _message(row: Any) -> ApiKey:
    key = ApiKey(
        key_id=row.key_id,
        name=row.name,
        tenant_id=row.tenant_id,
        roles=row.roles,
        created_by=row.created_by,
    )
    for name in ("created_at", "expires_at", "revoked_at", "last_used_at"):
        if (moment := getattr(row, name)) is not None:
            getattr(key, name).FromDatetime(moment)
    return key
