"""What one tenant has is to another one as if it were not there: every RPC of every
service that keeps something, and every route, asked by a tenant for another's things.
"""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any, NamedTuple

import grpc
import httpx
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass
from sqlalchemy import Connection, update

from gateway.app import GatewaySettings, build
from orchestrator.tables import jobs
from runtime.channels import PeerStatus, dial
from runtime.database import Database
from runtime.errors import from_rpc
from runtime.jobs import DEAD, Queue
from tests.harness import settings
from tests.ingestor.reading_reports import dump, gitleaks, trufflehog
from tests.orchestrator.conftest import Asker, House, upload
from tests.orchestrator.conftest import house as house
from tests.security.test_rpc_fuzz import methods_of, ours
from winnow.access.v1.access_service_pb2 import CreateApiKeyRequest
from winnow.access.v1.api_key_pb2 import Role
from winnow.audit.v1.audit_service_pb2 import ListEventsRequest
from winnow.finding.v1.verdict_pb2 import VerdictSource
from winnow.report.v1 import decision_service_pb2 as decisions
from winnow.report.v1 import report_service_pb2 as pb
from winnow.report.v1.decision_pb2 import DecisionOutcome, DecisionScope

_C = grpc.StatusCode
VALUE = "made-up-Hc4T9wLq2ZxB"
FALSE = DecisionOutcome.DECISION_OUTCOME_FALSE_POSITIVE
CREDENTIAL = DecisionScope.DECISION_SCOPE_CREDENTIAL
RULING = {"outcome": FALSE, "scope": CREDENTIAL, "actor": "ada"}
REQUEST_ID = "one-id-for-all"
SECONDS = 1.0  # a stream that has said nothing by then says nothing

# In the order in which the owner calls them, to the ones that leave nothing.
RPCS: dict[str, dict[str, Any]] = {
    "ReportService.GetReport": {"report_id": "{report_id}"},
    "ReportService.ListReports": {"page_size": 500},
    "ReportService.ListFindings": {"report_id": "{report_id}"},
    "ReportService.GetFinding": {"finding_id": "{finding_id}"},
    "ReportService.ListRejected": {"report_id": "{report_id}"},
    "ReportService.ListFormats": {},
    "ReportService.RejudgeReport": {"report_id": "{report_id}", "mode": 1},
    "ReportService.CancelReport": {"report_id": "{report_id}"},
    "ReportService.WatchReport": {"report_id": "{report_id}"},
    "ReportService.GetRawReport": {"report_id": "{report_id}"},
    "CredentialService.ListCredentials": {"report_id": "{report_id}"},
    "CredentialService.GetCredential": {"fingerprint": "{fingerprint}"},
    "DecisionService.ListDecisions": {"finding_id": "{finding_id}"},
    "DecisionService.DecideFinding": {"finding_id": "{finding_id}", "ruling": RULING},
    "DecisionService.DecideFindings": {"report_id": "{report_id}", "ruling": RULING},
    "DecisionService.WithdrawDecision": {"decision_id": "{decision_id}"},
    "QueueService.GetQueueHealth": {},
    "QueueService.ListJobs": {},
    "QueueService.RetryJob": {"job_id": "{job_id}"},
    "AuditService.ListEvents": {"report_id": "{report_id}"},
    "AuditService.WatchEvents": {},
    "AuditService.GetCheckpoint": {},
    "AuditService.GetInclusionProof": {"event_id": "{event_id}"},
    "AuditService.GetConsistencyProof": {"first": 1},
    "SealService.GetSealing": {},
    "SealService.RotateSealing": {},
    "AccessService.CreateApiKey": {"name": "another", "roles": [1]},
    "AccessService.ListApiKeys": {},
    "AccessService.RevokeApiKey": {"key_id": "{key_id}"},
    "AccessService.GetCaller": {},
    "ReportService.ShredReport": {"report_id": "{report_id}"},
    "ReportService.DeleteReport": {"report_id": "{report_id}"},
}
# Tested on its own below; called by services, which say whose an event is.
OTHERWISE = {
    "ReportService.SubmitReport",
    "AuditService.AppendEvents",
    "AccessService.VerifySignature",
    "AccessService.TakeTokens",
}
# They tell of the house, or of the whole log, and of nobody's report.
NOBODYS = {
    "ReportService.ListFormats",
    "AuditService.GetCheckpoint",
    "AuditService.GetConsistencyProof",
    "SealService.GetSealing",
    "SealService.RotateSealing",
    "GET /formats",
    "GET /sealing",
    "POST /sealing/rotate",
    "GET /audit/checkpoint",
    "GET /audit/consistency",
    "GET /healthz",
    "GET /readyz",
}
# What a route takes beside its path.
BODIES: dict[str, dict[str, Any]] = {
    "POST /reports/{report_id}/rejudge": {"mode": "preview"},
    "POST /findings/{finding_id}/decisions": {"outcome": "false_positive"},
    "POST /reports/{report_id}/decisions": {"ruling": {"outcome": "false_positive"}},
    "POST /decisions/{decision_id}/withdraw": {},
    "POST /queue/jobs/{job_id}/retry": {},
    "POST /keys": {"name": "another", "roles": ["read"]},
}
QUERIES = {
    "GET /audit/consistency": "?first=1",
    "GET /credentials": "?report_id={report_id}",
    "GET /decisions": "?finding_id={finding_id}",
}
# What another tenant's calls must leave as it was.
UNTOUCHED = (
    "ReportService.ListFindings",
    "DecisionService.ListDecisions",
    "QueueService.ListJobs",
)
LISTS: dict[str, dict[str, Any]] = {
    "ReportService.ListReports": {},
    "ReportService.ListFindings": {"report_id": "{report_id}"},
    "CredentialService.ListCredentials": {},
    "CredentialService.GetCredential": {"fingerprint": "{fingerprint}"},
    "DecisionService.ListDecisions": {},
    "QueueService.ListJobs": {},
    "AuditService.ListEvents": {},
}


class Things(NamedTuple):
    """What somebody can be asked for."""

    report_id: str
    finding_id: str
    decision_id: str
    fingerprint: str
    event_id: str
    job_id: str
    key_id: str

    def put_into(self, given: Any) -> Any:
        """The request with these in the places of their names."""
        text = json.dumps(given)
        for name, value in self._asdict().items():
            text = text.replace(f"{{{name}}}", value)
        return json.loads(text)

    def named(self, text: str) -> str:
        """The text with names in the places of these."""
        for name, value in self._asdict().items():
            text = text.replace(value, name)
        return text


def invented() -> Things:
    report_id, *ids = (str(uuid.uuid4()) for _ in range(4))
    return Things(
        report_id, f"{report_id}.0", ids[0], uuid.uuid4().hex * 2, *ids[1:], "nobodyskey22"
    )


class Owner(NamedTuple):
    """A tenant, what it has, and words that stand in nobody else's rows."""

    tenant: str
    things: Things
    marks: set[str]


class Answer(NamedTuple):
    code: object
    text: str


@pytest.fixture
async def owner(house: House, database: Database) -> Owner:
    """Somebody with two of everything."""
    alone = Asker(house)
    mark = f"src/{alone.tenant}.py"
    report = await alone.submit(
        dump([gitleaks(0, Secret=VALUE, File=mark), gitleaks(1, File=mark)]), scanner="gitleaks"
    )
    await alone.submit(dump([gitleaks(2, Secret=VALUE, File=mark)]), scanner="gitleaks")
    found = await alone.GetFinding(pb.GetFindingRequest(finding_id=f"{report.report_id}.0"))
    made = [
        await alone.DecideFinding(
            decisions.DecideFindingRequest(
                finding_id=f"{report.report_id}.{ordinal}", ruling=decisions.Ruling(**RULING)
            )
        )
        for ordinal in (0, 1)
    ]

    def put(connection: Connection) -> list[str]:
        """Dead jobs of a kind that nobody works on."""
        queue, put = Queue(jobs, "nobody"), []
        for key in ("one", "other"):
            job = queue.put(connection, f"of.{alone.tenant}", key, tenant=alone.tenant)
            assert job is not None
            dead = update(jobs).where(jobs.c.job_id == job.job_id)
            connection.execute(dead.values(state=DEAD))
            put.append(str(job.job_id))
        return put

    dead = await database.run(put)
    keys = [
        (
            await alone.CreateApiKey(CreateApiKeyRequest(name=name, roles=[Role.ROLE_READ]))
        ).key.key_id
        for name in ("one", "other")
    ]
    async with asyncio.timeout(20):
        while len(log := (await alone.ListEvents(ListEventsRequest())).events) < 14:
            await asyncio.sleep(0.05)
    things = Things(
        report.report_id,
        f"{report.report_id}.0",
        made[0].decision.decision_id,
        found.finding.detail.value_fingerprint,
        log[0].event.event_id,
        dead[0],
        keys[0],
    )
    known = {alone.tenant, dead[1], keys[1], made[1].decision.decision_id, *things}
    return Owner(alone.tenant, things, known | {item.event.event_id for item in log})


class Rpc(NamedTuple):
    """An RPC, and where it is served."""

    address: str
    method: MethodDescriptor


async def served(house: House) -> dict[str, Rpc]:
    """The RPCs of the services that keep something, as their servers tell them."""

    def look() -> dict[str, Rpc]:
        return {
            f"{method.containing_service.name}.{method.name}": Rpc(address, method)
            for address in (
                house.addresses[f"{name}_address"] for name in ("orchestrator", "audit")
            )
            for method in filter(ours, methods_of(address))
        }

    return await asyncio.to_thread(look)


async def ask(rpc: Rpc, asked: Any, tenant: str) -> Answer:
    """Calls an RPC as a tenant; any kind is a stream of messages on the wire."""
    service, name = rpc.method.containing_service.full_name, rpc.method.name
    said: list[str] = []
    async with dial(rpc.address) as channel:
        call = channel.unary_stream(
            f"/{service}/{name}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=GetMessageClass(rpc.method.output_type).FromString,
        )(
            GetMessageClass(rpc.method.input_type)(**asked),
            metadata=(("x-winnow-tenant", tenant), ("x-request-id", REQUEST_ID)),
            timeout=SECONDS if name == "WatchEvents" else 20,
        )
        status = PeerStatus(call)
        try:
            async for message in call:
                said.append(str(message))  # noqa: PERF401 -- kept when it fails
        except grpc.aio.AioRpcError as error:
            if error.code() not in (_C.UNIMPLEMENTED, _C.DEADLINE_EXCEEDED):
                failure = from_rpc(status.of(error), "service")
                said += [failure.reason, failure.message, repr(failure.metadata)]
        return Answer(await call.code(), "".join(said))


class Case(NamedTuple):
    """What was asked, with names in the places of things, and the answers to another
    tenant: for the owner's things, and for what nobody has."""

    name: str
    asked: Any
    other: Answer
    unknown: Answer

    def wrong(self, own: Answer, owner: Owner, nothing: Things) -> Iterator[str]:
        """What is wrong with them, given what the owner was told."""
        asked = json.dumps(owner.things.put_into(self.asked))
        shown = {mark for mark in owner.marks if mark in self.other.text and mark not in asked}
        if shown:
            yield f"{self.name} shows another tenant {len(shown)} things"
        other, unknown = owner.things.named(self.other.text), nothing.named(self.unknown.text)
        refers = asked != json.dumps(self.asked)
        if refers and (self.other.code, other) != (self.unknown.code, unknown):
            yield f"{self.name} tells what somebody has from what nobody has: {other} {unknown}"
        if self.name not in NOBODYS and own == self.other and own.code is not _C.UNIMPLEMENTED:
            yield f"{self.name} proves nothing, the owner is told the same: {own}"


async def test_every_rpc_keeps_tenants_apart(house: House, owner: Owner) -> None:
    rpcs = await served(house)
    # A new RPC needs a line above.
    assert set(RPCS) | OTHERWISE == set(rpcs)
    stranger, nothing = f"t{uuid.uuid4().hex[:12]}", invented()

    async def owners(name: str) -> Answer:
        return await ask(rpcs[name], owner.things.put_into(RPCS[name]), owner.tenant)

    before = [await owners(name) for name in UNTOUCHED]
    cases = [
        Case(
            name,
            asked,
            await ask(rpcs[name], owner.things.put_into(asked), stranger),
            await ask(rpcs[name], nothing.put_into(asked), stranger),
        )
        for name, asked in RPCS.items()
    ]
    assert [await owners(name) for name in UNTOUCHED] == before
    wrong = [
        fault for case in cases for fault in case.wrong(await owners(case.name), owner, nothing)
    ]
    assert wrong == []


async def test_no_tenant_goes_on_with_the_page_token_of_another(house: House, owner: Owner) -> None:
    rpcs = await served(house)
    for name, asked in LISTS.items():
        first = owner.things.put_into({**asked, "page_size": 1})
        given = await ask(rpcs[name], first, owner.tenant)
        token = re.search(r'next_page_token: "(.+)"', given.text)
        assert token is not None, name
        next_page = {**first, "page_token": token[1]}
        assert (await ask(rpcs[name], next_page, owner.tenant)).code is _C.OK, name
        refused = await ask(rpcs[name], next_page, "stranger")
        assert refused.text.startswith("PAGE_TOKEN_INVALID"), name


async def test_what_one_tenant_sent_changes_nothing_for_another(house: House) -> None:
    """The same bytes and key; a decision on the value; another scanner that saw it."""
    one, other = Asker(house), Asker(house)
    report = dump([gitleaks(0, Secret=VALUE)])
    elsewhere = dump(trufflehog(0, Raw=VALUE))

    async def send(asker: Asker) -> pb.SubmitReportResponse:
        requests = [item async for item in upload(report, "gitleaks")]
        requests[0].header.request_id = "one-key"
        requests[0].header.duplicates = pb.DUPLICATE_HANDLING_REUSE
        stub = house.reports.SubmitReport(iter(requests), metadata=asker.metadata)
        answer: pb.SubmitReportResponse = await stub
        return answer

    await one.submit(elsewhere, scanner="trufflehog")
    first = await send(one)
    ruling = decisions.Ruling(**RULING)
    finding_id = f"{first.report.report_id}.0"
    await one.DecideFinding(decisions.DecideFindingRequest(finding_id=finding_id, ruling=ruling))
    second = await send(other)
    assert (second.replayed, second.reused, second.report.duplicate_of) == (False, False, "")
    assert second.report.report_id != first.report.report_id
    found = await other.GetFinding(pb.GetFindingRequest(finding_id=f"{second.report.report_id}.0"))
    assert list(found.finding.detail.aliases) == []
    assert found.finding.source != VerdictSource.VERDICT_SOURCE_HUMAN
    # For the one who sent it, all three are so.
    again = await send(one)
    assert again.replayed
    own = await one.GetFinding(pb.GetFindingRequest(finding_id=finding_id))
    assert list(own.finding.detail.aliases) == ["trufflehog/AWS"]
    assert own.finding.source == VerdictSource.VERDICT_SOURCE_HUMAN


async def test_every_route_keeps_tenants_apart(house: House, owner: Owner) -> None:
    stranger, nothing = f"t{uuid.uuid4().hex[:12]}", invented()
    async with AsyncExitStack() as stack:
        clients = {}
        for tenant in (owner.tenant, stranger):
            app = build(settings(GatewaySettings, tenant=tenant, **house.addresses))
            await stack.enter_async_context(app.router.lifespan_context(app))
            clients[tenant] = await stack.enter_async_context(
                httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")
            )
        routes = [
            f"{method.upper()} {path}"
            for path, methods in app.openapi()["paths"].items()
            for method in methods
        ]

        async def request(route: str, things: Things, tenant: str) -> Answer:
            method, path = things.put_into(f"{route}{QUERIES.get(route, '')}").split()
            answer = await clients[tenant].request(
                method, path, json=BODIES.get(route), headers={"X-Request-ID": REQUEST_ID}
            )
            return Answer(answer.status_code, answer.text)

        assert set(BODIES) | set(QUERIES) | NOBODYS.difference(RPCS) <= set(routes)
        # What is sent is tested above.
        routes.remove("POST /reports")
        # The owner ends his report last.
        ends = "POST /reports/{report_id}/shred", "DELETE /reports/{report_id}"
        routes.sort(key=lambda route: ends.index(route) + 1 if route in ends else 0)
        cases = [
            Case(
                route,
                f"{route}{QUERIES.get(route, '')}",
                await request(route, owner.things, stranger),
                await request(route, nothing, stranger),
            )
            for route in routes
        ]
        wrong = [
            fault
            for case in cases
            for fault in case.wrong(
                await request(case.name, owner.things, owner.tenant), owner, nothing
            )
        ]
    assert wrong == []
