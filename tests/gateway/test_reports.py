"""Reading reports, findings, events and progress back."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from gateway.openapi import document
from winnow.finding.v1 import finding_pb2, verdict_pb2
from winnow.report.v1 import report_pb2, report_service_pb2

SECRET = "s3cr3t-" + "value"


@pytest.mark.parametrize("count", [0, 1, 2000, 4001])
async def test_report_carries_all_its_findings(
    client: httpx.AsyncClient, reports: Any, count: int
) -> None:
    report = reports.add(count, scanner_type="gitleaks", labels={"a": "b"}, size_bytes=2**40)
    answer = await client.get(f"/reports/{report.report_id}")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    findings = body.pop("findings")
    assert [f["id"] for f in findings] == [f"{report.report_id}.{n}" for n in range(count)]
    assert body["status"] == "done"
    assert body["created_at"].endswith("Z")
    assert body["finished_at"] is None
    assert body["size_bytes"] == 2**40
    assert body["labels"] == {"a": "b"}
    assert "error" not in body
    if count > 1:
        assert findings[1] == {
            "id": f"{report.report_id}.1",
            "path": "src/1.py",
            "line": 2,
            "kind": "possible_secret",
            "value_preview": "gh****",
            "risk": "medium",
            "reason": "a reason",
            "source": "heuristic",
            "confidence": None,
            "rule": "github-pat",
            "validity": None,
            "commit": "",
        }
        assert findings[0]["line"] is None


async def test_findings_can_be_left_out(client: httpx.AsyncClient, reports: Any) -> None:
    report = reports.add(3)
    body = (await client.get(f"/reports/{report.report_id}?findings=false")).json()
    assert body["report_id"] == report.report_id
    assert "findings" not in body
    wrong = await client.get(f"/reports/{report.report_id}?findings=no")
    assert wrong.status_code == 400


async def test_answer_is_cut_short_if_a_page_fails(client: httpx.AsyncClient, reports: Any) -> None:
    report = reports.add(4001)
    rows = reports.findings[report.report_id]

    class Failing(list[Any]):
        def __getitem__(self, index: Any) -> Any:
            if isinstance(index, slice) and index.start >= 2000:
                raise RuntimeError("quotes the input")
            return rows[index]

    reports.findings[report.report_id] = Failing(rows)
    with pytest.raises(httpx.RemoteProtocolError):
        await client.get(f"/reports/{report.report_id}")


@pytest.mark.parametrize("tail", ["", "/findings", "/rejected", "/events", "/events/stream"])
@pytest.mark.parametrize("identifier", ["0198c5a0-0000-7000-8000-000000000000", "x", "%00", SECRET])
async def test_unknown_report_is_404(client: httpx.AsyncClient, tail: str, identifier: str) -> None:
    answer = await client.get(f"/reports/{identifier}{tail}")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["reason"] == "REPORT_NOT_FOUND"
    assert SECRET not in answer.text


async def test_filters_reach_the_orchestrator(client: httpx.AsyncClient, reports: Any) -> None:
    report = reports.add(5)
    answer = await client.get(
        f"/reports/{report.report_id}/findings?page_size=2&risk=high&rule=r%20x&path=src/"
        "&source=llm&kind=possible_secret&view=full"
    )
    assert answer.json()["next_page_token"] == "2"
    assert len(answer.json()["findings"]) == 2
    assert reports.requests[-1] == report_service_pb2.ListFindingsRequest(
        report_id=report.report_id,
        page_size=2,
        risk=verdict_pb2.RISK_HIGH,
        rule="r x",
        path="src/",
        source=verdict_pb2.VERDICT_SOURCE_LLM,
        kind=finding_pb2.FINDING_KIND_POSSIBLE_SECRET,
        view=report_service_pb2.FINDING_VIEW_FULL,
    )


@pytest.mark.parametrize(
    ("query", "field"),
    [
        (f"risk={SECRET}", "risk"),
        ("risk=unspecified", "risk"),
        ("risk=HIGH", "risk"),
        (f"page_size={SECRET}", "page_size"),
        ("page_size=-1", "page_size"),
        ("page_size=99999999999999999999", "page_size"),
        ("page_size=2001", "page_size"),
        ("page_size=²", "page_size"),
        (f"{SECRET}=1", "query"),
        ("report_id=1", "query"),
        (f"rule={SECRET * 100}", "rule"),
    ],
)
async def test_wrong_parameters_are_named_without_an_echo(
    client: httpx.AsyncClient, reports: Any, query: str, field: str
) -> None:
    report = reports.add(1)
    answer = await client.get(f"/reports/{report.report_id}/findings?{query}")
    assert answer.status_code == 400
    assert answer.json()["reason"] == "INVALID_ARGUMENT"
    assert answer.json()["field"] == field
    assert SECRET not in answer.text


async def test_page_token_is_judged_by_the_orchestrator(
    client: httpx.AsyncClient, reports: Any
) -> None:
    report = reports.add(1)
    answer = await client.get(f"/reports/{report.report_id}/findings?page_token=broken")
    assert answer.status_code == 400
    assert answer.json()["reason"] == "PAGE_TOKEN_INVALID"


async def test_list_reports(client: httpx.AsyncClient, reports: Any) -> None:
    reports.add(0)
    answer = await client.get("/reports?status=done&scanner_type=x&page_size=3&page_token=t")
    assert answer.json()["next_page_token"] == "more"
    assert answer.json()["reports"][-1]["status"] == "done"
    assert reports.requests[-1] == report_service_pb2.ListReportsRequest(
        page_size=3, page_token="t", status=report_pb2.REPORT_STATUS_DONE, scanner_type="x"
    )


async def test_cancel(client: httpx.AsyncClient, reports: Any) -> None:
    ended = reports.add(0)
    refused = await client.post(f"/reports/{ended.report_id}/cancel")
    assert refused.status_code == 409
    assert refused.json()["reason"] == "REPORT_STATE"
    # `status` is the answer's own; the reason's metadata may not hide it.
    assert refused.json()["status"] == 409
    ended.status = report_pb2.REPORT_STATUS_PROCESSING
    taken = await client.post(f"/reports/{ended.report_id}/cancel")
    assert taken.status_code == 200
    assert taken.json()["report_id"] == ended.report_id


async def test_events(client: httpx.AsyncClient, reports: Any) -> None:
    report = reports.add(0)
    answer = await client.get(f"/reports/{report.report_id}/events?page_size=10")
    (event,) = answer.json()["events"]
    assert event["sequence"] == 7
    assert event["leaf_hash"] == "01ff"
    assert event["event"]["event_type"] == "REPORT_DONE"
    assert event["event"]["payload"] == {"summary": {"high": 3}, "share": 0.5}
    assert event["event"]["severity"] is None


async def test_health(client: httpx.AsyncClient) -> None:
    assert (await client.get("/healthz")).json() == {"status": "ok"}
    assert (await client.get("/readyz")).json() == {"status": "ok"}


async def test_unknown_routes_are_problems(client: httpx.AsyncClient) -> None:
    missing = await client.get(f"/{SECRET}")
    assert missing.status_code == 404
    assert missing.headers["content-type"] == "application/problem+json"
    assert SECRET not in missing.text
    wrong = await client.delete("/reports")
    assert wrong.status_code == 405
    assert wrong.headers["allow"] == "GET, OPTIONS, POST"
    assert wrong.json()["title"] == "Method Not Allowed"


async def test_every_route_tells_its_methods(client: httpx.AsyncClient) -> None:
    for path, operations in json.loads(document())["paths"].items():
        answer = await client.options(path)
        assert (answer.status_code, answer.content) == (204, b"")
        allowed = answer.headers["allow"].split(", ")
        assert {name.upper() for name in operations} <= set(allowed)
        assert "OPTIONS" in allowed
    assert (await client.options(f"/{SECRET}")).status_code == 404


async def test_rejected_records_are_listed_with_their_reason(
    client: httpx.AsyncClient, reports: Any
) -> None:
    report = reports.add(0)
    answer = await client.get(f"/reports/{report.report_id}/rejected")
    assert answer.status_code == 200
    (one,) = answer.json()["rejected"]
    assert (one["ordinal"], one["reason"], one["detail"]) == (3, "syntax", "not valid JSON")


async def test_no_redirect_repeats_a_path(client: httpx.AsyncClient) -> None:
    answer = await client.get("/reports/a-made-up-value/")
    assert answer.status_code == 404
    assert "location" not in answer.headers
    assert "a-made-up-value" not in answer.text
