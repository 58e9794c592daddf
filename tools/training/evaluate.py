"""Measures the cascade: `python -m tools.training.evaluate DATA [DATA …]`.

DATA are labelled files, or folders with `dev*.jsonl[.gz]` and `fresh*.jsonl[.gz]`
(`cli/evaluation/records.py`). Every record goes through the moderator's own
pipeline, evidence sealed, as one finding: its first reporter's, which tells of the
others where reports were correlated. Prints figures; `--predictions DIR` writes {"id", "score", "risk"} lines.
"""

from __future__ import annotations

import argparse
import json
import sys
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np

from cli.evaluation.diagram import reliability_svg
from cli.evaluation.figures import UNSURE, Bin, Figures, figures, reliability
from cli.evaluation.records import HEADER, Record, by_form, load, reporters, subject
from moderator.pipeline import Pipeline
from moderator.stage import Subject
from moderator.stages import stages
from moderator.weighing import PROFILES
from runtime.sealing import EVIDENCE, KEY_BYTES, Sealer
from winnow.finding.v1.finding_batch_pb2 import FindingBatch
from winnow.finding.v1.finding_pb2 import Finding
from winnow.finding.v1.verdict_pb2 import RISK_HIGH, RISK_MEDIUM, Verdict

_BATCH = 256
_RISKS = {RISK_HIGH: "high", RISK_MEDIUM: "medium"}

Judge = Callable[[FindingBatch], Sequence[Verdict]]


class Prediction(msgspec.Struct, frozen=True):
    """What was said of one record."""

    id: str
    score: float
    risk: str


def sealed(subjects: Sequence[Subject], sealer: Sealer) -> FindingBatch:
    """The findings as an ingestor hands them over."""
    batch = FindingBatch()
    for ordinal, one in enumerate(subjects):
        finding = Finding()
        finding.CopyFrom(one.finding)
        finding.ordinal = ordinal
        if one.evidence is not None:
            finding.sealed_evidence = sealer.seal(one.evidence.SerializeToString(), ordinal)
        batch.findings.append(finding)
    return batch


def in_process(profile: str) -> tuple[Judge, Sealer]:
    """The moderator's pipeline without a server."""
    pipeline = Pipeline(stages(profile))
    sealer = Sealer(bytes(KEY_BYTES), uuid.UUID(HEADER.report_id), EVIDENCE)
    return lambda batch: pipeline.judge(HEADER, batch, sealer).verdicts, sealer


def predict(
    records: Sequence[Record],
    judge: Judge,
    sealer: Sealer,
    *,
    words: bool = False,
    alone: bool = False,
) -> list[Prediction]:
    """One prediction for each record, in order.

    Args:
        records: labelled records; the labels are not looked at.
        judge: verdicts of a batch, in its order.
        sealer: as the judge's.
        words: take the versions with values made of words, where there are any.
        alone: as the report of the first scanner alone has them.
    """
    found: list[Prediction] = []
    for start in range(0, len(records), _BATCH):
        some = records[start : start + _BATCH]
        subjects = [
            subject(
                record,
                reporters(record),
                correlated=not alone and not by_form(record),
                words=words,
            )
            for record in some
        ]
        verdicts = judge(sealed(subjects, sealer))
        found += [_prediction(record, one) for record, one in zip(some, verdicts, strict=True)]
    return found


def _prediction(record: Record, verdict: Verdict) -> Prediction:
    risk = _RISKS.get(verdict.risk, "low")
    score = verdict.confidence if verdict.HasField("confidence") else UNSURE[risk]
    return Prediction(str(record["id"]), round(score, 4), risk)


def measured(records: Sequence[Record], predictions: Sequence[Prediction]) -> Figures:
    """Figures of predictions, in the records' order."""
    labels = np.array([bool(record["label"]) for record in records])
    return figures(labels, np.array([one.score for one in predictions]))


def files(places: Sequence[Path]) -> list[Path]:
    """Labelled files among files and folders."""
    found: list[Path] = []
    for place in places:
        if place.is_dir():
            found += sorted(
                path for kind in ("dev*", "fresh*") for path in place.glob(f"{kind}.jsonl*")
            )
        else:
            found.append(place)
    return found


def row(name: str, found: Figures) -> str:
    """Figures as a row of a table."""
    return (
        f"| {name} | {found.findings}, {found.real} | {found.precision:.3f} | {found.recall:.3f} | {found.f1:.3f} "
        f"| {found.average_precision:.3f} | {found.ece:.3f} | {found.gone:.2f} |"
    )


HEAD = (
    "| | findings, real | precision | recall | F1 | AP | ECE | false gone at 0.98 |\n"
    "|---|---|---|---|---|---|---|---|"
)


def of(path: Path, profile: str) -> str:
    """What the figures of a file under a profile are called."""
    return f"{path.name.partition('.')[0]}, {profile}"


def measure(
    name: str, records: Sequence[Record], judge: Judge, sealer: Sealer
) -> tuple[list[str], list[Prediction], list[Bin]]:
    """The rows of a file's figures, its predictions, and its reliability."""
    predictions = predict(records, judge, sealer)
    rows = [row(name, measured(records, predictions))]
    if any(record.get("value_alt") for record in records):
        worded = predict(records, judge, sealer, words=True)
        rows.append(row(f"{name}, values made of words", measured(records, worded)))
    if any(record.get("identifier_category") for record in records):
        kept = [not record.get("identifier_category") for record in records]
        some = [record for record, keep in zip(records, kept, strict=True) if keep]
        of_some = [one for one, keep in zip(predictions, kept, strict=True) if keep]
        rows.append(row(f"{name}, without identifiers", measured(some, of_some)))
    if not all(map(by_form, records)):
        single = predict(records, judge, sealer, alone=True)
        rows.append(row(f"{name}, one scanner alone", measured(records, single)))
    labels = np.array([bool(record["label"]) for record in records])
    return rows, predictions, reliability(labels, np.array([one.score for one in predictions]))


def fitting(records: Sequence[Record]) -> str:
    """The profile that judges by what a set's labels follow: form or use."""
    return "strict" if all(map(by_form, records)) else "balanced"


def write(path: Path, predictions: Sequence[Prediction]) -> None:
    """Predictions as JSON Lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(msgspec.to_builtins(one)) for one in predictions]
    path.write_text("\n".join(lines) + "\n")


def main() -> int:
    """Prints the figures of each file under each profile asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="+", type=Path)
    parser.add_argument(
        "--profile",
        action="append",
        choices=sorted(PROFILES),
        help="default: strict where labels follow form (CredData), else balanced",
    )
    parser.add_argument("--predictions", type=Path, help="folder for prediction files")
    parser.add_argument("--card", type=Path, help="Markdown file whose figures are replaced")
    parser.add_argument("--diagram", type=Path, help="SVG file for the reliability diagram")
    arguments = parser.parse_args()
    lines = [HEAD]
    panels: dict[str, list[Bin]] = {}
    judges = {name: in_process(name) for name in arguments.profile or ["balanced", "strict"]}
    for path in files(arguments.data):
        records = [record for record in load(path) if record.get("emitted", True)]
        for profile in arguments.profile or [fitting(records)]:
            rows, predictions, bins = measure(name := of(path, profile), records, *judges[profile])
            lines += rows
            panels[name] = bins
            if arguments.predictions:
                write(arguments.predictions / f"{name.replace(', ', '.')}.jsonl", predictions)
    print("\n".join(lines))
    if arguments.card:
        arguments.card.write_text(with_figures(arguments.card.read_text(), lines))
    if arguments.diagram:
        arguments.diagram.write_text(reliability_svg(panels))
    return 0


_BEGIN, _END = "<!-- figures: make evaluate -->", "<!-- end of figures -->"


def with_figures(text: str, lines: Sequence[str]) -> str:
    """The text with the table between its two marks replaced.

    Raises:
        ValueError: the text lacks a mark.
    """
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"no place for figures: the text lacks {_BEGIN} or {_END}")
    return "\n".join((before + begin, "", *lines, "", end + after))


if __name__ == "__main__":
    sys.exit(main())
