"""What a browser is told with every answer, whatever the answer is."""

from __future__ import annotations

import httpx
import pytest

from tests.e2e.house import House

HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


def secured(answer: httpx.Response) -> bool:
    """Whether each header is there once, as it should be."""
    return all(answer.headers.get_list(name) == [value] for name, value in HEADERS.items())


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/healthz", 200),
        ("GET", "/readyz", 200),
        ("GET", "/reports", 200),
        ("GET", "/openapi.json", 200),
        ("GET", "/credentials", 200),
        ("GET", "/audit/checkpoint", 200),
        ("GET", "/reports?page_size=x", 400),
        ("GET", "/reports/none", 404),
        ("GET", "/nowhere", 404),
        ("DELETE", "/reports", 405),
        ("POST", "/reports", 422),
    ],
)
def test_every_answer_has_the_security_headers(
    house: House, method: str, path: str, status: int
) -> None:
    answer = house.http.request(method, path, content=b"{" if method == "POST" else None)
    assert answer.status_code == status
    assert secured(answer)
    assert "server" not in answer.headers


def test_a_stream_of_events_has_the_security_headers(house: House) -> None:
    report_id = house.submit(b"[]", "/reports?scanner_type=gitleaks")["report_id"]
    with house.http.stream("GET", f"/reports/{report_id}/events/stream") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert secured(answer)


def test_no_other_origin_is_let_in(house: House) -> None:
    asked = {"origin": "https://elsewhere.example", "access-control-request-method": "POST"}
    for answer in (
        house.http.options("/reports", headers=asked),
        house.http.get("/reports", headers=asked),
    ):
        assert not [name for name in answer.headers if name.startswith("access-control-")]
