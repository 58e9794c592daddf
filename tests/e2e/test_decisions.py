"""A person decides, over REST and on the command line; credentials over reports."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from tests.e2e.house import House
from tests.e2e.test_cli import winnow
from tests.fixtures import load_report
from tests.ingestor.reading_reports import dump, gitleaks, trufflehog

pytestmark = pytest.mark.xdist_group("e2e")


def test_one_credential_decided_over_rest(house: House) -> None:
    value = "made-up-Rest-9xK2mQ7w"
    first = house.submit(dump([gitleaks(n, Secret=value) for n in (1, 2)]))["report_id"]
    packed = gzip.compress(dump(trufflehog(3, Raw=value)))
    answer = house.http.post("/reports", content=packed, headers={"Content-Encoding": "gzip"})
    assert answer.status_code == 201, answer.text
    second = answer.json()["report_id"]
    one = house.findings(first, view="full")[0]
    fingerprint = one["detail"]["value_fingerprint"]
    credential = house.get(f"/credentials/{fingerprint}")
    assert credential["credential"]["tools"] == ["gitleaks", "trufflehog"]
    assert [s["report_id"] for s in credential["sightings"]] == [second, first, first]
    assert fingerprint in [
        c["fingerprint"] for c in house.get("/credentials", report_id=first)["credentials"]
    ]
    answer = house.http.post(
        f"/findings/{one['id']}/decisions",
        json={
            "outcome": "accepted_risk",
            "actor": "ada",
            "reason": "rotated in SEC-12",
            "expires_at": "2099-01-01T00:00:00Z",
        },
    )
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert made["findings"] == 3
    full = house.get(f"/findings/{one['id']}")
    assert full["finding"]["source"] == "human"
    assert full["verdicts"][0]["source"] == "human"
    assert full["verdicts"][-1]["risk"] == one["risk"]
    assert house.get(f"/reports/{second}", findings="false")["summary"]["low"] == 1
    decision_id = made["decision"]["decision_id"]
    ended = house.http.post(f"/decisions/{decision_id}/withdraw")
    assert ended.status_code == 200, ended.text
    assert house.findings(first)[0]["risk"] == one["risk"]
    assert house.http.post(f"/decisions/{decision_id}/withdraw").status_code == 409


@pytest.mark.parametrize(
    ("content", "field"),
    [
        (b"", "body"),
        (b"[]", "body"),
        (b'{"outcome": "maybe"}', "outcome"),
        (b'{"outcome": "false_positive", "scope": 7}', "scope"),
        (b'{"outcome": "false_positive", "who": "x"}', "body"),
        (b'{"outcome": "accepted_risk"}', "expires_at"),
        (b'{"outcome": "accepted_risk", "expires_at": "2001-01-01T00:00:00Z"}', "expires_at"),
        (b'{"outcome": "accepted_risk", "expires_at": "soon"}', "expires_at"),
        (b'{"outcome": "false_positive", "reason": "' + b"x" * 1001 + b'"}', None),
        (b"{" * 100_000, "body"),
    ],
)
def test_a_ruling_that_is_none_is_refused(house: House, content: bytes, field: str | None) -> None:
    report_id = house.submit(dump([gitleaks(4)]))["report_id"]
    answer = house.http.post(f"/findings/{report_id}.0/decisions", content=content)
    assert answer.status_code == 400, answer.text
    if field is not None:
        assert answer.json()["field"] == field
    assert "maybe" not in answer.text.replace("may be", "")


def test_deciding_on_the_command_line(house: House) -> None:
    report_id = house.submit(load_report("gitleaks.git.json"))["report_id"]
    server = ("--server", house.url)
    asked = winnow("decide", report_id, "false_positive", "--path", "tests/", *server)
    assert asked.returncode == 2
    assert "nothing was decided" in asked.stderr
    done = winnow("decide", report_id, "false_positive", "--path", "tests/", "--yes", *server)
    assert done.returncode == 0, done.stderr
    decided = [f for f in house.findings(report_id) if f["source"] == "human"]
    assert decided
    assert {f["risk"] for f in decided} == {"low"}
    listed = json.loads(winnow("decisions", "--active", "--format", "json", *server).stdout)
    assert len(listed) >= 1
    exported = winnow("feedback", "export", *server)
    assert exported.returncode == 0, exported.stderr
    records = [json.loads(line) for line in exported.stdout.splitlines()]
    mine = [r for r in records if r["finding_id"].startswith(report_id)]
    assert mine
    assert all(r["label"] is False and r["verdict"]["source"] != "human" for r in mine)
    ended = winnow("withdraw", listed[0]["decision_id"], "--actor", "bob", *server)
    assert "stands again" in ended.stdout
    wrong = winnow("decide", f"{report_id}.0", "accepted_risk", "--expires", "soonish", *server)
    assert wrong.returncode == 2
    assert "--expires must read" in wrong.stderr


def test_credentials_and_formats_on_the_command_line(house: House) -> None:
    report_id = house.submit(load_report("gitleaks.git.json"))["report_id"]
    server = ("--server", house.url)
    listed = winnow("credentials", "--report", report_id, "--format", "json", *server)
    credentials = json.loads(listed.stdout)
    assert credentials
    one = winnow("credentials", credentials[0]["fingerprint"], *server)
    assert one.returncode == 0, one.stderr
    assert report_id in one.stdout
    formats = house.get("/formats")["formats"]
    assert {"gitleaks", "sarif", "trufflehog"} <= {found["id"] for found in formats}


def test_the_gate_does_not_open_for_what_nobody_could_read(house: House, tmp_path: Path) -> None:
    file = tmp_path / "half.json"
    file.write_bytes(dump([gitleaks(1, Secret="changeme"), gitleaks(2) | {"File": 7}]))
    asked = ("submit", str(file), "--fail-on", "high", "--server", house.url)
    gated = winnow(*asked)
    assert (gated.returncode, "1 record could not be read" in gated.stderr) == (2, True)
    assert winnow(*asked, "--allow-rejected").returncode == 0
    empty = tmp_path / "empty.json"
    empty.write_bytes(b"")
    shown = winnow("submit", str(empty), "--scanner", "gitleaks", "--server", house.url)
    assert "did not run" in shown.stdout


def test_one_finding_with_its_evidence(house: House) -> None:
    report_id = house.submit(load_report("gitleaks.git.json"))["report_id"]
    shown = winnow("show", f"{report_id}.0", "--server", house.url)
    assert shown.returncode == 0, shown.stderr
    assert "what it says" in shown.stdout
    assert winnow("show", f"{report_id}.999", "--server", house.url).returncode == 2
    nothing = winnow(
        "decide", report_id, "false_positive", "--path", "nowhere", "--yes", "--server", house.url
    )
    assert (nothing.returncode, "no finding matches" in nothing.stderr) == (2, True)


def test_a_file_with_a_member_called_report_is_a_report(house: House, tmp_path: Path) -> None:
    file = tmp_path / "operator.json"
    secret = {"target": "app/a.env", "ruleID": "generic", "severity": "HIGH", "title": "t"}
    report = {
        "apiVersion": "aquasecurity.github.io/v1alpha1",
        "kind": "ExposedSecretReport",
        "metadata": {"name": "a"},
        "report": {"secrets": [{**secret, "category": "c", "match": "****"}], "summary": {}},
    }
    file.write_bytes(dump(report))
    done = winnow("submit", str(file), "--server", house.url)
    assert done.returncode == 0, done.stderr
    assert "1 record read" in done.stdout
