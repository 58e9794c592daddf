"""The README's first command: the main job, from nothing, on two real reports.

Starts the whole system on a free port with a temporary data directory, submits
a gitleaks report and a TruffleHog report of the planted test repository, shows
the verdicts, the GET answer and the audit trail, and stops.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parent.parent
WINNOW = Path(sys.executable).parent / "winnow"
REPORTS = ("gitleaks.git.json", "trufflehog.git.ndjson")
_START_SECONDS = 90


def say(text: str) -> None:
    print(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n{text}", flush=True)


def wait_for_url(house: subprocess.Popen[str]) -> str:
    """The URL in the ready line of `winnow up`."""
    assert house.stdout is not None
    for line in house.stdout:
        if line.startswith("winnow is ready: "):
            # Its log lines go on; unread, they would fill the pipe.
            threading.Thread(target=house.stdout.read, daemon=True).start()
            return line.split()[3]
    raise SystemExit("winnow did not start; its messages are above")


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="winnow-demo-"))
    # PostgreSQL never runs as root: started by root, its user must get in here.
    folder.chmod(0o711)
    started = time.monotonic()
    say("$ winnow up --listen 127.0.0.1:0")
    house = subprocess.Popen(
        [WINNOW, "up", "--listen", "127.0.0.1:0", "--data-dir", folder / "data"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        url = wait_for_url(house)
        print(f"winnow is ready: {url}   ({time.monotonic() - started:.1f} s)")
        for name in REPORTS:
            path = folder / name
            with path.open("wb") as file:
                subprocess.run(
                    [sys.executable, "-m", "tests.fixtures.load", name],
                    stdout=file,
                    check=True,
                    cwd=ROOT,
                )
            say(f"$ winnow submit {name}")
            subprocess.run([WINNOW, "submit", "--server", url, path], check=False)
        newest = httpx.get(f"{url}/reports?page_size=1").json()
        report_id = newest["reports"][0]["report_id"]
        say(f"$ curl {url}/reports/{report_id}")
        report = httpx.get(f"{url}/reports/{report_id}").json()
        shown = len(report["findings"])
        report["findings"] = report["findings"][:2]
        print(json.dumps(report, indent=2, ensure_ascii=False))
        print(f"(the first 2 of {shown} findings)")
        say(f"$ winnow events {report_id}")
        subprocess.run([WINNOW, "events", "--server", url, report_id], check=True)
    finally:
        house.terminate()
        house.wait(30)
        shutil.rmtree(folder, ignore_errors=True)
    say("That was all of it, and nothing is left behind. Next: `winnow up`, and submit your own.")


if __name__ == "__main__":
    main()
