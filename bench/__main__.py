"""`python -m bench`: how fast our stages are, each beside its limit, as one JSON object a line."""

from __future__ import annotations

import argparse
import json

from bench.generate import FORMATS, generate
from bench.limits import copy_binary, json_loads, msgspec_decode
from bench.measure import Figures
from bench.stages import moderate, parse


def _show(stage: str, figures: Figures) -> None:
    rounded = {
        name: round(value, 6) if isinstance(value, float) else value
        for name, value in figures.items()
    }
    print(json.dumps({"stage": stage} | rounded), flush=True)


def _run(report_format: str, findings: int, seed: int, database_url: str | None) -> None:
    report = b"".join(generate(report_format, findings, seed))
    lines = report_format == "trufflehog"
    limit = json_loads(report, lines=lines)
    _show("limit: json.loads", limit)
    _show("limit: msgspec", msgspec_decode(report, lines=lines))
    if database_url:
        _show("limit: COPY BINARY", copy_binary(database_url, findings))
    parsed, batches = parse(report)
    for stage, figures in (("parse", parsed), ("moderate", moderate(batches, report_format))):
        times = figures["cpu_seconds"] / limit["cpu_seconds"]
        _show(stage, figures | {"times_json_loads": times})


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--findings", type=int, nargs="+", default=[100, 10_000, 100_000])
    parser.add_argument("--format", choices=FORMATS, default="gitleaks")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--database-url", help="where to measure COPY; left out without it")
    options = parser.parse_args()
    for findings in options.findings:
        _run(options.format, findings, options.seed, options.database_url)


if __name__ == "__main__":
    main()
