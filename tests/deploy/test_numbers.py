"""What a report leaves in the metrics of each service."""

from __future__ import annotations

import asyncio

from tests.deploy.conftest import Value, Watched
from tests.fixtures.reports import load_report


async def test_a_report_is_counted_where_it_passes(watched: Watched, value: Value) -> None:
    before = {service: (await watched.scrape(service)).text for service in watched.metrics}
    report = load_report("credsweeper.json")
    answer = await watched.client.post("/reports", content=report)
    assert answer.status_code == 201, answer.text
    # The audit log has it a moment later; then nothing is left on its way.
    async with asyncio.timeout(20):
        while True:
            after = {service: (await watched.scrape(service)).text for service in watched.metrics}
            tree = "winnow_audit_tree_size_events"
            shipped = value(after["audit"], tree) >= value(before["audit"], tree) + 5
            flying = "winnow_rpcs_in_flight"
            if shipped and value(after["audit"], flying) <= value(before["audit"], flying):
                break
            await asyncio.sleep(0.05)

    def more(service: str, name: str, **labels: str) -> float:
        return value(after[service], name, **labels) - value(before[service], name, **labels)

    summary, records = answer.json()["summary"], answer.json()["records"]
    post = {"route": "POST /reports", "outcome": "ok"}
    assert more("gateway", "winnow_http_requests_total", **post) == 1
    assert more("gateway", "winnow_http_request_duration_seconds_count", route=post["route"]) == 1
    assert more("ingestor", "winnow_ingest_bytes_total") == len(report)
    for outcome, member in (
        ("finding", "findings"),
        ("merged", "merged"),
        ("rejected", "rejected"),
    ):
        labels = {"scanner": "credsweeper", "outcome": outcome}
        assert more("ingestor", "winnow_ingest_records_total", **labels) == records[member]
    for risk, count in summary.items():
        labels = {"scanner": "credsweeper", "risk": risk}
        assert more("orchestrator", "winnow_findings_total", **labels) == count
        assert more("moderator", "winnow_verdicts_total", risk=risk) == count
    assert sum(summary.values()) > 20
    assert more("orchestrator", "winnow_reports_total", status="done") == 1
    assert more("orchestrator", "winnow_report_duration_seconds_count") == 1
    done = {"kind": "report.run", "outcome": "done"}
    assert more("orchestrator", "winnow_jobs_total", **done) == 1
    assert more("orchestrator", "winnow_stream_batches_unanswered") == 0


async def test_a_report_that_fails_is_counted(watched: Watched, value: Value) -> None:
    before = (await watched.scrape("orchestrator")).text
    refused = (await watched.scrape("gateway")).text
    answer = await watched.client.post("/reports", content=b"no report of any scanner")
    assert answer.status_code == 422
    after = (await watched.scrape("orchestrator")).text
    failed = {"name": "winnow_reports_total", "status": "error"}
    assert value(after, **failed) == value(before, **failed) + 1
    reason = {"name": "winnow_refusals_total", "reason": answer.json()["reason"]}
    # By the ingestor, the orchestrator and the gateway, which share a process here.
    assert value((await watched.scrape("gateway")).text, **reason) == value(refused, **reason) + 3
