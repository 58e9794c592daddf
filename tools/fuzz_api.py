"""Requests made from docs/openapi.json, thrown at a house of its own.

Usage: fuzz_api.py [CASES] [SEED]

Exits with 1 if an answer was a 5xx, or a status, content type, header or body that
the document does not say, or if an error gave back what was sent.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "gen")]

from tests.e2e.house import House, folder  # noqa: E402
from tests.security.api_fuzz import known_ids, throw  # noqa: E402

_ROUND = 24  # cases to a route


def main(cases: int, seed: int) -> int:
    """Sends at least so many requests; the exit code."""
    statuses: Counter[int] = Counter()
    failed: set[str] = set()
    began = time.monotonic()
    with folder() as above:
        house = House(above / "data")
        try:
            known = known_ids(house.url)
            while statuses.total() < cases:
                thrown = throw(house.url, known, _ROUND, seed)
                statuses += thrown.statuses
                failed |= thrown.failed
                seed += 1
            house.stop()
        finally:
            house.kill()
    answers = ", ".join(f"{status}: {count}" for status, count in sorted(statuses.items()))
    print(f"{statuses.total()} cases in {time.monotonic() - began:.0f} s: {answers}")
    print("\n".join(sorted(failed)) or "every answer is in the document, none is a 5xx")
    return int(bool(failed))


if __name__ == "__main__":
    given = [int(argument) for argument in sys.argv[1:3]]
    sys.exit(main(*given, *(1000, 1)[len(given) :]))
