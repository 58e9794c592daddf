"""Whose a request is, as far as limits need to know: the services decide on their own."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from typing import NamedTuple

from gateway.backends import ORCHESTRATOR, Backends, calling
from runtime import context
from runtime.channels import call
from runtime.errors import WinnowError
from winnow.access.v1.access_service_pb2 import GetCallerRequest

_GOOD_FOR_SECONDS = 5.0
_KEPT = 10_000


class Caller(NamedTuple):
    """Whose limits count."""

    tenant: str
    key_id: str


class Callers:
    """Asks whose a key is, once in a while."""

    def __init__(self) -> None:
        # By a digest of what was shown: when it was asked about, and the answer.
        self._known: OrderedDict[bytes, tuple[float, Caller]] = OrderedDict()

    async def of(self, backends: Backends) -> Caller:
        """Whose the key is that the request shows.

        Raises:
            WinnowError: UNAUTHENTICATED, or why nobody can say so: a key that was never
                known to hold takes nothing, whatever the reason.
        """
        digest = hashlib.sha256(context.authorization.get().encode()).digest()
        asked, known = self._known.get(digest, (0.0, None))
        if known is not None and time.monotonic() < asked + _GOOD_FOR_SECONDS:
            return known
        try:
            with calling(ORCHESTRATOR):
                found = await backends.keys.GetCaller(GetCallerRequest(), **call())
        except WinnowError as error:
            if known is None or error.reason == "UNAUTHENTICATED":
                raise
            return known
        made = Caller(found.tenant_id, found.key_id)
        self._known[digest] = (time.monotonic(), made)
        if len(self._known) > _KEPT:
            self._known.popitem(last=False)
        return made
