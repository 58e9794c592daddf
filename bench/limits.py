"""What the machine can do at best, measured in the same run as we are.

A figure of ours means little by itself; next to the time that `json.loads`
needs for the same file, or `COPY … BINARY` for as many rows, it does. Every
function returns a small dict, as `bench.measure.measure` makes it.
"""

from __future__ import annotations

import json
import random
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import psycopg
from psycopg.types.json import Jsonb

from bench.measure import Figures, cpu_seconds, measure


class GitleaksFinding(msgspec.Struct, gc=False):
    """The fields of a gitleaks finding that a reader cannot do without."""

    RuleID: str
    StartLine: int
    Match: str
    Secret: str
    File: str
    Commit: str = ""
    Author: str = ""
    Email: str = ""
    Date: str = ""
    Message: str = ""
    Fingerprint: str = ""


def _count(document: Any) -> int:
    """Findings in a decoded gitleaks array or SARIF log."""
    if isinstance(document, list):
        return len(document)
    return sum(len(run["results"]) for run in document["runs"])


def json_loads(report: bytes, *, lines: bool = False) -> Figures:
    """The standard library's decoder over the whole report; `lines` for NDJSON.

    The report and everything decoded from it stand in memory at once: about
    five times the report's size.
    """

    def work() -> int:
        if lines:
            return len([json.loads(line) for line in report.splitlines()])
        return _count(json.loads(report))

    return measure(work, "finding")


def msgspec_decode(report: bytes, *, lines: bool = False) -> Figures:
    """msgspec over the whole report: typed structs for gitleaks, plain objects otherwise."""

    def work() -> int:
        if lines:
            return len(msgspec.json.Decoder().decode_lines(report))
        if report.lstrip()[:1] == b"[":
            return len(msgspec.json.decode(report, type=list[GitleaksFinding]))
        return _count(msgspec.json.decode(report))

    return measure(work, "finding")


_COLUMNS = {
    "report_id": "uuid",
    "ordinal": "int8",
    "kind": "int2",
    "tool": "text",
    "rule_id": "text",
    "rule_name": "text",
    "severity": "int2",
    "validity": "int2",
    "value_preview": "text",
    "value_fingerprint": "bytea",
    "place_fingerprint": "bytea",
    "occurrence_fingerprint": "bytea",
    "sealed_evidence": "bytea",
    "path": "text",
    "line": "int4",
    "commit": "text",
    "native_id": "text",
    "changed_at": "timestamptz",
    "raw_metadata": "jsonb",
}


def _rows(count: int) -> list[tuple[Any, ...]]:
    """Rows of the width of a stored finding: about 1 KiB, more than half of it sealed."""
    rng = random.Random(19)
    report, changed = uuid.UUID(int=rng.getrandbits(128)), datetime(2026, 5, 7, tzinfo=UTC)
    sealed = [rng.randbytes(rng.randint(450, 650)) for _ in range(256)]
    digests = [rng.randbytes(32) for _ in range(256)]
    metadata = Jsonb({"Entropy": "4.21", "Email": "ada@acme.example"})
    return [
        (
            report,
            ordinal,
            1,
            "gitleaks",
            "generic-api-key",
            "Generic API key",
            0,
            0,
            "ab…(32)",
            digests[ordinal & 255],
            digests[ordinal * 3 & 255],
            digests[ordinal * 7 & 255],
            sealed[ordinal & 255],
            f"services/payments/core/settings_{ordinal % 997}.py",
            ordinal % 4_000 + 1,
            digests[ordinal * 5 & 255].hex()[:40],
            f"settings_{ordinal % 997}.py:generic-api-key:{ordinal}",
            changed,
            metadata,
        )
        for ordinal in range(count)
    ]


def copy_binary(database_url: str, rows: int) -> Figures:
    """`COPY … FROM STDIN BINARY` of `rows` 19-column rows, committed, into a table of its own.

    The table has a primary key, is logged like any other, and is dropped again.
    Making the rows is not counted, encoding them is. `backend_cpu_seconds` is
    the server process's part, None where the server is on another machine.

    Raises:
        psycopg.Error: the server cannot be reached or may not create a table.
    """
    table = f"winnow_limit_{uuid.uuid4().hex}"
    made = _rows(rows)
    definition = ", ".join(f'"{name}" {kind} NOT NULL' for name, kind in _COLUMNS.items())
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(f"CREATE TABLE {table} ({definition}, PRIMARY KEY (report_id, ordinal))")
        try:
            backend = connection.info.backend_pid
            before = _backend_cpu(backend)

            def work() -> int:
                with (
                    connection.transaction(),
                    connection.cursor() as cursor,
                    cursor.copy(f"COPY {table} FROM STDIN (FORMAT BINARY)") as copy,
                ):
                    copy.set_types(list(_COLUMNS.values()))
                    write = copy.write_row
                    for row in made:
                        write(row)
                return rows

            figures = measure(work, "row")
            after = _backend_cpu(backend)
        finally:
            connection.execute(f"DROP TABLE {table}")
    known = before is not None and after is not None
    figures["backend_cpu_seconds"] = after - before if known else None  # type: ignore[operator]
    return figures


def _backend_cpu(pid: int) -> float | None:
    try:
        name = Path(f"/proc/{pid}/comm").read_text()
    except OSError:
        return None
    # Another machine's process number may belong to anything here.
    return cpu_seconds(pid) if name.startswith("postgres") else None
