"""The rules and routes by Prometheus' own tools, where they are (tools/promtool.sh)."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest
import yaml

from tests.deploy.test_names import rules

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
TESTS = sorted((DEPLOY / "prometheus" / "tests").glob("*.yml"))
ALERTMANAGER = DEPLOY / "alertmanager" / "alertmanager.yml"


def run(tool: str, *arguments: object) -> str:
    """What a tool prints; it must find nothing wrong."""
    where = shutil.which(tool, path=f"{os.environ['PATH']}:{ROOT / '.venv' / 'promtool'}")
    if where is None:
        pytest.skip(f"{tool} is not here; tools/promtool.sh fetches it from Debian's packages")
    done = subprocess.run(
        [where, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_prometheus_takes_the_configuration() -> None:
    assert "4 rule files found" in run(
        "promtool", "check", "config", DEPLOY / "prometheus" / "prometheus.yml"
    )


@pytest.mark.parametrize("file", TESTS, ids=lambda file: file.stem)
def test_alerts_fire_when_they_should_and_only_then(file: Path) -> None:
    run("promtool", "test", "rules", file)


def test_a_rule_that_does_not_fire_is_noticed(tmp_path: Path) -> None:
    """The tests can fail: with a bar that nothing reaches, one does."""
    for folder in ("rules", "tests"):
        (tmp_path / folder).mkdir()
    text = (DEPLOY / "prometheus" / "rules" / "work.yml").read_text()
    (tmp_path / "rules" / "work.yml").write_text(text.replace("> 300", "> 300000"))
    shutil.copy(DEPLOY / "prometheus" / "tests" / "work.yml", tmp_path / "tests")
    with pytest.raises(AssertionError, match="WinnowQueueOld"):
        run("promtool", "test", "rules", tmp_path / "tests" / "work.yml")


def test_every_alert_has_a_firing_and_a_silent_test() -> None:
    tested = defaultdict(set)
    for file in TESTS:
        for test in yaml.safe_load(file.read_text())["tests"]:
            for one in test["alert_rule_test"]:
                tested[one["alertname"]].add(bool(one["exp_alerts"]))
    alerts = {rule["alert"] for rule in rules() if "alert" in rule}
    assert dict(tested) == {alert: {True, False} for alert in alerts}


def test_alertmanager_takes_the_configuration() -> None:
    assert "2 receivers" in run("amtool", "check-config", ALERTMANAGER)


@pytest.mark.parametrize(
    ("severity", "receiver"), [("page", "pager"), ("ticket", "tickets"), ("other", "tickets")]
)
def test_an_alert_goes_where_its_severity_says(severity: str, receiver: str) -> None:
    said = run(
        "amtool", "config", "routes", "test", f"--config.file={ALERTMANAGER}",
        f"severity={severity}", "alertname=WinnowDown",
    )  # fmt: skip
    assert said.strip() == receiver


def test_every_severity_has_its_route() -> None:
    routes = yaml.safe_load(ALERTMANAGER.read_text())["route"]["routes"]
    routed = {matcher for route in routes for matcher in route["matchers"]}
    severities = {rule["labels"]["severity"] for rule in rules() if "alert" in rule}
    assert {f'severity="{severity}"' for severity in severities} == routed
