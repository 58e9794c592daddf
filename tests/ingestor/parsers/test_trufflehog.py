"""TruffleHog 2 and 3: dialects and drift beside what `test_parsers` shows."""

from __future__ import annotations

from typing import Any

import pytest

from tests.ingestor.reading_reports import (
    Outcome,
    clear_strings,
    dump,
    evidence,
    golden,
    ingest,
    only,
    trufflehog,
)
from winnow.finding.v1 import finding_pb2 as pb
from winnow.ingest.v1 import notice_pb2


def change(number: int = 0, **fields: Any) -> dict[str, Any]:
    """One record of TruffleHog 2; distinct for each number."""
    return {
        "branch": "origin/main",
        "commit": "add the key",
        "commitHash": f"{number:040x}",
        "date": "2021-01-30 19:50:09",
        "diff": f'@@ -1 +1 @@\n+key = "made-up-{number:08d}"\n',
        "path": f"src/app_{number}.py",
        "printDiff": f'@@ -1 +1 @@\n+key = "\x1b[93mmade-up-{number:08d}\x1b[0m"\n',
        "reason": "High Entropy",
        "stringsFound": [f"made-up-{number:08d}"],
        **fields,
    }


def lines(*records: Any) -> bytes:
    return b"\n".join(map(dump, records)) + b"\n"


def notices(found: Outcome) -> list[tuple[str, str, int]]:
    return [
        (notice_pb2.NoticeKind.Name(n.kind).removeprefix("NOTICE_KIND_"), n.field, n.records)
        for n in found.summary.notices
    ]


def test_trufflehog_2() -> None:
    found = ingest(lines(change(), change(3), change()))
    assert (found.format.scanner_type, found.counts) == ("trufflehog", (3, 2, 1, 0))
    assert found.format.dialect == "TruffleHog 2, or 3 with --json-legacy"
    assert golden(found.findings[1]) == {
        "ordinal": "1",
        "kind": "FINDING_KIND_POSSIBLE_SECRET",
        "tool": "trufflehog",
        "ruleId": "High Entropy",
        "valueState": "VALUE_STATE_PRESENT",
        "valuePreview": "… (16 characters)",
        "changedAt": "2021-01-30T19:50:09Z",
        "rawMetadata": {"branch": "origin/main"},
        "code": {"location": {"path": "src/app_3.py"}, "commit": f"{3:040x}"},
    }
    opened = evidence(found.findings[1])
    assert (opened.value, opened.message) == ("made-up-00000003", "add the key")
    assert opened.context == change(3)["diff"]
    assert notices(found) == []


def test_one_record_of_several_strings_is_one_finding() -> None:
    strings = ["made-up-a", "made-up-longest", "made-up-b", "made-up-a"]
    found = only([change(stringsFound=strings, path="x/made-up-a/y")])
    opened = evidence(found)
    assert opened.value == "made-up-longest"
    assert opened.extra == {"stringsFound[1]": "made-up-a", "stringsFound[2]": "made-up-b"}
    assert found.code.location.path == "x/[REDACTED]/y"
    turned = only([change(stringsFound=strings[::-1], path="x/made-up-a/y")])
    assert turned.occurrence_fingerprint == found.occurrence_fingerprint


@pytest.mark.parametrize("strings", [[], None, [""]])
def test_a_record_without_strings_has_no_value(strings: Any) -> None:
    found = only([change(stringsFound=strings)])
    assert found.value_state == pb.VALUE_STATE_ABSENT


def test_a_value_of_both_versions_meets() -> None:
    old, new = only([change()]), only([trufflehog()])
    assert old.value_fingerprint == new.value_fingerprint
    assert old.place_fingerprint == new.place_fingerprint


@pytest.mark.parametrize(
    "report",
    [
        dump([change(), change(1)]),
        b'{"level":"info-0","ts":"2024","msg":"scan"}\n' + lines(change(), change(1)),
        lines(change(diff="x" * 70_000), change(1)),
        dump(change(), indent=2) + dump(change(1), indent=2),
    ],
)
def test_shapes_of_trufflehog_2(report: bytes) -> None:
    found = ingest(report)
    assert (found.format.scanner_type, found.counts) == ("trufflehog", (2, 2, 0, 0))


def test_a_record_of_another_shape_is_rejected_alone() -> None:
    found = ingest(
        lines(change(), change(1, path=None), change(2, stringsFound="made-up"), change(3))
    )
    assert found.reasons == [(1, "WRONG_TYPE"), (2, "WRONG_TYPE")]
    assert [rejected.field for rejected in found.rejected] == ["path", "stringsFound"]


@pytest.mark.parametrize(
    ("names", "dialect"),
    [
        ((), "TruffleHog 3"),
        (("RawV2", "ExtraData", "StructuredData"), "TruffleHog 3"),
        (("RawV2", "DecoderName"), "TruffleHog 3 before autumn 2022"),
    ],
)
def test_dialects_of_trufflehog_3(names: tuple[str, ...], dialect: str) -> None:
    record = trufflehog()
    for name in names:
        del record[name]
    found = ingest(lines(record))
    assert found.format.dialect == dialect
    assert notices(found) == []


def test_changed_fields_are_told_by_name_but_a_sources_own_are_open() -> None:
    changed = trufflehog(1, Confidence=0.5)
    changed["SourceMetadata"]["Data"]["Git"]["brand_new"] = 1
    changed["SourceMetadata"]["Kind"] = 1
    del changed["Verified"]
    found = ingest(lines(trufflehog(), changed))
    assert found.counts == (2, 2, 0, 0)
    assert notices(found) == [
        ("UNKNOWN_FIELD", "Confidence", 1),
        ("UNKNOWN_FIELD", "SourceMetadata.Kind", 1),
        ("MISSING_FIELD", "Verified", 1),
    ]
    assert notices(ingest(lines(change(score=1)))) == [("UNKNOWN_FIELD", "score", 1)]


def test_no_value_of_trufflehog_2_stands_in_the_clear() -> None:
    value = "made-up-00000000"
    found = only([change(branch=f"fix/{value}", path=value, reason=value, commit=value)])
    assert "made-up" not in " ".join(clear_strings(found))
