"""Renews what is made from the table of metrics: docs/metrics.md's own table, and the
dashboards in deploy/grafana.

    python -m tools.observability --write
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

from runtime.metrics import TABLE, Values

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "metrics.md"
DASHBOARDS = ROOT / "deploy" / "grafana"

_MARKED = re.compile(r"(?<=<!-- table -->\n).*?(?=<!-- /table -->)", re.DOTALL)
_WIDTH, _HEIGHT, _ACROSS = 8, 8, 3
_RATE = "[$__rate_interval]"


class Panel(NamedTuple):
    """One graph: its title, unit (Grafana's name), and queries with their legends."""

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]


def _rate(metric: str, by: str = "", **labels: str) -> str:
    matchers = ",".join(f'{name}="{value}"' for name, value in labels.items())
    summed = f"sum by ({by})" if by else "sum"
    return f"{summed} (rate({metric}{{{matchers}}}{_RATE}))"


def _p95(metric: str, by: str = "", **labels: str) -> str:
    within = _rate(f"{metric}_bucket", f"le, {by}" if by else "le", **labels)
    return f"histogram_quantile(0.95, {within})"


def _graph(title: str, unit: str, *queries: tuple[str, str]) -> Panel:
    return Panel(title, unit, queries)


def _rpcs(service: str) -> list[Panel]:
    """What every gRPC service has."""
    return [
        _graph(
            "RPCs by method",
            "reqps",
            (_rate("winnow_rpcs_total", "method", service=service), "{{method}}"),
        ),
        _graph(
            "RPCs by outcome",
            "reqps",
            (_rate("winnow_rpcs_total", "outcome", service=service), "{{outcome}}"),
        ),
        _graph(
            "RPC duration, p95",
            "s",
            (_p95("winnow_rpc_duration_seconds", "method", service=service), "{{method}}"),
        ),
    ]


def _process(service: str, in_flight: str) -> list[Panel]:
    """What every process has."""
    of = f'{{service="{service}"}}'
    return [
        _graph(
            "Refusals by reason",
            "reqps",
            (f"{_rate('winnow_refusals_total', 'reason', service=service)} > 0", "{{reason}}"),
        ),
        _graph("In flight", "short", (f"{in_flight}{of}", "{{instance}}")),
        _graph("Memory", "bytes", (f"process_resident_memory_bytes{of}", "{{instance}}")),
        _graph("CPU", "short", (f"rate(process_cpu_seconds_total{of}{_RATE})", "{{instance}}")),
        _graph(
            "Version",
            "short",
            (
                f"count by (version, python) (winnow_build_info{of})",
                "{{version}}, Python {{python}}",
            ),
        ),
    ]


def _counting(service: str) -> list[Panel]:
    """What counts its callers' calls has."""
    of = f'{{service="{service}"}}'
    return [
        _graph(
            "Rate: tokens asked for",
            "ops",
            (
                _rate("winnow_rate_takes_total", "store, outcome", service=service),
                "{{store}} {{outcome}}",
            ),
        ),
        _graph(
            "Rate: from own buckets, since the store is away",
            "ops",
            (_rate("winnow_rate_fallbacks_total", "store", service=service), "{{store}}"),
        ),
        _graph(
            "Rate: buckets kept",
            "short",
            (f"max by (store) (winnow_rate_buckets{of})", "{{store}}"),
        ),
    ]


def _calling(service: str) -> list[Panel]:
    """What has breakers for the services that it calls has."""
    of = f'{{service="{service}"}}'
    opened = f"increase(winnow_breaker_opened_total{of}{_RATE})"
    return [
        _graph(
            "Breakers: states",
            "short",
            (f"sum by (peer, state) (winnow_breaker_state{of}) > 0", "{{peer}} {{state}}"),
        ),
        _graph("Breakers: times opened", "short", (f"sum by (peer) ({opened})", "{{peer}}")),
    ]


def _database(service: str) -> list[Panel]:
    of = f'{{service="{service}"}}'
    return [
        _graph(
            "Database connections at work",
            "percentunit",
            (
                f"winnow_database_connections_busy{of} / winnow_database_connections{of}",
                "{{instance}} {{pool}}",
            ),
        ),
        _graph(
            "Database transactions and waits, p95",
            "s",
            (
                _p95("winnow_database_transaction_duration_seconds", "pool", service=service),
                "{{pool}}",
            ),
            (_p95("winnow_database_wait_seconds", "pool", service=service), "waits for {{pool}}"),
        ),
    ]


def _certificates(service: str) -> list[Panel]:
    """What every process has that shows certificates, or looks at others'."""
    ends, begins = (
        f"max by (instance, certificate) (winnow_certificate_not_{which}_timestamp_seconds"
        f'{{service="{service}"}})'
        for which in ("after", "before")
    )
    legend = "{{certificate}} {{instance}}"
    return [
        _graph("Certificates: time left", "s", (f"{ends} - time()", legend)),
        _graph(
            "Certificates: share of their time left",
            "percentunit",
            (f"({ends} - time()) / ({ends} - {begins})", legend),
        ),
    ]


PANELS: dict[str, list[Panel]] = {
    "gateway": [
        _graph(
            "Requests by route",
            "reqps",
            (_rate("winnow_http_requests_total", "route"), "{{route}}"),
        ),
        _graph(
            "Requests by outcome",
            "reqps",
            (_rate("winnow_http_requests_total", "outcome"), "{{outcome}}"),
        ),
        _graph(
            "Time to the answer, p95",
            "s",
            (_p95("winnow_http_request_duration_seconds", "route"), "{{route}}"),
        ),
        *_counting("gateway"),
        *_calling("gateway"),
        *_process("gateway", "winnow_http_requests_in_flight"),
        *_certificates("gateway"),
    ],
    "orchestrator": [
        *_rpcs("orchestrator"),
        _graph("Jobs in the queue", "short", ("sum by (state) (winnow_queue_jobs)", "{{state}}")),
        _graph(
            "Oldest job that waits or fails",
            "s",
            ("max by (kind) (winnow_queue_oldest_age_seconds)", "{{kind}}"),
        ),
        _graph(
            "Jobs by how they left",
            "ops",
            (_rate("winnow_jobs_total", "kind, outcome"), "{{kind}} {{outcome}}"),
        ),
        _graph("Job duration, p95", "s", (_p95("winnow_job_duration_seconds", "kind"), "{{kind}}")),
        _graph("Outbox", "short", ("max by (leg) (winnow_outbox_events)", "{{leg}}")),
        _graph("Age of the outbox", "s", ("max(winnow_outbox_oldest_age_seconds)", "oldest event")),
        _graph(
            "Rounds of shipping that failed",
            "ops",
            (_rate("winnow_outbox_rounds_total", "leg", outcome="failed"), "{{leg}}"),
        ),
        _graph(
            "Dead letters", "short", ("sum(increase(winnow_dead_letters_total[1h]))", "an hour")
        ),
        _graph("Facts are fresh", "short", ("winnow_facts_fresh", "{{instance}}")),
        *_counting("orchestrator"),
        *_calling("orchestrator"),
        *_database("orchestrator"),
        *_process("orchestrator", "winnow_rpcs_in_flight"),
        *_certificates("orchestrator"),
    ],
    "ingestor": [
        *_rpcs("ingestor"),
        _graph("Bytes read", "Bps", (_rate("winnow_ingest_bytes_total"), "bytes")),
        _graph(
            "Records",
            "ops",
            (_rate("winnow_ingest_records_total", "scanner, outcome"), "{{scanner}} {{outcome}}"),
        ),
        _graph("Reading a batch, p95", "s", (_p95("winnow_ingest_batch_duration_seconds"), "p95")),
        *_process("ingestor", "winnow_rpcs_in_flight"),
        *_certificates("ingestor"),
    ],
    "moderator": [
        *_rpcs("moderator"),
        _graph("Verdicts", "ops", (_rate("winnow_verdicts_total", "risk"), "{{risk}}")),
        _graph(
            "Judging a batch, p95", "s", (_p95("winnow_moderate_batch_duration_seconds"), "p95")
        ),
        _graph(
            "Language model: calls",
            "ops",
            (_rate("winnow_llm_calls_total", "outcome"), "{{outcome}}"),
        ),
        _graph(
            "Language model: call duration, p95",
            "s",
            (_p95("winnow_llm_call_duration_seconds"), "p95"),
        ),
        _graph(
            "Language model: tokens", "ops", (_rate("winnow_llm_tokens_total", "kind"), "{{kind}}")
        ),
        _graph(
            "Language model: dollars an hour",
            "currencyUSD",
            ("sum(increase(winnow_llm_cost_dollars_total[1h]))", "an hour"),
        ),
        _graph(
            "Language model: budget used",
            "percentunit",
            ("winnow_llm_budget_used_ratio", "{{instance}}"),
        ),
        _graph(
            "Findings judged without it",
            "ops",
            (f"{_rate('winnow_llm_fallbacks_total', 'reason')} > 0", "{{reason}}"),
        ),
        *_process("moderator", "winnow_rpcs_in_flight"),
        *_certificates("moderator"),
    ],
    "audit": [
        *_rpcs("audit"),
        _graph("Events in the log", "short", ("winnow_audit_tree_size_events", "{{instance}}")),
        _graph(
            "Events without a published checkpoint",
            "short",
            ("winnow_audit_unpublished_events", "{{instance}}"),
        ),
        _graph("From an event to the log, p95", "s", (_p95("winnow_audit_lag_seconds"), "p95")),
        *_counting("audit"),
        *_database("audit"),
        *_process("audit", "winnow_rpcs_in_flight"),
        *_certificates("audit"),
    ],
    "path-of-a-report": [
        _graph(
            "1 Submitted",
            "reqps",
            (
                _rate("winnow_http_requests_total", "outcome", route="POST /reports"),
                "{{outcome}}",
            ),
        ),
        _graph("2 Read: bytes", "Bps", (_rate("winnow_ingest_bytes_total"), "bytes")),
        _graph("2 Read: a batch", "s", (_p95("winnow_ingest_batch_duration_seconds"), "p95")),
        _graph(
            "3 On their way to the moderator",
            "short",
            ("sum(winnow_stream_batches_unanswered)", "batches unanswered"),
        ),
        _graph(
            "3 Reports that wait for a credit",
            "short",
            (_rate("winnow_stream_credit_wait_seconds_total"), "waiting"),
        ),
        _graph("4 Judged: a batch", "s", (_p95("winnow_moderate_batch_duration_seconds"), "p95")),
        _graph("5 Stored: a batch", "s", (_p95("winnow_write_batch_duration_seconds"), "p95")),
        _graph(
            "6 Findings by scanner",
            "ops",
            (_rate("winnow_findings_total", "scanner"), "{{scanner}}"),
        ),
        _graph(
            "6 Findings by risk and judge",
            "ops",
            (_rate("winnow_findings_total", "risk, source"), "{{risk}} {{source}}"),
        ),
        _graph(
            "6 Records that could not be read",
            "ops",
            (_rate("winnow_records_rejected_total", "scanner"), "{{scanner}}"),
        ),
        _graph("7 Ended", "ops", (_rate("winnow_reports_total", "status"), "{{status}}")),
        _graph(
            "7 From the last byte to the last verdict",
            "s",
            (_p95("winnow_report_duration_seconds"), "p95"),
        ),
        _graph("8 On record, p95", "s", (_p95("winnow_audit_lag_seconds"), "p95")),
        _graph(
            "Failures by service",
            "reqps",
            (_rate("winnow_rpcs_total", "service", outcome="failed"), "{{service}}"),
        ),
    ],
}


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    source = {"type": "prometheus", "uid": "winnow-prometheus"}
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": panel.title,
        "datasource": source,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "gridPos": {
            "x": number % _ACROSS * _WIDTH,
            "y": number // _ACROSS * _HEIGHT,
            "w": _WIDTH,
            "h": _HEIGHT,
        },
        "targets": [
            {
                "refId": "ABCDE"[place],
                "datasource": source,
                "expr": expression,
                "legendFormat": legend,
                "exemplar": "_bucket" in expression,
            }
            for place, (expression, legend) in enumerate(panel.queries)
        ],
    }


def _logs(number: int, service: str) -> dict[str, Any]:
    source = {"type": "loki", "uid": "winnow-loki"}
    which = f'{{job="winnow",service="{service}"}}' if service else '{job="winnow"}'
    return {
        "id": number + 1,
        "type": "logs",
        "title": "Warnings and errors",
        "datasource": source,
        "gridPos": {"x": 0, "y": (number // _ACROSS + 1) * _HEIGHT, "w": 24, "h": _HEIGHT},
        "targets": [
            {
                "refId": "A",
                "datasource": source,
                "expr": f'{which} | json | level=~"warning|error"',
            }
        ],
    }


def dashboard(name: str) -> str:
    """A dashboard as Grafana imports it."""
    panels = PANELS[name]
    service = "" if name == "path-of-a-report" else name
    content = {
        "uid": f"winnow-{name}",
        "title": f"Winnow: {name.replace('-', ' ')}",
        "tags": ["winnow"],
        "editable": False,
        "schemaVersion": 39,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "utc",
        "panels": [
            *(_panel(number, panel) for number, panel in enumerate(panels)),
            _logs(len(panels), service),
        ],
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _values(values: Values) -> str:
    if isinstance(values, str):
        return values
    if len(values) > 12:
        return "a reason of [winnow.error.v1](../protos/winnow/error/v1/error_reason.proto)"
    return ", ".join(f"`{value}`" for value in values)


def table() -> str:
    """The table of metrics in Markdown."""
    lines = ["| metric | type | labels | meaning | served by |", "|---|---|---|---|---|"]
    for row in TABLE:
        labels = "; ".join(f"`{name}`: {_values(values)}" for name, values in row.labels.items())
        services = "all" if len(row.services) == 5 else ", ".join(row.services)
        lines.append(f"| `{row.name}` | {row.kind} | {labels} | {row.help} | {services} |")
    return "\n".join(lines) + "\n"


def made() -> dict[Path, str]:
    """Each file, as it should be."""
    pages = {DASHBOARDS / f"{name}.json": dashboard(name) for name in PANELS}
    return {DOCUMENT: _MARKED.sub(lambda _: table(), DOCUMENT.read_text()), **pages}


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit(__doc__)
    for path, content in made().items():
        path.write_text(content)
