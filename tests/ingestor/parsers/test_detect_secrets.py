"""detect-secrets: baselines of all versions, digests and labels."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from tests.ingestor.reading_reports import clear_strings, dump, gitleaks, golden, ingest
from winnow.finding.v1 import finding_pb2 as pb
from winnow.ingest.v1 import notice_pb2

VALUE = "made-up-value"


def sha1(value: str) -> str:
    return hashlib.sha1(value.encode()).hexdigest()


def row(value: str = VALUE, **fields: Any) -> dict[str, Any]:
    return {
        "type": "Secret Keyword",
        "filename": "src/app.py",
        "hashed_secret": sha1(value),
        "is_verified": False,
        "line_number": 7,
        **fields,
    }


def baseline(results: Any = None, **more: Any) -> dict[str, Any]:
    return {
        "version": "1.5.0",
        "plugins_used": [{"name": "KeywordDetector", "keyword_exclude": ""}],
        "filters_used": [{"path": "detect_secrets.filters.allowlist.is_line_allowlisted"}],
        "results": {"src/app.py": [row()]} if results is None else results,
        "generated_at": "2026-11-01T10:00:00Z",
        **more,
    }


def old(**more: Any) -> dict[str, Any]:
    """As versions before 1.0 wrote it: rows without their file."""
    rows = {
        "a.py": [{"hashed_secret": sha1("one"), "line_number": 1, "type": "Basic Auth"}],
        "b.py": [{"hashed_secret": sha1("one"), "line_number": 1, "type": "Basic Auth"}],
    }
    return {"generated_at": "2020-01-01T00:00:00Z", "plugins_used": [], "results": rows, **more}


def notices(found: Any) -> list[tuple[str, str, int]]:
    return [
        (notice_pb2.NoticeKind.Name(n.kind).removeprefix("NOTICE_KIND_"), n.field, n.records)
        for n in found.summary.notices
    ]


def test_a_baseline() -> None:
    found = ingest(dump(baseline(), indent=2))
    assert found.format.scanner_type == "detect-secrets"
    assert found.format.dialect == "detect-secrets 1.0 or newer"
    assert notices(found) == []
    assert [golden(finding) for finding in found.findings] == [
        {
            "kind": "FINDING_KIND_POSSIBLE_SECRET",
            "tool": "detect-secrets",
            "ruleId": "Secret Keyword",
            "valueState": "VALUE_STATE_DIGEST",
            "valuePreview": "(only a digest is in the report)",
            "code": {"location": {"path": "src/app.py", "line": 7}},
        }
    ]


def test_a_digest_meets_the_value_that_another_tool_reports() -> None:
    [digest] = ingest(dump(baseline())).findings
    [plain] = ingest(dump([gitleaks(Secret=VALUE, File="src/app.py")])).findings
    assert digest.value_fingerprint == plain.value_fingerprint
    assert digest.place_fingerprint == plain.place_fingerprint


def test_the_digest_stands_nowhere_in_the_clear() -> None:
    digest = sha1(VALUE)
    finding = row(filename=f"dumps/{digest}.txt", type=f"rule {digest}")
    [found] = ingest(dump(baseline({"a": [finding]}))).findings
    assert found.code.location.path == "dumps/[REDACTED].txt"
    assert digest not in "".join(clear_strings(found))


@pytest.mark.parametrize(
    ("fields", "triage", "validity"),
    [
        ({}, pb.TRIAGE_UNSPECIFIED, pb.VALIDITY_UNSPECIFIED),
        ({"is_secret": True}, pb.TRIAGE_TRUE_POSITIVE, pb.VALIDITY_UNSPECIFIED),
        ({"is_secret": False}, pb.TRIAGE_FALSE_POSITIVE, pb.VALIDITY_UNSPECIFIED),
        ({"is_secret": None}, pb.TRIAGE_UNSPECIFIED, pb.VALIDITY_UNSPECIFIED),
        ({"is_verified": True}, pb.TRIAGE_UNSPECIFIED, pb.VALIDITY_LIVE),
        ({"verified_result": True}, pb.TRIAGE_UNSPECIFIED, pb.VALIDITY_LIVE),
        ({"verified_result": False}, pb.TRIAGE_UNSPECIFIED, pb.VALIDITY_DEAD),
        ({"verified_result": None}, pb.TRIAGE_UNSPECIFIED, pb.VALIDITY_UNSPECIFIED),
    ],
)
def test_labels_and_checks(fields: Any, triage: Any, validity: Any) -> None:
    [found] = ingest(dump(baseline({"src/app.py": [row(**fields)]}))).findings
    assert (found.triage, found.validity) == (triage, validity)


@pytest.mark.parametrize(
    ("more", "dialect"),
    [
        ({"exclude_regex": "x", "version": "0.11.0"}, "detect-secrets before 0.12"),
        (
            {"exclude": {"files": None, "lines": None}, "word_list": {"file": None, "hash": None}, "version": "0.13.1"},
            "detect-secrets 0.12 or 0.13",
        ),
    ],
)  # fmt: skip
def test_rows_of_old_versions_are_told_apart_by_their_file(more: Any, dialect: str) -> None:
    found = ingest(dump(old(**more)))
    assert found.format.dialect == dialect
    assert found.counts == (2, 2, 0, 0)
    assert [f.code.location.path for f in found.findings] == ["a.py", "b.py"]
    assert notices(found) == []


def test_a_slim_baseline_has_no_lines() -> None:
    slim = row()
    del slim["line_number"]
    report = baseline({"src/app.py": [slim]})
    del report["generated_at"]
    [found] = ingest(dump(report)).findings
    assert found.code.location.line == 0


def test_windows_paths_from_rows_and_from_keys() -> None:
    keyed = row()
    del keyed["filename"]
    results = {"src\\a.py": [row(filename="src\\a.py")], 'src\\\u00fc"b.py': [keyed]}
    for ascii_only in (True, False):
        found = ingest(dump(baseline(results), ensure_ascii=ascii_only))
        assert [f.code.location.path for f in found.findings] == ["src/a.py", 'src/\u00fc"b.py']


@pytest.mark.parametrize("sort_keys", [True, False])
@pytest.mark.parametrize("indent", [None, 2])
def test_an_empty_baseline_is_recognised(indent: Any, sort_keys: bool) -> None:
    found = ingest(dump(baseline({}), indent=indent, sort_keys=sort_keys))
    assert found.format.scanner_type == "detect-secrets"
    assert found.counts == (0, 0, 0, 0)


def test_many_files_and_repeats_in_small_pieces() -> None:
    results = {f"f{n}.py": [row(filename=f"f{n}.py"), row(filename=f"f{n}.py")] for n in range(50)}
    found = ingest(dump(baseline(results)), size=11)
    assert found.counts == (100, 50, 50, 0)


def test_many_rows_of_one_file() -> None:
    found = ingest(dump(baseline({"a": [row(line_number=n) for n in range(1, 2001)]})))
    assert found.counts == (2000, 2000, 0, 0)
    assert found.findings[-1].code.location.line == 2000


def test_odd_baselines() -> None:
    assert ingest(dump(baseline([])), "detect-secrets").counts == (0, 0, 0, 0)
    report = dump(baseline()).replace(b'"src/app.py": [', b'"a\\x.py": [')
    assert ingest(report).counts == (1, 1, 0, 0)


def test_drift_and_broken_rows() -> None:
    results = {
        "a.py": [row(), {"type": "x"}, row(novelty=1)],
        "b.py": "none",
        "c.py": [row(hashed_secret="short", filename="c.py")],
    }
    found = ingest(dump(baseline(results, novelty=[])))
    assert found.reasons == [(1, "MISSING_FIELD"), (3, "WRONG_TYPE")]
    assert found.findings[-1].value_state == pb.VALUE_STATE_REDACTED
    assert not found.findings[-1].value_fingerprint
    assert notices(found) == [
        ("UNKNOWN_FIELD", "novelty", 2),
        ("VALUES_REDACTED", "", 1),
    ]
