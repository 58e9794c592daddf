"""Writes a large made-up report, the same for the same seed.

python -m bench.generate --format gitleaks --findings 10000 --seed 1 > report.json
"""

from __future__ import annotations

import argparse
import sys

from cli.loading.reports import FORMATS, generate


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Make up a scanner report on standard output.")
    parser.add_argument("--format", choices=FORMATS, default="gitleaks")
    parser.add_argument("--findings", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    for piece in generate(options.format, options.findings, options.seed):
        sys.stdout.buffer.write(piece)


if __name__ == "__main__":
    main()
