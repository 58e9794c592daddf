"""Every metric, label and value that a rule or a dashboard names is really served."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.up import _metrics_addresses
from runtime.log import KEYS
from runtime.metrics import SERVICES, TABLE
from tests.deploy import promql
from tests.deploy.conftest import Samples, Watched
from tests.deploy.promql import Selector
from tools import observability

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
# What Prometheus adds to what it scrapes.
TARGET = {"job", "instance", "service"}
_SHOWN = re.compile(r"\{\{\s*\$?(?:labels\.)?(\w+)\s*\}\}")


def rules(deploy: Path = DEPLOY) -> Iterator[dict[str, Any]]:
    for file in sorted((deploy / "prometheus" / "rules").glob("*.yml")):
        for group in yaml.safe_load(file.read_text())["groups"]:
            yield from group["rules"]


def panels(deploy: Path = DEPLOY) -> Iterator[tuple[str, dict[str, Any]]]:
    for file in sorted((deploy / "grafana").glob("*.json")):
        for panel in json.loads(file.read_text())["panels"]:
            for target in panel["targets"]:
                yield panel["datasource"]["type"], {**target, "title": panel["title"]}


def expressions(deploy: Path = DEPLOY) -> list[str]:
    """All that rules and dashboards ask Prometheus for."""
    return sorted(
        {rule["expr"] for rule in rules(deploy)}
        | {target["expr"] for kind, target in panels(deploy) if kind == "prometheus"}
    )


EXPRESSIONS = expressions()


@pytest.fixture(scope="module")
async def samples(watched: Watched) -> Samples:
    found = await watched.samples()
    # Prometheus' own, of each target.
    found["up"] = [{"service": service} for service in SERVICES]
    for all_labels in found.values():
        for labels in all_labels:
            labels["job"] = "winnow"
    return found


def with_recorded(samples: Samples, deploy: Path = DEPLOY) -> Samples:
    """With the series that the rules record, which have no labels."""
    return {**samples, **{rule["record"]: [{}] for rule in rules(deploy) if "record" in rule}}


def wrong(expression: str, samples: Samples) -> list[str]:
    """What an expression names that nobody serves."""
    problems = []
    known = set(TARGET)
    for selector in promql.selectors(expression):
        if selector.name not in samples:
            problems.append(f"no metric {selector.name}")
            continue
        series = samples[selector.name]
        own = {label for labels in series for label in labels}
        known |= own
        for label, operator, value in selector.matchers:
            if label not in own | TARGET:
                problems.append(f"{selector.name} has no label {label}")
            alternatives = value.split("|") if operator in ("=~", "!~") else [value]
            for one in alternatives:
                positive = operator.replace("!", "=").replace("==", "=")
                only = Selector(selector.name, ((label, positive, one),))
                if not any(only.finds(labels) for labels in series):
                    problems.append(f"{selector.name} has no {label}={one}")
        if not any(selector.finds(labels) for labels in series):
            problems.append(f"no series is {selector}")
    problems += [f"nothing has a label {label}" for label in promql.labels(expression) - known]
    return problems


async def test_there_are_expressions(samples: Samples) -> None:
    assert len(EXPRESSIONS) > 80
    assert len(samples) > 60


@pytest.mark.parametrize("expression", EXPRESSIONS)
async def test_what_it_names_is_served(expression: str, samples: Samples) -> None:
    assert promql.selectors(expression)
    assert wrong(expression, with_recorded(samples)) == []


@pytest.mark.parametrize(
    "expression",
    [
        "rate(winnow_nothing_total[5m])",
        'winnow_queue_jobs{state="gone"} > 0',
        'winnow_queue_jobs{status="dead"} > 0',
        "sum by (tenant) (winnow_queue_jobs)",
        'sum(rate(winnow_refusals_total{reason=~"UNAUTHENTICATED|REFUSED"}[5m]))',
        'up{service="nobody"}',
        'winnow_report_duration_seconds_bucket{le="31.0"}',
        "sum(winnow_queue_jobs) / on (instance) missing",
    ],
)
async def test_what_is_not_served_is_noticed(expression: str, samples: Samples) -> None:
    assert wrong(expression, samples)


@pytest.mark.parametrize(
    ("file", "right", "planted"),
    [
        ("grafana/gateway.json", "winnow_http_requests_total{", "winnow_http_request_total{"),
        (
            "grafana/orchestrator.json",
            "sum by (state) (winnow_queue",
            "sum by (phase) (winnow_queue",
        ),
        (
            "grafana/moderator.json",
            r"winnow_rpcs_total{service=\"mod",
            r"winnow_rpcs_total{job=\"mod",
        ),
        ("grafana/path-of-a-report.json", r"outcome=\"failed\"", r"outcome=\"broken\""),
        ("prometheus/rules/work.yml", "winnow_dead_letters_total", "winnow_dead_letter_total"),
        ("prometheus/rules/security.yml", 'reason="SEAL_BROKEN"', 'reason="SEAL_BROKE"'),
        ("prometheus/rules/services.yml", "sum by (service) (rate(", "sum by (name) (rate("),
        (
            "prometheus/rules/objectives.yml",
            "winnow_report_duration_seconds_count[",
            "winnow_reports_count[",
        ),
        ("prometheus/rules/objectives.yml", 'le="30.0"', 'le="31.0"'),
        ("prometheus/rules/objectives.yml", "record: winnow:slow_reads", "record: winnow:slow_get"),
    ],
)
async def test_what_is_planted_in_a_copy_is_noticed(
    file: str, right: str, planted: str, samples: Samples, tmp_path: Path
) -> None:
    """A wrong metric, label or value: in a dashboard, an alert, a rule that records."""
    copy = shutil.copytree(DEPLOY, tmp_path / "deploy")
    text = (copy / file).read_text()
    assert right in text
    known = with_recorded(samples, copy)
    assert not any(wrong(expression, known) for expression in expressions(copy))
    (copy / file).write_text(text.replace(right, planted))
    known = with_recorded(samples, copy)
    assert any(wrong(expression, known) for expression in expressions(copy))


def test_every_metric_is_in_a_dashboard() -> None:
    shown = {
        selector.name
        for kind, target in panels()
        if kind == "prometheus"
        for selector in promql.selectors(target["expr"])
    }
    shown |= {re.sub("_(bucket|count|sum)$", "", name) for name in shown}
    assert {row.name for row in TABLE} - shown == set()


def test_legends_and_texts_show_labels_that_are_there() -> None:
    for _, target in panels():
        by = promql.labels(target["expr"])
        for label in _SHOWN.findall(target.get("legendFormat", "")):
            assert label in by | TARGET | {"pool"}, target
    for rule in rules():
        by = promql.labels(rule["expr"])
        for label in _SHOWN.findall(str(rule.get("annotations", {}))):
            assert label in by | TARGET | {"pool", "value"}, rule["alert"]
        for name in re.findall(r"winnow_\w+", str(rule.get("annotations", {}))):
            assert name in {row.name for row in TABLE}, rule["alert"]


def test_logs_are_asked_for_by_labels_that_promtail_makes() -> None:
    promtail = yaml.safe_load((DEPLOY / "loki" / "promtail.yml").read_text())
    for scrape in promtail["scrape_configs"]:
        stages = {name: stage for one in scrape["pipeline_stages"] for name, stage in one.items()}
        assert set(stages["json"]["expressions"].values()) <= set(KEYS)
        assert set(stages["labels"]) | {"job"} == {"job", "level", "service"}
    asked = [target["expr"] for kind, target in panels() if kind == "loki"]
    assert len(asked) == 6
    for expression in asked:
        stream = expression.partition("}")[0]
        assert set(re.findall(r"(\w+)=", stream)) <= {"job", "service"}


def test_the_targets_are_those_of_up() -> None:
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    (job,) = config["scrape_configs"]
    targets = {
        one["labels"]["service"]: {"WINNOW_METRICS_LISTEN": one["targets"][0]}
        for one in job["static_configs"]
    }
    assert targets == _metrics_addresses("127.0.0.1:9464")
    assert job["job_name"] == "winnow"


def test_what_is_made_from_the_table_is_fresh() -> None:
    stale = [
        path.name for path, content in observability.made().items() if path.read_text() != content
    ]
    assert not stale, "run: python -m tools.observability --write"
    assert {path.stem for path in (DEPLOY / "grafana").glob("*.json")} == set(observability.PANELS)


def test_every_alert_says_what_to_do() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text()
    for rule in rules():
        if "alert" in rule:
            family = re.sub("Burn(Fast|Medium|Slow)$", "Burn…", rule["alert"])
            assert f"`{family}`" in page
            assert set(rule["annotations"]) == {"summary", "description", "runbook"}
