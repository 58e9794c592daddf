"""What a run comes to: counts, latencies, refusals, fairness, and what was expected."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cli.loading.plan import GOOD
from cli.loading.scenario import Expectations
from cli.loading.telemetry import Ended, Memory, Sent, Telemetry

Json = dict[str, Any]

_QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}
# Samples of memory that a growth can be told from.
_SAMPLES = 8


def percentile(ordered: Sequence[float], quantile: float) -> float:
    """The smallest of the values that `quantile` of them do not exceed (nearest rank)."""
    return ordered[max(0, math.ceil(quantile * len(ordered)) - 1)]


def latencies(seconds: Iterable[float]) -> Json | None:
    """p50, p95, p99 and max in milliseconds; None of nothing."""
    ordered = sorted(seconds)
    if not ordered:
        return None
    return {name: round(percentile(ordered, at) * 1e3, 1) for name, at in _QUANTILES.items()}


def fair_shares(capacity: float, wanted: Mapping[str, float]) -> dict[str, float]:
    """The max-min fair allocation: nobody gets more than is wanted, and what one does
    not take is shared evenly among the others."""
    shares: dict[str, float] = {}
    left = capacity
    for done, (name, demand) in enumerate(sorted(wanted.items(), key=lambda one: one[1])):
        shares[name] = min(demand, left / (len(wanted) - done))
        left -= shares[name]
    return shares


def fairness(got: Mapping[str, float], wanted: Mapping[str, float]) -> float:
    """Jain's index of what each got, as a part of its max-min fair share: 1 is fair, 1/n is
    everything for one (R. Jain, D. Chiu, W. Hawe, DEC-TR-301, 1984)."""
    shares = fair_shares(sum(got.values()), wanted)
    parts = [got[name] / share for name, share in shares.items() if share]
    squares = sum(part**2 for part in parts)
    return sum(parts) ** 2 / (len(parts) * squares) if squares else 1.0


def summarize(telemetry: Telemetry, planned: int, expect: Expectations) -> Json:
    """The whole summary; `planned` is how many requests were to be sent."""
    sent = telemetry.sent
    taken = [one for one in sent if one.accepted]
    refused = [one for one in sent if one.status and not one.accepted]
    reports = {one.report_id for one in taken if one.report_id}
    ended = {one.report_id: one for one in telemetry.ended}
    ends = Counter(one.status for one in telemetry.ended)
    whole = max((one.ended for one in sent), default=0.0)
    by_key = _by(sent, "key", ended)
    found: Json = {
        "planned": planned,
        "sent": len(sent),
        "unsent": planned - len(sent),
        "accepted": len(taken),
        "refused": len(refused),
        "unanswered": sum(not one.status for one in sent),
        "unexplained": sum(not one.reason for one in refused),
        "replayed": sum(one.replayed for one in taken),
        "doubled": _doubled(taken),
        "reports": len(reports),
        "finished": ends["done"],
        "failed": ends["error"] + ends["cancelled"],
        "lost": len(reports - set(ended)) + sum(not one.report_id for one in taken),
        "bytes": sum(one.bytes for one in sent),
        "seconds": round(whole, 3),
        "accepted_per_second": round(len(taken) / whole, 2) if whole else 0.0,
        "latency_ms": _waited(sent),
        "service_ms": latencies(one.service for one in sent if one.accepted),
        "late_ms": latencies(max(0.0, one.sent - one.planned) for one in sent),
        "processing_ms": latencies(
            one.seconds for one in telemetry.ended if one.seconds is not None
        ),
        "reasons": dict(Counter(one.reason or "(none)" for one in sent if not one.accepted)),
        "kinds": {
            kind: dict(Counter(one.reason or str(one.status) for one in group))
            for kind, group in _groups(sent, "kind").items()
        },
        "by_emitter": _by(sent, "emitter", ended),
        "by_key": by_key,
        "fairness": _fairness(by_key),
        "memory": _memory(telemetry.memory),
    }
    found["expectations"] = _judged(found, expect)
    return found


def _doubled(taken: Sequence[Sent]) -> int:
    """Reports beyond the first of one Idempotency-Key: none, if repeating is safe."""
    made: dict[tuple[str, int], set[str]] = {}
    for one in taken:
        made.setdefault((one.emitter, one.first), set()).add(one.report_id)
    return sum(len(reports) - 1 for reports in made.values())


def _waited(sent: Iterable[Sent]) -> Json | None:
    """Of what was accepted, and of what nobody answered: a refusal is quick, and no service."""
    return latencies(one.latency for one in sent if one.accepted or not one.status)


def _processed(sent: Iterable[Sent], ended: Mapping[str, Ended]) -> Json | None:
    """Of the reports that these requests made, from their making to their end."""
    ends = (ended.get(report_id) for report_id in {one.report_id for one in sent})
    return latencies(one.seconds for one in ends if one and one.seconds is not None)


def _groups(sent: Iterable[Sent], member: str) -> dict[str, list[Sent]]:
    groups: dict[str, list[Sent]] = {}
    for one in sent:
        groups.setdefault(getattr(one, member), []).append(one)
    return dict(sorted(groups.items()))


def _by(sent: Iterable[Sent], member: str, ended: Mapping[str, Ended]) -> dict[str, Json]:
    return {
        name: {
            "sent": len(group),
            "good": sum(one.kind == GOOD for one in group),
            "accepted": sum(one.accepted and one.kind == GOOD for one in group),
            "latency_ms": _waited(group),
            "processing_ms": _processed(group, ended),
        }
        for name, group in _groups(sent, member).items()
        if name
    }


def _fairness(by_key: Mapping[str, Json]) -> Json | None:
    """Over keys, if there are several: of good requests, how many were accepted, how fast."""
    if len(by_key) < 2:
        return None
    slowest = [row["latency_ms"]["p95"] for row in by_key.values() if row["latency_ms"]]
    return {
        "jain": round(
            fairness(
                {name: row["accepted"] for name, row in by_key.items()},
                {name: row["good"] for name, row in by_key.items()},
            ),
            4,
        ),
        "p95_ratio": round(max(slowest) / min(slowest), 2) if slowest and min(slowest) else None,
    }


def _memory(samples: Sequence[Memory]) -> Json | None:
    """How much there was, and by how much the last quarter is above the second."""
    if not samples:
        return None
    sizes = [one.rss_bytes for one in samples]
    quarter = len(sizes) // 4
    second, last = sizes[quarter : 2 * quarter], sizes[-quarter:]
    return {
        "first_bytes": sizes[0],
        "last_bytes": sizes[-1],
        "max_bytes": max(sizes),
        "growth": round(sum(last) / sum(second) - 1, 4) if len(sizes) >= _SAMPLES else None,
    }


def _p95s(by_key: Mapping[str, Json], wanted: Iterable[str]) -> Json | None:
    """Until verdicts, by key; None if a wanted one has had none."""
    times = {key: (by_key.get(key) or {}).get("processing_ms") for key in wanted}
    known = {key: time["p95"] for key, time in times.items() if time}
    return known if len(known) == len(times) else None


def _judged(found: Json, expect: Expectations) -> list[Json]:
    """Every expectation that the scenario has, what was found, and whether it holds: what
    was not measured (None) does not."""
    latency, fair = found["latency_ms"] or {}, found["fairness"] or {}
    measured = {
        **{name: found[name] for name in ("lost", "failed", "unanswered", "unexplained")},
        "doubled": found["doubled"],
        **{f"{name}_ms": latency.get(name) for name in ("p50", "p95", "p99")},
        "verdicts_p95_ms": _p95s(found["by_key"], expect.verdicts_p95_ms or {}),
        "p95_ratio": fair.get("p95_ratio"),
        "memory_growth": (found["memory"] or {}).get("growth"),
        "fairness": fair.get("jain"),
        "reasons": sorted(found["reasons"]),
        "seen": sorted(found["reasons"]),
        "kinds": {kind: sorted(answers) for kind, answers in found["kinds"].items()},
    }
    judged = []
    for name, wanted in expect.model_dump(exclude_none=True).items():
        value = measured[name]
        if name == "reasons":
            held = set(value) <= set(wanted)
        elif name == "seen":
            held = set(wanted) <= set(value)
        elif name == "kinds":
            value = {kind: value.get(kind, []) for kind in wanted}
            held = all(set(told) <= set(wanted[kind]) for kind, told in value.items())
        elif value is None:
            held = False
        elif name == "verdicts_p95_ms":
            held = all(value[key] <= most for key, most in wanted.items())
        else:
            held = value >= wanted if name == "fairness" else value <= wanted
        judged.append({"name": name, "wanted": wanted, "found": value, "held": held})
    return judged
