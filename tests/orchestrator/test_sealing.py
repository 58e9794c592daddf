"""Data keys: each report its own, wrapped again without a pause, destroyed for good."""

from __future__ import annotations

import asyncio
import hashlib
import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import psycopg
import pytest

import migrations
from cli.postgres import Postgres
from orchestrator import retention
from runtime import keyring
from runtime.channels import PeerStatus
from runtime.errors import WinnowError, from_rpc
from runtime.keyring import Keyring, key_id
from runtime.sealing import EVIDENCE, RAW_REPORT, Sealer
from tests.harness import SEALING_KEY, b64
from tests.ingestor.reading_reports import dump, gitleaks
from tests.orchestrator.conftest import Asker, House, opened_house, upload
from tests.orchestrator.test_decisions import ruling
from winnow.audit.v1.audit_service_pb2 import GetInclusionProofRequest, ListEventsRequest
from winnow.finding.v1.finding_pb2 import Finding
from winnow.finding.v1.plain_evidence_pb2 import PlainEvidence
from winnow.queue.v1.job_pb2 import JobState
from winnow.report.v1 import report_service_pb2 as pb
from winnow.report.v1.decision_pb2 import DecisionScope
from winnow.report.v1.decision_service_pb2 import DecideFindingRequest, ListDecisionsRequest
from winnow.seal.v1.data_key_pb2 import DataKey
from winnow.seal.v1.seal_service_pb2 import GetSealingRequest, RotateSealingRequest
from winnow.seal.v1.seal_service_pb2_grpc import SealServiceStub


class Place(NamedTuple):
    """A house with a database and a folder of keys of its own."""

    house: House
    url: str
    folder: Path
    seals: Any

    def keys(self, current: bytes, *accepted: bytes) -> None:
        """Puts keys in place, the accepted ones first."""
        _put(self.folder / "winnow_sealing_keys_accepted", ",".join(map(b64, accepted)))
        _put(self.folder / "winnow_sealing_key", b64(current))

    def sql(self, query: str, *arguments: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            found = connection.execute(query, arguments)  # type: ignore[call-overload]
            return found.fetchall() if found.description else []

    def data_key(self, report_id: str) -> DataKey | None:
        rows = self.sql(
            "SELECT key_id, wrapped FROM orchestrator.data_keys WHERE report_id = %s", report_id
        )
        return DataKey(key_id=rows[0][0], wrapped=rows[0][1]) if rows else None

    def evidence(self, report_id: str) -> dict[int, bytes]:
        rows = self.sql("SELECT message FROM orchestrator.findings WHERE report_id = %s", report_id)
        found = [Finding.FromString(message) for (message,) in rows]
        return {finding.ordinal: finding.sealed_evidence for finding in found}

    async def rotated(self) -> Any:
        """Asks for a rotation, and waits for its end."""
        await self.seals.RotateSealing(RotateSealingRequest())
        return await until(self.sealing, lambda answer: not answer.rotating)

    async def sealing(self) -> Any:
        return await self.seals.GetSealing(GetSealingRequest())


def _put(target: Path, text: str) -> None:
    (made := target.with_suffix(".new")).write_text(text)
    made.replace(target)


async def until(ask: Callable[[], Awaitable[Any]], enough: Callable[[Any], bool]) -> Any:
    async with asyncio.timeout(20):
        while not enough(answer := await ask()):
            await asyncio.sleep(0.05)
    return answer


@pytest.fixture(scope="module")
def own_url(postgres: Postgres) -> str:
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE sealing")
    url = postgres.url.replace("@/winnow?", "@/sealing?")
    migrations.upgrade(url)
    return url


@pytest.fixture
async def place(
    own_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Place]:
    with psycopg.connect(own_url, autocommit=True) as connection:
        connection.execute("TRUNCATE orchestrator.reports, orchestrator.data_keys")
    monkeypatch.setenv("WINNOW_SECRETS_DIR", str(tmp_path))
    monkeypatch.setattr(keyring, "AGAIN_SECONDS", 0.0)
    async with opened_house(own_url) as house:
        made = Place(house, own_url, tmp_path, SealServiceStub(house.channel))
        made.keys(SEALING_KEY)
        yield made


@pytest.fixture
def asker(place: Place) -> Asker:
    return Asker(place.house)


def report(*numbers: int) -> bytes:
    return dump([gitleaks(number) for number in numbers])


async def raw(house: House, asker: Asker, report_id: str) -> bytes:
    call = house.reports.GetRawReport(
        pb.GetRawReportRequest(report_id=report_id), metadata=(("x-winnow-tenant", asker.tenant),)
    )
    status, parts = PeerStatus(call), []
    try:
        async for part in call:
            assert len(part.chunk) <= 1 << 20
            parts.append(part)
    except grpc.aio.AioRpcError as error:
        raise from_rpc(status.of(error), "orchestrator") from None
    whole = b"".join(part.chunk for part in parts)
    assert parts[0].size_bytes == len(whole)
    assert parts[0].sha256 == hashlib.sha256(whole).hexdigest()
    return whole


async def refused(work: Awaitable[Any]) -> str:
    """The reason for which a call was refused."""
    with pytest.raises((grpc.aio.AioRpcError, WinnowError)) as caught:
        await work
    error = caught.value
    return (error if isinstance(error, WinnowError) else from_rpc(error, "server")).reason


async def replay(asker: Asker, report_id: str) -> Any:
    return await asker.RejudgeReport(pb.RejudgeReportRequest(report_id=report_id))


async def events(asker: Asker, report_id: str, type_: str) -> list[Any]:
    query = ListEventsRequest(report_id=report_id, event_type=type_)
    listed = await until(lambda: asker.ListEvents(query), lambda answer: bool(answer.events))
    return list(listed.events)


async def test_raw_bytes_come_back_and_an_event_says_so(place: Place, asker: Asker) -> None:
    large = dump([gitleaks(number, Line="x" * 9_000) for number in range(300)])
    assert len(large) > 2 << 20
    for sent in (report(1, 2), large):
        report_id = (await asker.submit(sent)).report_id
        assert await raw(place.house, asker, report_id) == sent
        assert len(await events(asker, report_id, "REPORT_RAW_READ")) == 1


async def test_raw_bytes_of_a_report_that_failed_and_of_an_empty_one(
    place: Place, asker: Asker
) -> None:
    for sent, scanner in ((b"neither this nor that", ""), (b"", "gitleaks")):
        call = place.house.reports.SubmitReport(
            upload(sent, scanner, wait=False), metadata=(("x-winnow-tenant", asker.tenant),)
        )
        report_id = (await call).report.report_id
        assert await raw(place.house, asker, report_id) == sent


async def test_raw_bytes_of_which_some_are_missing_are_an_error(place: Place, asker: Asker) -> None:
    report_id = (await asker.submit(report(1))).report_id
    place.sql("DELETE FROM orchestrator.raw_chunks WHERE report_id = %s", report_id)
    assert await refused(raw(place.house, asker, report_id)) == "SEAL_BROKEN"
    assert await refused(raw(place.house, Asker(place.house), report_id)) == "REPORT_NOT_FOUND"


async def test_what_is_moved_to_another_report_does_not_open(place: Place, asker: Asker) -> None:
    one, other = [(await asker.submit(report(number))).report_id for number in (1, 2)]
    for table in ("data_keys", "raw_chunks"):
        column = {"data_keys": "wrapped", "raw_chunks": "sealed"}[table]
        of = f"SELECT {column} FROM orchestrator.{table} WHERE report_id = %s"
        kept, [(moved,)] = place.sql(of, one), place.sql(of, other)
        put = f"UPDATE orchestrator.{table} SET {column} = %s WHERE report_id = %s"
        place.sql(put, moved, one)
        assert await refused(raw(place.house, asker, one)) == "SEAL_BROKEN"
        if table == "data_keys":
            assert await refused(replay(asker, one)) == "SEAL_BROKEN"
        place.sql(put, kept[0][0], one)
    assert await raw(place.house, asker, one) == report(1)


async def test_a_rotation_that_gave_up_stands_in_no_others_way(
    place: Place, asker: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does a trace that goes with it: both stand in the job's payload."""
    carried = {"traceparent": f"00-{'1' * 32}-{'2' * 16}-01"}
    monkeypatch.setattr("runtime.jobs.tracing.carrier", lambda: carried)
    sent = [(await asker.submit(report(number))).report_id for number in range(3)]
    place.sql(
        "INSERT INTO orchestrator.jobs (job_id, kind, key, tenant_id, request_id, payload, state,"
        " max_failures) VALUES (gen_random_uuid(), 'sealing.rewrap', 'sealing', 'default', '',"
        " '{}', %s, 1)",
        JobState.JOB_STATE_DEAD,
    )
    new = os.urandom(32)
    place.keys(new, SEALING_KEY)
    answer = await place.rotated()
    counts = {key.key_id: key.reports for key in answer.keys if key.reports}
    assert list(counts) == [key_id(new)]
    assert counts[key_id(new)] >= len(sent)
    # The tests that follow have the same database, and not this key.
    place.keys(SEALING_KEY, new)
    await place.rotated()


async def test_keys_are_rotated_under_a_stream_of_reports(place: Place, asker: Asker) -> None:
    """No report fails; then the old key opens nothing, and nobody needs it."""
    new, ended = os.urandom(32), asyncio.Event()
    sent: list[str] = []

    async def submit() -> None:
        while not ended.is_set():
            made = await asker.submit(report(len(sent)))
            assert (
                made.summary
                == (
                    await asker.GetReport(pb.GetReportRequest(report_id=made.report_id))
                ).report.summary
            )
            sent.append(made.report_id)

    async def enough(number: int) -> None:
        wanted = len(sent) + number
        while len(sent) < wanted:
            await asyncio.sleep(0.01)

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        submitting = [group.create_task(submit()) for _ in range(2)]
        await enough(6)
        place.keys(new, SEALING_KEY)
        answer = await place.rotated()
        assert answer.keys[0].key_id == key_id(new)
        await enough(6)
        answer = await place.rotated()
        assert [(key.key_id, key.reports) for key in answer.keys[1:]] == [(key_id(SEALING_KEY), 0)]
        place.keys(new)
        await enough(6)
        ended.set()
        await asyncio.gather(*submitting)
    answer = await place.rotated()
    assert [(key.key_id, key.current, key.held) for key in answer.keys] == [
        (key_id(new), True, True)
    ]
    assert answer.keys[0].reports == len(sent)
    for report_id in sent:
        data_key = place.data_key(report_id)
        assert data_key is not None
        old = Keyring((SEALING_KEY,))
        with pytest.raises(WinnowError, match="does not hold"):
            old.open(uuid.UUID(report_id), data_key)
        data_key.key_id = key_id(SEALING_KEY)
        with pytest.raises(WinnowError, match="does not open"):
            old.open(uuid.UUID(report_id), data_key)
    for number in (0, -1):
        assert (await replay(asker, sent[number])).same == 1
        assert await raw(place.house, asker, sent[number])
    house_wide = Asker(place.house, "default")
    rotated = await events(house_wide, "", "SEALING_ROTATED")
    [first, *_] = [one for one in rotated if one.event.payload["to"] == key_id(new)]
    assert list(first.event.payload["from"]) == [key_id(SEALING_KEY)]
    assert first.event.payload["count"] >= 6


async def test_a_key_that_is_not_held_is_told_and_waited_for(place: Place, asker: Asker) -> None:
    report_id = (await asker.submit(report(1))).report_id
    new = os.urandom(32)
    place.keys(new)
    # Read anew at once: it was meant to be.
    assert await refused(place.seals.RotateSealing(RotateSealingRequest())) == (
        "SEALING_KEY_UNKNOWN"
    )
    [current, lost] = (await place.sealing()).keys
    assert (current.key_id, lost.key_id, lost.held, lost.reports) == (
        key_id(new),
        key_id(SEALING_KEY),
        False,
        1,
    )
    assert await refused(raw(place.house, asker, report_id)) == "SEALING_KEY_UNKNOWN"
    place.keys(new, SEALING_KEY)
    assert await raw(place.house, asker, report_id) == report(1)
    assert (await replay(asker, report_id)).same == 1


def _make_older(place: Place, report_id: str) -> None:
    """A report as a version without data keys left it: sealed with the key itself."""
    name = uuid.UUID(report_id)
    data_key = place.data_key(report_id)
    assert data_key is not None
    inner = Keyring((SEALING_KEY,)).open(name, data_key)
    rows = place.sql("SELECT ordinal, message FROM orchestrator.findings WHERE report_id=%s", name)
    for ordinal, message in rows:
        finding = Finding.FromString(message)
        plain = Sealer(inner, name, EVIDENCE).open(finding.sealed_evidence, ordinal)
        finding.sealed_evidence = Sealer(SEALING_KEY, name, EVIDENCE).seal(plain, ordinal)
        place.sql(
            "UPDATE orchestrator.findings SET message = %s WHERE report_id = %s AND ordinal = %s",
            finding.SerializeToString(),
            name,
            ordinal,
        )
    [(sealed,)] = place.sql("SELECT sealed FROM orchestrator.raw_chunks WHERE report_id = %s", name)
    chunk = Sealer(SEALING_KEY, name, RAW_REPORT).seal(
        Sealer(inner, name, RAW_REPORT).open(sealed, 0), 0
    )
    place.sql("UPDATE orchestrator.raw_chunks SET sealed = %s WHERE report_id = %s", chunk, name)
    place.sql("DELETE FROM orchestrator.data_keys WHERE report_id = %s", name)


async def test_reports_of_an_older_version_are_read_and_carried_over(
    place: Place, asker: Asker
) -> None:
    read, waiting = [(await asker.submit(report(number))).report_id for number in (1, 2)]
    for report_id in (read, waiting):
        _make_older(place, report_id)
    new = os.urandom(32)
    place.keys(new, SEALING_KEY)
    assert (await replay(asker, read)).same == 1
    await place.rotated()
    place.keys(new)
    for report_id, number in ((read, 1), (waiting, 2)):
        data_key = place.data_key(report_id)
        assert data_key is not None
        assert data_key.key_id == key_id(new)
        assert await raw(place.house, asker, report_id) == report(number)
        assert (await replay(asker, report_id)).same == 1


async def test_a_shredded_report_cannot_be_opened_with_all_keys_in_hand(
    place: Place, asker: Asker
) -> None:
    report_id, other = [(await asker.submit(report(1, number))).report_id for number in (2, 3)]
    shared = place.data_key(other)
    assert shared is not None
    keys = [SEALING_KEY, Keyring((SEALING_KEY,)).open(uuid.UUID(other), shared)]
    decided = DecideFindingRequest(finding_id=f"{report_id}.0", ruling=ruling(1))
    await asker.DecideFinding(decided)
    before = await asker.ListFindings(pb.ListFindingsRequest(report_id=report_id))
    shredded = (await asker.ShredReport(pb.ShredReportRequest(report_id=report_id))).report
    assert shredded.HasField("shredded_at")
    again = await asker.ShredReport(pb.ShredReportRequest(report_id=report_id))
    assert again.report == shredded
    assert place.data_key(report_id) is None
    assert not place.sql("SELECT FROM orchestrator.raw_chunks WHERE report_id = %s", report_id)
    sealed = place.evidence(report_id)
    assert len(sealed) == 2
    for ordinal, part in sealed.items():
        for key in keys:
            with pytest.raises(WinnowError, match="does not open"):
                Sealer(key, uuid.UUID(report_id), EVIDENCE).open(part, ordinal)
    assert await refused(raw(place.house, asker, report_id)) == "REPORT_SHREDDED"
    assert await refused(replay(asker, report_id)) == "REPORT_SHREDDED"
    after = await asker.ListFindings(pb.ListFindingsRequest(report_id=report_id))
    assert after == before
    assert (await asker.ListDecisions(ListDecisionsRequest())).decisions
    assert (await place.sealing()).shredded == 1
    assert (await replay(asker, other)).same == 2
    [entry] = await events(asker, report_id, "REPORT_SHREDDED")
    assert entry.event.payload["cause"] == "request"
    proof = GetInclusionProofRequest(event_id=entry.event.event_id)
    assert (await asker.GetInclusionProof(proof)).tree_size > entry.sequence


async def test_what_has_not_ended_is_neither_shredded_nor_deleted(
    place: Place, asker: Asker
) -> None:
    report_id = (await asker.submit(report(1))).report_id
    place.sql("UPDATE orchestrator.reports SET status = 3 WHERE report_id = %s", report_id)
    for call, request in (
        (asker.ShredReport, pb.ShredReportRequest),
        (asker.DeleteReport, pb.DeleteReportRequest),
    ):
        assert await refused(call(request(report_id=report_id))) == "REPORT_STATE"
        assert await refused(call(request(report_id=str(uuid.uuid4())))) == "REPORT_NOT_FOUND"
    assert place.data_key(report_id) is not None


TABLES = {
    **dict.fromkeys(("reports", "data_keys", "findings", "verdicts", "rejections"), "report_id"),
    **dict.fromkeys(("raw_chunks", "idempotency"), "report_id"),
    "run_events": "run_id",
}


def _rows(place: Place, report_id: str) -> dict[str, int]:
    counts = {
        table: place.sql(f"SELECT count(*) FROM orchestrator.{table} WHERE {of} = %s", report_id)
        for table, of in TABLES.items()
    }
    return {table: rows[0][0] for table, rows in counts.items() if rows[0][0]}


async def test_a_deleted_report_leaves_its_audit_trail_and_what_follows_its_values(
    place: Place, asker: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_ITEMS_AT_ONCE", 7)
    first = (await asker.submit(report(*range(40)))).report_id
    repeat = await asker.submit(report(*range(40)))
    assert repeat.duplicate_of == first
    for ordinal, scope in (
        (0, DecisionScope.DECISION_SCOPE_FINDING),
        (1, DecisionScope.DECISION_SCOPE_CREDENTIAL),
    ):
        ruled = ruling(1, scope=scope)
        await asker.DecideFinding(
            DecideFindingRequest(finding_id=f"{first}.{ordinal}", ruling=ruled)
        )
    await asker.DeleteReport(pb.DeleteReportRequest(report_id=first))
    for work in (
        asker.GetReport(pb.GetReportRequest(report_id=first)),
        asker.ListFindings(pb.ListFindingsRequest(report_id=first)),
        asker.GetFinding(pb.GetFindingRequest(finding_id=f"{first}.0")),
        asker.DeleteReport(pb.DeleteReportRequest(report_id=first)),
        asker.ShredReport(pb.ShredReportRequest(report_id=first)),
        raw(place.house, asker, first),
    ):
        assert (await refused(work)).endswith("_NOT_FOUND")

    async def left() -> dict[str, int]:
        return _rows(place, first)

    await until(left, lambda rows: not rows)
    assert not place.sql("SELECT FROM orchestrator.jobs WHERE key = %s", first)
    [entry] = await events(asker, first, "REPORT_DELETED")
    assert entry.event.payload["cause"] == "request"
    assert len(await events(asker, first, "REPORT_CREATED")) == 1
    [kept] = (await asker.ListDecisions(ListDecisionsRequest())).decisions
    assert kept.scope == DecisionScope.DECISION_SCOPE_CREDENTIAL
    stands = (await asker.GetReport(pb.GetReportRequest(report_id=repeat.report_id))).report
    assert stands.duplicate_of == ""
    later = await asker.submit(report(1))
    [follows] = (
        await asker.ListFindings(pb.ListFindingsRequest(report_id=later.report_id))
    ).findings
    assert follows.reason == "Confirmed as real by ada."


async def test_what_is_old_is_shredded_and_deleted(
    place: Place, own_url: str, asker: Asker
) -> None:
    fresh, aged, old = [(await asker.submit(report(number))).report_id for number in (1, 2, 3)]
    backdated = "UPDATE orchestrator.reports SET finished_at = now() - %s::interval WHERE report_id"
    place.sql(f"{backdated} = %s", "2 days", aged)
    # Its id says that it was received long ago.
    ancient = str(uuid.UUID(int=uuid.UUID(old).int & (1 << 80) - 1))
    for table, of in TABLES.items():
        place.sql(f"UPDATE orchestrator.{table} SET {of} = %s WHERE {of} = %s", ancient, old)
    place.sql(f"{backdated} = %s", "9 days", ancient)
    async with opened_house(own_url, raw_ttl="1d", report_ttl="1w"):

        async def left() -> dict[str, int]:
            # Again and again: the other house, which keeps all for ever, may have taken it.
            place.sql(
                "INSERT INTO orchestrator.jobs (job_id, kind, key, tenant_id, request_id, payload,"
                " state, max_failures) VALUES (gen_random_uuid(), 'retention.sweep', 'now',"
                " 'default', '', '{}', 1, 50) ON CONFLICT DO NOTHING"
            )
            return _rows(place, ancient)

        await until(left, lambda rows: not rows)
    got = {
        name: (await asker.GetReport(pb.GetReportRequest(report_id=name))).report
        for name in (fresh, aged)
    }
    assert [one.HasField("shredded_at") for one in got.values()] == [False, True]
    [entry] = await events(asker, aged, "REPORT_SHREDDED")
    assert entry.event.payload["cause"] == "raw_ttl"
    causes = [one.event.payload["cause"] for one in await events(asker, ancient, "REPORT_DELETED")]
    assert causes == ["report_ttl"]


async def test_evidence_still_holds_the_value_for_who_has_the_key(
    place: Place, asker: Asker
) -> None:
    """What the other tests find unreadable is there, with the key."""
    report_id = (await asker.submit(report(1))).report_id
    data_key = place.data_key(report_id)
    assert data_key is not None
    key = Keyring((SEALING_KEY,)).open(uuid.UUID(report_id), data_key)
    [(ordinal, sealed)] = place.evidence(report_id).items()
    plain = Sealer(key, uuid.UUID(report_id), EVIDENCE).open(sealed, ordinal)
    assert PlainEvidence.FromString(plain).value in report(1).decode()
