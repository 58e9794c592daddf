"""`winnow up --auth keys`: the first key, the others, and what becomes of them."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from bench import replays
from bench.house import House as Measured
from cli.usage import ADMIN_KEY_FILE, SERVER_FILE
from runtime import api_keys
from tests.e2e.house import WINNOW, House, environment, eventually, folder
from tests.fixtures import load_report

pytestmark = pytest.mark.xdist_group("e2e")


class Guarded:
    """A house that needs keys, and commands that show them."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.admin = (house.data_dir / ADMIN_KEY_FILE).read_text()
        self.shown = [self.admin]

    def winnow(self, *arguments: str, key: str = "") -> subprocess.CompletedProcess[str]:
        given = {"WINNOW_SERVER": self.house.url, "WINNOW_API_KEY": key or self.admin}
        return subprocess.run(
            [WINNOW, *arguments],
            env=environment(**given),
            capture_output=True,
            text=True,
            timeout=60,
        )

    def make(self, name: str, *roles: str) -> str:
        """A key that allows these roles."""
        options = [word for role in roles for word in ("--role", role)]
        made = self.winnow("keys", "create", "--name", name, *options)
        assert made.returncode == 0, made.stderr
        self.shown.append(made.stdout.strip())
        return self.shown[-1]

    def get(self, path: str, key: str) -> httpx.Response:
        return self.house.http.get(path, headers={"Authorization": f"Bearer {key}"})


@pytest.fixture(scope="module")
def guarded() -> Iterator[Guarded]:
    with folder() as above:
        house = House(above / "data", WINNOW_AUTH="keys", WINNOW_LOG_LEVEL="DEBUG")
        try:
            yield Guarded(house)
            house.stop()
            assert not (house.data_dir / SERVER_FILE).exists()
        finally:
            house.kill()


def test_the_ready_line_names_the_first_keys_file_and_not_the_key(guarded: Guarded) -> None:
    file = guarded.house.data_dir / ADMIN_KEY_FILE
    assert file.stat().st_mode & 0o777 == 0o600
    assert f"(API keys needed; the first one: {file})" in guarded.house.log.read_text()
    assert api_keys.parse(guarded.admin) is not None
    caller = guarded.get("/whoami", guarded.admin).json()
    assert caller["tenant_id"] == "default"
    assert caller["roles"] == ["submit", "read", "moderate", "admin"]
    told = (guarded.house.data_dir / SERVER_FILE).read_text().splitlines()
    assert guarded.house.url in told


def test_a_key_for_ci_submits_and_reads_and_no_more(guarded: Guarded, tmp_path: Path) -> None:
    ci = guarded.make("ci of the shop", "submit", "read")
    report = tmp_path / "gitleaks.json"
    report.write_bytes(load_report("gitleaks.git.json"))
    submitted = guarded.winnow("submit", str(report), key=ci)
    assert submitted.returncode == 0, submitted.stderr
    (found,) = guarded.get("/reports", ci).json()["reports"]
    report_id = found["report_id"]

    blind = guarded.winnow("submit", str(report), key=guarded.make("blind", "submit"))
    assert blind.returncode == 3, blind.stderr
    assert "to see its result the key needs the role read" in blind.stderr
    newest = guarded.get("/reports", ci).json()["reports"][0]["report_id"]
    assert f"submitted as {newest}" in blind.stderr

    refused = guarded.winnow("decide", f"{report_id}.0", "false_positive", key=ci)
    assert refused.returncode == 2
    assert "lacks the role moderate" in refused.stderr
    assert "lacks the role admin" in guarded.winnow("keys", "list", key=ci).stderr

    triage = guarded.make("triage", "moderate", "read")
    decided = guarded.winnow(
        "decide", f"{report_id}.0", "false_positive", "--actor", "somebody else", key=triage
    )
    assert decided.returncode == 0, decided.stderr
    (decision,) = guarded.get("/decisions", triage).json()["decisions"]
    known = api_keys.parse(triage)
    assert known is not None
    assert decision["actor"] == f"triage ({known.key_id})"

    def trail() -> dict[str, str]:
        events = guarded.get(f"/reports/{report_id}/events", ci).json()["events"]
        return {one["event"]["event_type"]: one["event"]["payload"] for one in events}

    written = eventually(lambda: trail() if "DECISION_MADE" in trail() else {})
    submitter = api_keys.parse(ci)
    assert submitter is not None
    assert written["REPORT_CREATED"]["key_id"] == submitter.key_id  # type: ignore[index]
    assert written["DECISION_MADE"]["key_id"] == known.key_id  # type: ignore[index]
    assert "key_id" not in written["REPORT_INGESTED"]


def test_without_a_key_the_services_are_closed_too(guarded: Guarded) -> None:
    socket = guarded.house.data_dir / "sockets" / "orchestrator"
    asked = subprocess.run(
        [WINNOW, "reports", "--server", f"grpc://unix:{socket}"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (asked.returncode, "UNAUTHENTICATED" in asked.stderr) == (2, True)
    shown = guarded.winnow("whoami", "--server", f"grpc://unix:{socket}")
    assert "first key of winnow up" in shown.stdout


def test_a_revoked_key_is_refused_within_five_seconds(guarded: Guarded) -> None:
    made = guarded.make("to be revoked", "read")
    known = api_keys.parse(made)
    assert known is not None
    assert guarded.get("/reports", made).status_code == 200
    assert guarded.get("/audit/checkpoint", made).status_code == 200
    ended = guarded.winnow("keys", "revoke", known.key_id)
    assert ended.stdout.startswith(f"{known.key_id}: revoked ")
    revoked = time.monotonic()
    # The audit service has heard nothing of it: there the key is held for a moment.
    for path in ("/reports", "/audit/checkpoint"):
        eventually(lambda path=path: guarded.get(path, made).status_code == 401, 10)  # type: ignore[misc]
    assert time.monotonic() - revoked < 5
    row = next(
        line for line in guarded.winnow("keys", "list").stdout.splitlines() if known.key_id in line
    )
    assert "revoked" in row


def test_the_operator_makes_what_no_key_can(guarded: Guarded) -> None:
    refused = guarded.winnow("keys", "create", "--name", "raw", "--role", "raw")
    assert "gives no role that it does not allow itself: raw" in refused.stderr
    assert "with --direct" in refused.stderr
    made = guarded.winnow(
        *("keys", "create", "--direct", "--data-dir", str(guarded.house.data_dir)),
        *("--name", "auditor", "--role", "raw", "--role", "read", "--tenant", "acme"),
    )
    assert made.returncode == 0, made.stderr
    key = made.stdout.strip()
    guarded.shown.append(key)
    caller = guarded.get("/whoami", key).json()
    assert (caller["tenant_id"], caller["roles"]) == ("acme", ["read", "raw"])
    # Its tenant's own trail says so; it sees no other's reports.
    events = eventually(
        lambda: [
            row
            for row in rows(guarded.house, "SELECT event_type, tenant_id FROM audit.events")
            if row[1] == "acme"
        ]
    )
    assert events == [("API_KEY_CREATED", "acme")]
    assert guarded.get("/reports", key).json()["reports"] == []


def test_a_replay_is_refused_at_two_gateways_and_through_restarts(guarded: Guarded) -> None:
    """As `python -m bench.replays`, with fewer copies."""
    house = Measured(guarded.house.process, guarded.house.url)
    with replays.second_gateway(house) as other:
        found = asyncio.run(replays.replay(house, other, 60))
    assert replays.held(found), found
    assert not replays.held({**found, "answers": {"REPLAYED": 59, "done": 1}})


def rows(house: House, query: str) -> list[tuple[object, ...]]:
    with house.connect() as connection:
        return connection.execute(query).fetchall()


def test_no_key_stands_in_the_log_or_the_database(guarded: Guarded) -> None:
    """The last one: of all that was shown above."""
    log = guarded.house.log.read_text()
    stored = repr(rows(guarded.house, "SELECT k::text FROM access.api_keys AS k"))
    stored += repr(rows(guarded.house, "SELECT e::text FROM audit.events AS e"))
    assert len(guarded.shown) >= 4
    for key in guarded.shown:
        known = api_keys.parse(key)
        assert known is not None
        assert known.secret[:12] not in log + stored
        # As PostgreSQL writes bytes.
        assert known.secret[:12].encode().hex() not in stored
        assert known.key_id in stored
    # Who called is in the log.
    known = api_keys.parse(guarded.admin)
    assert known is not None
    assert f'"key_id": "{known.key_id}"' in log
