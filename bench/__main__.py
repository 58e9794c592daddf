"""`python -m bench`: speed and memory of every stage and of the whole, each beside its limit.

One JSON object a line. Figures are of this machine and this run; the ratios
(`times_json_loads`) are what can be compared.
"""

from __future__ import annotations

import argparse
import json

from bench import house
from bench.limits import copy_binary, json_loads, msgspec_decode
from bench.measure import Figures
from bench.stages import judge, moderate, parse
from cli.loading.reports import FORMATS, generate

# Above this the stages alone would hold gigabytes; the house streams.
_WHOLE = 200_000


def _show(stage: str, figures: Figures) -> None:
    rounded = {
        name: round(value, 3 if value >= 1 else 6) if isinstance(value, float) else value
        for name, value in figures.items()
    }
    print(json.dumps({"stage": stage} | rounded), flush=True)


def _stages(report_format: str, findings: int, seed: int, database_url: str) -> float:
    """The limits and the stages alone; returns json.loads' microseconds a finding."""
    report = b"".join(generate(report_format, min(findings, _WHOLE), seed))
    lines = report_format == "trufflehog"
    limit = json_loads(report, lines=lines)
    _show("limit: json.loads", limit)
    _show("limit: msgspec", msgspec_decode(report, lines=lines))
    _show("limit: COPY BINARY", copy_binary(database_url, min(findings, _WHOLE)))
    parsed, batches = parse(report)
    for stage, figures in (
        ("parse", parsed),
        ("heuristics and model", judge(batches, report_format)),
        ("moderate", moderate(batches, report_format)),
    ):
        times = figures["cpu_seconds"] / limit["cpu_seconds"]
        _show(stage, figures | {"times_json_loads": times})
    micros: float = limit["cpu_us_per_finding"]
    return micros


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--findings", type=int, nargs="+", default=[100, 10_000, 100_000])
    parser.add_argument("--format", choices=FORMATS, default="gitleaks")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with house.running() as running:
        # Services live long: what they learn from a first report is not the question.
        house.submit(running, options.format, 5_000, options.seed + 1, 1.0)
        for findings in options.findings:
            micros = _stages(options.format, findings, options.seed, running.database_url())
            if findings <= 1_000:
                _show("POST", house.small(running, findings, 100))
                continue
            whole = house.submit(running, options.format, findings, options.seed, micros)
            report_id = whole.pop("report_id")
            _show("end to end", whole)
            if findings <= 20_000:
                _show("GET", house.read(running, report_id, findings))


if __name__ == "__main__":
    main()
