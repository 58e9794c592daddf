"""gitleaks 4 to 8: what its dialects become, JSON and CSV."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest

from runtime.errors import WinnowError
from tests.ingestor.reading_reports import (
    Outcome,
    clear_strings,
    dump,
    evidence,
    gitleaks,
    golden,
    ingest,
    only,
)
from winnow.finding.v1 import finding_pb2 as pb
from winnow.ingest.v1 import notice_pb2

COLUMNS = [
    "RuleID",
    "Commit",
    "File",
    "SymlinkFile",
    "Secret",
    "Match",
    "StartLine",
    "EndLine",
    "StartColumn",
    "EndColumn",
    "Author",
    "Message",
    "Date",
    "Email",
    "Fingerprint",
    "Tags",
]


def leak(number: int = 0, **fields: Any) -> dict[str, Any]:
    """One record of gitleaks 7; distinct for each number."""
    return {
        "line": f'key = "made-up-{number:08d}"',
        "lineNumber": number + 1,
        "offender": f"made-up-{number:08d}",
        "offenderEntropy": -1,
        "commit": f"{number:040x}",
        "repo": "shop",
        "repoURL": "https://ada:made-up-password@example.test/shop",
        "leakURL": "",
        "rule": "Generic Key",
        "commitMessage": "add the key",
        "author": "Ada Marlow",
        "email": "ada@example.test",
        "file": f"src/app_{number}.py",
        "date": "2021-07-15T22:00:32+07:00",
        "tags": "key, generic",
        **fields,
    }


def rows(*records: dict[str, Any], delimiter: str = ",", columns: Any = COLUMNS) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter)
    writer.writerow(columns)
    for record in records:
        cells = {**record, "Tags": " ".join(record.get("Tags") or ())}
        writer.writerow([cells.get(name, "") for name in columns])
    return out.getvalue().encode()


def notices(found: Outcome) -> list[tuple[str, str, int]]:
    return [
        (notice_pb2.NoticeKind.Name(n.kind).removeprefix("NOTICE_KIND_"), n.field, n.records)
        for n in found.summary.notices
    ]


def test_gitleaks_7() -> None:
    found = ingest(dump([leak(), leak(3, offenderEntropy=3.5)]))
    assert (found.format.scanner_type, found.format.dialect) == ("gitleaks", "gitleaks 7")
    assert golden(found.findings[1]) == {
        "ordinal": "1",
        "kind": "FINDING_KIND_POSSIBLE_SECRET",
        "tool": "gitleaks",
        "ruleId": "Generic Key",
        "valueState": "VALUE_STATE_PRESENT",
        "valuePreview": "… (16 characters)",
        "changedAt": "2021-07-15T15:00:32Z",
        "rawMetadata": {"offenderEntropy": "3.5", "tags": "key,generic"},
        "code": {
            "location": {"path": "src/app_3.py", "line": 4},
            "commit": f"{3:040x}",
        },
    }
    opened = evidence(found.findings[1])
    assert (opened.value, opened.match) == ("made-up-00000003", 'key = "made-up-00000003"')
    assert opened.message == "add the key"
    assert "offenderEntropy" not in found.findings[0].raw_metadata
    assert notices(found) == []


def test_gitleaks_4_to_6_has_no_line_numbers() -> None:
    record = leak(operation="addition")
    for name in ("lineNumber", "offenderEntropy", "repoURL", "leakURL"):
        del record[name]
    found = ingest(dump([record], indent=1))
    assert found.format.dialect == "gitleaks 4 to 6"
    assert found.findings[0].code.location.line == 0
    assert notices(found) == []


@pytest.mark.parametrize("make", [leak, gitleaks])
def test_old_and_new_records_of_one_value_meet(make: Any) -> None:
    assert only([make()]).value_fingerprint == only([leak()]).value_fingerprint


@pytest.mark.parametrize(
    ("record", "dialect"),
    [
        (gitleaks(Fingerprint=""), "gitleaks 8.10 or newer"),
        ({name: item for name, item in gitleaks().items() if name != "Fingerprint"}, "gitleaks 8"),
        (gitleaks(Link="https://example.test/src", Fragment={"Raw": "made-up"}), "gitleaks 8.10 or newer"),
    ],
)  # fmt: skip
def test_dialects_of_gitleaks_8(record: Any, dialect: str) -> None:
    found = ingest(dump([record]))
    assert found.format.dialect == dialect
    assert notices(found) == []


@pytest.mark.parametrize(
    "record",
    [
        leak(line='key = "REDACTED"', offender="REDACTED"),
        gitleaks(Match='key = "REDACTED"', Secret="REDACTED"),
        gitleaks(Match='key = "made..."', Secret="made..."),
        gitleaks(Match="****", Secret="****"),
    ],
)
def test_a_redacted_value_is_no_identity(record: Any) -> None:
    found = ingest(dump([record]))
    [finding] = found.findings
    assert finding.value_state == pb.VALUE_STATE_REDACTED
    assert not finding.value_fingerprint + finding.place_fingerprint
    assert evidence(finding).value == ""
    assert notices(found) == [("VALUES_REDACTED", "", 1)]


def test_changed_fields_are_told_by_name() -> None:
    changed = gitleaks(1, Severity="high")
    del changed["Secret"]
    assert notices(ingest(dump([gitleaks(), changed]))) == [
        ("UNKNOWN_FIELD", "Severity", 1),
        ("MISSING_FIELD", "Secret", 1),
    ]
    assert notices(ingest(dump([leak(extra=1), leak(1, line=None)]))) == [
        ("UNKNOWN_FIELD", "extra", 1),
        ("MISSING_FIELD", "line", 1),
    ]


@pytest.mark.parametrize("make", [leak, gitleaks])
def test_the_wrapper_of_findings_is_read(make: Any) -> None:
    found = ingest(dump({"findings": [make(), make(1)]}, indent=4))
    assert (found.format.shape, found.counts) == ("object", (2, 2, 0, 0))


@pytest.mark.parametrize(
    "record",
    [
        gitleaks(Match="x" * 70_000),
        dict(sorted(gitleaks(Match="x" * 70_000).items(), key=lambda item: item[0] == "RuleID")),
        leak(line="x" * 70_000),
    ],
)
def test_a_match_as_long_as_a_file_does_not_hide_the_format(record: Any) -> None:
    found = ingest(dump([record], indent=1))
    assert (found.format.scanner_type, found.counts) == ("gitleaks", (1, 1, 0, 0))


@pytest.mark.parametrize(("delimiter", "end"), [(",", b"\r\n"), (",", b"\n"), (";", b"\n")])
def test_csv(delimiter: str, end: bytes) -> None:
    record = gitleaks(4, Tags=["a", "b"], Match='key = "made-up-00000004";\nnext, line')
    report = rows(gitleaks(), record, delimiter=delimiter).replace(b"\r\n", end)
    found = ingest(report, report_format="csv")
    assert (found.format.dialect, found.format.shape) == ("gitleaks 8, CSV", "csv")
    assert found.counts == (2, 2, 0, 0)
    assert notices(found) == []
    finding = found.findings[1]
    assert finding.raw_metadata == {"Tags": "a,b"}
    assert evidence(finding).match == record["Match"]
    same = ingest(dump([gitleaks(), record])).findings[1]
    assert finding.occurrence_fingerprint == same.occurrence_fingerprint
    del same.raw_metadata["Entropy"]  # CSV has neither this nor a description
    assert golden(finding) == golden(same)


def test_csv_cells_that_were_kept_from_being_formulas() -> None:
    value = "-----BEGIN OF MADE-UP-----"
    [finding] = ingest(rows(gitleaks(Secret=f"'{value}", File="'@types/a.ts"))).findings
    assert evidence(finding).value == value
    assert finding.code.location.path == "@types/a.ts"


def test_csv_rows_are_all_accounted_for() -> None:
    report = rows(gitleaks(), gitleaks(1, StartLine="x"), gitleaks(2), gitleaks())
    found = ingest(report + b"cut,off\r\n")
    assert found.counts == (5, 2, 1, 2)
    assert found.reasons == [(1, "WRONG_TYPE"), (4, "SYNTAX")]
    assert found.rejected[0].field == "StartLine"
    assert report[found.rejected[0].at_byte :].startswith(b"generic-api-key,0000")


def test_csv_without_rows_is_an_empty_report() -> None:
    found = ingest(rows())
    assert (found.format.scanner_type, found.counts) == ("gitleaks", (0, 0, 0, 0))


def test_csv_with_a_new_column_is_read() -> None:
    found = ingest(rows(gitleaks(Score="9"), columns=[*COLUMNS, "Link", "Score"]))
    assert notices(found) == [("UNKNOWN_FIELD", "Score", 1)]


def test_junit_is_refused() -> None:
    with pytest.raises(WinnowError) as raised:
        ingest(b'<?xml version="1.0"?>\n<testsuites/>', "gitleaks")
    assert raised.value.reason == "FORMAT_UNKNOWN"
    assert "XML" in raised.value.message


@pytest.mark.parametrize(
    "report",
    [
        dump([leak(file="a/made-up-00000000/b", tags="made-up-00000000, key")]),
        dump([gitleaks(File="a/made-up-00000000/b", Tags=["made-up-00000000"], Message="made-up-00000000")]),
        rows(gitleaks(File="a/made-up-00000000/b", Tags=["made-up-00000000"])),
    ],
)  # fmt: skip
def test_no_value_stands_in_the_clear(report: bytes) -> None:
    [finding] = ingest(report).findings
    assert finding.code.location.path == "a/[REDACTED]/b"
    assert "made-up" not in " ".join(clear_strings(finding))
