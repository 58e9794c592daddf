"""Reports as they arrive in the wild: records as long as a file, several reports in
one, other content and encodings, and what would take a pattern hours.
"""

from __future__ import annotations

import gzip
import io
import json
import time
import zipfile
from typing import Any

import pytest

from ingestor.parsers import sarif as sarif_parser
from runtime.errors import WinnowError
from tests.fuzz.seeds import seeds
from tests.ingestor.reading_reports import dump, gitleaks, ingest, sarif
from winnow.ingest.v1 import notice_pb2

LONG = "x = 'ab cd'; " * 10_000  # longer than what is looked at first


WITH_RECORDS = [
    name
    for name, report in seeds().items()
    if report[:1] in (b"[", b"{") and ingest(report).counts[0]
]


def documents(report: bytes) -> tuple[Any, bytes]:
    """The first document, and the lines behind it."""
    try:
        return json.loads(report), b""
    except ValueError:
        first, _, rest = report.partition(b"\n")
        return json.loads(first), b"\n" + rest


def reversed_members(found: Any) -> Any:
    if isinstance(found, dict):
        return {name: reversed_members(found[name]) for name in reversed(found)}
    return [reversed_members(item) for item in found] if isinstance(found, list) else found


def lengthen(found: Any) -> bool:
    """Makes the first text of the first record long; False if there is none."""
    steps = found.items() if isinstance(found, dict) else enumerate(found)
    for step, item in steps:
        if isinstance(item, str) and step not in ("$schema", "version", "type", "category"):
            found[step] = LONG
            return True
        if isinstance(item, dict | list) and lengthen(item):
            return True
    return False


@pytest.mark.parametrize("name", WITH_RECORDS)
@pytest.mark.parametrize("order", [lambda found: found, reversed_members])
def test_a_first_record_longer_than_the_head_is_recognised(name: str, order: Any) -> None:
    expected = ingest(seeds()[name])
    document, rest = documents(seeds()[name])
    document = order(document)
    assert lengthen(document)
    found = ingest(dump(document) + rest)
    assert (found.format.parser, found.counts[0]) == (expected.format.parser, expected.counts[0])


def test_a_large_report_of_nobody_is_refused_soon() -> None:
    members = b",".join(b'"name%d":1' % number for number in range(900_000))
    began = time.perf_counter()
    with pytest.raises(WinnowError) as refused:
        ingest(b"{" + members + b"}")
    assert refused.value.reason == "FORMAT_UNKNOWN"
    assert time.perf_counter() - began < 10


@pytest.mark.parametrize(
    "name",
    [
        *("betterleaks.git.json", "checkov.json", "detect-secrets.json", "ggshield", "gitlab"),
        *("gosec", "kingfisher.git.json", "n0s1", "talisman", "trivy"),
    ],
)
def test_several_reports_in_an_array(name: str) -> None:
    """As `jq -s` makes them."""
    report = seeds()[name]
    records, findings, merged, rejected = ingest(report).counts
    found = ingest(b"[" + report + b",\n" + report + b"]")
    assert found.format.shape == "array"
    assert found.counts == (2 * records, findings, records + merged, 2 * rejected)


def test_what_holds_nothing_known_is_rejected_not_passed_over() -> None:
    """Records without their report, and a report in somebody's wrapper."""
    baseline, files = (json.loads(seeds()[name]) for name in ("detect-secrets.json", "secretlint"))
    for report in (next(iter(baseline["results"].values())), {"issues": files}):
        found = ingest(dump(report))
        assert {reason for _, reason in found.reasons} == {"NOT_A_RECORD"}
        assert found.counts[0] == found.counts[3] > 0


@pytest.mark.parametrize("pages", [b"[][]", b"[]\n[]\n", b"[[]]", b"[[],[]]"])
def test_empty_pages_are_an_empty_report(pages: bytes) -> None:
    found = ingest(pages, "github-secret-scanning")
    assert (found.format.shape, found.counts) == ("empty", (0, 0, 0, 0))


def test_a_report_in_an_archive_is_not_picked_out_of_it() -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as stored:
        stored.writestr("report.json", dump([gitleaks()]))
    with pytest.raises(WinnowError) as refused:
        ingest(archive.getvalue())
    assert "a zip archive" in refused.value.message


@pytest.mark.parametrize("damage", [lambda packed: packed[:-9], lambda packed: packed + b"more"])
def test_damaged_compression_is_said_to_be_that(damage: Any) -> None:
    with pytest.raises(WinnowError) as refused:
        ingest(damage(gzip.compress(dump([gitleaks()]))))
    assert refused.value.reason == "REPORT_MALFORMED"
    assert "gzip" in refused.value.message


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("report", [[gitleaks()], {"findings": [gitleaks()]}])
def test_utf_16_without_a_mark(encoding: str, report: Any) -> None:
    found = ingest(json.dumps(report).encode(encoding))
    assert found.counts == (1, 1, 0, 0)


@pytest.mark.parametrize("scanner", ["", "trufflehog"])
@pytest.mark.parametrize("report", [b" " * 65_000 + b"x", b"[]" + b" " * 65_000 + b"x"])
def test_blanks_take_no_time(report: bytes, scanner: str) -> None:
    began = time.perf_counter()
    with pytest.raises(WinnowError):
        ingest(report, scanner)
    assert time.perf_counter() - began < 3


@pytest.mark.parametrize(("results", "tool"), [(10, "gitleaks"), (1000, "sarif")])
def test_held_results_count_for_what_they_take(
    monkeypatch: pytest.MonkeyPatch, results: int, tool: str
) -> None:
    """A thousand that are small take more than their own bytes, which would be held
    until the tool is known.
    """
    monkeypatch.setattr(sarif_parser, "_MAX_HELD", 64 << 10)
    run = sarif(*({"ruleId": f"r{number}"} for number in range(results)))["runs"][0]
    late = {"version": "2.1.0", "runs": [{"results": run["results"], "tool": run["tool"]}]}
    assert {finding.tool for finding in ingest(dump(late)).findings} == {tool}


def test_a_tool_larger_than_any_record_is_told() -> None:
    report = sarif({"ruleId": "r"})
    report["runs"][0]["tool"]["driver"]["rules"] = [{"id": "x" * 1000}] * 9000
    found = ingest(dump(report))
    assert [(n.kind, n.field) for n in found.summary.notices] == [
        (notice_pb2.NOTICE_KIND_PART_SKIPPED, "runs[].tool")
    ]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("NewInVersion9", "NewInVersion9"),
        ("sha256_v2", "sha256_v2"),
        ("a1b2c3-made-up", "(withheld)"),
        ("made up", "(withheld)"),
        ("made-up-words-only", "(withheld)"),
    ],
)
def test_names_that_may_be_values_are_not_repeated(name: str, shown: str) -> None:
    found = ingest(dump([gitleaks(**{name: 1})]))
    assert [notice.field for notice in found.summary.notices] == [shown]


@pytest.mark.parametrize("first", [True, False])
def test_a_field_named_like_a_value_is_not_told(first: bool) -> None:
    value = "harbourLantern"
    strange = gitleaks(1, Secret="another-value-7") | {value: 1}
    carried = gitleaks(2, Secret=value)
    found = ingest(dump([strange, carried] if first else [carried, strange]))
    named = {notice.field: notice.records for notice in found.summary.notices}
    assert named == {"(withheld)": 1}
