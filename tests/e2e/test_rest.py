"""The path of a report by REST, through a real `winnow up`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.e2e.house import House, Json, eventually, folder
from tests.fixtures import expected, load_report, names

pytestmark = pytest.mark.xdist_group("e2e")

READABLE = names()
# Scanners that find more than secrets.
MIXED = ("bandit", "checkov", "sarif", "semgrep")

DECIDED = [
    "REPORT_CREATED",
    "REPORT_INGESTED",
    "REPORT_PROCESSING_STARTED",
    "REPORT_MODERATED",
    "REPORT_DONE",
]


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    """A house of this file's own: what reports of other tests say of a value would count."""
    with folder() as above:
        running = House(above / "data")
        try:
            yield running
            running.stop()
        finally:
            running.kill()


def scanner(name: str) -> str:
    """The scanner type that a report must be recognised as."""
    return "sarif" if name.endswith(".sarif") else str(expected()[name]["scanner"])


def records(name: str) -> dict[str, int]:
    """The counts that a report must come to."""
    read, merged = int(expected()[name]["records"]), int(expected()[name]["duplicates"])
    return {"read": read, "findings": read - merged, "merged": merged, "rejected": 0}


def enveloped(name: str) -> bytes:
    """A fixture in the envelope; text that is not one JSON value goes in as a string."""
    report = load_report(name)
    try:
        json.loads(report)
    except ValueError:
        report = json.dumps(report.decode()).encode()
    return b'{"scanner_type":"%b","report_format":"json","report":%b}' % (
        scanner(name).encode(),
        report,
    )


def check_done(house: House, answer: httpx.Response, name: str, *, declared: bool = False) -> Json:
    """Everything that is promised about an accepted fixture; returns the GET."""
    assert answer.status_code == 201, answer.text
    body = answer.json()
    # `[]` could be anybody's.
    recognised = "" if name == "gitleaks.empty.json" and not declared else scanner(name)
    assert list(body)[:5] == ["report_id", "status", "scanner_type", "summary", "records"]
    report_id = body["report_id"]
    assert answer.headers["location"] == f"/reports/{report_id}"
    assert (body["status"], body["scanner_type"]) == ("done", recognised)
    assert body["records"] == records(name)
    assert list(body["summary"]) == ["high", "medium", "low"]

    assert house.events(report_id) == DECIDED

    report = house.get(f"/reports/{report_id}")
    assert {key: report[key] for key in body} == body
    findings = report["findings"]
    assert findings == house.findings(report_id, page_size=7)
    assert len({finding["id"] for finding in findings}) == records(name)["findings"]
    for finding in findings:
        secret = finding["kind"] == "possible_secret"
        assert secret or recognised in MIXED
        assert finding["path"]
        assert finding["value_preview"] or not secret
        assert finding["reason"].endswith(".")
        assert finding["source"] in ("heuristic", "ml")
    risks = [finding["risk"] for finding in findings]
    assert body["summary"] == {risk: risks.count(risk) for risk in ("high", "medium", "low")}
    return report


@pytest.mark.parametrize("name", READABLE)
def test_a_raw_report_and_its_envelope_come_to_the_same_verdicts(house: House, name: str) -> None:
    raw = check_done(house, house.http.post("/reports", content=load_report(name)), name)
    answer = house.http.post("/reports", content=enveloped(name))
    given = check_done(house, answer, name, declared=True)

    def decided(report: Json) -> list[Json]:
        return [{k: v for k, v in f.items() if k != "id"} for f in report["findings"]]

    assert decided(raw) == decided(given)
    eventually(lambda: house.events(raw["report_id"]) == [*DECIDED, "REPORT_VIEWED"])


@pytest.mark.parametrize(
    "media_type",
    [
        "application/json",
        "application/x-ndjson",
        "application/octet-stream",
        "application/x-www-form-urlencoded",  # what curl --data-binary says by itself
    ],
)
def test_media_types(house: House, media_type: str) -> None:
    name = "trufflehog.git.ndjson"
    answer = house.http.post(
        "/reports", content=load_report(name), headers={"content-type": media_type}
    )
    check_done(house, answer, name)


def test_events_say_who_asked_and_what_came_of_it(house: House) -> None:
    answer = house.http.post(
        "/reports", content=load_report("gitleaks.git.json"), headers={"x-request-id": "job-4711"}
    )
    assert answer.headers["x-request-id"] == "job-4711"
    body = answer.json()
    assert house.events(body["report_id"]) == DECIDED
    entries = house.get(f"/reports/{body['report_id']}/events")["events"]
    for entry in entries:
        assert entry["event"]["request_id"] == "job-4711"
        assert entry["event"]["payload"]["report_id"] == body["report_id"]
    payloads = {entry["event"]["event_type"]: entry["event"]["payload"] for entry in entries}
    assert payloads["REPORT_INGESTED"]["findings_count"] == body["records"]["findings"]
    moderated = payloads["REPORT_MODERATED"]
    assert {risk: moderated[risk] for risk in body["summary"]} == body["summary"]
    assert payloads["REPORT_DONE"]["summary"] == body["summary"]
    services = [entry["event"]["service"] for entry in entries]
    assert services == ["orchestrator", "ingestor", "orchestrator", "moderator", "orchestrator"]
    sequences = [entry["sequence"] for entry in entries]
    assert sequences == sorted(set(sequences))


def test_the_audit_log_has_no_hole(house: House) -> None:
    house.submit(load_report("gitleaks.dir.json"))
    with house.connect() as connection:
        sequences = [
            row[0]
            for row in connection.execute(
                "SELECT sequence FROM audit.events ORDER BY sequence"
            ).fetchall()
        ]
    assert sequences == list(range(len(sequences)))


def test_where_a_report_comes_from_is_kept(house: House) -> None:
    answer = house.http.post(
        "/reports",
        params={
            "scanner_type": "gitleaks",
            "repository": "https://ci:hunter2hunter2@git.example.com/acme/shop.git",
            "ref": "main",
            "commit": "c0ffee",
            "label": ["team=payments", "stage=ci"],
        },
        content=load_report("gitleaks.git.json"),
    )
    check_done(house, answer, "gitleaks.git.json")
    report = house.get(answer.headers["location"], findings="false")
    assert report["labels"] == {"team": "payments", "stage": "ci"}
    assert report["source"]["repository"] == "https://git.example.com/acme/shop.git"
    assert report["asset_key"] == "repo:git.example.com/acme/shop"
    assert "findings" not in report


def test_filters(house: House) -> None:
    report_id = house.submit(load_report("gitleaks.git.json"))["report_id"]
    every = house.findings(report_id)
    for field in ("risk", "rule", "path"):
        for value in {finding[field] for finding in every}:
            found = house.findings(report_id, page_size=3, **{field: value})
            assert found == [finding for finding in every if finding[field] == value]
    for source in ("heuristic", "ml"):
        assert house.findings(report_id, source=source) == [
            finding for finding in every if finding["source"] == source
        ]
    assert house.findings(report_id, source="llm") == []


def test_reports_are_listed_newest_first(house: House) -> None:
    submitted = [house.submit(load_report("gitleaks.empty.json"))["report_id"] for _ in range(5)]
    listed: list[str] = []
    token = ""
    while len(listed) < 5:
        page = house.get("/reports", page_size=2, **({"page_token": token} if token else {}))
        listed += [report["report_id"] for report in page["reports"]]
        token = page["next_page_token"]
    assert listed[:5] == submitted[::-1]


def test_respond_async_and_progress_to_the_end(house: House) -> None:
    answer = house.http.post(
        "/reports",
        content=load_report("trufflehog.git.ndjson"),
        headers={"prefer": "respond-async"},
    )
    assert answer.status_code == 202
    assert answer.headers["preference-applied"] == "respond-async"
    body = answer.json()
    with house.http.stream("GET", body["events_url"]) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        told = list(server_sent(stream))
    assert [event["ordinal"] for _, event in told] == list(range(1, len(told) + 1))
    name, event = told[-1]
    last = event["payload"]["progress"]
    assert (name, last["status"], last["judged"]) == ("report.done", "done", 19)
    assert last["records"] == records("trufflehog.git.ndjson")
    report = house.get(answer.headers["location"])
    assert report["summary"] == last["summary"]
    assert len(report["findings"]) == 19


def server_sent(stream: httpx.Response) -> Iterator[tuple[str, Any]]:
    name = ""
    for line in stream.iter_lines():
        if line.startswith("event: "):
            name = line[7:]
        elif line.startswith("data: "):
            yield name, json.loads(line[6:])


def test_many_at_once(house: House) -> None:
    chosen = [READABLE[i % len(READABLE)] for i in range(20)]

    def post(name: str) -> httpx.Response:
        # A client of its own: really at the same time.
        return httpx.post(
            f"{house.url}/reports", content=load_report(name), timeout=60, trust_env=False
        )

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(post, chosen))
    assert len({answer.json()["report_id"] for answer in answers}) == 20
    for name, answer in zip(chosen, answers, strict=True):
        check_done(house, answer, name)


def test_health(house: House) -> None:
    assert house.get("/healthz") == {"status": "ok"}
    assert house.get("/readyz") == {"status": "ok"}
