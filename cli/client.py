"""A server as the commands see it: what can be asked, over REST or over gRPC."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from cli.errors import ClientError
from cli.usage import api_key
from cli.wire import TIMEOUT, Declaration, Json, Terms, Wire

# The most that a page may hold.
_PAGE = 2000
_EVENTS_PAGE = 1000
_REPORTS_PAGE = 500


class Client:
    """A server. Every method raises `ClientError`; answers are the JSON values of the REST API.

    Args:
        wire: the way to it.
    """

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def submit(
        self, data: BinaryIO, declared: Declaration, terms: Terms, sent: Callable[[int], None]
    ) -> Json:
        """Sends one report: its `report_id`, its `status`, and, where that is so, that it
        was `reused`, is a `duplicate_of` another, or that its key was answered before
        (`replayed`).

        Args:
            sent: hears of each chunk's size.
        """
        return self._wire.submit(data, declared, terms, sent)

    def watch(self, report_id: str, after: int = 0) -> Iterator[Json]:
        """A report's events after an ordinal, until it has ended."""
        return self._wire.watch(report_id, after)

    def report(self, report_id: str) -> Json:
        """A report without its findings."""
        return self._wire.call("ReportService.GetReport", report_id=report_id)

    def findings(self, report_id: str, *, risk: str = "", full: bool = False) -> Iterator[Json]:
        """A report's findings, by their order in it."""
        view = "full" if full else "basic"
        return self._pages(
            "ReportService.ListFindings",
            "findings",
            _PAGE,
            report_id=report_id,
            view=view,
            risk=risk,
        )

    def reports(self, limit: int) -> list[Json]:
        """The newest reports."""
        return self._first(limit, "ReportService.ListReports", "reports")

    def events(self, report_id: str) -> list[Json]:
        """A report's audit trail."""
        return list(
            self._pages("AuditService.ListEvents", "events", _EVENTS_PAGE, report_id=report_id)
        )

    def rejected(self, report_id: str) -> list[Json]:
        """A report's records that could not be read."""
        return list(
            self._pages("ReportService.ListRejected", "rejected", _PAGE, report_id=report_id)
        )

    def credentials(self, limit: int, report_id: str, min_reports: int) -> list[Json]:
        """Credentials by fingerprint: those of one report if it is given, and
        those that at least so many reports hold."""
        return self._first(
            limit,
            "CredentialService.ListCredentials",
            "credentials",
            report_id=report_id,
            min_reports=min_reports,
        )

    def credential(self, fingerprint: str, limit: int) -> Json:
        """One credential and up to `limit` sightings (at most 2,000), as REST answers."""
        return self._wire.call(
            "CredentialService.GetCredential", fingerprint=fingerprint, page_size=min(limit, _PAGE)
        )

    def finding(self, finding_id: str) -> Json:
        """A finding and its verdicts."""
        return self._wire.call("ReportService.GetFinding", finding_id=finding_id)

    def decide(self, finding_id: str, ruling: Json) -> Json:
        """Decides a finding; the decision and its reach."""
        return self._wire.call(
            "DecisionService.DecideFinding", finding_id=finding_id, ruling=ruling
        )

    def decide_many(self, report_id: str, wanted: Json) -> Json:
        """Decides, or previews, the findings of a report that a filter matches."""
        return self._wire.call("DecisionService.DecideFindings", report_id=report_id, **wanted)

    def withdraw(self, decision_id: str, actor: str) -> Json:
        """Ends a decision."""
        return self._wire.call(
            "DecisionService.WithdrawDecision", decision_id=decision_id, actor=actor
        )

    def decisions(self, limit: int, finding_id: str = "", active: bool = False) -> list[Json]:
        """The newest decisions."""
        return self._first(
            limit,
            "DecisionService.ListDecisions",
            "decisions",
            finding_id=finding_id,
            active=active,
        )

    def rejudge(self, report_id: str, mode: str, most: int) -> Json:
        """Judges a report once more; `mode` is replay, preview or apply."""
        return self._wire.call(
            "ReportService.RejudgeReport", report_id=report_id, mode=mode, max_changes=most
        )

    def queue_health(self) -> Json:
        """How much durable work there is, and how it goes."""
        return self._wire.call("QueueService.GetQueueHealth")

    def jobs(self, limit: int, state: str, kind: str) -> list[Json]:
        """The newest jobs; those of a state and a kind if they are given."""
        return self._first(limit, "QueueService.ListJobs", "jobs", state=state, kind=kind)

    def retry_job(self, job_id: str) -> Json:
        """Gives a dead job another chance; the job."""
        job: Json = self._wire.call("QueueService.RetryJob", job_id=job_id)["job"]
        return job

    def create_key(self, wanted: Json) -> Json:
        """Makes an API key of `name`, `roles`, `expires_in` (seconds): `key`, and the
        key itself as `secret`."""
        return self._wire.call("AccessService.CreateApiKey", **wanted)

    def keys(self, limit: int) -> list[Json]:
        """The newest API keys."""
        return self._first(limit, "AccessService.ListApiKeys", "keys")

    def revoke_key(self, key_id: str) -> Json:
        """Ends an API key; the key."""
        key: Json = self._wire.call("AccessService.RevokeApiKey", key_id=key_id)["key"]
        return key

    def whoami(self) -> Json:
        """Who the caller is taken for."""
        return self._wire.call("AccessService.GetCaller")

    def raw(self, report_id: str) -> Iterator[bytes]:
        """A report's bytes as they were submitted; whole, or a `ClientError` at the end."""
        return self._wire.raw(report_id)

    def shred(self, report_id: str) -> Json:
        """Makes a report's bytes and values unreadable for good; the report."""
        return self._wire.call("ReportService.ShredReport", report_id=report_id)

    def delete(self, report_id: str) -> None:
        """Removes a report."""
        self._wire.call("ReportService.DeleteReport", report_id=report_id)

    def sealing(self) -> Json:
        """The key-encryption keys, and for how many reports each is in use."""
        return self._wire.call("SealService.GetSealing")

    def rotate_sealing(self) -> Json:
        """Has all data keys wrapped with the current key-encryption key."""
        return self._wire.call("SealService.RotateSealing")

    def checkpoint(self) -> Json:
        """The audit log's newest signed checkpoint."""
        checkpoint: Json = self._wire.call("AuditService.GetCheckpoint")["checkpoint"]
        return checkpoint

    def event_proof(self, event_id: str) -> Json:
        """An event, its proof, and the checkpoint that the proof is for."""
        return self._wire.event_proof(event_id)

    def _pages(self, rpc: str, member: str, size: int, /, **filters: Any) -> Iterator[Json]:
        """The items of a list, page by page; of the filters those that say something."""
        asked = {name: value for name, value in filters.items() if value} | {"page_size": size}
        while True:
            page = self._wire.call(rpc, **asked)
            yield from page[member]
            if not page["next_page_token"]:
                return
            asked["page_token"] = page["next_page_token"]

    def _first(self, limit: int, rpc: str, member: str, /, **filters: Any) -> list[Json]:
        pages = self._pages(rpc, member, min(limit, _REPORTS_PAGE), **filters)
        return list(islice(pages, limit))


def connect(server: str) -> Client:
    """The client for a server's URL: http://, https://, grpc://host:port or grpc://unix:/path."""
    try:
        parts = urlsplit(server)
        # A password in the URL is used and never shown.
        shown = server.replace(f"{parts.netloc.rpartition('@')[0]}@", "", 1)
        if parts.scheme in ("http", "https") and parts.hostname and not parts.query:
            return Client(_rest(server, shown))
        if parts.scheme == "grpc" and parts.netloc:
            return Client(_grpc(parts.netloc + parts.path, shown))
    except ValueError:
        pass  # the same advice
    raise ClientError(
        "--server must read http://host:port, https://host, grpc://host:port or grpc://unix:/path"
    )


def _rest(server: str, shown: str) -> Wire:
    import httpx

    from cli.wire_rest import RestWire

    key = api_key(shown)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        return RestWire(httpx.Client(base_url=server, timeout=TIMEOUT, headers=headers), shown)
    except httpx.InvalidURL:
        raise ValueError from None


def _grpc(address: str, shown: str) -> Wire:
    from cli.wire_grpc import GrpcWire, dial

    return GrpcWire(dial(address, api_key(shown)), shown)
