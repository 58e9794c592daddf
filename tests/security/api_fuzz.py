"""Requests made from the committed OpenAPI document, as it allows them and as it does not,
sent to a running gateway; and its answers held against the same document.
"""

from __future__ import annotations

import contextlib
import random
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import requests
import schemathesis

# Else loaded within a test: CPython 3.11 then sometimes fails to parse it (SystemError).
import schemathesis.specs.openapi.schemas
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi import checks

from tests.fixtures import load_report
from tests.security.bad_messages import MARKER

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "openapi.json"

# What an answer may be is checked; whether a request ought to have been refused is
# not: many rules of the contract are not in its schema.
CHECKS: list[Callable[..., Any]] = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
_SECONDS = 20.0

Known = dict[str, list[str]]


class Thrown(NamedTuple):
    """What came of it.

    Args:
        statuses: how often each was answered.
        failed: route, status and failed check, each once.
    """

    statuses: Counter[int]
    failed: set[str]


def known_ids(url: str) -> Known:
    """Ids of things that are there, by path parameter: requests get past the 404."""
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as http:
        report_id = http.post("/reports", content=load_report("gitleaks.git.json")).json()[
            "report_id"
        ]
        finding = http.get(f"/reports/{report_id}/findings").json()["findings"][0]["id"]
        decided = http.post(
            f"/findings/{finding}/decisions", json={"outcome": "true_positive", "actor": "ada"}
        )
        events = http.get(f"/reports/{report_id}/events").json()["events"]
        credentials = http.get("/credentials").json()["credentials"]
    return {
        "report_id": [report_id],
        "finding_id": [finding],
        "decision_id": [decided.json()["decision"]["decision_id"]],
        "event_id": [event["event"]["event_id"] for event in events],
        "fingerprint": [one["fingerprint"] for one in credentials[:3]],
    }


def throw(url: str, known: Known, cases: int, seeded: int) -> Thrown:
    """Sends so many requests to each route, half of them against its rules.

    Args:
        url: the gateway.
        known: as `known_ids` finds them.
        cases: requests to each route, at least two.
        seeded: the same number makes the same requests.
    """
    thrown = Thrown(Counter(), set())
    found = schemathesis.openapi.from_path(DOCUMENT).get_all_operations()
    session = requests.Session()
    session.trust_env = False
    for operation in (one.ok() for one in found):
        takes = bool(list(operation.iter_parameters())) or bool(operation.body)
        modes = [GenerationMode.POSITIVE, GenerationMode.NEGATIVE][: 1 + takes]
        for mode in modes:
            _throw(operation, mode, url, known, cases // len(modes), seeded, session, thrown)
    return thrown


def _throw(
    operation: Any,
    mode: GenerationMode,
    url: str,
    known: Known,
    cases: int,
    seeded: int,
    session: requests.Session,
    thrown: Thrown,
) -> None:
    chance = random.Random(seeded)

    @seed(seeded)
    @settings(
        max_examples=cases,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def one(case: Case) -> None:
        _aim(case, known, chance)
        answer = case.call(base_url=url, session=session, timeout=_SECONDS)
        thrown.statuses[answer.status_code] += 1
        at = f"{operation.label} {answer.status_code}"
        if answer.status_code >= 400 and MARKER in answer.text:
            thrown.failed.add(f"{at} input comes back")
        try:
            case.validate_response(answer, checks=_checks(answer.headers))
        except FailureGroup as group:
            for failure in group.exceptions:
                thrown.failed.add(f"{at} {type(failure).__name__}")

    # Of some there is nothing that the schema would not allow.
    with contextlib.suppress(Unsatisfiable):
        one()


def _checks(headers: Mapping[str, list[str]]) -> list[Callable[..., Any]]:
    # Of a stream the document says that it is text; the check takes each event for a value.
    streams = headers.get("content-type", [""])[0].startswith("text/event-stream")
    return [one for one in CHECKS if not (streams and one is checks.response_schema_conformance)]


def _aim(case: Case, known: Known, chance: random.Random) -> None:
    """Puts ids that are there, or the marker, in the place of some of a request's texts."""
    for name in case.path_parameters or {}:
        if ids := known.get(name):
            case.path_parameters[name] = chance.choice([*ids, MARKER, case.path_parameters[name]])
    for texts in (case.query, case.body):
        if isinstance(texts, dict):
            for name, value in texts.items():
                if isinstance(value, str) and chance.random() < 0.3:
                    texts[name] = MARKER
