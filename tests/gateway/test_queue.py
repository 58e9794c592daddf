"""The queue over REST."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import httpx
import pytest

from gateway.openapi import document
from runtime.clock import uuid7
from tests.gateway.queues import Desk
from tests.gateway.queues import client as client
from tests.gateway.queues import desk as desk
from tests.gateway.test_contracts import check
from winnow.queue.v1.job_pb2 import JOB_STATE_DEAD, JOB_STATE_WAITING
from winnow.queue.v1.queue_service_pb2 import ListJobsRequest

SECRET = "s3cr3t-" + "value"


def documented(verb: str, path: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A route's answer as its schema, and all schemas."""
    found = json.loads(document())
    answers = found["paths"][path][verb]["responses"]
    schema = answers["200"]["content"]["application/json"]["schema"]
    return schema, found["components"]["schemas"]


async def test_health(client: httpx.AsyncClient, desk: Desk) -> None:
    depth = desk.queue.health.kinds.add(kind="report.run", waiting=3, dead=1)
    depth.oldest_age.FromTimedelta(timedelta(seconds=90))
    state = desk.queue.health.schedules.add(name="uploads.sweep", cron="7 * * * *", zone="UTC")
    state.due_in.FromTimedelta(timedelta(seconds=-2))
    desk.queue.health.events_of_a_day["REPORT_DONE"] = 7
    answer = await client.get("/queue/health")
    assert answer.status_code == 200
    body = answer.json()
    check(body, *documented("get", "/queue/health"))
    [kind] = body["kinds"]
    assert (kind["kind"], kind["waiting"], kind["delayed"], kind["dead"]) == ("report.run", 3, 0, 1)
    assert body["events_of_a_day"] == {"REPORT_DONE": 7}
    assert body["outbox_audit"] == 0


async def test_jobs(client: httpx.AsyncClient, desk: Desk) -> None:
    desk.queue.add("report.run", JOB_STATE_WAITING)
    dead = desk.queue.add(
        "report.run", JOB_STATE_DEAD, error_reason="INTERNAL", error_message="gone", failures=20
    )
    answer = await client.get("/queue/jobs?state=dead&kind=report.run&page_size=9")
    assert answer.status_code == 200
    check(answer.json(), *documented("get", "/queue/jobs"))
    [job] = answer.json()["jobs"]
    assert (job["job_id"], job["state"], job["failures"]) == (dead.job_id, "dead", 20)
    assert (job["error_reason"], job["error_message"]) == ("INTERNAL", "gone")
    assert desk.queue.requests[-1] == ListJobsRequest(
        state=JOB_STATE_DEAD, kind="report.run", page_size=9
    )


@pytest.mark.parametrize(
    "query", [f"state={SECRET}", "state=DEAD", "page_size=501", f"{SECRET}=1", f"kind={SECRET * 9}"]
)
async def test_wrong_parameters_are_refused_without_an_echo(
    client: httpx.AsyncClient, query: str
) -> None:
    answer = await client.get(f"/queue/jobs?{query}")
    assert answer.status_code == 400
    assert answer.json()["reason"] == "INVALID_ARGUMENT"
    assert SECRET not in answer.text


async def test_retry(client: httpx.AsyncClient, desk: Desk) -> None:
    job = desk.queue.add("report.run", JOB_STATE_DEAD)
    answer = await client.post(f"/queue/jobs/{job.job_id}/retry")
    assert answer.status_code == 200
    check(answer.json(), *documented("post", "/queue/jobs/{job_id}/retry"))
    assert answer.json()["job"]["state"] == "waiting"
    again = await client.post(f"/queue/jobs/{job.job_id}/retry", json={})
    assert (again.status_code, again.json()["reason"]) == (409, "JOB_STATE")
    assert again.headers["content-type"] == "application/problem+json"


async def test_retry_of_what_is_no_job(client: httpx.AsyncClient, desk: Desk) -> None:
    for unknown in (uuid7(), SECRET, "%00"):
        answer = await client.post(f"/queue/jobs/{unknown}/retry")
        assert (answer.status_code, answer.json()["reason"]) == (404, "JOB_NOT_FOUND")
        assert SECRET not in answer.text
    job = desk.queue.add("report.run", JOB_STATE_DEAD)
    wrong = await client.post(f"/queue/jobs/{job.job_id}/retry", json={SECRET: 1})
    assert wrong.status_code == 400
    assert SECRET not in wrong.text
