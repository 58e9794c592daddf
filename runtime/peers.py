"""Who may call what, by the identity in the caller's certificate.

An identity is a SPIFFE ID, the one URI among the names of a certificate
(SPIFFE X.509-SVID, section 2): `spiffe://winnow/<service>` for a service,
`spiffe://winnow/tool/<name>` for anything else that calls. It counts where
services speak mutual TLS (runtime.tls); on a Unix socket the caller is whoever
may open the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from runtime.config import ConfigError
from runtime.errors import WinnowError

PREFIX = "spiffe://winnow/"
ORCHESTRATOR = f"{PREFIX}orchestrator"
GATEWAY = f"{PREFIX}gateway"
TOOLS = f"{PREFIX}tool/*"
# Every certificate of the CA, one without an identity too.
ANYONE = "*"

# One row for each service of the contracts (a test holds them against each other), and
# for methods with callers of their own.
CALLERS: dict[str, tuple[str, ...]] = {
    "winnow.ingest.v1.IngestService": (ORCHESTRATOR,),
    "winnow.moderate.v1.ModerateService": (ORCHESTRATOR,),
    "winnow.audit.v1.AuditService": (ORCHESTRATOR, GATEWAY),
    "winnow.audit.v1.AuditService/AppendEvents": (ORCHESTRATOR,),
    "winnow.access.v1.AccessService": (GATEWAY, TOOLS),
    "winnow.access.v1.AccessService/VerifySignature": (GATEWAY,),
    "winnow.access.v1.AccessService/TakeTokens": (GATEWAY,),
    "winnow.queue.v1.QueueService": (GATEWAY, TOOLS),
    "winnow.report.v1.CredentialService": (GATEWAY, TOOLS),
    "winnow.report.v1.DecisionService": (GATEWAY, TOOLS),
    "winnow.report.v1.ReportService": (GATEWAY, TOOLS),
    "winnow.seal.v1.SealService": (GATEWAY, TOOLS),
    "grpc.health.v1.Health": (ANYONE,),
    "grpc.reflection.v1alpha.ServerReflection": (ANYONE,),
}

_ADDED = re.compile(r"([\w.]+)(/\w+)?=(spiffe://[\w.-]+(?:/[\w.-]+)+(?:/\*)?)", re.ASCII)
# What may be shown of an identity; grpc has looked at the rest (its length, its form).
_SHOWN = re.compile(r"spiffe://[\w./-]{1,200}", re.ASCII)


class Peers:
    """The table, and what the settings add to it.

    Args:
        added: further callers, `SERVICE=IDENTITY` or `SERVICE/METHOD=IDENTITY`; `/*` at
            the identity's end stands for one more name. A service's callers get no
            method that has callers of its own.

    Raises:
        ConfigError: an addition that names no service, or no identity.
    """

    def __init__(self, added: Iterable[str] = ()) -> None:
        self._rows = {name: set(callers) for name, callers in CALLERS.items()}
        for entry in added:
            parts = _ADDED.fullmatch(entry)
            if parts is None or parts[1] not in CALLERS:
                raise ConfigError(
                    "WINNOW_PEERS_ALLOWED: must read SERVICE=IDENTITY, separated by commas, for "
                    "example winnow.audit.v1.AuditService=spiffe://winnow/tool/auditor"
                )
            service, method, identity = parts.groups(default="")
            row = self._rows.setdefault(f"{service}{method}", set(self._rows[service]))
            row.add(identity)

    def check(self, method: str, servicer_context: Any) -> None:
        """Lets a call through, or not.

        Args:
            method: as on the wire, `/package.Service/Method`.
            servicer_context: of a call over mutual TLS.

        Raises:
            WinnowError: PERMISSION_DENIED, naming the caller's identity.
        """
        identity = identity_of(servicer_context)
        name = method.removeprefix("/")
        callers = self._rows.get(name) or self._rows.get(name.partition("/")[0], set())
        if not callers & {ANYONE, identity, f"{identity.rpartition('/')[0]}/*"}:
            raise WinnowError(
                "PERMISSION_DENIED",
                "the identity in the caller's certificate may not call this; "
                "this service's WINNOW_PEERS_ALLOWED adds callers",
                peer=identity if _SHOWN.fullmatch(identity) else "none",
            )


def identity_of(servicer_context: Any) -> str:
    """Who calls, by his certificate; empty for one without an identity.

    Args:
        servicer_context: of a call over mutual TLS.
    """
    # Set by grpc for a verified certificate whose one URI is a SPIFFE ID.
    (raw,) = servicer_context.auth_context().get("peer_spiffe_id", [b""])
    identity: str = raw.decode("ascii", "replace")
    return identity
