"""Reports in every accepted format, with planted values where scanners put them, and where not.

Each `Shape` makes the records of one shape of one format. A report is written twice:
tidy, and with strays: values in names, paths, rules, tags, times and ids, and as the
names of members.
"""

from __future__ import annotations

import base64
import csv
import html
import io
import json
import random
import re
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from hashlib import sha1
from typing import Any, NamedTuple
from urllib.parse import quote

from tools.canary.planting import Value

Json = dict[str, Any]
Make = Callable[[str, int], Any]
Wrap = Callable[[list[Any]], bytes]

# How many strays become a member's name. Not in a report's first records: there strange
# names would make it another format's.
_NAMES = 0.3
_NAMES_FROM = 0.8
_PLAIN = re.compile(r"[^\s\"'`\\]+")


class Reads(Enum):
    """Where a reader learns from a record what its value is."""

    FIELD = "a field of its own"
    LINE = "a line of code, if it is plain there"
    NOWHERE = "nowhere: only a value's own form tells it from a name"


class Shape(NamedTuple):
    """One shape of one format.

    Args:
        name: for people.
        record: makes a record of a value and a number.
        wrap: makes a report of records.
        reads: where the value is read.
        decides: the member by which a record is known to be about a secret.
    """

    name: str
    record: Make
    wrap: Wrap
    reads: Reads = Reads.FIELD
    decides: str = ""

    def knows(self, value: Value) -> bool:
        """Whether the value must be masked in this report wherever else it stands."""
        return self.reads is Reads.FIELD or (
            self.reads is Reads.LINE and _PLAIN.fullmatch(value.text) is not None
        )


def dump(value: Any) -> bytes:
    """As JSON."""
    return json.dumps(value, ensure_ascii=False).encode()


def _array(records: list[Any]) -> bytes:
    return dump(records)


def _lines(records: list[Any]) -> bytes:
    return b"".join(dump(record) + b"\n" for record in records)


def _in(member: str, **others: Any) -> Wrap:
    return lambda records: dump({**others, member: records})


def _csv(records: list[Any]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(records[0]), lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue().encode()


def _line(value: str) -> str:
    return f'service_token = "{value}"'


def _commit(number: int) -> str:
    return sha1(b"commit %d" % number, usedforsecurity=False).hexdigest()


def gitleaks(value: str, number: int) -> Json:
    """gitleaks 8."""
    return {
        "RuleID": "generic-api-key",
        "Description": "Detected a generic key.",
        "StartLine": number + 1,
        "EndLine": number + 1,
        "StartColumn": 9,
        "EndColumn": 40,
        "Match": _line(value),
        "Secret": value,
        "File": f"src/app_{number}.py",
        "SymlinkFile": "",
        "Commit": _commit(number),
        "Entropy": 4.25,
        "Author": f"Ada {value}",
        "Email": f"{value}@example.com",
        "Date": "2026-03-01T10:00:00Z",
        "Message": f"remove {value} again",
        "Tags": ["key"],
        "Fingerprint": f"{_commit(number)}:src/app_{number}.py:generic-api-key:{number + 1}",
    }


def _gitleaks_csv(value: str, number: int) -> Json:
    return {name: text for name, text in gitleaks(value, number).items() if name != "Description"}


def _gitleaks_7(value: str, number: int) -> Json:
    return {
        "line": _line(value),
        "lineNumber": number + 1,
        "offender": value,
        "offenderEntropy": -1,
        "commit": _commit(number),
        "repo": "shop",
        "repoURL": "",
        "leakURL": "",
        "rule": "Generic key",
        "commitMessage": f"remove {value} again",
        "author": "Ada",
        "email": "ada@example.com",
        "file": f"src/app_{number}.py",
        "date": "2021-03-01T10:00:00Z",
        "tags": "key",
    }


def _betterleaks_1(value: str, number: int) -> Json:
    return {
        **gitleaks(value, number),
        "MatchContext": f"# shop\n{_line(value)}\n",
        "Attributes": {
            "path": f"lib/app_{number}.py",
            "resource": "git.patch_content",
            "git.sha": _commit(number),
            "git.date": "2026-05-06T10:00:00Z",
            "git.message": f"use {value}",
            "git.author_name": "Ada",
            "git.author_email": "ada@example.com",
            "git.remote_url": "https://git.example.com/shop",
        },
        "ValidationStatus": "valid",
    }


def _betterleaks_2(value: str, number: int) -> Json:
    return {
        "rule_id": "generic-api-key",
        "rule_hash": "0" * 64,
        "description": "Detected a key.",
        "confidence": "high",
        "match": {
            "full": _line(value),
            "value": value,
            "context": f"# shop\n{_line(value)}\n",
            "fingerprint": _commit(number),
        },
        "attributes": {
            "git.sha": _commit(number),
            "git.date": "2026-05-06T10:00:00Z",
            "git.message": f"use {value}",
            "resource": "git.patch_content",
        },
        "location": {
            "path": f"lib/app_{number}.py",
            "start_line": number + 1,
            "end_line": number + 1,
            "start_column": 9,
            "end_column": 24,
        },
    }


def trufflehog(value: str, number: int) -> Json:
    """TruffleHog 3."""
    git = {
        "commit": _commit(number),
        "file": f"src/app_{number}.py",
        "email": "Ada <ada@example.com>",
        "repository": "https://git.example.com/shop",
        "timestamp": "2026-03-01 10:00:00 +0000",
        "line": number + 1,
    }
    return {
        "SourceMetadata": {"Data": {"Git": git}},
        "SourceID": 1,
        "SourceType": 16,
        "SourceName": "trufflehog - git",
        "DetectorType": 17,
        "DetectorName": "URI",
        "DetectorDescription": "A key.",
        "DecoderName": ("PLAIN", "BASE64")[number % 2],
        "Verified": False,
        "VerificationError": f"the server did not know {value}",
        "Raw": value,
        "RawV2": f"account:{value}",
        "Redacted": "",
        "ExtraData": {"account": value, "version": "2"},
        "StructuredData": None,
    }


def _trufflehog_2(value: str, number: int) -> Json:
    return {
        "branch": "origin/main",
        "commit": f"use {value}",
        "commitHash": _commit(number),
        "date": "2021-01-30 19:50:09",
        "diff": f"@@ -1 +1 @@\n+{_line(value)}\n",
        "path": f"src/app_{number}.py",
        "printDiff": f"@@ -1 +1 @@\n+\x1b[93m{value}\x1b[0m\n",
        "reason": "High Entropy",
        "stringsFound": [value],
    }


def _trufflehog3(value: str, number: int) -> Json:
    return {
        "rule": {"id": "generic.key", "message": "Generic Key", "severity": "HIGH"},
        "path": f"src/app_{number}.py",
        "line": str(number + 2),
        "secret": value,
        "context": {str(number + 1): "# shop", str(number + 2): _line(value)},
        "id": f"{number:08d}-0000-3000-8000-000000000000",
        "branch": "main",
        "message": f"use {value}",
        "author": "Ada <ada@example.com>",
        "commit": _commit(number),
        "date": "2026-03-01T10:00:00",
    }


def _kingfisher(value: str, number: int) -> Json:
    commit = _commit(number)
    person = {"name": f"Ada {value}", "email": "ada@example.com"}
    return {
        "rule": {"name": "Generic key", "id": "kingfisher.generic.1", "description": "A key"},
        "finding": {
            "snippet": value,
            "fingerprint": str(10**17 + number),
            "confidence": "medium",
            "entropy": "4.70",
            "validation": {"outcome": "failed", "status": "401", "response": f"no {value}"},
            "language": "Python",
            "line": number + 1,
            "column_start": 9,
            "column_end": 40,
            "path": f"src/app_{number}.py",
            "git_metadata": {
                "repository_url": "https://git.example.com/shop",
                "commit": {
                    "id": commit,
                    "url": f"./commit/{commit}",
                    "date": "2026-01-12",
                    "committer": person,
                    "author": person,
                },
                "file": {
                    "path": f"src/app_{number}.py",
                    "url": f"./blob/{commit}/app.py#L5",
                    "git_command": f"git -C ./.git show {commit}:app.py",
                },
            },
            "validate_command": f"kingfisher validate --rule kingfisher.generic.1 '{value}'",
        },
    }


def _credsweeper(value: str, number: int) -> Json:
    line = {
        "line": f"SERVICE_TOKEN={value}",
        "line_num": number + 1,
        "path": f"./src/app_{number}.env",
        "info": "",
        "variable": "SERVICE_TOKEN",
        "variable_start": 0,
        "variable_end": 13,
        "value": value,
        "value_start": 14,
        "value_end": 14 + len(value),
        "entropy": 4.1,
    }
    return {
        "rule": "Token",
        "severity": "high",
        "confidence": "moderate",
        "ml_probability": 0.9,
        "line_data_list": [line],
    }


def _detect_secrets(value: str, number: int) -> Json:
    digest = sha1(value.encode(), usedforsecurity=False).hexdigest()
    return {
        "type": "Secret Keyword",
        "filename": f"src/app_{number}.py",
        "hashed_secret": digest,
        "is_verified": False,
        "line_number": number + 1,
    }


def _baseline(records: list[Any]) -> bytes:
    results = {record.get("filename", str(i)): [record] for i, record in enumerate(records)}
    return dump({"version": "1.5.0", "plugins_used": [], "filters_used": [], "results": results})


def _ggshield(value: str, number: int) -> Json:
    place = {"line_start": 3, "line_end": 3, "index_start": 7, "index_end": 20}
    incident = {
        "policy": "Secrets detection",
        "occurrences": [{"match": value, "type": "apikey", **place}],
        "type": "Generic Key",
        "validity": "no_checker",
        "ignore_sha": f"{number:064x}",
        "total_occurrences": 1,
        "incident_url": "",
        "known_secret": False,
    }
    return {
        "mode": "FILE",
        "filename": f"src/app_{number}.py",
        "incidents": [incident],
        "total_incidents": 1,
        "total_occurrences": 1,
    }


def _github(value: str, number: int) -> Json:
    api = "https://api.example.com/alerts"
    return {
        "number": number,
        "created_at": "2025-11-06T18:48:51Z",
        "url": f"{api}/{number}",
        "html_url": f"https://git.example.com/team/shop/security/secret-scanning/{number}",
        "locations_url": f"{api}/{number}/locations",
        "state": "resolved",
        "resolution": "false_positive",
        "resolution_comment": f"{value} is old",
        "resolved_at": None,
        "resolved_by": {"login": "ada"},
        "secret_type": "some_token",
        "secret_type_display_name": "Some Token",
        "secret": value,
        "repository": {"id": 1, "full_name": "team/shop", "owner": {"login": "team"}},
        "push_protection_bypassed": False,
        "validity": "unknown",
        "publicly_leaked": False,
        "multi_repo": True,
        "first_location_detected": {
            "path": f"src/app_{number}.py",
            "start_line": 3,
            "end_line": 3,
            "start_column": 5,
            "end_column": 18,
            "blob_sha": "b" * 40,
            "blob_url": "https://api.example.com/blob",
            "commit_sha": _commit(number),
            "commit_url": "https://api.example.com/commit",
        },
        "has_more_locations": True,
    }


def _gitlab(value: str, number: int) -> Json:
    return {
        "id": f"id-{number}",
        "category": "secret_detection",
        "name": "Some token",
        "message": f"Some token {value} detected.",
        "description": f"Some token detected in {_line(value)}",
        "cve": f"src/app.py:{number:064x}:some-token",
        "severity": "Critical",
        "confidence": "Unknown",
        "raw_source_code_extract": value,
        "scanner": {"id": "gitleaks", "name": "Gitleaks"},
        "location": {
            "file": f"src/app_{number}.py",
            "commit": {"sha": _commit(number), "date": "2026-11-01T10:00:00Z", "message": value},
            "start_line": number + 1,
            "end_line": number + 1,
        },
        "identifiers": [
            {"type": "gitleaks_rule_id", "name": "Gitleaks rule ID x", "value": "some-token"}
        ],
    }


def _gitlab_code(value: str, number: int) -> Json:
    return {
        "id": f"id-{number}",
        "name": f"Query built from '{value}'",
        "description": _line(value),
        "severity": "High",
        "confidence": "Medium",
        "location": {"file": "a.py", "start_line": number, "end_line": number, "class": "A"},
        "identifiers": [{"type": "cwe", "name": "CWE-89", "value": "89", "url": ""}],
    }


def _noseyparker(value: str, number: int) -> Json:
    points = {"start": {"line": 3, "column": 17}, "end": {"line": 3, "column": 29}}
    commit = {
        "commit_id": _commit(number),
        "author_email": "ada@example.com",
        "committer_timestamp": "1685495256 +0000",
        "message": f"use {value}",
    }
    provenance = {
        "kind": "git_repo",
        "repo_path": "./.git",
        "commit_provenance": {
            "commit_kind": "first_seen",
            "commit_metadata": commit,
            "blob_path": f"src/app_{number}.py",
        },
    }
    match = {
        "provenance": [provenance, {"kind": "file", "path": f"./src/copy_{number}.py"}],
        "blob_metadata": {"id": "b" * 40, "num_bytes": 5, "mime_essence": None, "charset": None},
        "blob_id": "b" * 40,
        "location": {"offset_span": {"start": 1, "end": 14}, "source_span": points},
        "snippet": {"before": "x = 1\n", "matching": _line(value), "after": f"# {value}\n"},
        "rule_name": "Generic API Key",
        "structural_id": f"{number:040x}",
        "score": None,
    }
    return {
        "finding_id": f"{number:040x}",
        "rule_name": "Generic API Key",
        "rule_text_id": "np.generic.1",
        "rule_structural_id": "e" * 40,
        "groups": [base64.b64encode(value.encode()).decode()],
        "num_matches": 1,
        "num_redundant_matches": 0,
        "statuses": [],
        "comment": f"{value} is old",
        "mean_score": None,
        "matches": [match],
    }


def _rusty_hog(value: str, number: int) -> Json:
    return {
        "commit": f"use {value}\n",
        "commitHash": _commit(number),
        "date": "2020-04-15 12:47:20",
        "diff": f"  {_line(value)}\n",
        "stringsFound": [value, f"second {value}"],
        "path": f"src/app_{number}.yml",
        "reason": "Generic key",
        "old_file_id": "a" * 40,
        "new_file_id": "b" * 40,
        "old_line_num": 35,
        "new_line_num": number,
        "parent_commit_hash": "d" * 40,
    }


def _rusty_ticket(value: str, number: int) -> Json:
    return {
        "stringsFound": [value],
        "reason": "Generic key",
        "issue_id": f"T-{number}",
        "location": "Issue Description",
        "url": f"https://tickets.example.com/T-{number}",
    }


def _sarif(value: str, number: int) -> Json:
    region = {
        "startLine": number + 1,
        "startColumn": 9,
        "endLine": number + 1,
        "endColumn": 40,
        "snippet": {"text": value},
    }
    place = {
        "artifactLocation": {"uri": f"src/app_{number}.py"},
        "region": region,
        "contextRegion": {"startLine": 1, "snippet": {"text": _line(value)}},
    }
    return {
        "ruleId": "generic-api-key",
        "level": "error",
        "message": {"text": f"generic-api-key has detected secret {value}."},
        "locations": [{"physicalLocation": place}],
        "partialFingerprints": {"commitSha": _commit(number), "email": "ada@example.com"},
        "fingerprints": {"v1": f"{number:040x}"},
        "properties": {"tags": ["key"], "note": "seen"},
    }


def _sarif_code(value: str, number: int) -> Json:
    return {**_sarif(value, number), "ruleId": "sql-injection"}


def _run(driver: str) -> Wrap:
    tool = {"driver": {"name": driver, "rules": [{"id": "generic-api-key", "name": "key"}]}}

    def wrap(records: list[Any]) -> bytes:
        run = {"tool": tool, "results": records}
        return dump({"version": "2.1.0", "$schema": "sarif-2.1.0.json", "runs": [run]})

    return wrap


def _secretlint(value: str, number: int) -> Json:
    message = {
        "message": f"found a key: {value}",
        "range": [29, 69],
        "type": "message",
        "ruleId": "@secretlint/secretlint-rule-pattern",
        "ruleParentId": "@secretlint/secretlint-rule-preset-recommend",
        "loc": {"start": {"line": 3, "column": 0}, "end": {"line": 3, "column": 40}},
        "severity": "error",
        "messageId": "PATTERN",
        "docsUrl": "https://docs.example.com",
        "data": {"KEY": value},
    }
    return {
        "filePath": f"/src/app_{number}.ini",
        "sourceContent": f"# all of it\n{_line(value)}\n",
        "sourceContentType": "text",
        "messages": [message],
    }


def _semgrep(value: str, number: int) -> Json:
    line = _line(value)
    rows = line.split("\n")
    return {
        "check_id": "python.secrets.hardcoded-token",
        "path": f"src/app_{number}.py",
        "start": {"line": number + 1, "col": 1, "offset": 0},
        "end": {"line": number + len(rows), "col": len(rows[-1]) + 1, "offset": len(line)},
        "extra": {
            "message": f"A token, {value}.",
            "severity": "ERROR",
            "metadata": {"cwe": ["CWE-798: Use of Hard-coded Credentials"], "confidence": "HIGH"},
            "metavars": {"$X": {"abstract_content": f'"{value}"', "start": {}, "end": {}}},
            "lines": line,
            "fingerprint": f"{number:040x}_0",
            "is_ignored": False,
            "engine_kind": "OSS",
        },
    }


def _semgrep_code(value: str, number: int) -> Json:
    record = _semgrep(value, number)
    record["extra"]["metavars"] = {}
    return {**record, "check_id": "python.lang.sql-injection"}


def _talisman(value: str, number: int) -> Json:
    failure = {
        "type": "filecontent",
        "message": f"Potential secret pattern : {_line(value)}",
        "commits": [_commit(number)],
        "severity": "low",
    }
    return {
        "filename": f"src/app_{number}.py",
        "failure_list": [failure],
        "warning_list": [],
        "ignore_list": [],
    }


def _trivy(value: str, number: int) -> Json:
    code = {"Lines": [{"Number": 2, "Content": _line(value)}, {"Number": 3, "Content": "key: ***"}]}
    secret = {
        "RuleID": "generic-api-key",
        "Category": "General",
        "Severity": "CRITICAL",
        "Title": "Generic key",
        "StartLine": 3,
        "EndLine": 3,
        "Code": code,
        "Match": "export KEY=********",
        "Offset": 36,
        "Layer": {"DiffID": "sha256:66"},
    }
    target = f"src/app_{number}.sh"
    return {"Target": target, "Class": "secret", "Type": "text", "Secrets": [secret]}


def _trivy_package(value: str, number: int) -> Json:
    vulnerability = {
        "VulnerabilityID": f"CVE-2024-{number + 10000}",
        "PkgID": "debug@3.0.1",
        "PkgName": "debug",
        "PkgIdentifier": {"PURL": "pkg:npm/debug@3.0.1", "UID": "45ac"},
        "InstalledVersion": "3.0.1",
        "FixedVersion": "3.1.0",
        "Status": "fixed",
        "Title": "debug: slow",
        "Description": f"A long text with {value}.",
        "Severity": "HIGH",
        "CweIDs": ["CWE-400"],
    }
    wrong = {
        "Type": "Dockerfile Security Check",
        "ID": "DS002",
        "AVDID": "AVD-DS-0002",
        "Title": "Image user should not be root",
        "Message": f"Specify a USER, not {value}",
        "Severity": "HIGH",
        "Status": "FAIL",
        "CauseMetadata": {"StartLine": 2, "Code": {"Lines": [{"Content": _line(value)}]}},
    }
    lists = {"Vulnerabilities": [vulnerability], "Misconfigurations": [wrong]}
    return {"Target": f"src/{number}.json", "Class": "lang-pkgs", "Type": "npm", **lists}


def _whispers(value: str, number: int) -> Json:
    return {
        "key": "service_token",
        "value": value,
        "file": f"src/app_{number}.yml",
        "line": number + 1,
        "rule_id": "apikey",
        "message": "Key",
        "severity": "CRITICAL",
    }


def _bandit(value: str, number: int) -> Json:
    return {
        "code": f"{number} {_line(value)}\n",
        "col_offset": 11,
        "end_col_offset": 26,
        "filename": f"./src/app_{number}.py",
        "issue_confidence": "MEDIUM",
        "issue_cwe": {"id": 259, "link": "https://cwe.example.com/259"},
        "issue_severity": "LOW",
        "issue_text": f"Possible hardcoded password: '{value}'",
        "line_number": number + 1,
        "line_range": [number + 1],
        "more_info": "https://docs.example.com/b105",
        "test_id": "B105",
        "test_name": "hardcoded_password_string",
    }


def _checkov(value: str, number: int) -> Json:
    digest = sha1(value.encode(), usedforsecurity=False).hexdigest()
    return {
        "check_id": "CKV_SECRET_6",
        "bc_check_id": None,
        "check_name": "Base64 High Entropy String",
        "check_result": {"result": "FAILED"},
        "code_block": [[5, f"{_line(value)}\n"]],
        "file_path": f"/src/app_{number}.py",
        "file_line_range": [5, 5],
        "resource": digest,
        "severity": None,
        "guideline": digest,
    }


def _checks(records: list[Any]) -> bytes:
    lists = {"failed_checks": records, "passed_checks": [], "skipped_checks": []}
    results = {**lists, "parsing_errors": []}
    return dump({"check_type": "secrets", "results": results, "summary": {}, "url": ""})


def _gosec(value: str, number: int) -> Json:
    return {
        "severity": "HIGH",
        "confidence": "LOW",
        "cwe": {"id": "798", "url": "https://cwe.example.com/798"},
        "rule_id": "G101",
        "details": "Potential hardcoded credentials",
        "file": f"/src/app_{number}.go",
        "code": f"12: \tpassword := {json.dumps(value, ensure_ascii=False)}\n13: \n",
        "line": "12",
        "column": "2",
        "nosec": False,
        "suppressions": None,
    }


def _n0s1(value: str, number: int) -> Json:
    return {
        "id": f"{number:064x}",
        "url": f"https://wiki.example.com/{number}",
        "secret": f"{_line(value)}\nkey = <REDACTED>\n",
        "details": {
            "matched_regex_config": {"id": "AWS", "description": "AWS Token", "regex": "x"},
            "platform": "Confluence",
            "ticket_field": "description",
        },
    }


def _tickets(records: list[Any]) -> bytes:
    found = {str(i): record for i, record in enumerate(records)}
    tool = {"name": "n0s1", "version": "1.0.30", "scan_arguments": {}}
    return dump({"tool": tool, "scan_date": {}, "regex_config": {"rules": []}, "findings": found})


def _credscan(value: str, number: int) -> Json:
    return {
        "TimeofDiscovery": "2021-04-10T21:43:46.792Z",
        "Source": f"src/app_{number}.config",
        "Searcher": "CSCAN-GENERAL0060 General Password",
        "Description": f"details of {value}",
        "Line": str(number + 1),
        "IsSuppressed": "NO",
        "HashKey": base64.b64encode(sha1(value.encode(), usedforsecurity=False).digest()).decode(),
        "SuppressJustification": value,
        "MatchingScore": "95.9",
    }


_GITLAB_SCAN = {
    "analyzer": {"id": "secrets", "vendor": {"name": "GitLab"}},
    "scanner": {"id": "gitleaks", "name": "Gitleaks", "version": "v8"},
    "start_time": "2026-11-01T10:00:00",
    "end_time": "2026-11-01T10:01:00",
    "status": "success",
}
_GGSHIELD = {"id": "scan", "type": "path_scan", "errors": [], "secrets_engine_version": "2.100.0"}

SHAPES = (
    Shape("gitleaks", gitleaks, _array),
    Shape("gitleaks lines", gitleaks, _lines),
    Shape("gitleaks csv", _gitleaks_csv, _csv),
    Shape("gitleaks 7", _gitleaks_7, _array),
    Shape("betterleaks 1", _betterleaks_1, _array),
    Shape("betterleaks 2", _betterleaks_2, _in("findings", schema_version="1")),
    Shape("betterleaks 2 lines", _betterleaks_2, _lines),
    Shape("trufflehog", trufflehog, _lines),
    Shape("trufflehog array", trufflehog, _array),
    Shape("trufflehog 2", _trufflehog_2, _lines),
    Shape("trufflehog3", _trufflehog3, _array),
    Shape("kingfisher", _kingfisher, _in("findings")),
    Shape("kingfisher lines", _kingfisher, _lines),
    Shape("credsweeper", _credsweeper, _array),
    Shape("ggshield", _ggshield, _in("entities_with_incidents", **_GGSHIELD)),
    Shape("github-secret-scanning", _github, _array),
    Shape(
        "gitlab",
        _gitlab,
        _in("vulnerabilities", version="15.0.4", scan={**_GITLAB_SCAN, "type": "secret_detection"}),
    ),
    Shape("noseyparker", _noseyparker, _array),
    Shape("noseyparker lines", _noseyparker, _lines),
    Shape("rusty-hog", _rusty_hog, _array),
    Shape("rusty-hog tickets", _rusty_ticket, _array),
    Shape("sarif", _sarif, _run("gitleaks"), decides="ruleId"),
    Shape("secretlint", _secretlint, _array),
    Shape("semgrep", _semgrep, _in("results", version="1.97.0", errors=[]), Reads.LINE, "check_id"),
    Shape("talisman", _talisman, _in("results", summary={"types": {"filecontent": 1}}), Reads.LINE),
    Shape("whispers", _whispers, _array),
    Shape(
        "bandit",
        _bandit,
        _in("results", errors=[], generated_at="", metrics={}),
        Reads.LINE,
        "test_id",
    ),
    Shape("gosec", _gosec, _in("Issues", Stats={"found": 1}), Reads.LINE, "rule_id"),
    Shape(
        "trivy", _trivy, _in("Results", SchemaVersion=2, ArtifactName="web:1"), reads=Reads.NOWHERE
    ),
    Shape(
        "trivy packages",
        _trivy_package,
        _in("Results", SchemaVersion=2, ArtifactName="web:1"),
        reads=Reads.NOWHERE,
    ),
    Shape("detect-secrets", _detect_secrets, _baseline, reads=Reads.NOWHERE),
    Shape("checkov", _checkov, _checks, Reads.NOWHERE, "check_id"),
    Shape("n0s1", _n0s1, _tickets, reads=Reads.NOWHERE),
    Shape("credscan", _credscan, _csv, reads=Reads.NOWHERE),
    Shape(
        "gitlab code",
        _gitlab_code,
        _in("vulnerabilities", version="15.0.4", scan={**_GITLAB_SCAN, "type": "sast"}),
        reads=Reads.NOWHERE,
    ),
    Shape("sarif code", _sarif_code, _run("CodeQL"), reads=Reads.NOWHERE),
    Shape("semgrep code", _semgrep_code, _in("results", version="1.97.0"), reads=Reads.NOWHERE),
)


def spellings(text: str) -> list[str]:
    """Forms in which a tool may repeat a value somewhere else."""
    data = text.encode()
    return [
        text,
        text,
        quote(text, safe=""),
        json.dumps(text)[1:-1],
        html.escape(text),
        data.hex(),
        base64.b64encode(data).decode(),
    ]


def tidy(shape: Shape, values: Sequence[Value]) -> bytes:
    """A report with values only where the scanner puts them."""
    return shape.wrap([shape.record(value.text, i) for i, value in enumerate(values)])


def strayed(shape: Shape, values: Sequence[Value], chance: random.Random) -> bytes:
    """A report whose values also stand where no scanner puts them, one place a record.

    The first record stays tidy: a format may be recognised by it.
    """
    records = []
    for number, value in enumerate(values):
        record = shape.record(value.text, number)
        if number and (shape.knows(value) or value.told):
            names = _NAMES if number > _NAMES_FROM * len(values) else 0.0
            _stray(shape, record, value, names, chance)
        records.append(record)
    return shape.wrap(records)


def _stray(shape: Shape, record: Json, value: Value, names: float, chance: random.Random) -> None:
    """Puts the value into a text of the record that does not hold it, or into the name
    of a member.
    """
    holder, key = chance.choice(list(_texts(record, shape.decides, spellings(value.text))))
    text = holder[key]
    if isinstance(holder, dict) and chance.random() < names:
        holder[value.text] = text
        return
    written = chance.choice(spellings(value.text)) if shape.knows(value) else value.text
    holder[key] = chance.choice((written, f"{text}/{written}", f"{written}:{text}"))


def _texts(node: Any, decides: str, known: list[str]) -> Iterator[tuple[Any, Any]]:
    """Every text below a node, by what holds it, but those that hold what is known."""
    members = node.items() if isinstance(node, dict) else enumerate(node)
    for key, member in list(members):
        if isinstance(member, dict | list):
            yield from _texts(member, decides, known)
        elif isinstance(member, str) and key != decides and not any(f in member for f in known):
            yield node, key
