"""Reports through the real services: every record accounted for, every event there."""

from __future__ import annotations

import asyncio
import json

import grpc
import pytest

from runtime.channels import PeerStatus
from runtime.errors import WinnowError, from_rpc
from tests.fixtures import expected, load_report, names
from tests.orchestrator.conftest import House, upload
from winnow.audit.v1.audit_service_pb2 import ListEventsRequest
from winnow.finding.v1.verdict_pb2 import Risk
from winnow.report.v1 import report_service_pb2 as pb
from winnow.report.v1.report_pb2 import Report, ReportSource, ReportStatus

ORDER = [
    "REPORT_CREATED",
    "REPORT_INGESTED",
    "REPORT_PROCESSING_STARTED",
    "REPORT_MODERATED",
    "REPORT_DONE",
]
READABLE = names()


async def submit(house: House, report: bytes, scanner: str = "", **more) -> Report:
    answer = await house.reports.SubmitReport(upload(report, scanner, **more))
    return answer.report


async def failing(house: House, report: bytes, scanner: str = "", **more) -> WinnowError:
    call = house.reports.SubmitReport(upload(report, scanner, **more))
    status = PeerStatus(call)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return from_rpc(status.of(caught.value), "orchestrator")


async def events(house: House, report_id: str) -> list:
    """A report's audit trail, once its end has been shipped."""
    for _ in range(200):
        listed = await house.audit.ListEvents(ListEventsRequest(report_id=report_id))
        trail = [item.event for item in listed.events]
        if trail and trail[-1].event_type in ("REPORT_DONE", "REPORT_FAILED"):
            break
        await asyncio.sleep(0.05)
    return trail


async def findings(house: House, report_id: str, **filters) -> list:
    found, token = [], ""
    while True:
        page = await house.reports.ListFindings(
            pb.ListFindingsRequest(report_id=report_id, page_token=token, **filters)
        )
        found += page.findings
        token = page.next_page_token
        if not token:
            return found


@pytest.mark.parametrize("name", READABLE)
async def test_every_record_is_accounted_for_and_every_event_is_there(house, name) -> None:
    known = expected()[name]
    scanner = str(known["scanner"]) if known["records"] == 0 and not name.endswith(".sarif") else ""
    report = await submit(house, load_report(name), scanner)
    assert report.status == ReportStatus.REPORT_STATUS_DONE
    records = report.records
    assert records.read == known["records"]
    assert records.merged == known["duplicates"]
    assert records.read == records.findings + records.merged + records.rejected
    assert records.rejected == 0
    summary = report.summary
    assert summary.high + summary.medium + summary.low == records.findings
    found = await findings(house, report.report_id)
    assert len(found) == records.findings
    assert all(one.risk and one.reason and one.source for one in found)
    trail = await events(house, report.report_id)
    assert [event.event_type for event in trail] == ORDER
    assert trail[1].payload["findings_count"] == records.findings
    assert trail[3].service == "moderator"
    assert trail[4].payload["summary"]["high"] == summary.high


async def test_records_that_cannot_be_read_are_told_with_their_reason(house) -> None:
    good = {"RuleID": "r", "File": "f", "StartLine": 1, "Match": "m", "Secret": "s"}
    records = [good, {**good, "File": 7}, "text", {**good, "StartLine": 2}, [], good]
    report = await submit(house, json.dumps(records).encode(), "gitleaks")
    assert (report.records.read, report.records.findings) == (6, 2)
    assert (report.records.merged, report.records.rejected) == (1, 3)
    rejected, token = [], ""
    while True:
        page = await house.reports.ListRejected(
            pb.ListRejectedRequest(report_id=report.report_id, page_size=2, page_token=token)
        )
        rejected += page.rejected
        token = page.next_page_token
        if not token:
            break
    assert [one.ordinal for one in rejected] == [1, 2, 4]
    assert rejected[0].field == "File"
    assert all(one.detail and one.reason for one in rejected)


async def test_viewing_is_an_event_too(house) -> None:
    report = await submit(house, load_report("gitleaks.git.json"))
    await house.reports.GetReport(pb.GetReportRequest(report_id=report.report_id))
    for _ in range(100):
        trail = [event.event_type for event in await events(house, report.report_id)]
        if len(trail) > len(ORDER):
            break
        await asyncio.sleep(0.05)
    assert trail == [*ORDER, "REPORT_VIEWED"]


async def test_the_same_report_gets_the_same_verdicts(house) -> None:
    raw = load_report("gitleaks.git.json")
    first = await findings(house, (await submit(house, raw)).report_id)
    second = await findings(house, (await submit(house, raw)).report_id)
    for one, other in zip(first, second, strict=True):
        one.id = other.id = ""
        assert one == other


async def test_pages_and_filters_agree_with_the_whole(house) -> None:
    report = await submit(house, load_report("gitleaks.git.json"))
    everything = await findings(house, report.report_id)
    assert await findings(house, report.report_id, page_size=3) == everything
    for risk in (Risk.RISK_HIGH, Risk.RISK_MEDIUM, Risk.RISK_LOW):
        part = await findings(house, report.report_id, risk=risk, page_size=2)
        assert part == [one for one in everything if one.risk == risk]
    rule = everything[0].rule
    assert await findings(house, report.report_id, rule=rule) == [
        one for one in everything if one.rule == rule
    ]
    prefix = everything[0].path[:3]
    assert await findings(house, report.report_id, path=prefix) == [
        one for one in everything if one.path.startswith(prefix)
    ]
    full = await findings(house, report.report_id, view=pb.FINDING_VIEW_FULL)
    assert all(one.detail.evidence and one.detail.inputs for one in full)
    assert {one.detail.decided_by.partition("/")[0] for one in full} <= {"heuristics", "ml"}
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        page = await house.reports.ListFindings(
            pb.ListFindingsRequest(report_id=report.report_id, page_size=2)
        )
        await house.reports.ListFindings(
            pb.ListFindingsRequest(
                report_id=report.report_id, page_token=page.next_page_token, rule="another"
            )
        )
    assert from_rpc(caught.value, "orchestrator").reason == "PAGE_TOKEN_INVALID"


async def test_pages_of_long_findings_stay_below_the_message_limit(house) -> None:
    records = [
        {"RuleID": "r", "File": "d/" * 1900 + str(n), "StartLine": n, "Match": "m", "Secret": "s"}
        for n in range(2_000)
    ]
    report = await submit(house, json.dumps(records).encode(), "gitleaks")
    found = await findings(house, report.report_id, page_size=2000)
    assert len({one.id for one in found}) == len(found) == 2_000


async def test_reports_are_listed_newest_first_and_page_by_page(house) -> None:
    ids = [(await submit(house, b"[]", "gitleaks")).report_id for _ in range(5)]
    seen, token = [], ""
    while len(seen) < 5:
        page = await house.reports.ListReports(
            pb.ListReportsRequest(page_size=2, page_token=token, scanner_type="gitleaks")
        )
        seen += [report.report_id for report in page.reports]
        token = page.next_page_token
    assert seen[:5] == ids[::-1]


async def test_where_a_report_comes_from_is_kept_without_credentials(house) -> None:
    source = ReportSource(
        repository="https://robot:hunter2secret@Git.Example.com/team/app.git", ref="main"
    )
    report = await submit(house, b"[]", "gitleaks", source=source, labels={"team": "red"})
    assert report.asset_key == "repo:git.example.com/team/app"
    assert report.source.repository == "https://Git.Example.com/team/app.git"
    assert dict(report.labels) == {"team": "red"}


@pytest.mark.parametrize(
    ("raw", "scanner", "reason"),
    [
        (b"not a report at all", "", "FORMAT_UNKNOWN"),
        (b'{"some": "object"}', "", "FORMAT_UNKNOWN"),
        (b"[]", "no-such-scanner", "SCANNER_UNKNOWN"),
    ],
)
async def test_a_report_that_cannot_be_read_is_kept_with_its_error(
    house, raw, scanner, reason
) -> None:
    error = await failing(house, raw, scanner)
    assert error.reason == reason
    report_id = error.metadata["report_id"]
    answer = await house.reports.GetReport(pb.GetReportRequest(report_id=report_id))
    assert answer.report.status == ReportStatus.REPORT_STATUS_ERROR
    assert answer.report.error.reason == reason
    trail = [event.event_type for event in await events(house, report_id)]
    assert trail[:2] == ["REPORT_CREATED", "REPORT_FAILED"]


async def test_a_scanner_that_contradicts_the_content_names_both(house) -> None:
    error = await failing(house, load_report("gitleaks.git.json"), "trufflehog")
    assert error.reason == "SCANNER_MISMATCH"
    assert "trufflehog" in error.message
    assert "gitleaks" in error.message


async def test_a_cut_upload_leaves_nothing(house, database) -> None:
    from sqlalchemy import text

    async def cut():
        count = 0
        async for request in upload(b"[" + b" " * 3_000_000 + b"]", "gitleaks"):
            count += 1
            if count == 25:
                return
            yield request

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await house.reports.SubmitReport(cut())
    assert from_rpc(caught.value, "orchestrator").reason == "UPLOAD_INCOMPLETE"
    count = text(
        "SELECT count(*) FROM orchestrator.raw_chunks AS c"
        " WHERE tenant_id = 'default' AND NOT EXISTS"
        " (SELECT FROM orchestrator.reports AS r WHERE r.report_id = c.report_id)"
    )
    # Uploads of other tests that were cut just before go on being cleared away.
    async with asyncio.timeout(10):
        while await database.run(lambda connection: connection.execute(count).scalar()):
            await asyncio.sleep(0.05)


async def test_a_large_report_that_is_refused_early_keeps_its_reason(house) -> None:
    """The ingestor refuses at the first bytes, while the rest is still being written."""
    for _ in range(10):
        error = await failing(house, load_report("gitleaks.git.json") * 200, "trufflehog")
        assert error.reason == "SCANNER_MISMATCH"


async def test_a_size_that_does_not_fit_is_refused(house) -> None:
    assert (await failing(house, b"[]", "gitleaks", size=3)).reason == "UPLOAD_INCOMPLETE"


async def test_a_report_over_the_limit_is_refused(house) -> None:
    error = await failing(house, b" " * (9 << 20), "gitleaks")
    assert error.reason == "REPORT_TOO_LARGE"
    assert error.metadata["limit_bytes"] == str(8 << 20)


async def test_a_stream_without_header_is_refused(house) -> None:
    async def headless():
        yield pb.SubmitReportRequest(chunk=b"[]")

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await house.reports.SubmitReport(headless())
    assert from_rpc(caught.value, "orchestrator").reason == "STREAM_PROTOCOL"


async def test_watching_ends_with_the_final_state(house) -> None:
    raw = load_report("gitleaks.git.json")
    report = await submit(house, raw, wait=False)
    last = None
    async for answer in house.reports.WatchReport(
        pb.WatchReportRequest(report_id=report.report_id)
    ):
        last = answer.progress
    assert last is not None
    assert last.status == ReportStatus.REPORT_STATUS_DONE
    assert last.judged == last.records.findings > 0


async def test_unknown_reports_are_not_found(house) -> None:
    nobody = "0198c5a0-0000-7000-8000-000000000000"
    for call, request in (
        (house.reports.GetReport, pb.GetReportRequest(report_id=nobody)),
        (house.reports.ListFindings, pb.ListFindingsRequest(report_id=nobody)),
        (house.reports.CancelReport, pb.CancelReportRequest(report_id=nobody)),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(request)
        assert from_rpc(caught.value, "orchestrator").reason == "REPORT_NOT_FOUND"


async def test_long_reports_are_listed_below_the_message_limit(house) -> None:
    labels = {f"label-{number}": "\U0001f512" * 256 for number in range(32)}
    source = ReportSource(repository="https://example.com/" + "r" * 492, ref="m" * 512)
    mine = (("x-winnow-tenant", "long-reports"),)
    for _ in range(120):
        call = house.reports.SubmitReport(
            upload(b"[]", "gitleaks", labels=labels, source=source), metadata=mine
        )
        assert (await call).report.status == ReportStatus.REPORT_STATUS_DONE
    seen, token = set(), ""
    while True:
        page = await house.reports.ListReports(
            pb.ListReportsRequest(page_size=500, page_token=token), metadata=mine
        )
        seen |= {report.report_id for report in page.reports}
        token = page.next_page_token
        if not token:
            break
    assert len(seen) == 120


async def test_a_nul_in_a_filter_is_the_callers_mistake(house) -> None:
    report = await submit(house, b"[]", "gitleaks")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await house.reports.ListFindings(
            pb.ListFindingsRequest(report_id=report.report_id, rule="a\0b")
        )
    assert from_rpc(caught.value, "orchestrator").reason == "INVALID_ARGUMENT"


async def test_another_tenant_sees_nothing(house) -> None:
    report = await submit(house, load_report("gitleaks.git.json"))
    other = (("x-winnow-tenant", "other"),)
    for call, request in (
        (house.reports.GetReport, pb.GetReportRequest(report_id=report.report_id)),
        (house.reports.ListFindings, pb.ListFindingsRequest(report_id=report.report_id)),
        (house.reports.CancelReport, pb.CancelReportRequest(report_id=report.report_id)),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(request, metadata=other)
        assert from_rpc(caught.value, "orchestrator").reason == "REPORT_NOT_FOUND"
    listed = await house.reports.ListReports(pb.ListReportsRequest(), metadata=other)
    assert not listed.reports


async def test_cancelling_an_ended_report_is_refused(house) -> None:
    report = await submit(house, b"[]", "gitleaks")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await house.reports.CancelReport(pb.CancelReportRequest(report_id=report.report_id))
    assert from_rpc(caught.value, "orchestrator").reason == "REPORT_STATE"
