"""Raw reports, the end of reports, and other keys, as a user of `winnow up` has them."""

from __future__ import annotations

import base64
import hashlib
import stat
import threading
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cli import sealing
from cli.main import app
from runtime.keyring import Keyring, key_id
from tests.e2e.house import House, eventually
from tests.ingestor.reading_reports import dump, gitleaks
from winnow.seal.v1.data_key_pb2 import DataKey

pytestmark = pytest.mark.xdist_group("e2e")


def report(*numbers: int) -> bytes:
    return dump([gitleaks(number) for number in numbers])


def winnow(house: House, *words: str) -> Result:
    return CliRunner().invoke(app, [*words, "--server", house.url])


def test_a_raw_report_comes_as_it_was_sent(house: House, tmp_path: Path) -> None:
    sent = report(1, 2, 3)
    report_id = house.submit(sent)["report_id"]
    answer = house.http.get(f"/reports/{report_id}/raw")
    assert (answer.status_code, answer.content) == (200, sent)
    digest = f"sha-256=:{base64.b64encode(hashlib.sha256(sent).digest()).decode()}:"
    expected = {
        "content-type": "application/octet-stream",
        "content-disposition": f'attachment; filename="{report_id}.report"',
        "content-length": str(len(sent)),
        "cache-control": "no-store",
        "repr-digest": digest,
        "content-digest": digest,
    }
    assert {name: answer.headers[name] for name in expected} == expected
    target = tmp_path / "report"
    servers = (house.url, f"grpc://unix:{house.data_dir}/sockets/orchestrator")
    for server in servers:
        done = CliRunner().invoke(
            app, ["raw", report_id, "-o", str(target), "--force", "--server", server]
        )
        assert (done.exit_code, target.read_bytes()) == (0, sent)
        assert stat.S_IMODE(target.stat().st_mode) == 0o600
        target.chmod(0o644)
    refused = winnow(house, "raw", report_id, "-o", str(target))
    assert (refused.exit_code, "--force" in refused.stderr) == (2, True)
    assert [one.name for one in tmp_path.iterdir()] == ["report"]
    assert winnow(house, "raw", report_id, "-o", "-").stdout_bytes == sent
    eventually(lambda: house.events(report_id).count("REPORT_RAW_READ") == 4)


def test_reports_end_and_their_trail_verifies(house: House) -> None:
    shredded, deleted = [house.submit(report(number))["report_id"] for number in (4, 5)]
    for command, report_id in (("shred", shredded), ("delete", deleted)):
        unsure = winnow(house, command, report_id)
        assert (unsure.exit_code, "--yes" in unsure.stderr) == (2, True)
        assert winnow(house, command, report_id, "--yes").exit_code == 0
    assert house.get(f"/reports/{shredded}")["shredded_at"]
    assert house.findings(shredded)
    for path, status, reason in (
        (f"/reports/{shredded}/raw", 410, "REPORT_SHREDDED"),
        (f"/reports/{deleted}/raw", 404, "REPORT_NOT_FOUND"),
        (f"/reports/{deleted}", 404, "REPORT_NOT_FOUND"),
    ):
        answer = house.http.get(path)
        assert (answer.status_code, answer.json()["reason"]) == (status, reason)
    again = house.http.post(f"/reports/{shredded}/rejudge")
    assert (again.status_code, again.json()["reason"]) == (410, "REPORT_SHREDDED")
    assert house.http.delete(f"/reports/{shredded}").status_code == 204
    eventually(lambda: house.events(shredded)[-1] == "REPORT_DELETED")
    eventually(lambda: house.events(deleted)[-1] == "REPORT_DELETED")
    verified = CliRunner().invoke(app, ["audit", "verify", "--data-dir", str(house.data_dir)])
    assert verified.exit_code == 0, verified.output


def test_keys_are_rotated_while_reports_come(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    # What is retired is wrapped with for five seconds at most.
    monkeypatch.setattr(sealing, "_SETTLED_SECONDS", 5.5)
    folder = house.data_dir / "keys"
    old = base64.b64decode((folder / sealing.CURRENT).read_text())
    before = house.submit(report(6))["report_id"]
    ended, ids = threading.Event(), [before]

    def submit() -> None:
        while not ended.is_set():
            ids.append(house.submit(report(len(ids)))["report_id"])

    submitting = threading.Thread(target=submit)
    submitting.start()
    try:
        words = ("keys", "rotate", "--drop-retired", "--data-dir", str(house.data_dir))
        done = winnow(house, *words)
    finally:
        ended.set()
        submitting.join()
    assert done.exit_code == 0, done.output
    new = base64.b64decode((folder / sealing.CURRENT).read_text())
    assert (folder / sealing.ACCEPTED).read_text() == ""
    assert new != old
    assert stat.S_IMODE((folder / sealing.CURRENT).stat().st_mode) == 0o600
    eventually(lambda: key_id(old) not in winnow(house, "keys", "status").stdout)
    assert key_id(new) in winnow(house, "keys", "status").stdout
    with house.connect() as connection:
        kept = connection.execute(
            "SELECT report_id, key_id, wrapped FROM orchestrator.data_keys"
        ).fetchall()
    assert {row[0] for row in kept} >= {*map(type(kept[0][0]), ids)}
    ring = Keyring((new,))
    for report_id, name, wrapped in kept:
        ring.open(report_id, DataKey(key_id=name, wrapped=wrapped))
    assert house.http.get(f"/reports/{before}/raw").content == report(6)
    # The ingestor and the moderator too.
    assert house.http.post(f"/reports/{before}/rejudge").json()["same"] == 1
