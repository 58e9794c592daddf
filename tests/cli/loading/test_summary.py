"""What a run comes to, from lines that are made up."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from cli.loading import render
from cli.loading.scenario import Expectations
from cli.loading.summary import fair_shares, fairness, latencies, percentile, summarize
from cli.loading.telemetry import Ended, Memory, Sent, Telemetry


def sent(number: int, status: int = 202, **more: Any) -> Sent:
    known = {
        "emitter": "jobs",
        "first": number,
        "kind": "good",
        "key": "",
        "report_format": "sarif",
        "planned": number / 10,
        "sent": number / 10 + 0.1,
        "ended": number / 10 + 0.3,
        "reason": "",
        "bytes": 100,
        "report_id": f"r{number}" if status == 202 else "",
    }
    return Sent(number=number, status=status, **(known | more))


def summed(*lines: Sent | Ended | Memory, planned: int = 0, **expect: Any) -> dict[str, Any]:
    telemetry = Telemetry()
    for line in lines:
        telemetry.add(line)
    return summarize(telemetry, planned or len(telemetry.sent), Expectations(**expect))


def test_counts_and_latencies() -> None:
    found = summed(
        sent(0),
        sent(1),
        sent(2, 429, reason="RATE_LIMITED", ended=0.2),
        sent(3, 500),
        sent(4, 0, reason="TIMEOUT", ended=60.4),
        sent(5, kind="replayed", first=0, report_id="r0", replayed=True),
        sent(6, kind="replayed", first=1),
        Ended("r0", "done", 1.5),
        Ended("r1", "error", None),
        planned=9,
    )
    counted = {
        "planned": 9,
        "sent": 7,
        "unsent": 2,
        "accepted": 4,
        "refused": 2,
        "unanswered": 1,
        "unexplained": 1,
        "replayed": 1,
        "doubled": 1,
        "reports": 3,
        "finished": 1,
        "failed": 1,
        "lost": 1,
    }
    assert {name: found[name] for name in counted} == counted
    assert found["reasons"] == {"RATE_LIMITED": 1, "(none)": 1, "TIMEOUT": 1}
    # Refusals are quick and are no service; who got no answer has waited all the same.
    assert found["latency_ms"] == {"p50": 300.0, "p95": 60_000.0, "p99": 60_000.0, "max": 60_000.0}
    assert found["service_ms"]["max"] == 200.0
    assert found["late_ms"]["p50"] == 100.0
    assert found["processing_ms"]["max"] == 1500.0


def test_nothing_sent_is_no_error() -> None:
    found = summed(p95_ms=1.0, lost=0)
    assert (found["sent"], found["latency_ms"], found["fairness"]) == (0, None, None)
    assert [one["held"] for one in found["expectations"]] == [True, False]


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.001, 1))
def test_a_percentile_is_a_value_that_so_many_do_not_exceed(
    values: list[float], quantile: float
) -> None:
    ordered = sorted(values)
    found = percentile(ordered, quantile)
    assert found in values
    assert sum(value <= found for value in values) >= quantile * len(values)
    assert sum(value < found for value in values) < quantile * len(values)


def test_percentiles_of_a_hundred() -> None:
    found = latencies(number / 1000 for number in range(1, 101))
    assert found == {"p50": 50.0, "p95": 95.0, "p99": 99.0, "max": 100.0}


def test_fair_shares_leave_the_small_ones_whole() -> None:
    assert fair_shares(30, {"loud": 100, "quiet": 5, "other": 40}) == {
        "quiet": 5,
        "loud": 12.5,
        "other": 12.5,
    }


_WANTED = st.dictionaries(st.text("abc", min_size=1), st.integers(1, 1000), min_size=1)


@given(_WANTED, st.floats(1, 5000))
def test_what_is_shared_fairly_is_fair(wanted: dict[str, float], capacity: float) -> None:
    shares = fair_shares(capacity, wanted)
    assert sum(shares.values()) <= capacity * (1 + 1e-9)
    assert all(share <= wanted[name] for name, share in shares.items())
    assert fairness(shares, wanted) == pytest.approx(1)


def test_a_quiet_key_that_starves_is_unfair_and_a_loud_one_that_is_cut_is_not() -> None:
    wanted = {"fleet": 400.0, "quiet": 20.0}
    assert fairness({"fleet": 100.0, "quiet": 20.0}, wanted) == pytest.approx(1)
    assert fairness({"fleet": 120.0, "quiet": 0.0}, wanted) < 0.6


def test_fairness_is_over_keys_and_over_good_requests() -> None:
    found = summed(
        *(sent(number, key="fleet", ended=number / 10 + 0.6) for number in range(4)),
        *(sent(number, 429, key="fleet", reason="RATE_LIMITED") for number in range(4, 8)),
        *(sent(number, key="quiet") for number in range(2)),
        sent(9, 422, key="quiet", kind="malformed", reason="REPORT_MALFORMED"),
    )
    assert found["fairness"] == {"jain": 1.0, "p95_ratio": 2.0}
    assert found["by_key"]["quiet"]["good"] == found["by_key"]["quiet"]["accepted"] == 2


def test_verdicts_are_timed_by_key() -> None:
    lines = (
        *(sent(number, key="fleet", report_id=f"f{number}") for number in range(3)),
        sent(3, key="quiet", report_id="q"),
        # The same report once more.
        sent(4, key="quiet", report_id="q", kind="replayed", first=3),
        *(Ended(f"f{number}", "done", number + 1.0) for number in range(3)),
        Ended("q", "done", 0.5),
    )
    found = summed(*lines, verdicts_p95_ms={"quiet": 500.0, "fleet": 3000.0})
    assert found["by_key"]["fleet"]["processing_ms"]["p50"] == 2000.0
    assert found["by_key"]["quiet"]["processing_ms"]["max"] == 500.0
    (right,) = found["expectations"]
    assert (right["held"], right["found"]) == (True, {"quiet": 500.0, "fleet": 3000.0})
    (late,) = summed(*lines, verdicts_p95_ms={"quiet": 499.0})["expectations"]
    assert not late["held"]
    (unended,) = summed(*lines[:5], verdicts_p95_ms={"quiet": 500.0})["expectations"]
    assert (unended["held"], unended["found"]) == (False, None)


def test_memory_that_grows_is_told() -> None:
    level = [Memory(at, 100) for at in range(8)]
    grown = [Memory(at, 100 + 10 * at) for at in range(8)]
    assert summed(*level, memory_growth=0.1)["expectations"][0]["held"]
    found = summed(*grown, memory_growth=0.1)
    assert found["memory"]["growth"] == pytest.approx(330 / 250 - 1)
    assert not found["expectations"][0]["held"]
    # Without --pid nothing was measured: nobody knows whether it holds.
    assert not summed(memory_growth=0.1)["expectations"][0]["held"]


def test_what_was_expected_is_said_in_words() -> None:
    found = summed(
        sent(0, 422, kind="malformed", reason="REPORT_MALFORMED"),
        lost=0,
        memory_growth=0.1,
        reasons=[],
        kinds={"malformed": ["REPORT_MALFORMED", "OVERLOADED"], "unknown": []},
    )
    written = io.StringIO()
    render.summary(Console(file=written, width=200), "made up", found)
    assert written.getvalue().splitlines()[-4:] == [
        "holds: lost 0 (found: 0)",
        "NOT MEASURED: memory_growth 0.1 (needs --pid, and a run of some seconds)",
        "DOES NOT HOLD: reasons none (found: REPORT_MALFORMED)",
        "holds: kinds malformed: REPORT_MALFORMED, OVERLOADED; unknown: none"
        " (found: malformed: REPORT_MALFORMED; unknown: none)",
    ]


@pytest.mark.parametrize(
    ("expect", "held"),
    [
        ({"lost": 1}, True),
        ({"lost": 0}, False),
        ({"unexplained": 0}, True),
        ({"p50_ms": 300.0}, True),
        ({"p50_ms": 299.0}, False),
        ({"reasons": ["RATE_LIMITED", "OVERLOADED"]}, True),
        ({"reasons": ["OVERLOADED"]}, False),
        ({"reasons": []}, False),
        ({"seen": ["RATE_LIMITED"]}, True),
        ({"seen": ["RATE_LIMITED", "OVERLOADED"]}, False),
        ({"fairness": 0.5}, False),
    ],
)
def test_expectations_hold_or_not(expect: dict[str, Any], held: bool) -> None:
    found = summed(sent(0), sent(1, 429, reason="RATE_LIMITED"), **expect)
    assert [one["held"] for one in found["expectations"]] == [held]


def test_what_is_wrong_with_a_request_is_why_it_is_refused() -> None:
    lines = (
        sent(0),
        sent(1, 422, kind="malformed", reason="REPORT_MALFORMED"),
        sent(2, 413, kind="oversized", reason="REPORT_TOO_LARGE"),
    )
    wanted = {
        "malformed": ["REPORT_MALFORMED"],
        "oversized": ["REPORT_TOO_LARGE", "OVERLOADED"],
        "unknown": ["FORMAT_UNKNOWN"],
    }
    (right,) = summed(*lines, kinds=wanted)["expectations"]
    assert right["held"]
    assert right["found"]["unknown"] == []
    (wrong,) = summed(*lines, kinds={**wanted, "malformed": ["FORMAT_UNKNOWN"]})["expectations"]
    assert not wrong["held"]


def test_telemetry_is_a_json_object_a_line() -> None:
    file = io.StringIO()
    telemetry = Telemetry(file)
    for line in (sent(3), Ended("r3", "done", 0.25), Memory(1.0, 4096)):
        telemetry.add(line)
    lines = [json.loads(line) for line in file.getvalue().splitlines()]
    assert [line["type"] for line in lines] == ["request", "report", "memory"]
    assert lines[0]["latency"] == 0.3
    assert lines[1] == {"type": "report", "report_id": "r3", "status": "done", "seconds": 0.25}
