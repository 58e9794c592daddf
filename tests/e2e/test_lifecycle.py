"""Starting, refusing to start, dying and coming back."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest

from cli.loading.reports import generate
from cli.postgres import Postgres
from tests.e2e.house import (
    SERVICES,
    WINNOW,
    House,
    Json,
    environment,
    eventually,
    folder,
    processes_of,
)
from tests.e2e.test_cli import winnow
from tests.e2e.test_rest import DECIDED
from tests.fixtures import load_report

pytestmark = pytest.mark.xdist_group("e2e")

FINDINGS = 50_000


def up(data_dir: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """A `winnow up` that must refuse to start: one line, no trace."""
    done = winnow("up", "--data-dir", data_dir, *arguments, **settings)
    assert done.returncode == 2, done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    return done


def test_one_house_a_data_directory(house: House) -> None:
    done = up(house.data_dir, "--listen", "127.0.0.1:0")
    assert done.stderr.startswith("winnow: another winnow is running with the data directory")
    assert house.get("/readyz") == {"status": "ok"}


def test_sockets_are_for_their_owner_only(house: House) -> None:
    folder = house.data_dir / "sockets"
    assert folder.stat().st_mode & 0o777 == 0o700
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
    assert modes == {name: 0o600 for name in SERVICES if name != "gateway"}


def test_a_taken_port_is_told(house: House, data_dir: Path) -> None:
    taken = urlsplit(house.url).netloc
    done = up(data_dir, "--listen", taken)
    assert done.stderr == f"winnow: cannot listen on {taken}: Address already in use\n"
    assert not (data_dir / "postgres").exists()


def test_each_service_serves_its_own_metrics(house: House) -> None:
    told = house.metrics()
    assert set(told) == set(SERVICES)
    assert all("winnow_build_info{" in text for text in told.values())
    for service, metric in {
        "gateway": "winnow_http_requests_total",
        "orchestrator": "winnow_queue_jobs",
        "ingestor": "winnow_ingest_bytes_total",
        "moderator": "winnow_verdicts_total",
        "audit": "winnow_audit_tree_size_events",
    }.items():
        assert [name for name, text in told.items() if f"\n{metric}" in text] == [service]
    # Not where the world is.
    assert house.http.get("/metrics").status_code == 404


@pytest.mark.parametrize(
    "address", ["8080", ":8080", "127.0.0.1:http", "127.0.0.1:99999", "nowhere.invalid:1"]
)
def test_an_address_that_is_none(data_dir: Path, address: str) -> None:
    done = up(data_dir, "--listen", address)
    assert address in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("WINNOW_LOG_LEVLE", "DEBUG", "unknown setting WINNOW_LOG_LEVLE; did you mean WINNOW_LOG_"),
        ("WINNOW_MAX_REPORT_BYTES", "lots", "WINNOW_MAX_REPORT_BYTES"),
        ("WINNOW_SEALING_KEY", "canary", "WINNOW_SEALING_KEY: must be 32 bytes"),
        ("WINNOW_CONFIG", "/nowhere/winnow.toml", "cannot read the file named by WINNOW_CONFIG"),
        ("WINNOW_DATABASE_URL", "canary", "WINNOW_DATABASE_URL"),
        (
            "WINNOW_DATABASE_URL",
            "postgresql://u:canary@127.0.0.1:9/x",
            "WINNOW_DATABASE_URL",
        ),
    ],
)
def test_wrong_settings_are_named(data_dir: Path, setting: str, value: str, said: str) -> None:
    done = up(data_dir, "--listen", "127.0.0.1:0", **{setting: value})
    assert said in done.stdout + done.stderr
    assert "canary" not in done.stdout + done.stderr


@pytest.mark.parametrize("name", SERVICES)
def test_a_killed_service_comes_back(house: House, name: str) -> None:
    process = house.service(name)
    assert process is not None
    process.kill()
    eventually(lambda: (new := house.service(name)) is not None and new.pid != process.pid)

    def answered() -> Json | None:
        try:
            answer = house.http.post("/reports", content=load_report("gitleaks.git.json"))
        except httpx.TransportError:
            return None
        assert answer.status_code in (201, 503), answer.text
        body: Json = answer.json()
        return body if answer.status_code == 201 else None

    body = eventually(answered)
    assert body["records"]["findings"] == 28
    events = f"/reports/{body['report_id']}/events"
    # Events that the audit service could not take wait in the outbox.
    eventually(lambda: house.http.get(events).status_code == 200)
    eventually(lambda: house.events(body["report_id"]) == DECIDED)


def in_flight(house: House) -> str:
    """A report of which some findings are stored already, and not all are judged."""
    answer = house.http.post(
        "/reports?scanner_type=gitleaks",
        content=generate("gitleaks", FINDINGS, 11),
        headers={"prefer": "respond-async"},
    )
    assert answer.status_code == 202
    report_id: str = answer.json()["report_id"]
    eventually(lambda: stored(house, report_id, "findings") > 0)
    return report_id


def stored(house: House, report_id: str, table: str) -> int:
    with house.connect() as connection:
        row = connection.execute(
            f"SELECT count(*) FROM orchestrator.{table} WHERE report_id = %s", [report_id]
        ).fetchone()
    assert row is not None
    return int(row[0])


def check_finished(house: House, report_id: str) -> None:
    """It comes to its end, with every finding judged once and every event there once."""

    def ended() -> Json | None:
        try:
            found = house.http.get(f"/reports/{report_id}", params={"findings": "false"})
        except httpx.TransportError:
            return None
        assert found.status_code in (200, 503), found.text
        body: Json = found.json()
        return body if body["status"] in ("done", "error") else None

    report = eventually(ended, 60)
    assert report["status"] == "done", report
    assert report["records"] == {"read": FINDINGS, "findings": FINDINGS, "merged": 0, "rejected": 0}
    assert sum(report["summary"].values()) == FINDINGS
    assert stored(house, report_id, "findings") == FINDINGS
    assert stored(house, report_id, "verdicts") == FINDINGS
    eventually(
        lambda: [event for event in house.events(report_id) if event != "REPORT_VIEWED"] == DECIDED
    )


@pytest.mark.parametrize("name", ["orchestrator", "ingestor", "moderator"])
def test_a_report_in_flight_survives_a_killed_service(house: House, name: str) -> None:
    process = house.service(name)
    assert process is not None
    report_id = in_flight(house)
    process.kill()
    # It really was in the middle.
    assert stored(house, report_id, "verdicts") < FINDINGS
    check_finished(house, report_id)


def test_a_killed_house_ends_its_services_and_the_next_one_goes_on(data_dir: Path) -> None:
    first, second = House(data_dir), None
    try:
        keys = {path.name: path.read_bytes() for path in (data_dir / "keys").iterdir()}
        assert {path.stat().st_mode & 0o777 for path in (data_dir / "keys").iterdir()} == {0o600}
        report_id = first.submit(load_report("trufflehog.git.ndjson"))["report_id"]
        report = first.get(f"/reports/{report_id}")
        services = [first.service(name) for name in SERVICES]
        running = in_flight(first)

        first.process.kill()
        assert stored(first, running, "verdicts") < FINDINGS
        # At once: the first one's services may still be ending.
        second = House(data_dir)
        check_finished(second, running)
        assert second.get(f"/reports/{report_id}")["findings"] == report["findings"]
        assert keys == {path.name: path.read_bytes() for path in (data_dir / "keys").iterdir()}
        eventually(lambda: not any(one is not None and one.is_running() for one in services), 15)
        second.stop()
    finally:
        for house in filter(None, (first, second)):
            house.kill()


def test_a_killed_database_comes_back(house: House) -> None:
    postmaster = int((house.data_dir / "postgres/data/postmaster.pid").read_text().split()[0])
    (process,) = [one for one in house.processes() if one.pid == postmaster]
    process.kill()

    def answered() -> bool:
        answer = house.http.post("/reports", content=load_report("gitleaks.git.json"))
        assert answer.status_code in (201, 503), answer.text
        return answer.status_code == 201

    eventually(answered)


def test_ctrl_c_while_it_starts(data_dir: Path) -> None:
    process = subprocess.Popen(
        [WINNOW, "up", "--listen", "127.0.0.1:0", "--data-dir", data_dir],
        stdout=subprocess.DEVNULL,
        env=environment(),
    )
    eventually(lambda: (data_dir / "keys").exists())
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0
    assert processes_of(data_dir) == []


@pytest.fixture
def server() -> Iterator[str]:
    """The URL of a PostgreSQL server that no house started."""
    with folder() as above:
        cluster = Postgres(above / "server", "a password of the tests")
        cluster.start()
        yield cluster.url
        cluster.stop()


def test_an_existing_server(data_dir: Path, server: str) -> None:
    house = House(data_dir, WINNOW_DATABASE_URL=server)
    try:
        report_id = house.submit(load_report("gitleaks.git.json"))["report_id"]
        assert not (data_dir / "postgres").exists()
        with psycopg.connect(server) as connection:
            kept = connection.execute("SELECT report_id::text FROM orchestrator.reports").fetchall()
        assert kept == [(report_id,)]
        house.stop()
        with psycopg.connect(server) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
    finally:
        house.kill()
