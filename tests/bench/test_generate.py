"""Generated reports are well formed, varied, unique and the same for the same seed."""

from __future__ import annotations

import json
import subprocess
import sys
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cli.loading.corpus import PLACES, Corpus
from cli.loading.reports import FORMATS, generate


def _records(report_format: str, report: bytes) -> list[dict[str, Any]]:
    if report_format == "trufflehog":
        return [json.loads(line) for line in report.splitlines()]
    document = json.loads(report)
    return document if report_format == "gitleaks" else document["runs"][0]["results"]


@pytest.fixture(scope="module")
def findings() -> list[dict[str, Any]]:
    return _records("gitleaks", b"".join(generate("gitleaks", 5_000, seed=7)))


@settings(max_examples=12, deadline=None)
@given(st.sampled_from(FORMATS), st.sampled_from([0, 1, 2, 255, 256, 257, 700]), st.integers(0, 99))
def test_every_size_and_format_is_well_formed(report_format: str, count: int, seed: int) -> None:
    assert len(_records(report_format, b"".join(generate(report_format, count, seed)))) == count


def test_same_seed_same_bytes_other_seed_other_bytes() -> None:
    first = b"".join(generate("gitleaks", 300, seed=3))
    assert first == b"".join(generate("gitleaks", 300, seed=3))
    assert first != b"".join(generate("gitleaks", 300, seed=4))


def test_the_formats_tell_of_the_same_findings(findings: list[dict[str, Any]]) -> None:
    sarif = _records("sarif", b"".join(generate("sarif", 300, seed=7)))
    truffle = _records("trufflehog", b"".join(generate("trufflehog", 300, seed=7)))
    for leak, result, found in zip(findings, sarif, truffle, strict=False):
        region = result["locations"][0]["physicalLocation"]["region"]
        git = found["SourceMetadata"]["Data"]["Git"]
        assert leak["Secret"] == region["snippet"]["text"] == found["Raw"]
        assert leak["StartLine"] == region["startLine"] == git["line"]
        assert leak["Commit"] == git["commit"]


def test_findings_have_the_size_and_variety_of_real_ones(findings: list[dict[str, Any]]) -> None:
    size = len(b"".join(generate("gitleaks", 5_000, seed=7))) / 5_000
    assert 980 < size < 1_090
    assert len({finding["RuleID"] for finding in findings}) >= 35
    assert len({finding["File"] for finding in findings}) >= 500
    assert len({json.dumps(finding) for finding in findings}) == len(findings)
    placeholders = Counter(finding["Secret"] for finding in findings)
    fake = sum(count for count in placeholders.values() if count > 3)
    assert 0.4 < fake / len(findings) < 0.6


def test_places_do_not_come_back() -> None:
    assert PLACES >= 1_000_000
    seen = {(row.path, row.line) for row in Corpus(1).rows(20_000)}
    assert len(seen) == 20_000


def test_some_github_tokens_carry_their_checksum(findings: list[dict[str, Any]]) -> None:
    digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

    def valid(token: str) -> bool:
        number = 0
        for digit in token[-6:]:
            number = number * 62 + digits.index(digit)
        return number == zlib.crc32(token[4:-6].encode())

    tokens = [leak["Secret"] for leak in findings if leak["RuleID"] == "github-pat"]
    whole = [token for token in tokens if len(token) == 40 and "_" not in token[4:]]
    assert any(map(valid, whole))
    assert not all(map(valid, whole))


def test_multi_line_keys_end_where_they_end(findings: list[dict[str, Any]]) -> None:
    keys = [leak for leak in findings if leak["RuleID"] == "private-key"]
    assert keys
    for key in keys:
        assert key["EndLine"] - key["StartLine"] == key["Secret"].count("\n")


def test_the_command_line_writes_the_same() -> None:
    command = [sys.executable, "-m", "bench.generate", "--format", "sarif", "--findings", "40"]
    root = Path(__file__).parents[2]
    run = subprocess.run([*command, "--seed", "9"], cwd=root, capture_output=True, check=True)
    assert run.stdout == b"".join(generate("sarif", 40, seed=9))
