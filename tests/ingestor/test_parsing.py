"""One report: recognition, conservation, resuming, and what damage costs."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestor.parsers import PARSERS
from runtime.errors import WinnowError
from tests.fixtures.reports import expected, load_report
from tests.ingestor.reading_reports import dump, evidence, gitleaks, ingest, sarif, trufflehog

RESULT = {"ruleId": "r", "message": {"text": "m"}}
RECORDED = sorted(
    name
    for name, facts in expected().items()
    if facts["scanner"] in PARSERS or name.endswith(".sarif")
)


def lines(*records: Any) -> bytes:
    return b"\n".join(map(dump, records)) + b"\n"


@pytest.mark.parametrize("size", [1000, 1 << 18])
@pytest.mark.parametrize("name", RECORDED)
def test_recorded_reports_are_read_whole(name: str, size: int) -> None:
    facts = expected()[name]
    found = ingest(load_report(name), size=size)
    read, _, merged, rejected = found.counts
    assert (read, merged, rejected) == (facts["records"], facts["duplicates"], 0)
    if read:
        assert found.format.scanner_type == ("sarif" if ".sarif" in name else facts["scanner"])
        assert found.format.confidence >= 0.5
    assert found.summary.bytes_read == len(load_report(name))


@pytest.mark.parametrize("name", sorted(set(expected()) - set(RECORDED)))
def test_formats_of_later_are_refused_not_misread(name: str) -> None:
    for declared in ("", "gitleaks"):
        with pytest.raises(WinnowError) as raised:
            ingest(load_report(name), declared)
        assert raised.value.reason == "FORMAT_UNKNOWN"
        assert raised.value.metadata["supported"] == "gitleaks, sarif, trufflehog"


DETECTED = [
    (dump([gitleaks()]), "", "gitleaks", "gitleaks/2", "array", ""),
    (dump([gitleaks()], indent=1), "Gitleaks", "gitleaks", "gitleaks/2", "array", ""),
    (lines(gitleaks()), "", "gitleaks", "gitleaks/2", "ndjson", ""),
    (dump({"findings": [gitleaks()]}), "", "gitleaks", "gitleaks/2", "object", ""),
    (lines(trufflehog()), "trufflehog-v3", "trufflehog", "trufflehog/2", "ndjson", ""),
    (dump(trufflehog(), indent=2), "", "trufflehog", "trufflehog/2", "object", ""),
    (b"banner\n" + lines(trufflehog()), "", "trufflehog", "trufflehog/2", "ndjson", ""),
    (dump(sarif(RESULT, driver="Trivy")), "", "sarif", "sarif/3", "object", "Trivy"),
    (dump(sarif(RESULT)), "sarif", "sarif", "sarif/3", "object", "gitleaks"),
    (dump(sarif(RESULT)), "gitleaks", "gitleaks", "sarif/3", "object", "gitleaks"),
    (dump(sarif(RESULT, driver="Trivy")), "trivy", "trivy", "sarif/3", "object", "Trivy"),
    (dump(sarif(RESULT, driver="Semgrep OSS")), "semgrep", "semgrep", "sarif/3", "object", "Semgrep OSS"),
    (dump({"version": "2.1.0", "$schema": "x/sarif.json", "runs": None}), "", "sarif", "sarif/3", "object", ""),
    (b"", "", "", "", "empty", ""),
    (b"[]", "", "", "", "empty", ""),
    (b"null\n", "gitleaks", "gitleaks", "gitleaks/2", "empty", ""),
    (b"\xef\xbb\xbf[ ]", "trufflehog", "trufflehog", "trufflehog/2", "empty", ""),
    (b'{"findings": []}', "", "", "", "empty", ""),
    (b'{"level":"info-0","msg":"done"}\n', "trufflehog", "trufflehog", "trufflehog/2", "empty", ""),
]  # fmt: skip


@pytest.mark.parametrize(("data", "declared", "scanner", "parser", "shape", "tool"), DETECTED)
def test_recognition(
    data: bytes, declared: str, scanner: str, parser: str, shape: str, tool: str
) -> None:
    found = ingest(data, declared).format
    assert (found.scanner_type, found.parser, found.shape, found.tool) == (
        scanner,
        parser,
        shape,
        tool,
    )


def test_a_report_quoted_in_another_does_not_mislead() -> None:
    inner = dump(sarif(RESULT)).decode()
    assert ingest(dump([gitleaks(Match=inner)])).format.scanner_type == "gitleaks"


REFUSED = [
    (dump([gitleaks()]), "nessus", "SCANNER_UNKNOWN"),
    (b"", "nessus", "SCANNER_UNKNOWN"),
    (dump(sarif(RESULT, driver="Trivy")), "nessus", "SCANNER_UNKNOWN"),
    (dump([gitleaks()]), "trufflehog", "SCANNER_MISMATCH"),
    (dump(sarif(RESULT, driver="Trivy")), "gitleaks", "SCANNER_MISMATCH"),
    (dump([gitleaks()]), "sarif", "SCANNER_MISMATCH"),
    (b"hello", "", "FORMAT_UNKNOWN"),
    (b"hello", "gitleaks", "FORMAT_UNKNOWN"),
    (b"{}", "", "FORMAT_UNKNOWN"),
    (b" " * 70_000 + b"x", "gitleaks", "FORMAT_UNKNOWN"),
    (b"\x00\xff" * 99, "", "FORMAT_UNKNOWN"),
    (dump([gitleaks()])[:-1], "", "REPORT_MALFORMED"),
    (dump([gitleaks(), gitleaks(1)])[:-9], "", "REPORT_MALFORMED"),
    (dump(sarif(RESULT))[:-1], "", "REPORT_MALFORMED"),
    (dump(trufflehog(), indent=1)[:-9], "", "REPORT_MALFORMED"),
]


@pytest.mark.parametrize(("data", "declared", "reason"), REFUSED)
def test_refusals_say_why_and_echo_nothing(data: bytes, declared: str, reason: str) -> None:
    with pytest.raises(WinnowError) as raised:
        ingest(data, declared)
    assert raised.value.reason == reason
    assert "made-up" not in str(raised.value) + str(raised.value.metadata)
    if reason == "SCANNER_MISMATCH":
        assert declared in raised.value.message
        assert raised.value.metadata["detected"] in raised.value.message


def test_a_damaged_report_says_where_and_how_much_was_read() -> None:
    records = [dump(gitleaks(n)) for n in range(300)]
    data = b"[" + b",".join(records)
    with pytest.raises(WinnowError) as raised:
        ingest(data + b',{"RuleID": "r')
    assert raised.value.reason == "REPORT_MALFORMED"
    assert raised.value.metadata["records_read"] == "300"
    assert raised.value.metadata["at_byte"] == str(len(data) + 1)


@given(
    st.lists(
        st.sampled_from(["good", "repeat", "syntax", "missing", "type", "no record"]), max_size=30
    ),
    st.sampled_from(["array", "pretty", "lines"]),
    st.sampled_from([gitleaks, trufflehog]),
    st.sampled_from([97, 1 << 18]),
)
def test_conservation(kinds: list[str], shape: str, make: Any, size: int) -> None:
    rule = "RuleID" if make is gitleaks else "DetectorName"
    texts = [json.dumps(make(10**6), indent=1 if shape == "pretty" else None)]
    reasons = []
    for number, kind in enumerate(kinds, 1):
        record = make(number)
        if kind == "repeat":
            texts.append(texts[0])
            continue
        if kind == "missing":
            del record[rule]
            reasons.append((number, "MISSING_FIELD"))
        elif kind == "type":
            record[rule] = {"secret": "made-up"}
            reasons.append((number, "WRONG_TYPE"))
        text = json.dumps(record, indent=1 if shape == "pretty" else None)
        if kind == "syntax":
            text = text[:-1] + " nope}"
            reasons.append((number, "SYNTAX"))
        elif kind == "no record" and shape != "lines":
            text = "17"
            reasons.append((number, "NOT_A_RECORD"))
        texts.append(text)
    data = "\n".join(texts) if shape == "lines" else f"[{','.join(texts)}]"
    found = ingest(data.encode(), size=size)
    assert found.counts[0] == len(texts)
    assert found.summary.merged == kinds.count("repeat")
    assert found.reasons == reasons
    assert "made-up" not in str(found.rejected)
    for rejected in found.rejected:
        assert data.encode()[rejected.at_byte :].startswith((b"{", b"17"))


def test_resuming_gives_the_rest_and_counts_all() -> None:
    records: list[Any] = [gitleaks(n) for n in range(600)]
    records[10], records[500], records[20] = 1, 2, records[19]
    whole = ingest(dump(records))
    rest = ingest(dump(records), start_ordinal=300, parser="gitleaks/2")
    assert rest.counts == whole.counts == (600, 597, 1, 2)
    assert [f.ordinal for f in rest.findings] == [
        f.ordinal for f in whole.findings if f.ordinal >= 300
    ]
    assert rest.reasons == [(500, "NOT_A_RECORD")]
    for mine, theirs in zip(rest.findings, whole.findings[-len(rest.findings) :], strict=True):
        assert mine.occurrence_fingerprint == theirs.occurrence_fingerprint


def test_resuming_with_another_parser_is_refused() -> None:
    with pytest.raises(WinnowError) as raised:
        ingest(dump([gitleaks()]), start_ordinal=1, parser="gitleaks/0")
    assert raised.value.reason == "PARSER_CHANGED"
    assert raised.value.metadata["parser_version"] == "gitleaks/2"


HOSTILE = [
    ('"Secret": "a\\u0000b\\ud800c"', "a\x00b\\ud800c"),
    ('"Secret": "key\x00\x01"', "key\x00\x01"),
    ('"Secret": "made-up", "Entropy": NaN', "made-up"),
    ('"Secret": "made-up", "Entropy": 1e400', "made-up"),
    ('"Secret": "made-up", "StartLine": "12"', "made-up"),
    ('"Secret": "made-up", "StartLine": 99999999999999999999', "made-up"),
    ('"Secret": "made-up", "StartLine": -4', "made-up"),
    ('"Secret": "first", "Secret": "made-up"', "made-up"),
    ('"Secret": "made-up", "Tags": null, "Date": "no date"', "made-up"),
    ('"Secret": "made-up", "Unknown": ' + "[" * 90 + "]" * 90, "made-up"),
]


@pytest.mark.parametrize("in_lines", [True, False])
@pytest.mark.parametrize(("members", "value"), HOSTILE)
def test_hostile_records_are_read(members: str, value: str, in_lines: bool) -> None:
    text = (
        f'{{"RuleID": "r", "File": "f", "StartLine": 1, "StartColumn": 1, "Match": "m", {members}}}'
    )
    other = dump(gitleaks()).decode()
    data = f"{other}\n{text}\n{other}x" if in_lines else f"[{other},{text}]"
    found = ingest(data.encode("utf-8", "surrogatepass"))
    assert found.rejected == []
    assert evidence(found.findings[1]).value == value


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ('"Secret": ' + "[" * 3000 + "]" * 3000, "TOO_DEEP"),
        ('"StartLine": ' + "9" * 5000, "WRONG_TYPE"),
        ('"Secret": "' + "x" * (9 << 20) + '"', "TOO_LARGE"),
        ('"File": 7', "WRONG_TYPE"),
        ('"Tags": [1]', "WRONG_TYPE"),
    ],
)
def test_hostile_records_are_rejected_alone(members: str, reason: str) -> None:
    text = f'{{"RuleID": "r", "File": "f", {members}}}'
    one, two = dump(gitleaks(1)).decode(), dump(gitleaks(2)).decode()
    found = ingest(f"[{one},{text},{two}]".encode())
    assert found.reasons == [(1, reason)]
    assert found.counts == (3, 2, 0, 1)


def test_bytes_that_are_no_utf8_are_read_with_replacement() -> None:
    data = dump([gitleaks(Secret="caf\u00e9-key")], ensure_ascii=False).decode().encode("latin-1")
    assert evidence(ingest(data).findings[0]).value == "caf\ufffd-key"


def test_batches_stay_below_their_size() -> None:
    found = ingest(dump([gitleaks(n, Match="m" * 60_000) for n in range(100)]))
    sizes = [len(message.batch.findings) for message in found.messages[1:-1]]
    assert sum(sizes) == 100
    assert max(message.ByteSize() for message in found.messages) < 1 << 20
