"""Whether any package of the locks has a known vulnerability (needs `pip-audit`).

Usage: check_advisories.py [LOCK ...]

Exits with 1 if one has. Where the advisory service cannot be reached, or knows
none of the packages, it says so and exits with 0: no network is no finding.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
# It holds the packages of the other one too.
LOCKS = ("requirements-dev.lock",)

_SECONDS = 45


def audited(lock: Path) -> dict[str, Any] | None:
    """What pip-audit writes about a lock; None if it could not ask."""
    command = [
        *(sys.executable, "-m", "pip_audit", "-r", str(lock), "--require-hashes"),
        *("--disable-pip", "--format", "json", "--progress-spinner", "off", "--timeout", "10"),
    ]
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
        found: dict[str, Any] = json.loads(run.stdout)
    except (subprocess.TimeoutExpired, ValueError):
        return None
    return found


def judge(found: dict[str, Any] | None) -> tuple[bool, list[str]]:
    """Whether packages may be used, and the lines to print."""
    packages = (found or {}).get("dependencies", [])
    known = [one for one in packages if "skip_reason" not in one]
    if not known:
        return True, ["advisories not checked: their service does not answer for these packages"]
    lines = [
        f"{one['name']} {one['version']}: {advisory['id']}, "
        f"mended in {', '.join(advisory['fix_versions']) or 'no version yet'}"
        for one in known
        for advisory in one["vulns"]
    ]
    if len(known) < len(packages):
        unknown = len(packages) - len(known)
        return not lines, [*lines, f"{unknown} of {len(packages)} packages could not be checked"]
    return not lines, lines


def main(locks: list[Path]) -> int:
    """Checks every lock; the exit code."""
    fine = True
    for lock in locks:
        passed, lines = judge(audited(lock))
        fine = fine and passed
        for line in lines:
            print(f"{lock.name}: {line}")
    return int(not fine)


if __name__ == "__main__":
    sys.exit(main([Path(name) for name in sys.argv[1:]] or [ROOT / name for name in LOCKS]))
