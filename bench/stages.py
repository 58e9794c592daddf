"""Our own stages, each alone in this process: reading a report, judging its findings."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

from bench.measure import Figures, measure
from cli.loading.reports import generate
from ingestor.parsing import IngestKeys, read_report
from moderator.pipeline import Pipeline
from moderator.stage import Subject
from moderator.stages import stages
from runtime.sealing import EVIDENCE, KEY_BYTES, Sealer
from winnow.finding.v1.finding_batch_pb2 import FindingBatch
from winnow.finding.v1.plain_evidence_pb2 import PlainEvidence
from winnow.ingest.v1.ingest_service_pb2 import IngestHeader
from winnow.moderate.v1.moderate_service_pb2 import ModerateHeader

_CHUNK = 256 << 10
_KEYS = IngestKeys(b"\1" * KEY_BYTES, b"\2" * KEY_BYTES)
_REPORT = uuid.UUID(int=1)


def _chunks(report: bytes) -> Iterator[bytes]:
    """The report as it comes off the wire."""
    for start in range(0, len(report), _CHUNK):
        yield report[start : start + _CHUNK]


def parse(report: bytes) -> tuple[Figures, list[bytes]]:
    """Reads, seals and fingerprints a report; also returns its serialised batches.

    Serialising is part of the work: the batches leave the ingestor that way.
    """
    batches: list[bytes] = []
    header = IngestHeader(report_id=str(_REPORT))
    # One finding compiles the redactor's patterns, once in a service's life.
    for _ in read_report(generate("gitleaks", 1), header, _KEYS):
        pass

    def work() -> int:
        findings = 0
        for response in read_report(_chunks(report), header, _KEYS):
            if response.WhichOneof("payload") == "batch":
                findings += len(response.batch.findings)
                batches.append(response.batch.SerializeToString())
        return findings

    return measure(work, "finding"), batches


def judge(batches: list[bytes], scanner_type: str) -> Figures:
    """Heuristics and model alone, in one thread, on findings whose evidence is open."""
    first, model = stages()
    first.prepare()
    model.prepare()
    opened = [_opened(serialised, scanner_type) for serialised in batches]

    def work() -> int:
        for batch in opened:
            opinions = first.judge(batch)
            pairs = zip(batch, opinions, strict=True)
            model.judge([one for one, said in pairs if said and not said.decisive])
        return sum(map(len, opened))

    work()
    return measure(work, "finding")


def _opened(serialised: bytes, scanner_type: str) -> list[Subject]:
    header = ModerateHeader(report_id=str(_REPORT), scanner_type=scanner_type)
    sealer = Sealer(_KEYS.sealing, _REPORT, EVIDENCE)
    return [
        Subject(
            finding,
            PlainEvidence.FromString(sealer.open(finding.sealed_evidence, finding.ordinal)),
            header,
        )
        for finding in FindingBatch.FromString(serialised).findings
    ]


def moderate(batches: list[bytes], scanner_type: str) -> Figures:
    """Judges serialised batches and serialises the verdicts, on one warm pipeline."""
    pipeline = Pipeline(stages())
    header = ModerateHeader(report_id=str(_REPORT), scanner_type=scanner_type)
    sealer = Sealer(_KEYS.sealing, _REPORT, EVIDENCE)

    def verdicts_on(serialised: bytes) -> int:
        verdicts = pipeline.judge(header, FindingBatch.FromString(serialised), sealer)
        verdicts.SerializeToString()
        return len(verdicts.verdicts)

    # The first batch compiles the patterns, once in a service's life.
    for serialised in batches[:1]:
        verdicts_on(serialised)
    return measure(lambda: sum(map(verdicts_on, batches)), "finding")
