"""What survives: the house on real parts, its processes made to die, its tables checked.

    make crash                                         every crash point, every transport
    python -m tools.crash --point run.ending --transport nats
    python -m tools.crash --kills 100 --seed 7
    python -m tools.crash --database
    python -m tools.crash --disk
    python -m tools.crash --gone moderator

Prints what came of each fault; ends with 1 if anything was lost, doubled or left.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter

from tests.faults import modes
from tests.faults.checks import KINDS, Complaint
from tests.faults.house import SERVICES, TRANSPORTS
from tests.faults.load import QUICK, SUBMISSIONS
from tests.faults.points import PLANS, Struck, strike, strikes
from tests.faults.stage import stage

# Of --quick: both sides of the commits that matter most, and each service once.
_QUICK_POINTS = (
    "intake.admitted",
    "writer.stored",
    "run.ending",
    "outbox.audited",
    "consumer.applied",
    "audit.appended",
    "ingestor.batch",
    "moderator.judged",
    "gateway.accepted",
)
_DATABASE_KILLS = 10
_AWAY_SECONDS = 20.0
_DISK_MIB = 400


def matrix(transports: list[str], points: list[str], *, quick: bool) -> bool:
    """Every point over every transport; whether all held."""
    held, started = True, time.monotonic()
    print(f"{'point':<20} {'transport':<10} {'died':<5} {'seconds':>7}  " + "  ".join(KINDS))
    submissions = QUICK if quick else SUBMISSIONS
    with stage(submissions) as ready:
        for transport in transports:
            with ready.carried_by(transport):
                for point in points:
                    struck = strike(ready, [point], submissions)
                    print(_row(point, transport, struck), flush=True)
                    _tell_all(struck.complaints)
                    held &= not struck.complaints
    total = len(points) * len(transports)
    print(
        f"{total} crashes in {time.monotonic() - started:.0f} s: {'all' if held else 'NOT all'} held"
    )
    return held


def _row(point: str, transport: str, struck: Struck) -> str:
    counts = Counter(complaint.kind for complaint in struck.complaints)
    died = "yes" if struck.died else "NO"
    return f"{point:<20} {transport:<10} {died:<5} {struck.seconds:>7.1f}  " + "  ".join(
        f"{counts[kind]:>{len(kind)}}" for kind in KINDS
    )


def mode(transport: str, options: argparse.Namespace) -> bool:
    """A fault at moments that nobody chose; whether all held."""
    chance = random.Random(options.seed)
    disk = modes.small_disk(_DISK_MIB) if options.disk else None
    with stage(disk=disk) as ready, ready.carried_by(transport) as server:
        if options.kills:
            found = modes.kills(ready, options.kills, chance)
        elif options.database:
            found = modes.database(ready, _DATABASE_KILLS, chance)
        elif options.disk:
            found = modes.disk(ready, _AWAY_SECONDS)
        else:
            away = options.gone if server is None or options.gone != "transport" else server
            found = modes.gone(ready, away, _AWAY_SECONDS)
    _tell_all(found)
    counts = Counter(complaint.kind for complaint in found)
    print(f"{transport}: " + ", ".join(f"{counts[kind]} {kind}" for kind in KINDS))
    return not found


def _tell_all(complaints: list[Complaint]) -> None:
    for complaint in complaints:
        print(f"  {complaint.kind}: {complaint.text}", flush=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Make processes die; check what is left.")
    parser.add_argument("--transport", choices=(*TRANSPORTS, "all"))
    parser.add_argument("--point", choices=PLANS, help="only this crash point")
    parser.add_argument("--quick", action="store_true", help="some points, small reports")
    parser.add_argument("--seed", type=int, default=1, help="of the moments that are not chosen")
    modes_ = parser.add_mutually_exclusive_group()
    modes_.add_argument("--kills", type=int, help="so many SIGKILLs of random processes")
    modes_.add_argument("--database", action="store_true", help="kill PostgreSQL again and again")
    modes_.add_argument("--disk", action="store_true", help="fill the database's disk, free it")
    modes_.add_argument(
        "--gone", choices=(*SERVICES, "transport"), help="away for a while, then back"
    )
    options = parser.parse_args()
    if options.gone == "transport" and options.transport in (None, "postgres"):
        parser.error("the transport postgres has no server of its own: see --database")
    if options.kills or options.database or options.disk or options.gone:
        transports = TRANSPORTS if options.transport == "all" else [options.transport or "postgres"]
        held = [mode(transport, options) for transport in transports]
        sys.exit(not all(held))
    transport = options.transport or "all"
    chosen = [options.point] if options.point else list(_QUICK_POINTS if options.quick else PLANS)
    points = [point for name in chosen for point in strikes(name)]
    transports = list(TRANSPORTS) if transport == "all" else [transport]
    sys.exit(not matrix(transports, points, quick=options.quick))


if __name__ == "__main__":
    main()
