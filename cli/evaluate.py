"""`winnow evaluate`: labelled findings through the real moderator, and its figures.

A moderator is started in this process and asked over gRPC, as the orchestrator
asks it; evidence is sealed with a key that is drawn for the run.
"""

from __future__ import annotations

import os
import tempfile
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.usage import ERROR, complain

if TYPE_CHECKING:
    from cli.evaluation.records import Record
    from winnow.finding.v1.finding_batch_pb2 import FindingBatch
    from winnow.finding.v1.verdict_pb2 import Verdict
    from winnow.moderate.v1.moderate_service_pb2 import ModerateHeader

_BATCH = 256
_KEY = os.urandom(32)  # of this run only
_REPORT = uuid.UUID(int=0x40008000000000000000)
_CHUNK = 1 << 18
_DEADLINE = 60.0


class Profile(StrEnum):
    """How readily something is called dangerous."""

    STRICT = "strict"
    BALANCED = "balanced"
    QUIET = "quiet"


def evaluate(
    labelled: Annotated[
        Path, typer.Argument(metavar="LABELLED", help="Labelled findings, JSON Lines, plain or gz.")
    ],
    profile: Annotated[Profile, typer.Option(help="The moderator's profile.")] = Profile.BALANCED,
    only: Annotated[
        list[str] | None,
        typer.Option(help="Only records with this field: emitted=true; may be repeated."),
    ] = None,
    words: Annotated[
        bool, typer.Option("--words", help="Take the versions with values made of words.")
    ] = False,
    predictions: Annotated[
        Path | None, typer.Option(help="Write {id, score, risk} for each record here.")
    ] = None,
    diagram: Annotated[
        Path | None, typer.Option(help="Draw the reliability diagram here, as SVG.")
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(help="Judge this scanner's report, joined to the labels by path and line."),
    ] = None,
    scanner: Annotated[
        str, typer.Option("--format", help="Which scanner wrote the report, if not by content.")
    ] = "",
) -> None:
    """Measure the moderator on labelled findings: no server, no language model.

    Precision, recall and F1 are those at a confidence of one half.
    """
    import asyncio
    import json

    from cli.evaluation.records import load
    from runtime.errors import WinnowError

    try:
        records = [record for record in load(labelled) if _matches(record, only or [])]
        if not records:
            raise ValueError(f"{labelled.name}: no labelled record is left")
        if report is not None:
            records, batches = _joined(report, scanner, records)
        else:
            batches = list(_made(records, words))
        verdicts = asyncio.run(_judged(batches, profile.value))
        predicted = [_prediction(*pair) for pair in zip(records, verdicts, strict=True)]
        lines, drawn = _figures(records, predicted)
    except OSError as error:
        complain(f"{error.filename}: {(error.strerror or 'cannot be read').lower()}")
        raise typer.Exit(ERROR) from None
    except WinnowError as error:
        complain(f"{report}: {error.message} ({error.reason})")
        raise typer.Exit(ERROR) from None
    except ValueError as error:
        complain(str(error))
        raise typer.Exit(ERROR) from None
    print("\n".join(lines))
    if predictions is not None:
        predictions.write_text("".join(json.dumps(one) + "\n" for one in predicted))
    if diagram is not None:
        diagram.write_text(drawn)


def _matches(record: Record, wanted: Sequence[str]) -> bool:
    for one in wanted:
        name, equals, value = one.partition("=")
        if not (name and equals):
            raise ValueError("--only must read field=value")
        found = record.get(name)
        if value != (str(found).lower() if isinstance(found, bool) else str(found)):
            return False
    return True


def _made(records: Sequence[Record], words: bool) -> Iterator[FindingBatch]:
    """The records as findings of their first reporters, sealed."""
    from cli.evaluation.records import reporters, subject
    from runtime.sealing import EVIDENCE, Sealer
    from winnow.finding.v1.finding_batch_pb2 import FindingBatch

    sealer = Sealer(_KEY, _REPORT, EVIDENCE)
    for start in range(0, len(records), _BATCH):
        batch = FindingBatch()
        for ordinal, record in enumerate(records[start : start + _BATCH]):
            made = subject(record, reporters(record), words=words)
            finding = batch.findings.add()
            finding.CopyFrom(made.finding)
            finding.ordinal = ordinal
            if made.evidence is not None:
                plain = made.evidence.SerializeToString()
                finding.sealed_evidence = sealer.seal(plain, ordinal)
        yield batch


def _joined(
    report: Path, scanner: str, records: Sequence[Record]
) -> tuple[list[Record], list[FindingBatch]]:
    """A report's findings that stand where a labelled record does, and those records.

    Raises:
        ValueError: none does.
        WinnowError: the report cannot be read.
    """
    from ingestor.parsing import IngestKeys, read_report
    from winnow.finding.v1.finding_batch_pb2 import FindingBatch
    from winnow.ingest.v1.ingest_service_pb2 import IngestHeader

    places: dict[tuple[str, int], list[Record]] = defaultdict(list)
    for record in records:
        path, line = str(record.get("path")), int(record.get("line_no") or 0)
        places[path, line].append(record)
        # One report over several repositories has them as folders.
        places[f"{record.get('repo')}/{path}", line].append(record)
    header = IngestHeader(report_id=str(_REPORT), scanner_type=scanner)
    found: list[Record] = []
    batches: list[FindingBatch] = []
    read = met = 0
    values = _Values()
    with report.open("rb") as data:
        chunks = iter(lambda: data.read(_CHUNK), b"")
        for response in read_report(chunks, header, IngestKeys(_KEY, _KEY)):
            batch = FindingBatch()
            for finding in response.batch.findings:
                read += 1
                location = finding.code.location
                there = places.get((location.path, location.line), [])
                # Where several stand in one line, those of the same value.
                same = [one for one in there if values.of(one) == finding.value_fingerprint]
                met += bool(there)
                for record in same or there:
                    found.append(record)
                    batch.findings.append(finding)
            if batch.findings:
                batches.append(batch)
    if not found:
        raise ValueError(
            f"none of the {read} findings of {report.name} stands at the path and line of a "
            "labelled record"
        )
    typer.echo(f"{met} of {read} findings stand where a labelled record does", err=True)
    return found, batches


class _Values:
    """Fingerprints of labelled values, as the run's ingestor makes them."""

    def __init__(self) -> None:
        from ingestor.fingerprint import Fingerprints

        self._prints = Fingerprints(_KEY)

    def of(self, record: Record) -> bytes:
        """Empty where the record has no value."""
        from ingestor.fingerprint import canonical_value, value_digest

        value = canonical_value(str(record.get("value") or ""))
        return self._prints.value(value_digest(value)) if value else b""


async def _judged(batches: Sequence[FindingBatch], profile: str) -> list[Verdict]:
    """The verdicts on all findings, in their order."""
    from winnow.moderate.v1.moderate_service_pb2 import ModerateBatchRequest

    verdicts: list[Verdict] = []
    async with _moderator(profile) as (moderator, header):
        for batch in batches:
            # One ordinal may stand for several labelled records.
            answer = await moderator.ModerateBatch(
                ModerateBatchRequest(header=header, batch=batch), timeout=_DEADLINE
            )
            by_ordinal = {verdict.ordinal: verdict for verdict in answer.verdicts.verdicts}
            verdicts += [by_ordinal[finding.ordinal] for finding in batch.findings]
    return verdicts


@asynccontextmanager
async def _moderator(profile: str) -> AsyncIterator[tuple[Any, ModerateHeader]]:
    """A moderator on a socket of its own, for as long as the block."""
    import base64

    from moderator.app import ModeratorSettings, build
    from runtime import log
    from runtime.channels import dial
    from runtime.config import load
    from winnow.moderate.v1.moderate_service_pb2 import ModerateHeader
    from winnow.moderate.v1.moderate_service_pb2_grpc import ModerateServiceStub

    with tempfile.TemporaryDirectory(prefix="winnow-") as folder:
        address = f"unix:{folder}/moderator"
        settings = load(
            ModeratorSettings,
            moderator_listen=address,
            moderator_profile=profile,
            sealing_key=base64.b64encode(_KEY).decode(),
            llm_api_key=None,
        )
        log.configure("evaluate", "WARNING")
        service = build(settings)
        await service.start()
        channel = dial(address)
        try:
            yield ModerateServiceStub(channel), ModerateHeader(report_id=str(_REPORT), offline=True)
        finally:
            await channel.close()
            await service.stop(0)


def _prediction(record: Record, verdict: Verdict) -> dict[str, Any]:
    from cli.evaluation.figures import UNSURE
    from gateway.translate import enum_names
    from winnow.finding.v1.verdict_pb2 import Risk

    risk = enum_names(Risk.DESCRIPTOR)[verdict.risk]
    score = verdict.confidence if verdict.HasField("confidence") else UNSURE[risk]
    return {"id": record.get("id"), "score": round(score, 4), "risk": risk}


def _figures(
    records: Sequence[Record], predicted: Sequence[dict[str, Any]]
) -> tuple[list[str], str]:
    """The figures as lines, and the reliability diagram."""
    import numpy as np

    from cli.evaluation.diagram import reliability_svg
    from cli.evaluation.figures import figures, reliability

    labels = np.array([bool(record["label"]) for record in records])
    scores = np.array([one["score"] for one in predicted])
    found = figures(labels, scores)
    called = np.array([one["risk"] in ("high", "medium") for one in predicted])
    hits = int((called & labels).sum())
    lines = [
        f"findings {found.findings}, real {found.real}",
        f"at_threshold: precision {found.precision:.3f} recall {found.recall:.3f} "
        f"F1 {found.f1:.3f}",
        f"decision: precision {hits / max(int(called.sum()), 1):.3f} "
        f"recall {hits / found.real:.3f} "
        f"F1 {2 * hits / (int(called.sum()) + found.real):.3f}  (risk high or medium)",
        f"average precision {found.average_precision:.3f}  ROC AUC {found.roc_auc:.3f}  "
        f"expected calibration error {found.ece:.3f}",
        f"false findings gone at 0.98 recall: {found.gone:.0%}",
        "",
        "confidence  findings  said  real",
    ]
    bins = reliability(labels, scores)
    for one in bins:
        bar = "#" * round(40 * one.real)
        number = round(one.share * len(labels))
        lines.append(f"{one.said:10.2f} {number:9d}  {one.said:.2f}  {one.real:.2f} {bar}")
    return lines, reliability_svg({"": bins})


def register(app: typer.Typer) -> None:
    """Adds this command to the `winnow` command."""
    app.command()(evaluate)
