"""What a server takes, whichever way it is reached: one call at a time, and three streams."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Protocol

from google.protobuf.descriptor import MethodDescriptor

from cli.errors import ClientError
from winnow.access.v1 import access_service_pb2
from winnow.audit.v1 import audit_service_pb2
from winnow.queue.v1 import queue_service_pb2
from winnow.report.v1 import credential_service_pb2, decision_service_pb2, report_service_pb2
from winnow.seal.v1 import seal_service_pb2

Json = dict[str, Any]

TIMEOUT = 30.0
# Of what goes through a whole report, by RPC.
PATIENCE = {"ReportService.RejudgeReport": 600.0}
_CHUNK = 1 << 18

# What can be asked of the services that a user may reach, as Service.Method.
METHODS: dict[str, MethodDescriptor] = {
    f"{service.name}.{method.name}": method
    for module in (
        access_service_pb2,
        audit_service_pb2,
        credential_service_pb2,
        decision_service_pb2,
        queue_service_pb2,
        report_service_pb2,
        seal_service_pb2,
    )
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}


@dataclass(frozen=True)
class Declaration:
    """What the submitter says about a report; empty where nothing is said."""

    scanner_type: str = ""
    repository: str = ""
    ref: str = ""
    commit: str = ""
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Terms:
    """How a report is to be taken.

    Args:
        key: idempotency key; empty for none.
        wait: seconds to wait for its end; 0 to be answered once it is durable.
        reuse: bytes that were submitted before make no new report.
    """

    key: str = ""
    wait: int = 0
    reuse: bool = False


class Wire(Protocol):
    """One way to a server. Answers are the JSON values of the REST API; every method
    raises `ClientError`."""

    def call(self, rpc: str, /, **values: Any) -> Json:
        """Asks once.

        Args:
            rpc: as Service.Method.
            values: the request's fields, as JSON.
        """
        ...

    def submit(
        self, data: BinaryIO, declared: Declaration, terms: Terms, sent: Callable[[int], None]
    ) -> Json:
        """As `cli.client.Client.submit`."""
        ...

    def watch(self, report_id: str, after: int) -> Iterator[Json]:
        """A report's events after an ordinal, until it has ended."""
        ...

    def raw(self, report_id: str) -> Iterator[bytes]:
        """A report's bytes; whole, or a `ClientError` at the end."""
        ...

    def event_proof(self, event_id: str) -> Json:
        """An event, its proof, and the checkpoint that the proof is for."""
        ...


def chunks(data: BinaryIO, sent: Callable[[int], None]) -> Iterator[bytes]:
    """A file's bytes; `sent` hears of each piece's size."""
    while chunk := data.read(_CHUNK):
        yield chunk
        sent(len(chunk))


def whole(parts: Iterable[bytes], sha256: str) -> Iterator[bytes]:
    """The parts; at the end an error unless they have this digest."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
        yield part
    if digest.hexdigest() != sha256:
        raise ClientError("what arrived is not the whole report; try again", may_pass=True)


def unreachable(server: str) -> ClientError:
    """The error where nobody answers."""
    return ClientError(
        f"no Winnow server answers at {server}; start one with `winnow up`, "
        "or name another with --server (or WINNOW_SERVER)",
        may_pass=True,
    )


def about(reason: Any, report_id: Any) -> str:
    """The report that an error names, unless it says that there is none; where a key goes."""
    if reason == "UNAUTHENTICATED":
        return "; here: WINNOW_API_KEY, or --key-file FILE"
    return f"; report {report_id}" if report_id and reason != "REPORT_NOT_FOUND" else ""
