"""The path of a report by REST, through a real `winnow up`."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.e2e.conftest import MAX_REPORT_BYTES
from tests.e2e.house import House, Json, eventually
from tests.fixtures import expected, load_report, names

pytestmark = pytest.mark.xdist_group("e2e")

# betterleaks and kingfisher in their own shapes have no parser yet; their SARIF has.
UNREAD = ("betterleaks", "kingfisher.git.json")
READABLE = [name for name in names() if not name.startswith(UNREAD)]

DECIDED = [
    "REPORT_CREATED",
    "REPORT_INGESTED",
    "REPORT_PROCESSING_STARTED",
    "REPORT_MODERATED",
    "REPORT_DONE",
]
CANARY = "CANARY-a8f3-never-echoed"


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
    assert list(body) == ["report_id", "status", "scanner_type", "summary", "records"]
    report_id = body["report_id"]
    assert answer.headers["location"] == f"/reports/{report_id}"
    assert (body["status"], body["scanner_type"]) == ("done", recognised)
    assert body["records"] == records(name)
    assert list(body["summary"]) == ["high", "medium", "low"]

    # Complete and in order as soon as the caller has its answer.
    assert house.events(report_id) == DECIDED

    report = house.get(f"/reports/{report_id}")
    assert {key: report[key] for key in body} == body
    findings = report["findings"]
    assert findings == house.findings(report_id, page_size=7)
    assert len({finding["id"] for finding in findings}) == records(name)["findings"]
    for finding in findings:
        assert finding["kind"] == "possible_secret"
        assert finding["path"]
        assert finding["value_preview"]
        assert finding["reason"].endswith(".")
        assert finding["source"] == "heuristic"
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
    assert house.findings(report_id, source="heuristic") == every
    assert house.findings(report_id, source="llm") == []


def test_a_cursor_belongs_to_its_query(house: House) -> None:
    report_id = house.submit(load_report("gitleaks.git.json"))["report_id"]
    path = f"/reports/{report_id}/findings"
    token = house.get(path, page_size=2)["next_page_token"]
    for wrong in ({"risk": "low", "page_token": token}, {"page_token": CANARY}):
        answer = house.http.get(path, params=wrong)
        assert problem(answer, 400)["reason"] == "PAGE_TOKEN_INVALID"


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
    assert [name for name, _ in told[:-1]] == ["progress"] * (len(told) - 1)
    name, last = told[-1]
    assert (name, last["status"], last["judged"]) == ("done", "done", 19)
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


# What is refused.


def problem(answer: httpx.Response, status: int) -> Json:
    """An RFC 9457 answer of this status that repeats nothing of the input."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert CANARY.lower() not in answer.text.lower()
    body: Json = answer.json()
    assert {"type", "title", "status", "detail", "request_id"} <= set(body)
    assert body["status"] == status
    return body


@pytest.mark.parametrize(
    "path",
    [
        "/reports/01920000-0000-7000-8000-000000000000",
        "/reports/01920000-0000-7000-8000-000000000000/findings",
        "/reports/01920000-0000-7000-8000-000000000000/events",
        "/reports/01920000-0000-7000-8000-000000000000/events/stream",
        f"/reports/{CANARY}",
        f"/{CANARY}",
    ],
)
def test_what_does_not_exist_is_404(house: House, path: str) -> None:
    problem(house.http.get(path), 404)


REFUSED: dict[str, tuple[bytes, str]] = {
    "malformed": (b'[{"RuleID":"x","Secret":"%b"' % CANARY.encode(), ""),
    "cut": (load_report("gitleaks.git.json")[:-200], ""),
    "words": (f"no report but {CANARY}".encode(), ""),
    "another shape": (json.dumps({"hello": CANARY}).encode(), ""),
    "unknown scanner": (json.dumps({"scanner_type": CANARY, "report": []}).encode(), ""),
    "mismatch": (load_report("gitleaks.git.json"), "trufflehog"),
    "binary": (b"\x00\xff\xfe" + CANARY.encode(), ""),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_report_that_cannot_be_read_is_kept_as_error(house: House, what: str) -> None:
    body, declared = REFUSED[what]
    answer = house.http.post(
        "/reports", content=body, params={"scanner_type": declared} if declared else {}
    )
    refusal = problem(answer, 422)
    report_id = refusal["report_id"]
    report = house.get(f"/reports/{report_id}")
    assert report["status"] == "error"
    assert report["error"] == {"reason": refusal["reason"], "message": refusal["detail"]}
    assert report["error"]["message"]
    kept = house.events(report_id)
    assert kept[:1] == ["REPORT_CREATED"]
    assert "REPORT_FAILED" in kept
    assert "REPORT_DONE" not in kept


def test_a_mismatch_names_both(house: House) -> None:
    answer = house.http.post(
        "/reports?scanner_type=trufflehog", content=load_report("gitleaks.git.json")
    )
    refusal = problem(answer, 422)
    assert refusal["reason"] == "SCANNER_MISMATCH"
    assert "trufflehog" in refusal["detail"]
    assert "gitleaks" in refusal["detail"]


WRONG_ENVELOPES = [
    {"scanner_type": 5, "report": [CANARY]},
    {"scanner_type": "gitleaks", "report": [], CANARY: 1},
    {"scanner_type": "gitleaks", "report": [], "labels": {"a": {"b": CANARY}}},
    {"scanner_type": "gitleaks", "report": [], "source": {CANARY: "x"}},
    {"scanner_type": "gitleaks", "report": 5, "labels": {"a": CANARY}},
]


@pytest.mark.parametrize("envelope", WRONG_ENVELOPES)
def test_a_wrong_envelope_creates_nothing(house: House, envelope: Json) -> None:
    before = house.get("/reports", page_size=1)
    answer = house.http.post("/reports", content=json.dumps(envelope).encode())
    assert problem(answer, 422)["reason"] == "ENVELOPE_INVALID"
    assert house.get("/reports", page_size=1) == before


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", f"/reports?{CANARY}=1", 400),
        ("GET", f"/reports?page_size={CANARY}", 400),
        ("GET", f"/reports?status={CANARY}", 400),
        ("POST", f"/reports?{CANARY}=1", 400),
        ("POST", f"/reports?label={CANARY}", 400),
        ("DELETE", f"/reports?{CANARY}", 405),
    ],
)
def test_wrong_requests(house: House, method: str, path: str, status: int) -> None:
    problem(house.http.request(method, path), status)


def test_413_before_and_during_the_upload(house: House) -> None:
    before = house.get("/reports", page_size=1)
    # Announced: refused before a byte of the body is read.
    head = f"POST /reports HTTP/1.1\r\nHost: x\r\nContent-Length: {MAX_REPORT_BYTES + 1}\r\n\r\n"
    with opened(house) as connection:
        connection.sendall(head.encode())
        assert b" 413 " in connection.recv(4096).partition(b"\r\n")[0]

    # Not announced: refused when it has grown too large.
    def endless() -> Iterator[bytes]:
        for _ in range((MAX_REPORT_BYTES >> 20) + 1):
            yield b" " * (1 << 20)

    answer = house.http.post("/reports?scanner_type=gitleaks", content=endless())
    refusal = problem(answer, 413)
    assert refusal["reason"] == "REPORT_TOO_LARGE"
    assert str(MAX_REPORT_BYTES) in refusal["detail"]
    assert house.get("/reports", page_size=1) == before
    eventually(lambda: orphans(house) == 0)


def opened(house: House) -> socket.socket:
    where = urlsplit(house.url)
    return socket.create_connection((where.hostname or "", where.port or 0), timeout=30)


def orphans(house: House) -> int:
    """Rows of chunks that belong to no report."""
    with house.connect() as connection:
        row = connection.execute(
            "SELECT count(*) FROM orchestrator.raw_chunks c WHERE NOT EXISTS "
            "(SELECT FROM orchestrator.reports r WHERE r.report_id = c.report_id)"
        ).fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.parametrize("announced", ["Content-Length: 40000000", "Transfer-Encoding: chunked"])
def test_a_client_that_goes_away_leaves_nothing(house: House, announced: str) -> None:
    before = house.get("/reports", page_size=1)
    record = load_report("trufflehog.single.json").strip() + b"\n"
    body = record * (8_000_000 // len(record))
    head = f"POST /reports?scanner_type=trufflehog HTTP/1.1\r\nHost: x\r\n{announced}\r\n\r\n"
    with opened(house) as connection:
        connection.sendall(head.encode())
        for start in range(0, len(body), 1 << 18):
            piece = body[start : start + (1 << 18)]
            if "chunked" in announced:
                piece = b"%x\r\n%b\r\n" % (len(piece), piece)
            connection.sendall(piece)
        # Far enough that chunks of it are in the database.
        eventually(lambda: orphans(house) > 0)
    eventually(lambda: orphans(house) == 0)
    assert house.get("/reports", page_size=1) == before
    # The same again, whole: nothing is stuck.
    assert house.submit(record)["records"]["read"] == 1


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


def test_a_report_that_runs_can_be_cancelled_once(house: House) -> None:
    report_id = house.submit(load_report("gitleaks.git.json"))["report_id"]
    refusal = problem(house.http.post(f"/reports/{report_id}/cancel"), 409)
    assert refusal["reason"] == "REPORT_STATE"
    assert house.get(f"/reports/{report_id}", findings="false")["status"] == "done"


def test_health(house: House) -> None:
    assert house.get("/healthz") == {"status": "ok"}
    assert house.get("/readyz") == {"status": "ok"}
