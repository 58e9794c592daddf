"""Watching reports: history and live are one list, whoever serves it, whoever dies."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import re
import socket
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import grpc
import pytest
import uvicorn
from sqlalchemy import Connection, insert
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

import gateway.app
from orchestrator import events, service, states, store_events, tables, watching
from orchestrator.watching import Watches
from runtime.channels import dial
from runtime.clock import now, uuid7
from runtime.database import Database
from runtime.errors import WinnowError, from_rpc
from runtime.server import Service
from tests.fixtures.load import load_report
from tests.harness import serving, settings
from tests.orchestrator.conftest import Asker, House
from winnow.report.v1 import report_service_pb2 as pb
from winnow.report.v1.report_pb2 import ReportStatus
from winnow.report.v1.report_progress_pb2 import ReportProgress
from winnow.report.v1.report_service_pb2_grpc import (
    ReportServiceStub,
    add_ReportServiceServicer_to_server,
)

TENANT = "default"


def _row(connection: Connection, status: int) -> uuid.UUID:
    """A report that nothing works on."""
    report_id = uuid7()
    connection.execute(
        insert(tables.reports).values(
            report_id=report_id,
            tenant_id=TENANT,
            status=status,
            scanner_type="gitleaks",
            report_format="json",
            source={},
            labels={},
            asset_key="",
            sha256=b"\0" * 32,
            size_bytes=2,
            request_id="r",
            created_at=now(),
            updated_at=now(),
            finished_at=now() if status in states.ENDED else None,
            risk_high=3,
        )
    )
    return report_id


async def a_report(database: Database, status: int = states.PROCESSING) -> uuid.UUID:
    return await database.run(_row, status)


async def happened(
    database: Database, report_id: uuid.UUID, event_type: str, count: int = 1, **said: Any
) -> None:
    """Adds events to a report's run, as the writer does."""
    progress = ReportProgress(status=states.PROCESSING, judged=7, judged_by={"heuristic": 7})
    progress.records.findings, progress.summary.low = 9, 7
    made = [events.run_event(event_type, report_id, TENANT, progress, **said) for _ in range(count)]
    await database.run(store_events.append, report_id, made)


class OnlyWatched(service.ReportService):
    """An orchestrator that takes no reports and does no work: it tells of them."""

    def __init__(self, database: Database) -> None:
        self._watches = Watches(database, database)


def only_watched(database: Database) -> Service:
    return Service(
        "127.0.0.1:0",
        [pb.DESCRIPTOR.services_by_name["ReportService"]],
        lambda server: add_ReportServiceServicer_to_server(OnlyWatched(database), server),
    )


async def ordinals(watches: Watches, report_id: uuid.UUID, after: int = 0) -> list[int]:
    async with aclosing(watches.watch(report_id, TENANT, after)) as batches:
        return [told.event.ordinal async for batch in batches for told in batch]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[uuid.UUID, int]]:
    """What the table of events was asked for."""
    found: list[dict[uuid.UUID, int]] = []

    def page(connection: Connection, after: Any, limit: int) -> Any:
        found.append(dict(after))
        return store_page(connection, after, limit)

    store_page = store_events.page
    monkeypatch.setattr(watching.store_events, "page", page)
    return found


async def test_every_event_is_told_once_with_its_counts(house: House, alone: Asker) -> None:
    report = await alone.submit(load_report("gitleaks.git.json"), wait=False)
    request = pb.WatchReportRequest(report_id=report.report_id)
    told = [answer async for answer in alone.WatchReport(request)]
    assert [answer.event.ordinal for answer in told] == list(range(1, len(told) + 1))
    kinds = [answer.event.event_type for answer in told]
    assert [kind for kind in kinds if kind != events.REPORT_PROGRESS] == [
        events.REPORT_CREATED,
        events.REPORT_INGESTED,
        events.REPORT_PROCESSING_STARTED,
        events.REPORT_MODERATED,
        events.REPORT_DONE,
    ]
    last = told[-1].progress
    assert last.status == ReportStatus.REPORT_STATUS_DONE
    assert last.judged == last.records.findings == last.records.read > 0
    assert sum(last.judged_by.values()) == last.judged
    assert last.summary.high + last.summary.medium + last.summary.low == last.judged
    assert last.report_id == report.report_id
    assert last.at == told[-1].event.occurred_at
    for after in range(len(told) + 1):
        request.after_ordinal = after
        again = [answer async for answer in alone.WatchReport(request)]
        assert again == told[after:]


async def test_a_report_that_fails_ends_with_its_reason(house: House, alone: Asker) -> None:
    report = await alone.submit(b"no scanner writes this", wait=False)
    request = pb.WatchReportRequest(report_id=report.report_id)
    *_, last = [answer async for answer in alone.WatchReport(request)]
    assert last.event.event_type == events.REPORT_FAILED
    assert last.progress.status == ReportStatus.REPORT_STATUS_ERROR
    assert last.progress.error.reason == "FORMAT_UNKNOWN"


async def test_who_may_not_watch_is_told_why(house: House, alone: Asker) -> None:
    report = await alone.submit(load_report("gitleaks.git.json"))
    other = Asker(house)
    nobody = "0198c5a0-0000-7000-8000-000000000000"
    for asker, report_id, after, reason in (
        (other, report.report_id, 0, "REPORT_NOT_FOUND"),
        (alone, nobody, 0, "REPORT_NOT_FOUND"),
        (alone, report.report_id, 99, "INVALID_ARGUMENT"),
        (alone, report.report_id, 99_999, "INVALID_ARGUMENT"),
        (alone, "no uuid", 0, "INVALID_ARGUMENT"),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in asker.WatchReport(
                pb.WatchReportRequest(report_id=report_id, after_ordinal=after)
            ):
                pass
        assert from_rpc(caught.value, "orchestrator").reason == reason


async def test_a_report_from_before_there_were_events_has_one(database: Database) -> None:
    watches = Watches(database, database)
    for status, kind in ((states.DONE, events.REPORT_DONE), (states.ERROR, events.REPORT_FAILED)):
        report_id = await a_report(database, status)
        async with aclosing(watches.watch(report_id, TENANT, 0)) as batches:
            (told,) = [one async for batch in batches for one in batch]
        assert (told.event.event_type, told.event.ordinal) == (kind, 1)
        assert told.progress.status == status
        assert told.progress.summary.high == 3
        assert await ordinals(watches, report_id, 1) == []
        with pytest.raises(WinnowError):
            await ordinals(watches, report_id, 2)


async def test_a_report_that_gets_another_chance_goes_on(database: Database) -> None:
    watches = Watches(database, database)
    report_id = await a_report(database)
    await happened(database, report_id, events.REPORT_CREATED)
    await happened(database, report_id, events.REPORT_FAILED, reason="INTERNAL")
    assert await ordinals(watches, report_id) == [1, 2]
    await happened(database, report_id, events.REPORT_RETRIED)
    reading = asyncio.create_task(ordinals(watches, report_id, 1))
    await asyncio.sleep(0.1)
    await happened(database, report_id, events.REPORT_DONE)
    watches.ring(report_id)
    assert await reading == [2, 3, 4]


@pytest.mark.parametrize("readers", [1, 300])
async def test_a_tick_costs_one_query_however_many_watch(
    database: Database, asked: list[dict[uuid.UUID, int]], readers: int
) -> None:
    watches = Watches(database, database)
    reports = [await a_report(database) for _ in range(3)]
    for report_id in reports:
        await happened(database, report_id, events.REPORT_CREATED)
    reading = [
        asyncio.create_task(_follow(watches, report_id))
        for report_id in reports
        for _ in range(readers)
    ]
    await asyncio.sleep(0.6)
    asked.clear()
    started = time.monotonic()
    await asyncio.sleep(1.5)
    ticks = (time.monotonic() - started) / 0.25
    assert 2 <= len(asked) <= ticks + 1
    assert all(one == dict.fromkeys(reports, 1) for one in asked)
    for report_id in reports:
        await happened(database, report_id, events.REPORT_DONE)
    assert await asyncio.gather(*reading) == [[1, 2]] * 3 * readers
    seen = len(asked)
    await asyncio.sleep(0.6)
    assert len(asked) == seen


async def _follow(watches: Watches, report_id: uuid.UUID) -> list[int]:
    async with aclosing(watches.follow(report_id)) as batches:
        return [told.event.ordinal async for batch in batches for told in batch]


async def test_what_is_committed_here_is_told_at_once(
    database: Database, asked: list[dict[uuid.UUID, int]]
) -> None:
    watches = Watches(database, database)
    watches._poll._tick = 30.0
    report_id = await a_report(database)
    await happened(database, report_id, events.REPORT_CREATED)
    reading = asyncio.create_task(_follow(watches, report_id))
    await asyncio.sleep(0.2)
    await happened(database, report_id, events.REPORT_DONE)
    started = time.monotonic()
    watches.ring(report_id)
    assert await reading == [1, 2]
    assert time.monotonic() - started < 1.0


async def test_a_reader_that_takes_nothing_is_cut_and_goes_on_from_there(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "TAKEN_SECONDS", 0.3)
    report_id = await a_report(database)
    await happened(database, report_id, events.REPORT_PROGRESS, 3000)
    request = pb.WatchReportRequest(report_id=str(report_id))
    async with serving(only_watched(database)) as (_, channel):
        reports = ReportServiceStub(channel)
        told = aiter(reports.WatchReport(request))
        seen = [(await anext(told)).event.ordinal]
        await asyncio.sleep(1.5)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            while True:
                seen.append((await anext(told)).event.ordinal)
        error = from_rpc(caught.value, "orchestrator")
        assert error.reason == "READER_TOO_SLOW"
        assert error.metadata == {"last_ordinal": str(seen[-1])}
        assert len(seen) < 3000
        await happened(database, report_id, events.REPORT_DONE)
        request.after_ordinal = seen[-1]
        seen += [one.event.ordinal async for one in reports.WatchReport(request)]
    assert seen == list(range(1, 3002))


EVENTS = 10_000
READERS = {"sse": 184, "ws": 10, "grpc": 6}


class Gateway:
    """A gateway in this process, that can be made to die."""

    def __init__(self, orchestrator_address: str) -> None:
        given = settings(gateway.app.GatewaySettings, orchestrator_address=orchestrator_address)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        config = uvicorn.Config(gateway.app.build(given), log_config=None, access_log=False)
        self._server = uvicorn.Server(config)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._server.serve([self._listener]))
        while not self._server.started:
            await asyncio.sleep(0.01)

    async def die(self) -> None:
        """Every connection breaks, and nobody listens any more."""
        self._server.should_exit = self._server.force_exit = True
        for connection in list(self._server.server_state.connections):
            connection.transport.abort()  # type: ignore[union-attr]
        assert self._task is not None
        await self._task


Told = AsyncIterator[list[tuple[int, bool]]]


async def _sse(address: str, report_id: str, after: int) -> Told:
    host, _, port = address.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=1 << 20)
    try:
        resumed = f"Last-Event-ID: {after}\r\n" if after else ""
        writer.write(
            f"GET /reports/{report_id}/events/stream HTTP/1.1\r\nHost: localhost\r\n{resumed}\r\n".encode()
        )
        text = b""
        while piece := await reader.read(1 << 16):
            text += piece
            whole, end, text = text.rpartition(b"\n\n")
            found = re.findall(rb"^id: (\d+)\nevent: (\S+)$", whole + end, re.M)
            yield [(int(ordinal), kind == b"report.done") for ordinal, kind in found]
    finally:
        writer.close()


async def _ws(address: str, report_id: str, after: int) -> Told:
    url = f"ws://{address}/reports/{report_id}/stream?after={after}"
    async with connect(url, compression=None) as opened:
        async for text in opened:
            event = json.loads(text)
            yield [(event["ordinal"], event["event_type"] == events.REPORT_DONE)]


async def _grpc(address: str, report_id: str, after: int) -> Told:
    channel = dial(address)
    try:
        request = pb.WatchReportRequest(report_id=report_id, after_ordinal=after)
        async for told in ReportServiceStub(channel).WatchReport(request):
            yield [(told.event.ordinal, told.event.event_type == events.REPORT_DONE)]
    finally:
        await channel.close()


async def _read(
    kind: Callable[[str, str, int], Told],
    addresses: list[str],
    report_id: str,
    after: int,
    leaves: list[int],
    dice: random.Random,
) -> tuple[list[int], int]:
    """One reader, that goes away after so many events and comes back, and that goes
    elsewhere when who served it dies; all it saw, and how many were final."""
    seen, final = [after], 0
    while not final:
        with contextlib.suppress(OSError, grpc.aio.AioRpcError, WebSocketException):
            async with aclosing(kind(dice.choice(addresses), report_id, seen[-1])) as told:  # type: ignore[type-var]
                async for some in told:
                    seen += [ordinal for ordinal, _ in some]
                    final += sum(is_final for _, is_final in some)
                    if leaves and len(seen) > leaves[0]:
                        leaves.pop(0)
                        break
        await asyncio.sleep(0.02)
    return seen[1:], final


@asynccontextmanager
async def two_of_each(database: Database) -> AsyncIterator[dict[str, Any]]:
    """Two orchestrators over the same database, and a gateway before each; the second
    of each is for the test to end."""
    second = only_watched(database)
    await second.start()
    async with serving(only_watched(database)) as (first, _):
        addresses = [first, f"127.0.0.1:{second.port}"]
        gateways = [Gateway(address) for address in addresses]
        for one in gateways:
            await one.start()
        yield {"addresses": addresses, "gateways": gateways, "second": second}
        await gateways[0].die()


async def test_two_hundred_readers_see_the_same_list_whoever_dies(database: Database) -> None:
    dice = random.Random(11)
    report_id = await a_report(database)
    await happened(database, report_id, events.REPORT_CREATED)
    await happened(database, report_id, events.REPORT_PROGRESS, EVENTS // 4)
    written = EVENTS // 4 + 1

    async def write() -> None:
        nonlocal written
        while written < EVENTS - 1:
            count = min(dice.randrange(1, 200), EVENTS - 1 - written)
            await happened(database, report_id, events.REPORT_PROGRESS, count)
            written += count
            await asyncio.sleep(0.04)
        await happened(database, report_id, events.REPORT_DONE)

    async with two_of_each(database) as stack:
        grpc_at, http_at = stack["addresses"], [one.address for one in stack["gateways"]]

        async def reader(kind: Any, number: int) -> None:
            await asyncio.sleep(dice.random() * 3)
            after = dice.randrange(written)
            leaves = sorted(dice.sample(range(EVENTS - after), 2)) if number % 3 == 0 else []
            where = grpc_at if kind is _grpc else http_at
            seen, final = await _read(kind, where, str(report_id), after, leaves, dice)
            assert seen == list(range(after + 1, EVENTS + 1))
            assert final == 1

        async def kill() -> None:
            await asyncio.sleep(2)
            # Whoever asks again goes to who is left.
            await stack["second"].stop(0)
            del grpc_at[1]
            await asyncio.sleep(0.3)
            del http_at[1]
            await stack["gateways"][1].die()

        kinds = {"sse": _sse, "ws": _ws, "grpc": _grpc}
        async with asyncio.timeout(220), asyncio.TaskGroup() as group:
            group.create_task(write())
            group.create_task(kill())
            for name, count in READERS.items():
                for number in range(count):
                    group.create_task(reader(kinds[name], number))
