"""Reads a collection of real reports and holds what is read against what is in them.

Usage: conformance.py [SAMPLES]   (or the environment's WINNOW_SAMPLES)

The folder has an `index.json`: `files[]` with `file` (relative), `format` and
`raw_records`, the number of records that are really in the file. Prints a line
for each format and ends with code 1 if any number differs, or a file is refused
whose format is read.
"""

from __future__ import annotations

import json
import os
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ingestor.parsing import IngestKeys, read_report
from runtime.errors import WinnowError
from runtime.sealing import KEY_BYTES
from winnow.ingest.v1.ingest_service_pb2 import IngestHeader, IngestSummary
from winnow.ingest.v1.notice_pb2 import NoticeKind

_CHUNK = 256 << 10
_KEYS = IngestKeys(b"\1" * KEY_BYTES, b"\2" * KEY_BYTES)
_REPORT = str(uuid.UUID(int=1))
_COLUMNS = "{:22} {:24} {:>5} {:>8} {:>8} {:>6} {:>8} {:>7} {:>7} {:>7}"

# Formats that are refused, with the reason of the error.
_REFUSED = {
    "asff": "findings of AWS Security Hub: not read yet",
    "csaf": "an advisory, no scanner's findings",
    "cyclonedx": "a list of components and their vulnerabilities: not read yet",
    "cyclonedx_vex": "statements about findings, no findings",
    "dsse": "a signed envelope: send what is in it",
    "grype": "vulnerabilities of packages: not read yet; its SARIF is",
    "hadolint": "not read yet; its SARIF is",
    "in_toto": "attestations, no findings",
    "kics": "not read yet; its SARIF is",
    "kingfisher_baseline": "YAML without values, whose fingerprints are not those of the reports",
    "kingfisher_toon": "TOON, for language models: send JSON",
    "openvex": "statements about findings, no findings",
    "osv_scanner": "vulnerabilities of packages: not read yet; its SARIF is",
    "spdx": "a list of packages, no findings",
}
# Files that are no report of the format that their folder says.
_NO_REPORT = {
    "github_secret_scanning/dd__github_secrets_detection_report_invalid.json": "{}",
    "noseyparker/dd__empty_with_error.json": "another tool's log",
}
# What the index does not count, or otherwise than the format's own words, counted by hand.
# The rest of what it does not count is read without comparison.
_COUNTED = {
    "sarif/ms__tut_No_runs.sarif": 0,
    "osv_scanner/dd__no_findings.json": 0,
    "kics/dd__no_findings.json": 0,
    # The index looks at the top only: these are below `Resources`.
    "trivy/dd__kubernetes_fabricated_internal_duplicates.json": 13,
    "trivy/dd__kubernetes_fabricated_subset.json": 13,
    # With what was suppressed (`ExperimentalModifiedFindings`).
    "trivy/tv__npm-with-suppressed.json": 2,
    "semgrep/dd__sca-deployments-vulns.json": 22,
    "semgrep_pro/dd__no_vuln.json": 0,
    "semgrep_pro/dd__one_vuln.json": 1,
    "trivy_operator/dd__exposedsecretreport_many.json": 2,
    "trivy_operator/dd__exposedsecretreport_no_vuln.json": 0,
    "whispers/dd__empty_with_error.json": 0,
    "whispers/dd__whispers_many_vul.json": 5,
    "whispers/dd__whispers_zero_vul.json": 0,
}


@dataclass
class _Format:
    """What the files of one format came to."""

    parsers: set[str] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    peak: int = 0  # MiB
    problems: list[str] = field(default_factory=list)


def _chunks(report: bytes) -> Iterator[bytes]:
    for start in range(0, len(report), _CHUNK):
        yield report[start : start + _CHUNK]


def _read(report: bytes) -> tuple[str, IngestSummary]:
    """Parser and summary of one report.

    Raises:
        WinnowError: the report is refused.
    """
    parser, summary = "", IngestSummary()
    for response in read_report(_chunks(report), IngestHeader(report_id=_REPORT), _KEYS):
        match response.WhichOneof("payload"):
            case "format":
                parser = response.format.parser or "(empty)"
            case "summary":
                summary = response.summary
    return parser, summary


def _sample(folder: Path, sample: dict[str, Any], found: _Format) -> None:
    """Reads one file, and notes what differs from the index."""
    report = (folder / sample["file"]).read_bytes()
    counts = found.counts
    counts["files"] += 1
    began = time.perf_counter()
    try:
        parser, summary = _read(report)
    except WinnowError as error:
        counts["refused"] += 1
        if sample["format"] not in _REFUSED and sample["file"] not in _NO_REPORT:
            found.problems.append(f"{sample['file']}: {error.reason}")
        return
    found.seconds += time.perf_counter() - began
    counts["bytes"] += len(report)
    if parser != "(empty)":
        found.parsers.add(parser)
        if sample["format"] in _REFUSED:
            found.problems.append(f"{sample['file']}: is listed as refused, and read by {parser}")
    for name in ("records_read", "findings", "merged", "rejected"):
        counts[name] += getattr(summary, name)
    unknown = sum(n.kind == NoticeKind.NOTICE_KIND_UNKNOWN_FIELD for n in summary.notices)
    counts["unknown"] += unknown
    expected = _COUNTED.get(sample["file"], sample["raw_records"])
    if expected is None:
        counts["not counted"] += 1
    elif expected != summary.records_read:
        found.problems.append(
            f"{sample['file']}: {summary.records_read} records were read, there are {expected}"
        )


def _reset_peak() -> None:
    """Lets the kernel count the peak of this process's memory anew (proc(5))."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _peak() -> int:
    """The peak of this process's memory since then, in MiB."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) >> 10


def _line(name: str, found: _Format) -> str:
    counts = found.counts
    if counts["refused"] == counts["files"]:
        reason = _REFUSED.get(name, "not recognised")
        return f"{name:22} refused ({counts['files']}): {reason}"
    speed = counts["bytes"] / found.seconds / 1e6 if found.seconds else 0.0
    return _COLUMNS.format(
        name,
        ",".join(sorted(found.parsers)) or "(empty)",
        counts["files"],
        *(
            counts[column]
            for column in ("records_read", "findings", "merged", "rejected", "unknown")
        ),
        f"{speed:.1f}",
        found.peak,
    )


def main(folder: Path) -> int:
    """Prints the table, and returns the number of problems."""
    index = folder / "index.json"
    if not index.is_file():
        raise SystemExit("usage: conformance.py SAMPLES: a folder with an index.json")
    samples = [
        sample
        for sample in json.loads(index.read_bytes())["files"]
        if (folder / sample["file"]).is_file()
    ]
    formats = {name: _Format() for name in sorted({sample["format"] for sample in samples})}
    titles = ("format", "parsers", "files", "records", "findings", "merged", "rejected")
    print(_COLUMNS.format(*titles, "unknown", "MB/s", "RSS MiB"))
    total: Counter[str] = Counter()
    for name, found in formats.items():
        _reset_peak()
        for sample in samples:
            if sample["format"] == name:
                _sample(folder, sample, found)
        found.peak = _peak()
        print(_line(name, found), flush=True)
        total += found.counts
    problems = [problem for found in formats.values() for problem in found.problems]
    print(
        f"{total['files']} files, {total['refused']} of them refused; "
        f"{total['records_read']} records, {total['rejected']} rejected; "
        f"{total['not counted']} files read that the index does not count; "
        f"{len(problems)} differ"
    )
    for problem in problems:
        print(f"  {problem}")
    return len(problems)


if __name__ == "__main__":
    sys.exit(min(1, main(Path((sys.argv[1:] or [os.environ.get("WINNOW_SAMPLES", "")])[0]))))
