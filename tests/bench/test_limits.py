"""The limits are measured on real parts: decoders, a PostgreSQL, processes."""

from __future__ import annotations

import subprocess
import sys

import psycopg
import pytest

from bench.limits import copy_binary, json_loads, msgspec_decode
from bench.measure import cpu_seconds, descendants, peak_rss
from cli.loading.reports import generate

_BUSY = """
import subprocess, sys, time
block = bytearray(64 << 20)
child = subprocess.Popen([sys.executable, "-c", '''
import time
until = time.process_time() + 0.3
while time.process_time() < until: pass
print("ready", flush=True)
input()
'''], stdin=sys.stdin, stdout=subprocess.PIPE, text=True)
child.stdout.readline()
print("ready", flush=True)
child.wait()
"""


@pytest.mark.parametrize("report_format", ["gitleaks", "sarif", "trufflehog"])
def test_decoders_count_every_finding(report_format: str) -> None:
    report = b"".join(generate(report_format, 500))
    lines = report_format == "trufflehog"
    for limit in (json_loads, msgspec_decode):
        figures = limit(report, lines=lines)
        assert figures["findings"] == 500
        assert figures["cpu_us_per_finding"] == figures["cpu_seconds"] / 500 * 1e6


def test_copy_writes_every_row_and_leaves_no_table(database_url: str) -> None:
    figures = copy_binary(database_url, 2_000)
    assert figures["rows"] == 2_000
    assert figures["backend_cpu_seconds"] is not None
    with psycopg.connect(database_url) as connection:
        left = connection.execute("SELECT count(*) FROM pg_tables WHERE tablename LIKE 'winnow%'")
        assert left.fetchone() == (0,)


def test_processes_are_measured_with_their_children() -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", _BUSY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    assert parent.stdout.readline() == "ready\n"
    try:
        (child,) = descendants(parent.pid)
        assert cpu_seconds(parent.pid) + cpu_seconds(child) >= 0.3
        assert peak_rss(parent.pid) >= 64 << 20
        assert peak_rss(parent.pid) > peak_rss(child)
    finally:
        parent.communicate("\n")
    with pytest.raises(FileNotFoundError):
        cpu_seconds(parent.pid)
