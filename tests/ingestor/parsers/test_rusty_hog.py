"""Rusty Hog: the shapes of its several hogs."""

from __future__ import annotations

from typing import Any

import pytest

from tests.ingestor.reading_reports import clear_strings, dump, evidence, golden, ingest, only
from winnow.finding.v1 import finding_pb2 as pb

VALUE = "made-up-value"


def choctaw(**fields: Any) -> dict[str, Any]:
    return {
        "commit": "add it\n",
        "commitHash": "c" * 40,
        "date": "2020-04-15 12:47:20",
        "diff": f'  key: "{VALUE}"\n  other: "made-up-other"\n',
        "stringsFound": [VALUE],
        "path": "src/main.yml",
        "reason": "Generic key",
        "old_file_id": "a" * 40,
        "new_file_id": "b" * 40,
        "old_line_num": 35,
        "new_line_num": 0,
        "parent_commit_hash": "d" * 40,
        **fields,
    }


def test_choctaw() -> None:
    outcome = ingest(dump([choctaw()]))
    [found] = outcome.findings
    assert golden(found) == {
        "kind": "FINDING_KIND_POSSIBLE_SECRET",
        "tool": "rusty-hog",
        "ruleId": "Generic key",
        "valueState": "VALUE_STATE_PRESENT",
        "valuePreview": "… (13 characters)",
        "changedAt": "2020-04-15T12:47:20Z",
        "code": {"location": {"path": "src/main.yml", "line": 35}, "commit": "c" * 40},
    }
    opened = evidence(found)
    assert (opened.value, opened.message) == (VALUE, "add it\n")
    assert outcome.format.dialect == "rusty hog, choctaw (git)"
    assert not outcome.summary.notices


@pytest.mark.parametrize(
    ("fields", "path", "line", "container"),
    [
        ({"path": "a/b", "linenum": 7}, "a/b", 7, ""),
        ({"bucket": "b", "key": "dir/x", "region": "us"}, "dir/x", 0, "b"),
        ({"issue_id": "T-1", "location": "Issue Description", "url": "https://example.test/T-1"},
         "", 0, "T-1 Issue Description"),
        ({"page_id": "123", "url": "https://example.test/123"}, "", 0, "123"),
        ({"g_drive_id": "g1", "web_link": "https://example.test/g1"}, "", 0, "g1"),
        ({"channel_id": "C1", "channel_name": "general"}, "", 0, "general"),
    ],
)  # fmt: skip
def test_other_hogs(fields: Any, path: str, line: int, container: str) -> None:
    outcome = ingest(dump([{"stringsFound": [VALUE], "reason": "Key", **fields}]))
    [found] = outcome.findings
    assert outcome.format.scanner_type == "rusty-hog"
    place = found.code.location
    assert (place.path, place.line, found.code.container) == (path, line, container)
    assert not outcome.summary.notices


def test_further_strings_and_neighbours_stand_in_no_clear_field() -> None:
    record = choctaw(stringsFound=[VALUE, "made-up-second"], path="made-up-second/made-up-other")
    found = only([record])
    shown = clear_strings(found)
    assert not any(text in one for text in ("made-up-second", "made-up-other") for one in shown)
    assert evidence(found).extra["string 1"] == "made-up-second"


def test_odd_ones() -> None:
    assert only([choctaw(stringsFound=[])]).value_state == pb.VALUE_STATE_ABSENT
    found = ingest(dump([choctaw(), {**choctaw(), "stringsFound": "x"}, {"reason": "r"}]))
    assert found.reasons == [(1, "WRONG_TYPE"), (2, "MISSING_FIELD")]
