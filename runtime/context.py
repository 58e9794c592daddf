"""Who is calling: request id, tenant, and the key that was shown, carried by gRPC metadata.

They live in context variables of the task that serves a call; `outgoing()`
hands them on to the next service. The caller itself does not travel: whoever owns
data checks the key anew (runtime.access).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextvars import ContextVar
from typing import NamedTuple

from runtime import api_keys, tracing
from runtime.clock import uuid7
from runtime.errors import WinnowError
from runtime.redaction import redact
from winnow.access.v1.api_key_pb2 import Role

REQUEST_ID_KEY = "x-request-id"
TENANT_KEY = "x-winnow-tenant"
# What the gateway says of its calls, which it has counted; believed where callers show no
# certificate.
THROUGH_GATEWAY = ("x-winnow-through", "gateway")
# Initial metadata of an answer to SubmitReport that is still to come: the report is durable.
REPORT_KEY = "x-winnow-report"
# Beside it, with the value "true": what such an answer says of an earlier report.
REPLAYED_KEY = "x-winnow-replayed"
REUSED_KEY = "x-winnow-reused"

DEFAULT_TENANT = "default"

request_id: ContextVar[str] = ContextVar("request_id", default="")
tenant: ContextVar[str] = ContextVar("tenant", default=DEFAULT_TENANT)


class Caller(NamedTuple):
    """Whom a call is from.

    Args:
        key_id: public part of the key that was shown; empty without one.
        name: the key's.
        roles: what is allowed, included roles among them.
    """

    key_id: str
    name: str
    roles: frozenset[Role.ValueType]


LOCAL = Caller("", "local", frozenset(Role.values()) - {Role.ROLE_UNSPECIFIED})
caller: ContextVar[Caller] = ContextVar("caller", default=LOCAL)
# What the gateway's caller sent, to be handed on as it is.
authorization: ContextVar[str] = ContextVar("authorization", default="")
# Whether this is the gateway, which makes calls for its callers.
through_gateway: ContextVar[bool] = ContextVar("through_gateway", default=False)

_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")


def sane_request_id(candidate: str | None) -> str:
    """The caller's request id if it is short and harmless to keep, else a new UUIDv7."""
    if candidate and _SANE_ID.match(candidate) and redact(candidate) == candidate:
        return candidate
    return str(uuid7())


def enter(metadata: Iterable[tuple[str, str | bytes]]) -> None:
    """Sets the context of the current task from a call's metadata.

    Raises:
        WinnowError: INVALID_ARGUMENT if the tenant is no tenant's name; only a
            caller that names none is the default tenant.
    """
    values = {key: value for key, value in metadata if isinstance(value, str)}
    request_id.set(sane_request_id(values.get(REQUEST_ID_KEY)))
    given = values.get(TENANT_KEY, DEFAULT_TENANT)
    if not _SANE_ID.match(given):
        raise WinnowError(
            "INVALID_ARGUMENT",
            f"{TENANT_KEY}: must have 1 to 64 characters of A-Z a-z 0-9 . _ -",
            field=TENANT_KEY,
            rule="name",
        )
    tenant.set(given)
    caller.set(LOCAL)


def outgoing() -> tuple[tuple[str, str], ...]:
    """The metadata to send with a call to another service.

    A key names its tenant itself.
    """
    shown = authorization.get()
    who = (api_keys.HEADER, shown) if shown else (TENANT_KEY, tenant.get())
    own = ((REQUEST_ID_KEY, request_id.get() or str(uuid7())), who)
    through = (THROUGH_GATEWAY,) if through_gateway.get() else ()
    return (*own, *through, *tracing.carrier().items())
