"""Nosey Parker: one credential with all its places."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from tests.ingestor.reading_reports import clear_strings, dump, evidence, golden, ingest, only
from winnow.finding.v1 import finding_pb2 as pb

VALUE = "made-up-value"
FINDING_ID = "f" * 40


def span(line: int) -> dict[str, Any]:
    points = {"start": {"line": line, "column": 17}, "end": {"line": line, "column": 29}}
    return {"offset_span": {"start": 1, "end": 14}, "source_span": points}


def in_file(path: str) -> dict[str, Any]:
    return {"kind": "file", "path": path}


def in_commit(path: str, member: str = "commit_provenance") -> dict[str, Any]:
    commit = {
        "commit_id": "c" * 40,
        "author_email": "ada@example.test",
        "committer_timestamp": "1685495256 +0000",
        "message": "add it",
    }
    found = {"commit_kind": "first_seen", "commit_metadata": commit, "blob_path": path}
    return {"kind": "git_repo", "repo_path": "./.git", member: found}


def match(line: int = 3, *provenance: Any, **fields: Any) -> dict[str, Any]:
    return {
        "provenance": list(provenance) or [in_file("./src/a.py"), in_commit("src/a.py")],
        "blob_metadata": {"id": "b" * 40, "num_bytes": 5, "mime_essence": None, "charset": None},
        "blob_id": "b" * 40,
        "location": span(line),
        "snippet": {"before": "x = 1\n", "matching": f'key = "{VALUE}', "after": '"\n'},
        "rule_name": "Generic API Key",
        **fields,
    }


def older(*matches: Any, **fields: Any) -> dict[str, Any]:
    """As 0.16 writes it."""
    return {
        "type": "finding",
        "rule_name": "Generic API Key",
        "match_content": VALUE,
        "num_matches": len(matches),
        "matches": list(matches),
        "status": None,
        "comment": None,
        **fields,
    }


def newer(*matches: Any, **fields: Any) -> dict[str, Any]:
    """As 0.22 writes it."""
    return {
        "finding_id": FINDING_ID,
        "rule_name": "Generic API Key",
        "rule_text_id": "np.generic.1",
        "rule_structural_id": "e" * 40,
        "groups": [base64.b64encode(VALUE.encode()).decode()],
        "num_matches": len(matches),
        "num_redundant_matches": 0,
        "statuses": [],
        "comment": None,
        "mean_score": None,
        "matches": [{**one, "structural_id": "d" * 40, "score": None} for one in matches],
        **fields,
    }


def test_a_finding_of_the_newer_form() -> None:
    outcome = ingest(dump(newer(match(3), match(9, in_file("other.py")))))
    [found] = outcome.findings
    assert golden(found) == {
        "kind": "FINDING_KIND_POSSIBLE_SECRET",
        "tool": "noseyparker",
        "ruleId": "np.generic.1",
        "ruleName": "Generic API Key",
        "valueState": "VALUE_STATE_PRESENT",
        "valuePreview": "… (13 characters)",
        "nativeId": "d" * 40,
        "rawMetadata": {"num_matches": "2"},
        "code": {
            "location": {"path": "other.py", "line": 9, "endLine": 9, "column": 17, "endColumn": 30},
            "moreLocations": [
                {"path": "src/a.py", "line": 3, "endLine": 3, "column": 17, "endColumn": 30}
            ],
            "commit": "c" * 40,
        },
    }  # fmt: skip
    opened = evidence(found)
    assert (opened.value, opened.match) == (VALUE, f'key = "{VALUE}')
    assert (opened.message, opened.extra["finding_id"]) == ("add it", FINDING_ID)
    assert not outcome.summary.notices
    assert not any(FINDING_ID in text for text in clear_strings(found))


def test_one_credential_over_versions() -> None:
    old, new = only(older(match())), only(newer(match()))
    assert old.value_fingerprint == new.value_fingerprint
    assert (old.rule_id, old.rule_name) == ("Generic API Key", "")


@pytest.mark.parametrize(
    ("fields", "triage"),
    [
        ({"statuses": ["accept"]}, pb.TRIAGE_TRUE_POSITIVE),
        ({"statuses": ["reject"]}, pb.TRIAGE_FALSE_POSITIVE),
        ({"statuses": ["accept", "reject"]}, pb.TRIAGE_UNSPECIFIED),
        ({"status": "accept"}, pb.TRIAGE_TRUE_POSITIVE),
    ],
)
def test_what_reviewers_said(fields: Any, triage: Any) -> None:
    assert only(newer(match(), **fields)).triage == triage


def test_further_groups_are_masked_and_sealed() -> None:
    groups = [base64.b64encode(text).decode() for text in (VALUE.encode(), b"made-up-second")]
    record = newer(match(3, in_commit("made-up-second/a", "first_commit")), groups=groups)
    found = only(record)
    assert found.code.location.path == "[REDACTED]/a"
    assert evidence(found).extra["group 1"] == "made-up-second"


def test_arrays_lines_and_odd_ones() -> None:
    assert ingest(dump([newer(match()), older(match())])).counts == (2, 2, 0, 0)
    odd = [older(match()), {"rule_name": "x"}, older(match(), matches=None)]
    found = ingest(b"\n".join(map(dump, odd)))
    assert found.reasons == [(1, "MISSING_FIELD"), (2, "WRONG_TYPE")]
    bare = only(newer({"provenance": None}, groups=["not base64!"]))
    assert (bare.code.location.path, evidence(bare).value) == ("", "not base64!")
    assert only(newer()).code.location.path == ""
