"""One trace from a request to its last verdict, and to the audit log."""

from __future__ import annotations

import asyncio
import re
from typing import Any

from prometheus_client.openmetrics.parser import text_string_to_metric_families

from runtime import tracing
from tests.deploy.conftest import Watched
from tests.fixtures.reports import load_report
from tests.runtime.collector import collecting

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
# Who begins what: a span's name and its parent's.
PATH = {
    "POST /reports": None,
    "ReportService/SubmitReport": "POST /reports",
    "report.run": "ReportService/SubmitReport",
    # Begun while the report is made durable.
    "IngestService/Ingest": "ReportService/SubmitReport",
    "ModerateService/Moderate": "report.run",
}
# Rung by whoever committed events first.
SHIPPED = {"outbox.audit", "AuditService/AppendEvents"}


async def test_a_report_is_one_trace(watched: Watched) -> None:
    with collecting() as collector:
        tracing.configure("house", collector.url)
        try:
            answer = await watched.client.post(
                "/reports",
                content=load_report("gitleaks.git.json"),
                headers={"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"},
            )
            rich = await watched.scrape(
                "orchestrator", Accept="application/openmetrics-text; version=1.0.0"
            )
            # What ships events at once has been waited for; the other way out has not.
            await asyncio.sleep(0.5)
        finally:
            await asyncio.to_thread(tracing.stop)
    assert answer.status_code == 201, answer.text
    ours = [span for span in collector.spans if span.trace_id.hex() == TRACE]
    by_id = {span.span_id: span for span in ours}
    spans = {span.name: span for span in ours}
    assert set(PATH) | SHIPPED <= set(spans)
    for name, parent in PATH.items():
        above = by_id.get(spans[name].parent_span_id)
        assert (above.name if above else None) == parent
    assert by_id[spans["AuditService/AppendEvents"].parent_span_id].name == "outbox.audit"
    assert spans["POST /reports"].parent_span_id.hex() == "00f067aa0ba902b7"
    # The last verdict was there before the answer.
    run, request = spans["report.run"], spans["POST /reports"]
    assert request.start_time_unix_nano < run.start_time_unix_nano
    assert run.end_time_unix_nano <= request.end_time_unix_nano
    assert _only_ids_and_counts(ours, answer.json()["report_id"])
    families = {one.name: one for one in text_string_to_metric_families(rich.text)}
    exemplars = [
        one.exemplar.labels
        for one in families["winnow_report_duration_seconds"].samples
        if one.exemplar
    ]
    assert exemplars == [{"trace_id": TRACE}]


def _only_ids_and_counts(spans: list[Any], report_id: str) -> bool:
    said = {
        one.key: one.value.string_value or one.value.int_value
        for span in spans
        for one in span.attributes
    }
    names = {"report_id", "job_id", "attempt", "outcome", "status", "job", "reason", "model"}
    assert said["winnow.report_id"] == report_id
    short = re.compile(r"[\w.-]{1,64}\Z")
    assert all(short.match(str(value)) for value in said.values())
    return {key.removeprefix("winnow.") for key in said} <= names
