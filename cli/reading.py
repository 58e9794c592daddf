"""Reading without a server: `winnow formats` and `winnow parse`.

What `parse` shows is what the ingestor would read, by its own code; keys are
drawn for the call and forgotten, and nothing leaves the machine.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from cli.usage import ERROR, ListFormat, complain, opened, reporting_errors

if TYPE_CHECKING:
    from winnow.ingest.v1.ingest_service_pb2 import IngestResponse

Json = dict[str, Any]

_CHUNK = 1 << 18
_KEY_BYTES = 32


def formats(
    output: Annotated[ListFormat, typer.Option("--format")] = ListFormat.TABLE,
) -> None:
    """List the scanners' formats that this build reads."""
    from cli import render
    from cli.terminal import console, dump
    from gateway.translate import to_json
    from ingestor.formats import known

    answers = [to_json(described) for described in known()]
    if output is ListFormat.JSON:
        print(dump(answers))
    else:
        render.formats(console(), answers)


def parse(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A report; - for stdin.")],
    scanner: Annotated[
        str, typer.Option(help="Which scanner wrote it; found out by content if not given.")
    ] = "",
    output: Annotated[
        ListFormat, typer.Option("--format", help="json also holds every finding.")
    ] = ListFormat.TABLE,
    limit: Annotated[
        int, typer.Option(min=0, help="Findings in the table at most; 0 for all.")
    ] = 20,
) -> None:
    """Show what would be read of a report: offline, and without a verdict.

    Exit codes: 0 every record was read, 1 some could not be, 2 no report that is read.
    """
    from cli import render
    from cli.terminal import console, dump
    from runtime.errors import WinnowError

    with reporting_errors(), opened(file) as data:
        try:
            # A table needs no more than it shows; JSON holds everything.
            answer = _read(data, scanner, limit if output is ListFormat.TABLE else 0)
        except WinnowError as error:
            complain(f"{file}: {error.message} ({error.reason})")
            raise typer.Exit(ERROR) from None
    if output is ListFormat.JSON:
        print(dump(answer))
    else:
        render.reading(console(), answer, "stdin" if file == "-" else file)
    if answer["records"]["rejected"]:
        raise typer.Exit(1)


def _chunks(data: BinaryIO) -> Iterator[bytes]:
    while chunk := data.read(_CHUNK):
        yield chunk


def _read(data: BinaryIO, scanner: str, most: int) -> Json:
    """What is read, with up to `most` findings and rejected records; 0 for all."""
    from gateway.translate import to_json
    from ingestor.parsing import IngestKeys, read_report
    from runtime.clock import uuid7
    from winnow.ingest.v1.ingest_service_pb2 import IngestHeader

    keys = IngestKeys(os.urandom(_KEY_BYTES), os.urandom(_KEY_BYTES))
    header = IngestHeader(report_id=str(uuid7()), scanner_type=scanner)
    answer: Json = {"findings": [], "rejected": []}
    rules: Counter[str] = Counter()
    for response in read_report(_chunks(data), header, keys):
        _add(answer, rules, response, to_json, most)
    if not most:
        answer["rules"] = dict(rules.most_common())
    return answer


def _add(
    answer: Json, rules: Counter[str], response: IngestResponse, to_json: Any, most: int
) -> None:
    match response.WhichOneof("payload"):
        case "format":
            answer["format"] = to_json(response.format)
        case "batch":
            for finding in response.batch.findings:
                rules[finding.rule_id] += 1
                if most and len(answer["findings"]) >= most:
                    continue
                # Sealed with a key that nobody has, and fingerprints that nothing meets.
                for field in (
                    "sealed_evidence",
                    "value_fingerprint",
                    "place_fingerprint",
                    "occurrence_fingerprint",
                ):
                    finding.ClearField(field)
                answer["findings"].append(to_json(finding))
        case "rejected":
            some = list(response.rejected.rejected)
            if most:
                some = some[: max(most - len(answer["rejected"]), 0)]
            answer["rejected"] += [to_json(one) for one in some]
        case "summary":
            summary = to_json(response.summary)
            answer["notices"] = summary.pop("notices")
            answer["bytes_read"] = summary.pop("bytes_read")
            answer["records"] = {"read": summary.pop("records_read"), **summary}


def register(app: typer.Typer) -> None:
    """Adds these commands to the `winnow` command."""
    for command in (formats, parse):
        app.command()(command)
