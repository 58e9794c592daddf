"""Small reports of every format that is read, to be damaged.

The first records of the recorded reports, and one report by hand of each format
that no scanner here writes, with made-up values.
"""

from __future__ import annotations

import functools
import json
from typing import Any

from tests.fixtures import load_report, names

_FEW = 2
VALUE = "made-up-" + "7c1d" * 5

_LINES = {"line_start": 3, "line_end": 3, "index_start": 1, "index_end": 9}
_FINDING = {"type": "secret", "match": VALUE, **_LINES}
_INCIDENT = {
    "policy": "Secrets detection",
    "type": "Generic Password",
    "validity": "unknown",
    "ignore_sha": "0f" * 32,
    "total_occurrences": 1,
    "occurrences": [_FINDING],
}
_BY_HAND: dict[str, Any] = {
    "ggshield": {
        "id": "scan",
        "type": "path_scan",
        "entities_with_incidents": [
            {"mode": "FILE", "filename": "a.py", "incidents": [_INCIDENT], "total_incidents": 1}
        ],
        "total_incidents": 1,
        "total_occurrences": 1,
        "secrets_engine_version": "2.100.0",
    },
    "github-secret-scanning": [
        {
            "number": 2,
            "created_at": "2026-01-02T03:04:05Z",
            "url": "https://git.example/alerts/2",
            "html_url": "https://git.example/2",
            "locations_url": "https://git.example/alerts/2/locations",
            "state": "resolved",
            "resolution": "false_positive",
            "secret_type": "made_up_token",
            "secret_type_display_name": "Made-up token",
            "secret": VALUE,
            "validity": "active",
            "first_location_detected": {"path": "a.py", "start_line": 3, "commit_sha": "0f" * 20},
        }
    ],
    "gitlab": {
        "version": "15.0.4",
        "vulnerabilities": [
            {
                "id": "0f" * 32,
                "name": "Made-up token",
                "description": "A token.",
                "severity": "Critical",
                "raw_source_code_extract": VALUE,
                "cve": f"a.py:{'0f' * 32}:made-up",
                "category": "secret_detection",
                "location": {"file": "a.py", "commit": {"sha": "0000000"}, "start_line": 3},
                "identifiers": [{"type": "gitleaks_rule_id", "name": "n", "value": "made-up"}],
            }
        ],
        "scan": {"type": "secret_detection", "status": "success", "scanner": {"id": "gitleaks"}},
    },
    "gosec": {
        "Golang errors": {},
        "Issues": [
            {
                "severity": "HIGH",
                "confidence": "LOW",
                "cwe": {"id": "798", "url": "https://cwe.example/798"},
                "rule_id": "G101",
                "details": "Potential hardcoded credentials",
                "file": "/app/a.go",
                "code": f'3: password := "{VALUE}"',
                "line": "3",
                "column": "1",
            }
        ],
        "Stats": {"files": 1, "lines": 9, "nosec": 0, "found": 1},
    },
    "n0s1": {
        "tool": {"name": "n0s1", "version": "1.0.30"},
        "scan_date": {"timestamp": 1761751223.02, "date_utc": "2025-10-29T15:20:23"},
        "regex_config": {"title": "t", "rules": [{"id": "made-up", "regex": "m"}]},
        "findings": {
            "0f" * 20: {
                "id": "0f" * 20,
                "url": "https://wiki.example/1",
                "secret": VALUE,
                "details": {
                    "matched_regex_config": {"id": "made-up", "description": "Made-up token"},
                    "platform": "Confluence",
                    "ticket_field": "comment",
                },
            }
        },
    },
    "noseyparker": [
        {
            "type": "finding",
            "rule_name": "Made-up token",
            "match_content": VALUE,
            "num_matches": 1,
            "matches": [
                {
                    "provenance": [{"kind": "file", "path": "a.py"}],
                    "location": {
                        "offset_span": {"start": 1, "end": 9},
                        "source_span": {
                            "start": {"line": 3, "column": 1},
                            "end": {"line": 3, "column": 9},
                        },
                    },
                    "capture_group_index": 1,
                    "match_content": VALUE,
                    "snippet": {"before": "a = ", "matching": VALUE, "after": "\n"},
                    "rule_name": "Made-up token",
                }
            ],
        }
    ],
    "rusty-hog": [
        {
            "commit": "x",
            "commitHash": "0f" * 20,
            "date": "2026-01-02 03:04:05",
            "diff": f"+a = {VALUE}",
            "stringsFound": [VALUE],
            "path": "a.py",
            "reason": "Made-up token",
            "old_file_id": "0f" * 20,
            "new_file_id": "1f" * 20,
            "old_line_num": 0,
            "new_line_num": 3,
            "parent_commit_hash": "2f" * 20,
        }
    ],
    "secretlint": [
        {
            "filePath": "a.py",
            "sourceContent": f"a = {VALUE}",
            "sourceContentType": "text",
            "messages": [
                {
                    "type": "message",
                    "ruleId": "@secretlint/secretlint-rule-made-up",
                    "messageId": "m",
                    "message": f"found: {VALUE}",
                    "severity": "error",
                    "range": [4, 12],
                    "loc": {"start": {"line": 1, "column": 4}, "end": {"line": 1, "column": 12}},
                    "data": {"KEY": VALUE},
                }
            ],
        }
    ],
    "talisman": {
        "summary": {"types": {"filecontent": 1}},
        "results": [
            {
                "filename": "a.py",
                "failure_list": [
                    {
                        "type": "filecontent",
                        "message": f"Potential secret pattern : a = {VALUE}",
                        "severity": "high",
                        "commits": ["0f" * 20],
                    }
                ],
                "warning_list": [],
                "ignore_list": [],
            }
        ],
    },
    "trivy": {
        "SchemaVersion": 2,
        "ArtifactName": ".",
        "Results": [
            {
                "Target": "a.py",
                "Class": "secret",
                "Secrets": [
                    {
                        "RuleID": "made-up",
                        "Category": "general",
                        "Severity": "HIGH",
                        "Title": "Made-up token",
                        "StartLine": 3,
                        "EndLine": 3,
                        "Code": {"Lines": [{"Number": 3, "Content": f"a = {VALUE}"}]},
                        "Match": "a = ****",
                    }
                ],
            },
            {
                "Target": "a.lock",
                "Class": "lang-pkgs",
                "Type": "npm",
                "Vulnerabilities": [
                    {
                        "VulnerabilityID": "CVE-2026-0001",
                        "PkgName": "left-pad",
                        "InstalledVersion": "1.3.0",
                        "Severity": "LOW",
                        "PkgIdentifier": {"PURL": "pkg:npm/left-pad@1.3.0"},
                    }
                ],
            },
        ],
    },
    "trufflehog3": [
        {
            "rule": {"id": "made-up", "message": "Made-up token", "severity": "HIGH"},
            "path": "a.py",
            "line": "3",
            "secret": VALUE,
            "context": {"3": f"a = {VALUE}"},
            "id": "0f" * 16,
            "branch": "main",
            "message": "add",
            "author": "ada",
            "commit": "0f" * 20,
            "date": "2026-01-02T03:04:05Z",
        }
    ],
    "whispers": [
        {
            "key": "a",
            "value": VALUE,
            "file": "a.py",
            "line": 3,
            "rule_id": "made-up",
            "message": "Made-up token",
            "severity": "HIGH",
        }
    ],
}
_CREDSCAN = (
    "TimeofDiscovery,Source,Searcher,Description,Line,IsSuppressed,HashKey,SuppressJustification,"
    "MatchingScore\n2026-01-02T03:04:05Z,E:a.config,CSCAN-GENERAL0060 Password,made up,10,NO,"
    '4BszeHDdqD3q=,"",1.00\n'
)


def _few(found: Any) -> Any:
    """The same with at most a few elements in every list, and members of every map of files."""
    if isinstance(found, list):
        return [_few(item) for item in found[:_FEW]]
    if isinstance(found, dict):
        kept = list(found.items())
        if len(kept) > 40:
            kept = kept[:_FEW]
        return {key: _few(item) for key, item in kept}
    return found


def _small(name: str) -> bytes:
    report = load_report(name)
    if name.endswith(".csv"):
        return b"".join(report.splitlines(keepends=True)[: 1 + _FEW])
    try:
        return json.dumps(_few(json.loads(report)), ensure_ascii=False).encode()
    except ValueError:
        return b"".join(report.splitlines(keepends=True)[: 2 + _FEW])


@functools.cache
def seeds() -> dict[str, bytes]:
    """Small reports by name; those by hand are named as their scanner."""
    recorded = {name: _small(name) for name in names()}
    by_hand = {name: json.dumps(report).encode() for name, report in _BY_HAND.items()}
    return recorded | by_hand | {"credscan": _CREDSCAN.encode()}
