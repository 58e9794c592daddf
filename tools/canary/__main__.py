"""The canary proof.

    make canary                                   500 values, every way; then a leaking build
    python -m tools.canary --seed 42              other values
    python -m tools.canary --leak masks           a build whose redactor finds nothing: must fail

Prints, for each kind of secret and each place, how many values were found there.
Ends with 1 if any was, or if a place could not be searched. No value is printed:
each is named by its kind, its number and the first digits of its SHA-256.
"""

from __future__ import annotations

import argparse
import functools
import sys
import time

from tools.canary.heard import PLACES, table
from tools.canary.leaks.sitecustomize import LEAKS
from tools.canary.proof import Plan, Result, run
from tools.canary.reports import SHAPES

_SHOWN = 40
_BEGAN = time.monotonic()
# Of a leaking build: as much as shows that the proof sees it.
_FEW_VALUES = 200
_FEW_SHAPES = 4


def show(result: Result, started: float) -> bool:
    """Prints a result; whether nothing was found, and everything could be searched."""
    print(table(result.values, result.found, PLACES))
    searched = ", ".join(f"{place} {size >> 20}" for place, size in result.searched.items())
    print(f"searched for {result.patterns} patterns in MiB: {searched}")
    for one in result.found[:_SHOWN]:
        print(f"  {result.values[one.number]!r} in {one.place}, {one.form}: {one.where[:100]}")
    if len(result.found) > _SHOWN:
        print(f"  … and {len(result.found) - _SHOWN} more")
    for place in result.blind:
        print(f"  the control was not found in {place}: it was not searched")
    hits = len({(one.number, one.place) for one in result.found})
    kinds = len({value.kind for value in result.values})
    seconds = time.monotonic() - started
    print(f"{hits} hits of {len(result.values)} values of {kinds} kinds, in {seconds:.0f} s")
    return not (result.found or result.blind)


def _leaks(seed: int, leak: str) -> bool:
    """Whether a build that leaks on purpose is told from one that does not."""
    result = run(Plan(seed, _FEW_VALUES, SHAPES[:_FEW_SHAPES], brief=True, leak=leak), _say)
    places = sorted({one.place for one in result.found})
    hits = len({(one.number, one.place) for one in result.found})
    told = f"found out: {hits} hits, in {', '.join(places)}" if hits else "NOT found out"
    print(f"a build that leaks by its {leak}: {told}")
    return bool(hits)


def _say(text: str) -> None:
    print(f"{time.monotonic() - _BEGAN:5.0f} s  {text}", file=sys.stderr, flush=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Plant secrets; look for them everywhere.")
    parser.add_argument("--seed", type=int, default=1, help="of the values and of what is sent")
    parser.add_argument("--values", type=int, default=500, help="how many")
    parser.add_argument("--leak", choices=LEAKS, help="run a build that leaks so; it must fail")
    parser.add_argument("--quick", action="store_true", help="few commands, no bad days")
    options = parser.parse_args()
    started = time.monotonic()
    plan = Plan(options.seed, options.values, brief=options.quick, leak=options.leak or "")
    held = show(run(plan, _say), started)
    if held and not (options.quick or options.leak):
        held = all(list(map(functools.partial(_leaks, options.seed), LEAKS)))
    sys.exit(not held)


if __name__ == "__main__":
    main()
