"""Damaged and hostile reports: read with every record accounted for, or refused for a
documented reason, in bounded time and memory, and no value in the clear.
"""

from __future__ import annotations

import base64
import copy
import gzip
import json
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingestor import reading
from ingestor.parsers import PARSERS
from runtime.errors import WinnowError
from tests.fixtures import load_report, names, planted_values
from tests.fixtures.reports import FORMS
from tests.fuzz.seeds import VALUE, seeds
from tests.ingestor.reading_reports import Outcome, clear_strings, ingest

REFUSALS = {
    *("FORMAT_UNKNOWN", "FORMAT_AMBIGUOUS", "REPORT_MALFORMED", "REPORT_TOO_LARGE"),
    *("SCANNER_MISMATCH", "SCANNER_UNKNOWN"),
}
MOST_SECONDS = 5.0  # for reports of at most a few megabytes, on a machine that does other things
REGRESSIONS = sorted((Path(__file__).parent / "regressions").glob("*"))
# In every form: an unkeyed digest of a weak password is the password.
SECRETS = [
    form(value.encode()).decode() for value in (VALUE, *planted_values()) for form in FORMS.values()
]

# Names fill in what JSON writers cannot write.
RAW = {
    "@@nan@@": "NaN",
    "@@inf@@": "-Infinity",
    "@@big@@": "1e999",
    "@@digits@@": "9" * 5000,
    "@@lone@@": '"\\ud800 lone"',
    "@@deep@@": "[" * 3000 + "]" * 3000,
    "@@control@@": '"a\x01\x00b"',
}
HOSTILE: list[Any] = [
    *(None, True, False, 0, -1, 2**63, 1.5, "", [], {}, [[]], {"a": {"b": []}}, [None]),
    *("../../../../etc/passwd", "..\\..\\x", "C:\\x\\y", "=cmd|'/C calc'!A0", "@SUM(1)", "+1"),
    *("<!DOCTYPE x [<!ENTITY e SYSTEM 'file:///etc/passwd'>]>", "\x00", "\ufeff", "\u202egpj.exe"),
    *("\ud7ff\U0010ffff", "\x1b[2J", "a" * 70_000, "%00%2e%2e/", "key=" * 500, "$(id)", "{{7*7}}"),
    *RAW,
]


def check(outcome: Outcome) -> None:
    """`ingest` has held the counts against each other; this looks at what is said."""
    shown = [text for finding in outcome.findings for text in clear_strings(finding)]
    shown += [text for r in outcome.rejected for text in (r.detail, r.field)]
    shown += [text for n in outcome.summary.notices for text in (n.field, n.detail)]
    shown += [outcome.format.tool, outcome.format.dialect]
    text = "\n".join(shown)
    assert not [number for number, secret in enumerate(SECRETS) if secret in text]


def survives(report: bytes, scanner: str = "", *, size: int = 1 << 18, clear: bool = True) -> str:
    """Reads a report, or sees it refused; returns the refusal's reason."""
    began, refusal = time.perf_counter(), None
    try:
        outcome = ingest(report, scanner, size=size)
    except WinnowError as error:
        refusal = error
    assert time.perf_counter() - began < MOST_SECONDS
    if refusal:
        assert refusal.reason in REFUSALS
        said = f"{refusal.message} {' '.join(refusal.metadata.values())}"
        assert not [number for number, secret in enumerate(SECRETS) if secret in said]
        return refusal.reason
    if clear:
        check(outcome)
    return ""


def test_every_parser_has_a_seed_that_it_reads() -> None:
    read = {ingest(report).format.scanner_type for report in seeds().values()}
    assert read - {""} == set(PARSERS)


@pytest.mark.parametrize("name", names())
def test_recorded_reports_show_no_value_in_any_form(name: str) -> None:
    assert survives(load_report(name)) == ""


def places(found: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value below the top."""
    if path:
        yield path
    inside = found.items() if isinstance(found, dict) else ()
    inside = enumerate(found) if isinstance(found, list) else inside
    for step, item in inside:
        yield from places(item, (*path, step))


def damage(found: Any, path: tuple[Any, ...], with_what: Any, how: str) -> Any:
    """`found` with the value at `path` replaced, removed, renamed or repeated."""
    *steps, last = path
    inside = found
    for step in steps:
        inside = inside[step]
    if how == "replace":
        inside[last] = with_what
    elif how == "remove" or isinstance(inside, list):
        del inside[last]
    elif how == "rename":
        inside[f"{last}_"] = inside.pop(last)
    else:
        inside[f"@@again@@{last}"] = with_what
    return found


def written(document: Any) -> bytes:
    """JSON, with what JSON writers cannot write, and repeated keys."""
    report = json.dumps(document).replace('"@@again@@', '"')
    for name, raw in RAW.items():
        report = report.replace(json.dumps(name), raw)
    return report.encode()


@st.composite
def mistyped(draw: st.DrawFn) -> bytes:
    """A JSON report with up to three values of it replaced, removed or repeated."""
    documents = [report for report in seeds().values() if report[:1] in b"{["]
    report = draw(st.sampled_from(documents))
    lines = report.splitlines()
    try:
        document = json.loads(report)
    except ValueError:
        document, lines = json.loads(lines[0]), lines[1:]
    else:
        lines = []
    for _ in range(draw(st.integers(1, 3))):
        if found := list(places(document)):
            path = draw(st.sampled_from(found))
            how = draw(st.sampled_from(["replace", "replace", "remove", "rename", "again"]))
            put = copy.deepcopy(draw(st.sampled_from(HOSTILE)))
            document = damage(document, path, put, how)
    return b"\n".join([written(document), *lines])


@st.composite
def garbled(draw: st.DrawFn) -> bytes:
    """A report with bytes cut out, swapped, repeated, put in or turned over."""
    report = draw(st.sampled_from(list(seeds().values())))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(report)))
        to = min(len(report), at + draw(st.sampled_from([1, 1, 2, 3, 17, 200, 5000])))
        put = draw(
            st.sampled_from([b"", b"", b'"', b"{", b"}", b"[", b"]", b",", b"\\", b"\n", b"\x00"])
            | st.sampled_from(
                [b"\xff\xfe", b"\xed\xa0\x80", b'{"a":', b"null", b"<a>", b"\r", b"'"]
            )
            | st.binary(max_size=4)
        )
        kind = draw(st.sampled_from(["cut", "put", "again", "swap"]))
        if kind == "cut":
            report = report[:at] + put + report[to:]
        elif kind == "put":
            report = report[:at] + put + report[at:]
        elif kind == "again":
            report = report[:to] + report[at:]
        else:
            report = report[to:] + put + report[:at]
    return report


SLOW = settings(
    max_examples=1500, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)
SIZES = st.sampled_from([7, 1000, 1 << 18])


@SLOW
@given(mistyped(), st.sampled_from(["", "", *PARSERS]), SIZES)
def test_values_of_other_types(report: bytes, scanner: str, size: int) -> None:
    survives(report, scanner, size=size)


@SLOW
@given(garbled(), st.sampled_from(["", "", *PARSERS]), SIZES)
def test_bytes_that_are_garbled(report: bytes, scanner: str, size: int) -> None:
    # A value whose ends were cut off is another one: only that nothing breaks.
    survives(report, scanner, size=size, clear=False)


@pytest.mark.parametrize("name", sorted(seeds()))
def test_wrappings(name: str) -> None:
    """How reports arrive: compressed, in other encodings, with marks, in one line."""
    report = seeds()[name]
    text = report.decode()
    packed = gzip.compress(report)
    same = [packed, b"\xef\xbb\xbf" + report, text.encode("utf-16"), packed + gzip.compress(b"\n")]
    counts = ingest(report).counts
    for again in same:
        assert ingest(again).counts == counts
    for odd in (packed[:-9], packed[: len(packed) // 2], packed + b"garbage", packed[:10]):
        survives(odd)
    for odd in (report[: len(report) // 2], report * 3, b"\x00" + report, b")]}'\n" + report):
        survives(odd)
    survives(text.encode("utf-16-le"))
    survives(text.encode("utf-32"))
    survives(base64.b64encode(report))


@pytest.mark.parametrize(
    "report",
    [
        *(b"[" * 100_000, b'{"a":' * 50_000, b'"' * 100_001, b"{}" * 50_000, b"[]" * 50_000),
        *(
            b"\n" * 1_000_000,
            b"null\n" * 50_000,
            b"\\" * 300_000,
            b"[1," * 50_000,
            b"\x00" * 300_000,
        ),
        *(b"a,b\n" * 50_000, b'a,"' * 50_000, b"," * 500_000, b'{"Results":[' * 5_000),
        *(b'{"runs":[{"results":[' * 3_000, b'[{"RuleID":' * 10_000, b'{"results":{"a":[' * 5_000),
        *(
            b"<?xml version='1.0'?><!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>",
            b"PK\x03\x04" + b"\x00" * 99,
        ),
        *(
            b"%PDF-1.7",
            b"\x1f\x8b",
            b"\x1f\x8b\x08\x00",
            b"\xff\xfe",
            b"\xfe\xff\x00",
            b"\xef\xbb\xbf",
        ),
    ],
    ids=range(25),
)
def test_repetitions(report: bytes) -> None:
    assert survives(report) in {"", "FORMAT_UNKNOWN", "REPORT_MALFORMED", "FORMAT_AMBIGUOUS"}
    for scanner in ("gitleaks", "sarif", "kingfisher", "semgrep"):
        survives(report, scanner)


@pytest.mark.parametrize("name", ["gitleaks.git.json", "gitleaks.git.csv", "semgrep.json", "trivy"])
def test_a_line_of_megabytes(name: str) -> None:
    report = seeds()[name]
    head, tail = report[: len(report) // 2], report[len(report) // 2 :]
    survives(head + b"x" * 3_000_000 + tail)
    survives(head + b" " * 3_000_000 + tail)
    survives(report + b"x" * 3_000_000)


def test_a_bomb_expands_no_further_than_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    limit = 24 << 20
    monkeypatch.setattr(reading, "MAX_EXPANDED", limit)
    once = gzip.compress(b" " * (4 * limit), 9)
    bombs = [once, gzip.compress(b'["' + b"a" * (4 * limit), 1)]
    for bomb in bombs:
        tracemalloc.start()
        reason = survives(bomb, "gitleaks", clear=False)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert reason in {"REPORT_TOO_LARGE", "FORMAT_UNKNOWN", "REPORT_MALFORMED"}
        assert peak < 2 * limit
    # What is compressed twice is expanded once.
    assert survives(gzip.compress(once)) == "FORMAT_UNKNOWN"


@pytest.mark.parametrize("case", REGRESSIONS, ids=[case.name for case in REGRESSIONS])
def test_what_fuzzing_found_before(case: Path) -> None:
    report = base64.b64decode(case.read_bytes())
    for scanner in ("", *PARSERS):
        survives(report, scanner, clear=False)
