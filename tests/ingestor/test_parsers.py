"""What each parser makes of its scanner's records: golden findings."""

from __future__ import annotations

import base64
import types
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict

from ingestor import parsers
from tests.ingestor.reading_reports import (
    dump,
    evidence,
    gitleaks,
    golden,
    ingest,
    only,
    trufflehog,
)
from winnow.finding.v1 import finding_pb2 as pb


def test_gitleaks() -> None:
    found = ingest(dump([gitleaks(), gitleaks(4, Tags=["a", "b"], SymlinkFile="ln")])).findings
    assert golden(found[1]) == {
        "ordinal": "1",
        "kind": "FINDING_KIND_POSSIBLE_SECRET",
        "tool": "gitleaks",
        "ruleId": "generic-api-key",
        "valueState": "VALUE_STATE_PRESENT",
        "valuePreview": "… (16 characters)",
        "changedAt": "2024-03-01T10:00:00Z",
        "nativeId": f"{4:040x}:src/app_4.py:generic-api-key:5",
        "rawMetadata": {"Entropy": "3.25", "Tags": "a,b", "SymlinkFile": "ln"},
        "code": {
            "location": {
                "path": "src/app_4.py",
                "line": 5,
                "endLine": 5,
                "column": 9,
                "endColumn": 40,
            },
            "commit": f"{4:040x}",
        },
    }
    opened = evidence(found[1])
    assert MessageToDict(opened) == {
        "value": "made-up-00000004",
        "match": 'key = "made-up-00000004"',
        "message": "Detected a key.\nadd the key",
    }
    prints = {f.value_fingerprint for f in found} | {f.place_fingerprint for f in found}
    prints |= {f.occurrence_fingerprint for f in found}
    assert len(prints) == 6
    assert {len(p) for p in prints} == {32}


def test_gitleaks_without_a_fingerprint_and_with_nulls() -> None:
    record = {"RuleID": "r", "File": "f", "StartLine": 1, "StartColumn": 1, "Match": "m = x"}
    found = only([{**record, "Secret": "made-up", "Tags": None, "Commit": None, "Entropy": None}])
    assert found.native_id == ""
    assert not found.raw_metadata
    assert found.code.location.line == 1


def test_trufflehog() -> None:
    found = only([trufflehog(2, Verified=True, RawV2="made-up-00000002:second")])
    assert golden(found) == {
        "kind": "FINDING_KIND_POSSIBLE_SECRET",
        "tool": "trufflehog",
        "ruleId": "AWS",
        "validity": "VALIDITY_LIVE",
        "valueState": "VALUE_STATE_PRESENT",
        "valuePreview": "… (16 characters)",
        "changedAt": "2023-10-19T02:56:37Z",
        "rawMetadata": {
            "DecoderName": "PLAIN",
            "DetectorName": "AWS",
            "DetectorType": "2",
            "Source": "Git",
            "SourceType": "16",
            "Verified": "true",
        },
        "code": {"location": {"path": "src/app_2.py", "line": 3}, "commit": f"{2:040x}"},
    }
    opened = evidence(found)
    assert (opened.value, opened.decoder) == ("made-up-00000002", "PLAIN")
    assert opened.extra["RawV2"] == "made-up-00000002:second"


@pytest.mark.parametrize(
    ("fields", "validity"),
    [
        ({"Verified": True}, pb.VALIDITY_LIVE),
        ({"Verified": False}, pb.VALIDITY_UNVERIFIED),
        ({"Verified": False, "VerificationError": "timed out"}, pb.VALIDITY_UNKNOWN),
        ({"Verified": None}, pb.VALIDITY_UNSPECIFIED),
    ],
)
def test_trufflehogs_verification_has_three_states(fields: Any, validity: Any) -> None:
    assert only([trufflehog(**fields)]).validity == validity


def early(raw: str) -> dict[str, Any]:
    record = trufflehog(Raw=raw)
    del record["DecoderName"]
    return record


def test_early_base64_meets_the_later_spelling() -> None:
    value = "made-up value: ü"
    spellings = [
        early(base64.b64encode(value.encode()).decode()),
        trufflehog(Raw=value),
    ]
    old, new = ingest(dump(spellings)).findings
    assert old.value_fingerprint == new.value_fingerprint
    for kept in ("not base64!", base64.b64encode(b"\x00\xff" * 9).decode()):
        assert evidence(only([early(kept)])).value == kept


@pytest.mark.parametrize(
    ("source", "path", "line", "container"),
    [
        ({"Docker": {"image": "golang", "tag": "1.12", "layer": "sha256:66", "file": "/a"}}, "/a", 0, "golang:1.12 sha256:66"),
        ({"S3": {"bucket": "b", "filename": "dir/x", "email": "e"}}, "dir/x", 0, "b"),
        ({"Github": {"file": "x", "line": "7"}}, "x", 7, ""),
        ({"Postman": {"workspace_name": "w", "collection_name": "c", "link": "l"}}, "", 0, "w c"),
        ({"Stdin": {}}, "", 0, ""),
        ({"Stdin": None}, "", 0, ""),
        ({"Brand New": {"file": "x", "line": 0}}, "x", 0, ""),
    ],
)  # fmt: skip
def test_every_trufflehog_source_is_read(source: Any, path: str, line: int, container: str) -> None:
    found = only([trufflehog(SourceMetadata={"Data": source})])
    assert (found.code.location.path, found.code.location.line, found.code.container) == (
        path,
        line,
        container,
    )


@pytest.mark.parametrize("metadata", [None, {}, {"Data": None}, {"Data": {}}])
def test_trufflehog_without_a_source_has_no_place(metadata: Any) -> None:
    found = only([trufflehog(SourceMetadata=metadata)])
    assert (found.rule_id, found.code.location.path) == ("AWS", "")


def test_trufflehog_with_two_sources_is_rejected() -> None:
    two = {"Data": {"Git": {}, "S3": {}}}
    found = ingest(dump([trufflehog(), trufflehog(1, SourceMetadata=two)]))
    assert found.reasons == [(1, "WRONG_TYPE")]
    assert found.rejected[0].field == "SourceMetadata.Data"


def test_trufflehogs_custom_rules_have_their_own_names() -> None:
    found = only([trufflehog(DetectorName="CustomRegex", ExtraData={"name": "our-token"})])
    assert found.rule_id == "our-token"
    assert found.raw_metadata["DetectorName"] == "CustomRegex"


def test_parts_of_a_trufflehog_secret_are_sealed_and_masked() -> None:
    record = trufflehog(SecretParts={"key": "made-up-part"})
    record["SourceMetadata"]["Data"]["Git"]["file"] = "a/made-up-part/b"
    found = only([record])
    assert found.code.location.path == "a/[REDACTED]/b"
    assert evidence(found).extra["SecretParts.key"] == "made-up-part"


def test_the_registry_refuses_a_module_without_a_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parsers.importlib, "import_module", lambda name: types.ModuleType(name))
    with pytest.raises(RuntimeError, match="does not define PARSER"):
        parsers._load()


def test_parsers_are_complete() -> None:
    assert list(parsers.PARSERS) == sorted(parsers.PARSERS)
    asked_for = {
        *("trufflehog", "trufflehog3", "gitleaks", "betterleaks", "kingfisher", "detect-secrets"),
        *("credsweeper", "ggshield", "github-secret-scanning", "gitlab", "sarif", "semgrep"),
        *("bandit", "checkov", "trivy", "secretlint", "whispers", "talisman", "noseyparker"),
        "rusty-hog",
    }
    assert asked_for <= set(parsers.PARSERS)
    names = [n for p in parsers.PARSERS.values() for n in (p.id, *p.aliases)]
    assert len(names) == len(set(names))
    assert all(name == name.casefold() for name in names)
    for parser in parsers.PARSERS.values():
        assert parser.version
        assert parser.title
        assert parser.shapes
        assert parser.sniff(b"", "") == parser.sniff(b"[1]", "json") == 0.0
