"""A finding's own value, and others it tells of, in its clear fields."""

from __future__ import annotations

from typing import Any

import pytest

from runtime.errors import WinnowError
from tests.ingestor.reading_reports import (
    clear_strings,
    dump,
    gitleaks,
    ingest,
    only,
    sarif,
    trufflehog,
)
from winnow.finding.v1 import finding_pb2 as pb

VALUE = "Made-Up7value"
GIT = {"commit": "c", "line": 1}


def place(uri: str, snippet: str) -> dict[str, Any]:
    region = {"startLine": 1, "snippet": {"text": snippet}}
    return {"physicalLocation": {"artifactLocation": {"uri": uri}, "region": region}}


def clear(report: Any) -> str:
    return " ".join(clear_strings(only(report)))


@pytest.mark.parametrize("value", [f"{VALUE}...", f"REDACTED{VALUE}"])
def test_values_that_look_redacted_are_masked(value: str) -> None:
    assert VALUE not in clear([gitleaks(Secret=value, File=f"keys/{value}/a")])
    assert VALUE not in clear([trufflehog(Raw=value, SourceMetadata=at(f"k/{value}"))])


def at(path: str, kind: str = "Git") -> dict[str, Any]:
    return {"Data": {kind: {**GIT, "file": path}}}


@pytest.mark.parametrize(
    ("value", "state"),
    [
        ("REDACTED", pb.VALUE_STATE_REDACTED),
        ("REDACTED.", pb.VALUE_STATE_REDACTED),
        ("REDACTEDxyz1", pb.VALUE_STATE_PRESENT),
    ],
)
def test_only_the_word_itself_is_redacted(value: str, state: Any) -> None:
    assert only([gitleaks(Secret=value)]).value_state == state


def test_the_longer_value_goes_whole() -> None:
    key = "AKIA" + "Q3E4R5T6" * 2
    record = trufflehog(Raw=key, RawV2=f"{key}:{VALUE}", SourceMetadata=at(f"k/{key}:{VALUE}"))
    assert only(record).code.location.path == "k/[REDACTED]"


@pytest.mark.parametrize(
    "fields",
    [
        {"RawV2": f'{{"user": "u", "deep": [{{"password": "{VALUE}"}}]}}'},
        {"RawV2": f' "{VALUE}" '},
        {"SecretParts": {"a": {"b": [VALUE]}}},
        {"SecretParts": {"a": f'["{VALUE}"]'}},
        {"ExtraData": {"key": VALUE}},
        {"Raw": f'{{"key": "{VALUE}"}}'},
    ],
)
def test_parts_of_credentials_are_masked(fields: Any) -> None:
    assert VALUE not in clear(trufflehog(SourceMetadata=at(f"k/{VALUE}"), **fields))


def test_public_parts_and_names_stay() -> None:
    found = only(
        trufflehog(
            DetectorName="CustomRegex",
            RawV2='{"type": "service_account"}',
            ExtraData={"name": "my rule 2.0", "account": "production"},
            SourceMetadata=at("production/service_account.json"),
        )
    )
    assert found.rule_id == "my rule 2.0"
    assert found.code.location.path == "production/service_account.json"


def test_texts_in_the_place_of_names_are_left_out() -> None:
    odd = "no <name>: Ada's"
    found = only(
        trufflehog(
            DetectorName="CustomRegex",
            DecoderName=odd,
            ExtraData={"name": odd},
            SourceMetadata=at("a", odd),
        )
    )
    assert odd not in " ".join(clear_strings(found))
    assert found.rule_id == "CustomRegex"


@pytest.mark.parametrize(
    "result",
    [
        {"locations": [place(f"e/{VALUE}", f'password = "{VALUE}"')]},
        {"locations": [place(f"e/{VALUE}", f"export PASSWORD={VALUE}")]},
        {"locations": [place("a", "x"), place(f"e/{VALUE}", VALUE)]},
        {"locations": [place("e/Made%2DUp7%76alue", "Made%2DUp7%76alue")]},
    ],
)
def test_sarif_snippets_are_masked_in_paths(result: Any) -> None:
    report = sarif({"ruleId": "hardcoded-password", **result}, driver="gitleaks")
    assert VALUE not in clear(report)


@pytest.mark.parametrize("value", [VALUE, "AKIA" + "Q3E4R5T6" * 2])
def test_the_driver_is_masked_before_its_case_is_changed(value: str) -> None:
    report = sarif(
        {"ruleId": "password", "properties": {"secret": VALUE}}, driver=f"Scanner {value}"
    )
    found = ingest(dump(report))
    assert found.findings[0].tool == "Scanner [REDACTED]"
    if value != VALUE:
        assert value not in found.format.tool


def test_precisions_are_of_the_known_ones() -> None:
    results = [{"ruleId": "r", "properties": {"precision": p}} for p in ("high", VALUE)]
    found = ingest(dump(sarif(*results))).findings
    assert [dict(f.raw_metadata) for f in found] == [{"precision": "high"}, {}]


@pytest.mark.parametrize(("driver", "shown"), [("Semgrep OSS", "sarif (semgrep)"), (VALUE, "sarif"), (" ", "sarif")])  # fmt: skip
def test_mismatches_name_known_tools_only(driver: str, shown: str) -> None:
    with pytest.raises(WinnowError) as raised:
        ingest(dump(sarif({"ruleId": "r"}, driver=driver)), "trufflehog")
    assert raised.value.metadata["detected"] == shown
    assert VALUE not in raised.value.message
