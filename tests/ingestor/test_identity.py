"""One credential has one identity, whichever scanner reports it, wherever it stands."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from functools import cache
from typing import Any

import pytest

from ingestor.fingerprint import Fingerprints
from tests.fixtures import expected, load_report, names
from tests.fixtures.planted import planted_truth
from tests.fixtures.values import text, values
from tests.ingestor.reading_reports import KEYS, dump, gitleaks, ingest, trufflehog
from winnow.finding.v1 import finding_pb2 as pb
from winnow.finding.v1.finding_pb2 import Finding

PRINTS = Fingerprints(KEYS.fingerprint)
# The scanners that read a whole repository for secrets; bandit, checkov and semgrep find a few.
SECRET_SCANNERS = {
    *("betterleaks", "credsweeper", "detect-secrets", "gitleaks", "kingfisher", "trufflehog")
}
PATHS = {place.path for place in planted_truth()}


def credential(name: str) -> str:
    """What of a planted value authenticates, by hand."""
    value = text(name)
    if name == "localhost_url":
        return value.split("@")[0].rpartition(":")[2]
    if name.endswith("private_key") and "..." not in value:
        return "".join(value.replace("\\n", "\n").strip().splitlines()[1:-1])
    return value


PLANTED = {
    PRINTS.value(hashlib.sha1(credential(name).encode()).hexdigest()): name for name in values()
}
# Its password is one of many people's, so that user and host belong to it where a
# scanner reports them: another credential than the password alone.
AUTHORITY = text("localhost_url").rpartition("/")[0]
WHOLE_URL = PRINTS.value(hashlib.sha1(AUTHORITY.encode()).hexdigest())


@cache
def found(report: str) -> list[tuple[str, Finding]]:
    """The findings of a recorded report that have a fingerprint of their value,
    each with the name of the planted value; "?" where it is none.
    """
    return [
        ({**PLANTED, WHOLE_URL: "localhost_url"}.get(finding.value_fingerprint, "?"), finding)
        for finding in ingest(load_report(report)).findings
        if finding.value_fingerprint
    ]


def test_every_planted_value_has_its_own() -> None:
    assert len(PLANTED) == len(values())


def strangers(report: str) -> list[tuple[bytes, str, int]]:
    """The fingerprints of values that nobody planted, with their places."""
    return [
        (finding.value_fingerprint, finding.code.location.path, finding.code.location.line)
        for name, finding in found(report)
        if name == "?"
    ]


@pytest.mark.parametrize("report", [name for name in names() if "detect-secrets" not in name])
def test_every_value_that_a_scanner_reports_is_one_that_was_planted(report: str) -> None:
    assert strangers(report) == []


@pytest.mark.parametrize("report", [name for name in names() if "detect-secrets" in name])
def test_digests_of_something_else_join_nothing(report: str) -> None:
    """detect-secrets digests some values cut, in small letters, or with their line."""
    prints = [value for value, _, _ in strangers(report)]
    assert len(prints) == len(set(prints))


def test_scanners_agree() -> None:
    scanners: dict[str, set[str]] = defaultdict(set)
    for report in names():
        for name, _ in found(report):
            scanners[name].add(str(expected()[report]["scanner"]))
    agreed = {name: len(scanners[name] & SECRET_SCANNERS) for name in scanners}
    real = {name for name, value in values().items() if value.real}
    assert {name for name in real if agreed[name] < 2} == set()
    assert sum(agreed[name] >= 4 for name in real) >= 20
    assert agreed["stripe_live"] == agreed["github_pat"] == len(SECRET_SCANNERS)
    # A key in PEM: indented in YAML, with "\n" in JSON, its base64 alone.
    assert scanners["openssh_private_key"] >= SECRET_SCANNERS - {"detect-secrets"}


@pytest.mark.parametrize(
    "later", ["gitleaks.dir.json", "kingfisher.git.json", "trufflehog.filesystem.ndjson"]
)
def test_a_renamed_file_keeps_the_value_and_changes_the_place(later: str) -> None:
    """The release script moved, and its lines with it, after the earlier report."""
    old, new = (
        next(finding for name, finding in found(report) if name == "github_fine_grained")
        for report in ("gitleaks.git.json", later)
    )
    assert old.code.location.path == "scripts/release.py"
    assert new.code.location.path == "tools/release.py"
    assert old.code.location.line != new.code.location.line
    assert old.value_fingerprint == new.value_fingerprint
    assert old.place_fingerprint != new.place_fingerprint
    assert old.occurrence_fingerprint != new.occurrence_fingerprint


def test_one_place_has_one_fingerprint_over_all_scanners() -> None:
    places: dict[tuple[str, str], set[bytes]] = defaultdict(set)
    unknown = set()
    for report in set(names()) - {"trufflehog.docker.json"}:  # an image's paths are others
        for name, finding in found(report):
            if name in ("?", "localhost_url"):
                continue
            path = finding.code.location.path
            places[name, path].add(finding.place_fingerprint)
            if path not in PATHS:
                unknown.add((report, path))
    assert unknown == set()
    assert {place: prints for place, prints in places.items() if len(prints) > 1} == {}
    assert len({print_ for prints in places.values() for print_ in prints}) == len(places)


def test_a_moved_line_keeps_value_and_place() -> None:
    first, moved = ingest(
        dump([gitleaks(1), gitleaks(1, StartLine=9, EndLine=9, Fingerprint="")])
    ).findings
    assert first.value_fingerprint == moved.value_fingerprint
    assert first.place_fingerprint == moved.place_fingerprint
    assert first.occurrence_fingerprint != moved.occurrence_fingerprint


@pytest.mark.parametrize(
    "path", ["src/a.py", "./src/a.py", "src\\a.py", "src//a.py", ".\\src\\a.py"]
)
def test_a_path_is_one_however_it_is_written(path: str) -> None:
    def place(file: str) -> bytes:
        return bytes(ingest(dump([gitleaks(File=file)])).findings[0].place_fingerprint)

    assert place(path) == place("src/a.py") != place("a.py")


@pytest.mark.parametrize(
    "record",
    [
        gitleaks(Secret="REDACTED", Match="key = REDACTED"),
        gitleaks(Secret="", Match=""),
        trufflehog(Raw="", Redacted="made-up***"),
    ],
)
def test_what_is_redacted_or_absent_is_no_value(record: dict[str, Any]) -> None:
    finding = ingest(dump([record])).findings[0]
    assert finding.value_state != pb.VALUE_STATE_PRESENT
    assert not finding.value_fingerprint
    assert not finding.place_fingerprint
    assert finding.occurrence_fingerprint


@pytest.mark.parametrize(
    "report", ["gitleaks.redacted.json", "gitleaks.redacted.csv", "kingfisher.redacted.json"]
)
def test_redacted_reports_identify_places_and_no_values(report: str) -> None:
    assert found(report) == []
    findings = ingest(load_report(report)).findings
    places = {(f.rule_id, f.code.location.path, f.code.location.line) for f in findings}
    assert len({finding.occurrence_fingerprint for finding in findings}) >= len(places)


def test_hashed_values_are_no_values() -> None:
    assert found("credsweeper.hashed.json") == []


def test_nobody_is_known_by_the_line_that_all_keys_begin_with() -> None:
    findings = ingest(load_report("detect-secrets.json")).findings
    keys = [finding for finding in findings if finding.rule_id == "Private Key"]
    assert {finding.code.location.path for finding in keys} >= {"deploy/id_rsa", "docs/aws.md"}
    assert not any(finding.value_fingerprint or finding.place_fingerprint for finding in keys)
    assert len({finding.occurrence_fingerprint for finding in keys}) == len(keys)
