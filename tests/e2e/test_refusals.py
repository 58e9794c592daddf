"""What is refused by REST: with a problem, without an echo, and nothing left behind."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest

from tests.e2e.conftest import MAX_REPORT_BYTES
from tests.e2e.house import House, Json, eventually
from tests.fixtures import load_report

pytestmark = pytest.mark.xdist_group("e2e")

CANARY = "CANARY-a8f3-never-echoed"


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
    head = f"POST /reports HTTP/1.1\r\nHost: localhost\r\nContent-Length: {MAX_REPORT_BYTES + 1}\r\n\r\n"
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
    head = (
        f"POST /reports?scanner_type=trufflehog HTTP/1.1\r\nHost: localhost\r\n{announced}\r\n\r\n"
    )
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


def test_a_cursor_belongs_to_its_query(house: House) -> None:
    report_id = house.submit(load_report("gitleaks.git.json"))["report_id"]
    path = f"/reports/{report_id}/findings"
    token = house.get(path, page_size=2)["next_page_token"]
    broken = token[:-2] + ("AA" if token[-2:] != "AA" else "BB")
    for wrong in (
        {"risk": "low", "page_token": token},
        {"page_token": broken},
        {"page_token": CANARY},
    ):
        answer = house.http.get(path, params=wrong)
        assert problem(answer, 400)["reason"] == "PAGE_TOKEN_INVALID"


def test_a_report_that_runs_can_be_cancelled_once(house: House) -> None:
    report_id = house.submit(load_report("gitleaks.git.json"))["report_id"]
    refusal = problem(house.http.post(f"/reports/{report_id}/cancel"), 409)
    assert refusal["reason"] == "REPORT_STATE"
    assert house.get(f"/reports/{report_id}", findings="false")["status"] == "done"
