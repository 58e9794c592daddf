"""Results as people read them."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from cli import render

Json = dict[str, Any]

EVENT = "0198c5a0-0000-7000-8000-000000000001"
REPORT = "0198c5a0-0000-7000-8000-000000000002"


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=160)


def shown(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_an_audit_trail_shows_ids_of_events_and_what_each_tells(console: Console) -> None:
    payload = {
        "report_id": REPORT,
        "progress": {"status": "ingested", "judged": 0},
        "findings_count": 28,
        "scanner_type": "",
    }
    event = {
        "occurred_at": "2026-11-22T06:13:15.000000Z",
        "event_type": "REPORT_INGESTED",
        "service": "ingestor",
        "event_id": EVENT,
        "payload": payload,
    }
    render.events(console, [{"sequence": 7, "event": event}])
    lines = [line.split() for line in shown(console).splitlines()]
    assert lines == [
        ["#", "when", "event", "service", "id", "payload"],
        ["7", "2026-11-22", "06:13:15Z", "REPORT_INGESTED", "ingestor", EVENT, "findings_count=28"],
    ]


@pytest.mark.parametrize(
    ("kind", "aliases", "line"),
    [
        ("possible_secret", ["gitleaks/aws-access-token"], "also reported by {}"),
        ("vulnerability", ["CVE-2026-1", "GHSA-x"], "also known as {}"),
        ("possible_secret", [], None),
    ],
)
def test_a_finding_shows_who_else_saw_it(
    console: Console, kind: str, aliases: list[str], line: str | None
) -> None:
    detail: Json = {"tool": "x", "value_fingerprint": "", "evidence": [], "aliases": aliases}
    found = {
        "id": f"{REPORT}.0",
        "path": "a.py",
        "line": 1,
        "rule": "r",
        "kind": kind,
        "value_preview": "",
        "commit": "",
        "detail": detail,
    }
    render.finding(console, {"finding": found, "verdicts": []})
    said = [text.rstrip() for text in shown(console).splitlines() if text.startswith("also")]
    assert said == ([line.format(", ".join(aliases))] if line else [])


@pytest.mark.parametrize("stamp", ["2026-11-22T06:13:15.000000Z", None])
def test_a_shredded_report_says_so_before_its_findings(console: Console, stamp: str | None) -> None:
    answer = {
        "report_id": REPORT,
        "status": "done",
        "scanner_type": "gitleaks",
        "findings": [],
        "shredded_at": stamp,
    }
    render.report(console, answer, "report", 0)
    first = shown(console).splitlines()[0]
    assert first.startswith("shredded 2026-11-22 06:13:15Z:") is bool(stamp)
