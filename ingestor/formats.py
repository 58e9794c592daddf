"""The formats that this build reads, described: for ListFormats, the command line
and docs/formats.md (`python -m ingestor.formats > docs/formats.md`).
"""

from __future__ import annotations

from ingestor.parsers import PARSERS
from winnow.finding.v1.finding_pb2 import FindingKind
from winnow.ingest.v1.format_pb2 import Format

_INTRODUCTION = """# Formats

Generated from the parsers by `make gen`; `winnow formats`, `GET /formats` and `winnow.report.v1.ReportService/ListFormats` give the same from a running build.

What a report is, is decided by its content, from the first 64 KiB (of the expanded report, if it is compressed with gzip). A declared `scanner_type` is compared with that: if it contradicts, the report is refused with both names (`SCANNER_MISMATCH`); if the content fits several formats equally well, it is refused with their names unless one of them is declared (`FORMAT_AMBIGUOUS`). `winnow parse FILE` shows, without a server, what would be read.

Every record is accounted for: `records read = findings + merged + rejected`. Merged are exact repeats of a record in the same report. Rejected are records that cannot be read: each has its position, a reason and the field concerned (`GET /reports/{id}/rejected`), and none fails the report. Fields that a dialect is not known to have, or that it always has and that are missing, are told by name as notices on the report; so are redacted values, scans that did not finish, and parts that were passed over.

| scanner_type | reads | versions | kinds of finding | shapes | also accepted as |
|---|---|---|---|---|---|
"""
_MIDDLE = """
## What is special about them

"""


def known() -> list[Format]:
    """Every format, by id."""
    return [
        Format(
            id=parser.id,
            version=parser.version,
            title=parser.title,
            aliases=parser.aliases,
            shapes=parser.shapes,
            versions=parser.versions,
            incremental=parser.incremental,
            kinds=parser.kinds,
            notes=parser.notes,
        )
        for parser in PARSERS.values()
    ]


def _kind(kind: FindingKind.ValueType) -> str:
    return FindingKind.Name(kind).removeprefix("FINDING_KIND_").lower().replace("_", " ")


def document() -> str:
    """docs/formats.md."""
    rows, notes = [], []
    for found in known():
        cells = (
            f"`{found.id}`",
            found.title,
            found.versions,
            ", ".join(map(_kind, found.kinds)),
            ", ".join(found.shapes),
            ", ".join(f"`{alias}`" for alias in found.aliases),
        )
        rows.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n")
        held = "" if found.incremental else " Held whole, under a limit of 64 MiB."
        if found.notes or held:
            notes.append(f"- **{found.title}.** {found.notes}{held}\n")
    return _INTRODUCTION + "".join(rows) + _MIDDLE + "".join(notes)


if __name__ == "__main__":
    print(document(), end="")
