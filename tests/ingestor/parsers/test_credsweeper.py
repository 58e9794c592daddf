"""CredSweeper: candidates on one line and on several."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict

from ingestor.fingerprint import canonical_value
from tests.ingestor.reading_reports import clear_strings, dump, evidence, gitleaks, golden, ingest
from winnow.finding.v1 import finding_pb2 as pb
from winnow.ingest.v1 import notice_pb2

VALUE = "made-up-value"


def line(value: str | None = VALUE, number: int = 3, **fields: Any) -> dict[str, Any]:
    return {
        "line": f'password = "{value}"',
        "line_num": number,
        "path": "./src/app.py",
        "info": "",
        "variable": "password",
        "variable_start": 0,
        "variable_end": 8,
        "value": value,
        "value_start": 12,
        "value_end": 12 + len(value or ""),
        "entropy": 3.1,
        **fields,
    }


def candidate(*lines: Any, **fields: Any) -> dict[str, Any]:
    return {
        "rule": "Password",
        "severity": "high",
        "confidence": "moderate",
        "ml_probability": 0.9876543,
        "line_data_list": list(lines) or [line()],
        **fields,
    }


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def notices(found: Any) -> list[tuple[str, str, int]]:
    return [
        (notice_pb2.NoticeKind.Name(n.kind).removeprefix("NOTICE_KIND_"), n.field, n.records)
        for n in found.summary.notices
    ]


def test_a_candidate() -> None:
    found = ingest(dump([candidate()], indent=4))
    assert (found.format.scanner_type, found.format.dialect) == ("credsweeper", "CredSweeper 1")
    assert notices(found) == []
    assert golden(found.findings[0]) == {
        "kind": "FINDING_KIND_POSSIBLE_SECRET",
        "tool": "credsweeper",
        "ruleId": "Password",
        "severity": "SEVERITY_HIGH",
        "valueState": "VALUE_STATE_PRESENT",
        "valuePreview": "… (13 characters)",
        "rawMetadata": {"confidence": "moderate", "ml_probability": "0.987654"},
        "code": {
            "location": {
                "path": "src/app.py",
                "line": 3,
                "endLine": 3,
                "column": 13,
                "endColumn": 26,
            }
        },
    }
    assert MessageToDict(evidence(found.findings[0])) == {
        "value": VALUE,
        "match": f'password = "{VALUE}"',
        "variable": "password",
    }


def test_a_key_over_several_lines_is_one_value_at_several_places() -> None:
    texts = ["-----BEGIN MADE UP KEY-----", "AAAA", "BBBB", "-----END MADE UP KEY-----"]
    lines = [
        line(text, n, line=f"  {text}", variable=None, variable_start=-2, variable_end=-2)
        for n, text in enumerate(texts, 5)
    ]
    found = ingest(dump([candidate(*lines, rule="PEM Private Key")]))
    [finding] = found.findings
    assert found.counts == (1, 1, 0, 0)
    assert finding.code.location.line == 5
    assert [place.line for place in finding.code.more_locations] == [6, 7, 8]
    assert evidence(finding).value == canonical_value("\n".join(texts))
    [same] = ingest(dump([gitleaks(Secret="\n".join(texts))])).findings
    assert same.value_fingerprint == finding.value_fingerprint


def test_a_pair_is_known_by_its_first_part_and_hides_the_second() -> None:
    parts = line("made-up-id", 1), line("made-up-key", 2, path="./made-up-key/b")
    [found] = ingest(dump([candidate(*parts, rule="AWS Multi")])).findings
    assert found.code.more_locations[0].path == "[REDACTED]/b"
    opened = evidence(found)
    assert opened.value == "made-up-id"
    assert opened.extra["value 2"] == "made-up-key"
    assert "made-up-key" in opened.match


@pytest.mark.parametrize(
    ("path", "info", "container", "inside"),
    [
        ("./a.zip", "FILE:./a.zip|ZIP:inner/conf.py|TEXT", "./a.zip", "inner/conf.py"),
        ("./a.tar", "FILE:./a.tar|TAR:b.zip|ZIP:c.py|RAW", "./a.tar|b.zip", "c.py"),
        ("a.deb", "FILE:a.deb|DEB:0x44:data.tar|TAR:etc/x|STRUCT", "a.deb|data.tar", "etc/x"),
        ("a.py", "FILE:a.py|DICT:password|PKCS_PASSWORD:'x'", "", "a.py"),
        ("a.zip|ARCHIVE|inner.py", "", "a.zip", "inner.py"),
    ],
)
def test_members_of_archives(path: str, info: str, container: str, inside: str) -> None:
    [found] = ingest(dump([candidate(line(path=path, info=info))])).findings
    assert (found.code.container, found.code.location.path) == (container, inside)
    assert evidence(found).extra.get("info", "") == info


def test_hashed_values_are_no_values() -> None:
    hashed = line(
        sha256(VALUE), line=sha256("line"), variable=sha256("password"), value_start=3, value_end=9
    )
    found = ingest(dump([candidate(hashed, path="x")]))
    [finding] = found.findings
    assert finding.value_state == pb.VALUE_STATE_REDACTED
    assert not finding.value_fingerprint
    assert sha256(VALUE) not in "".join(clear_strings(finding))
    assert MessageToDict(evidence(finding)) == {}
    assert ("VALUES_REDACTED", "", 1) in notices(found)


def test_values_that_look_redacted_are_hidden_all_the_same() -> None:
    found = candidate(line("made-up-prefix..."), rule="made-up-prefix...")
    [finding] = ingest(dump([found])).findings
    assert (finding.value_state, finding.rule_id) == (pb.VALUE_STATE_REDACTED, "[REDACTED]")


@pytest.mark.parametrize("text", ["{}", "key = {}"])
def test_a_digest_that_stands_in_the_file_is_a_value(text: str) -> None:
    digest = sha256("some other thing")
    start = text.index("{}")
    own = line(digest, line=text.format(digest), value_start=start, value_end=start + 64)
    [finding] = ingest(dump([candidate(own)])).findings
    assert finding.value_state == pb.VALUE_STATE_PRESENT


def test_a_file_found_by_its_name_has_neither_line_nor_value() -> None:
    named = line(None, -1, line="", variable=None, value_start=-2, value_end=-2, entropy=None)
    [finding] = ingest(dump([candidate(named, ml_probability=None)])).findings
    assert golden(finding) == {
        "kind": "FINDING_KIND_POSSIBLE_SECRET",
        "tool": "credsweeper",
        "ruleId": "Password",
        "severity": "SEVERITY_HIGH",
        "valueState": "VALUE_STATE_ABSENT",
        "valuePreview": "(not in the report)",
        "rawMetadata": {"confidence": "moderate"},
        "code": {"location": {"path": "src/app.py"}},
    }


@pytest.mark.parametrize(
    ("fields", "metadata", "validity"),
    [
        ({"ml_probability": -1}, {"ml_probability": "-1"}, pb.VALIDITY_UNSPECIFIED),
        ({"ml_probability": "NA"}, {"ml_probability": "NA"}, pb.VALIDITY_UNSPECIFIED),
        ({"ml_probability": None}, {}, pb.VALIDITY_UNSPECIFIED),
        (
            {"ml_validation": "VALIDATED_KEY", "api_validation": "VALIDATED_KEY"},
            {"ml_probability": "0.987654", "ml_validation": "VALIDATED_KEY", "api_validation": "VALIDATED_KEY"},
            pb.VALIDITY_LIVE,
        ),
        (
            {"api_validation": "INVALID_KEY"},
            {"ml_probability": "0.987654", "api_validation": "INVALID_KEY"},
            pb.VALIDITY_DEAD,
        ),
        (
            {"api_validation": "UNDECIDED"},
            {"ml_probability": "0.987654", "api_validation": "UNDECIDED"},
            pb.VALIDITY_UNKNOWN,
        ),
        (
            {"api_validation": "NOT_AVAILABLE"},
            {"ml_probability": "0.987654", "api_validation": "NOT_AVAILABLE"},
            pb.VALIDITY_UNSPECIFIED,
        ),
    ],
)  # fmt: skip
def test_probabilities_and_checks_of_all_versions(
    fields: Any, metadata: Any, validity: Any
) -> None:
    found = ingest(dump([candidate(**fields)]))
    assert dict(found.findings[0].raw_metadata) == {"confidence": "moderate", **metadata}
    assert found.findings[0].validity == validity
    assert notices(found) == []
    early = "ml_validation" in fields or "api_validation" in fields
    assert found.format.dialect == ("CredSweeper, early" if early else "CredSweeper 1")


@pytest.mark.parametrize(
    ("severity", "is_read_as"),
    [
        ("critical", pb.SEVERITY_CRITICAL),
        ("medium", pb.SEVERITY_MEDIUM),
        ("low", pb.SEVERITY_LOW),
        ("info", pb.SEVERITY_INFO),
        ("new", pb.SEVERITY_UNSPECIFIED),
    ],
)
def test_severity(severity: str, is_read_as: Any) -> None:
    assert ingest(dump([candidate(severity=severity)])).findings[0].severity == is_read_as


def test_optional_fields_are_known_and_new_ones_told() -> None:
    asked = line(key="k", pattern="p", separator="=", separator_start=9, separator_end=10)
    asked |= {"value_leftquote": '"', "value_rightquote": '"'}
    assert notices(ingest(dump([candidate(asked, patterns=["p"], use_ml=True)]))) == []
    report = [candidate(line(novelty=1), more=2), candidate(line(number=9), severity=None)]
    assert notices(ingest(dump(report))) == [
        ("UNKNOWN_FIELD", "line_data_list[].novelty", 1),
        ("UNKNOWN_FIELD", "more", 1),
        ("MISSING_FIELD", "severity", 1),
    ]


def test_many_candidates() -> None:
    found = ingest(dump([candidate(line(number=n)) for n in range(1, 2001)], indent=4))
    assert found.counts == (2000, 2000, 0, 0)
    assert found.findings[-1].code.location.line == 2000


def test_odd_candidates() -> None:
    report = [
        candidate(line_data_list=[]),
        candidate(line_data_list="x"),
        {"rule": "r"},
        5,
        candidate(),
    ]
    found = ingest(dump(report))
    assert found.counts == (5, 2, 0, 3)
    assert found.findings[0].code.location.path == ""
    assert found.reasons == [(1, "WRONG_TYPE"), (2, "MISSING_FIELD"), (3, "NOT_A_RECORD")]
