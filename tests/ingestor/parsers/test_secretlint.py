"""secretlint: messages by file, and never the file itself."""

from __future__ import annotations

import json
from typing import Any

import pytest

from runtime.errors import WinnowError
from tests.ingestor.reading_reports import dump, evidence, golden, ingest, only
from winnow.finding.v1 import finding_pb2 as pb

CONTENT = "the whole file, made-up-elsewhere"


def message(line: int = 3, **fields: Any) -> dict[str, Any]:
    return {
        "message": "found a key: ****************",
        "range": [29, 69],
        "type": "message",
        "ruleId": "@secretlint/secretlint-rule-aws",
        "ruleParentId": "@secretlint/secretlint-rule-preset-recommend",
        "loc": {"start": {"line": line, "column": 0}, "end": {"line": line, "column": 40}},
        "severity": "error",
        "messageId": "AWSSecretAccessKey",
        "docsUrl": "https://example.test",
        "data": {"KEY": "****************"},
        **fields,
    }


def file(path: str, *messages: Any, **members: Any) -> dict[str, Any]:
    return {
        "filePath": path,
        "sourceContent": CONTENT,
        "sourceContentType": "text",
        "messages": list(messages),
        **members,
    }


def test_a_message() -> None:
    found = only([file("/src/aws.ini", message())])
    assert golden(found) == {
        "kind": "FINDING_KIND_POSSIBLE_SECRET",
        "tool": "secretlint",
        "ruleId": "@secretlint/secretlint-rule-aws",
        "ruleName": "AWSSecretAccessKey",
        "severity": "SEVERITY_HIGH",
        "valueState": "VALUE_STATE_REDACTED",
        "valuePreview": "(redacted by the scanner)",
        "rawMetadata": {"ruleParentId": "@secretlint/secretlint-rule-preset-recommend"},
        "code": {
            "location": {
                "path": "/src/aws.ini",
                "line": 3,
                "endLine": 3,
                "column": 1,
                "endColumn": 41,
            }
        },
    }
    assert CONTENT not in str(evidence(found))


def test_values_that_are_not_masked() -> None:
    found = only([file("a/made-up-value/b", message(data={"ID": "x", "KEY": "made-up-value"}))])
    assert (found.value_state, evidence(found).value) == (pb.VALUE_STATE_PRESENT, "made-up-value")
    assert found.code.location.path == "a/[REDACTED]/b"
    assert only([file("a", message(data=None))]).value_state == pb.VALUE_STATE_ABSENT


@pytest.mark.parametrize("sort_keys", [False, True])
def test_equal_messages_of_several_files_are_several(sort_keys: bool) -> None:
    files = [file("a", message(), message(5)), file("b", message()), file("c")]
    found = ingest(json.dumps(files, sort_keys=sort_keys, indent=1).encode())
    assert [(f.code.location.path, f.code.location.line) for f in found.findings] == [
        ("a", 3),
        ("a", 5),
        ("b", 3),
    ]
    turned = [dict(reversed(list(one.items()))) for one in files]
    assert ingest(dump(turned)).counts == (3, 3, 0, 0)


def test_files_without_a_message_and_odd_ones() -> None:
    assert ingest(dump([file("a")])).format.scanner_type == "secretlint"
    found = ingest(dump([file("a", 3, {"ruleId": 4}), 5, file("b", messages=None)]))
    assert found.reasons == [(0, "NOT_A_RECORD"), (1, "WRONG_TYPE"), (2, "NOT_A_RECORD")]


def test_a_file_larger_than_any_record_is_stepped_over() -> None:
    found = ingest(dump([file("a", message(), sourceContent="x" * (9 << 20))]))
    assert found.counts == (1, 1, 0, 0)


def test_single_files_one_after_another() -> None:
    lines = b"\n".join([dump(file("a", message())), dump(file("b", message()))])
    assert ingest(lines).counts == (2, 2, 0, 0)
    with pytest.raises(WinnowError) as raised:
        ingest(lines + b"\n17")
    assert raised.value.reason == "REPORT_MALFORMED"
