"""The gateway's routes are the contracts' google.api.http twins, no more and no fewer."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from google.api import annotations_pb2

from gateway import event_schema, query, schemas
from gateway.app import GatewaySettings, build
from gateway.openapi import document
from runtime.config import load
from winnow.access.v1 import access_service_pb2
from winnow.audit.v1 import audit_service_pb2
from winnow.queue.v1 import queue_service_pb2
from winnow.report.v1 import credential_service_pb2, decision_service_pb2, report_service_pb2
from winnow.seal.v1 import seal_service_pb2

ROOT = Path(__file__).resolve().parents[2]
# What only the gateway itself can answer.
OWN = {("GET", "/healthz"), ("GET", "/readyz")}
# What takes other parameters than its request's fields.
OTHERWISE = {("GET", "/reports/{report_id}"), ("GET", "/reports/{report_id}/events/stream")}
SERVICES = (
    report_service_pb2.DESCRIPTOR.services_by_name["ReportService"],
    credential_service_pb2.DESCRIPTOR.services_by_name["CredentialService"],
    decision_service_pb2.DESCRIPTOR.services_by_name["DecisionService"],
    queue_service_pb2.DESCRIPTOR.services_by_name["QueueService"],
    access_service_pb2.DESCRIPTOR.services_by_name["AccessService"],
    seal_service_pb2.DESCRIPTOR.services_by_name["SealService"],
    audit_service_pb2.DESCRIPTOR.services_by_name["AuditService"],
)


def annotated() -> dict[tuple[str, str], Any]:
    found = {}
    for service in SERVICES:
        for method in service.methods:
            rule = method.GetOptions().Extensions[annotations_pb2.http]
            if verb := rule.WhichOneof("pattern"):
                found[verb.upper(), getattr(rule, verb)] = method
    return found


def served() -> dict[tuple[str, str], Any]:
    paths = build(load(GatewaySettings)).openapi()["paths"]
    return {
        (verb.upper(), path): route
        for path, verbs in paths.items()
        for verb, route in verbs.items()
    }


def test_every_annotation_has_its_route_and_every_route_its_annotation() -> None:
    assert set(served()) - OWN == set(annotated())
    assert len(annotated()) >= 7


def test_parameters_of_reads_are_their_requests_fields() -> None:
    routes = served()
    for key, method in annotated().items():
        verb, path = key
        if verb != "GET" or key in OTHERWISE:
            continue
        in_path = set(re.findall(r"{(\w+)}", path))
        parameters = routes[key].get("parameters", [])
        documented = {p["name"] for p in parameters if p["in"] == "query"}
        fields = set(query.parameter_fields(method.input_type))
        assert documented == fields - in_path
        assert {p["name"] for p in parameters if p["in"] == "path"} == in_path


def test_committed_document_is_fresh() -> None:
    committed = (ROOT / "docs" / "openapi.json").read_text("utf-8")
    assert committed == document(), "run: python -m gateway.openapi > docs/openapi.json"


def test_document_has_no_dangling_references() -> None:
    text = document()
    names = set(json.loads(text)["components"]["schemas"])
    assert set(re.findall(r'"#/components/schemas/(\w+)"', text)) <= names


def check(value: Any, schema: dict[str, Any], known: dict[str, Any], at: str = "$") -> None:
    """The part of JSON Schema that our documents use."""
    if "$ref" in schema:
        check(value, known[schema["$ref"].rpartition("/")[2]], known, at)
        return
    for part in schema.get("allOf", ()):
        check(value, part, known, at)
    if "anyOf" in schema:
        plain = [s for s in schema["anyOf"] if value in s.get("enum", ())]
        assert plain or isinstance(value, int), at
    if "const" in schema:
        assert value == schema["const"], at
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    python = {
        "object": dict,
        "array": list,
        "string": str,
        "integer": int,
        "number": (int, float),
        "boolean": bool,
        "null": type(None),
    }
    assert not kinds or any(isinstance(value, python[kind]) for kind in kinds), (at, kinds)
    if isinstance(value, dict):
        assert set(schema.get("required", ())) <= set(value), at
        for name, item in value.items():
            inner = schema.get("properties", {}).get(name)
            if inner is not None:
                check(item, inner, known, f"{at}.{name}")
            elif isinstance(schema.get("additionalProperties"), dict):
                check(item, schema["additionalProperties"], known, f"{at}.{name}")
            else:
                assert "properties" not in schema or "allOf" in schema or at == "$", (at, name)
    if isinstance(value, list) and "items" in schema:
        for number, item in enumerate(value):
            check(item, schema["items"], known, f"{at}[{number}]")


@pytest.mark.parametrize(
    ("verb", "path", "tail"),
    [
        ("get", "/reports/{report_id}", ""),
        ("get", "/reports/{report_id}/findings", "?view=full"),
        ("get", "/reports/{report_id}/events", ""),
        ("get", "/reports", ""),
    ],
)
async def test_answers_are_as_documented(
    client: httpx.AsyncClient, reports: Any, verb: str, path: str, tail: str
) -> None:
    report = reports.add(3, labels={"a": "b"})
    finding = reports.findings[report.report_id][0]
    finding.detail.inputs["rules"] = "sha256:0"
    finding.detail.evidence.add(stage="heuristics", weight=0.1)
    found = json.loads(document())
    answer = await client.request(verb, path.replace("{report_id}", report.report_id) + tail)
    schema = found["paths"][path][verb]["responses"]["200"]["content"]["application/json"]["schema"]
    check(answer.json(), schema, found["components"]["schemas"])


async def test_submission_and_problems_are_as_documented(client: httpx.AsyncClient) -> None:
    found = json.loads(document())
    responses = found["paths"]["/reports"]["post"]["responses"]
    known = found["components"]["schemas"]
    taken = await client.post("/reports", content=b"[]")
    check(taken.json(), responses["201"]["content"]["application/json"]["schema"], known)
    refused = await client.post("/reports", content=b"bad")
    problem = responses["422"]["content"]["application/problem+json"]["schema"]
    check(refused.json(), problem, known)


def test_a_schema_covers_nested_messages_and_maps() -> None:
    made = schemas.components([report_service_pb2.ListFindingsResponse.DESCRIPTOR])
    assert {"ReportFinding", "ReportFindingDetail", "Evidence"} <= set(made)
    assert made["ReportFindingDetail"]["properties"]["inputs"] == {
        "type": "object",
        "additionalProperties": {"type": "string"},
    }
    assert "detail" not in made["ReportFinding"]["required"]
    assert "reason" in made["ReportFinding"]["required"]


def test_committed_schema_of_events_is_fresh() -> None:
    committed = (ROOT / "docs" / "event.schema.json").read_text("utf-8")
    fresh = "run: python -m gateway.event_schema > docs/event.schema.json"
    assert committed == event_schema.document(), fresh
