"""A summary for people."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from cli.terminal import plain

Json = dict[str, Any]

_TIMES = {
    "latency_ms": "from when it was due",
    "service_ms": "from when it was sent",
    "late_ms": "sent late by",
    "processing_ms": "a report, to its verdicts",
}
# Why an expectation may not have been measured.
_NEEDS = {
    "memory_growth": " (needs --pid, and a run of some seconds)",
    "fairness": " (needs two keys)",
    "verdicts_p95_ms": " (needs a report of each key that has ended)",
    "p95_ratio": " (needs two keys, and an answer to each)",
}


def summary(console: Console, name: str, found: Json) -> None:
    """Prints everything that the summary has."""
    counts = ("planned", "sent", "accepted", "refused", "unanswered")
    console.print(
        plain(
            f"{name}: {_counted(found, counts)} · {found['accepted_per_second']:g} accepted a second"
        )
    )
    ends = ("reports", "finished", "failed", "lost", "replayed", "doubled")
    console.print(plain(_counted(found, ends)))
    rows = [(words, found[member]) for member, words in _TIMES.items() if found[member]]
    _table(
        console,
        ("milliseconds", "p50", "p95", "p99", "max"),
        [(words, *(f"{value:.1f}" for value in row.values())) for words, row in rows],
    )
    for what in ("emitter", "key"):
        _table(
            console,
            (
                what,
                "sent",
                "good",
                "accepted",
                "p50",
                "p95",
                "p99",
                "to verdicts: p50",
                "p95",
                "p99",
            ),
            [
                (
                    label,
                    *(row[count] for count in ("sent", "good", "accepted")),
                    *_quantiles(row["latency_ms"]),
                    *_quantiles(row["processing_ms"]),
                )
                for label, row in found[f"by_{what}"].items()
            ],
        )
    _table(console, ("refused, or not answered", "requests"), list(found["reasons"].items()))
    if fair := found["fairness"]:
        console.print(
            plain(f"fairness over keys: Jain {fair['jain']:g}, p95 ratio {fair['p95_ratio']}")
        )
    if memory := found["memory"]:
        grown = "" if memory["growth"] is None else f", grown by {memory['growth']:.1%}"
        console.print(plain(f"memory: at most {memory['max_bytes'] / 2**20:.0f} MiB{grown}"))
    for one in found["expectations"]:
        console.print(plain(_judged(one)))


def _judged(one: Json) -> str:
    """Whether an expectation holds, in words."""
    name, wanted, value = one["name"], _words(one["wanted"]), one["found"]
    if value is None:
        return f"NOT MEASURED: {name} {wanted}{_NEEDS.get(name, '')}"
    said = "holds" if one["held"] else "DOES NOT HOLD"
    return f"{said}: {name} {wanted} (found: {_words(value)})"


def _words(value: Any) -> str:
    """A number, a list, or lists by name, without brackets."""
    if isinstance(value, dict):
        return "; ".join(f"{name}: {_words(one)}" for name, one in value.items())
    if isinstance(value, list):
        return ", ".join(value) or "none"
    return str(value)


def _counted(found: Json, names: tuple[str, ...]) -> str:
    return " · ".join(f"{found[name]} {name}" for name in names)


def _quantiles(row: Json | None) -> tuple[str, ...]:
    return tuple(f"{row[name]:.1f}" if row else "" for name in ("p50", "p95", "p99"))


def _table(console: Console, heads: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    if not rows:
        return
    table = Table(box=None, pad_edge=False)
    for number, head in enumerate(heads):
        table.add_column(head, justify="right" if number else "left")
    for row in rows:
        table.add_row(*(plain(str(cell)) for cell in row))
    console.print(table)
