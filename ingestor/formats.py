"""The formats that this build reads, described: for ListFormats, the command line
and docs/formats.md (`python -m ingestor.formats > docs/formats.md`).
"""

from __future__ import annotations

from ingestor.parsers import PARSERS
from winnow.finding.v1.finding_pb2 import FindingKind
from winnow.ingest.v1.format_pb2 import Format

_INTRODUCTION = """# Formats

Generated from the parsers by `make gen`. `winnow formats`, `GET /formats` and `winnow.report.v1.ReportService/ListFormats` say the same of a running build; `winnow parse FILE` shows, without a server, what would be read of a report.

The content decides what a report is, from its first 64 KiB, and more where its first record is longer. A `scanner_type` may be declared: if the content contradicts it, the report is refused with both names (`SCANNER_MISMATCH`). Content that fits several formats equally well is refused with their names, unless one of them is declared (`FORMAT_AMBIGUOUS`). SARIF may also be declared as the tool that wrote it.

| scanner_type | reads | versions | kinds of finding | shapes | also accepted as |
|---|---|---|---|---|---|
"""
_MIDDLE = """
## Common to all

- Every record is accounted for: `read = findings + merged + rejected`. Merged are records with exactly the same bytes as an earlier one. Rejected are those that cannot be read: each has its position, a reason (`syntax`, `not_a_record`, `missing_field`, `wrong_type`, `too_large`, `too_deep`) and the field concerned, and the rest of the report goes on.
- Fields that a dialect is not known to have, and those that it always has and that are missing, are told by name as notices on the report; so are redacted values, scans that did not finish, and parts that were passed over. None of them fails anything.
- UTF-8 with or without a byte order mark, and UTF-16 with or without one; gzip of them, up to 4 GiB expanded.
- Bytes are read as they come, in flat memory, unless said otherwise below. One record may have 8 MiB.
- Log lines between records, as text or JSON, and `null` are passed over and not counted.
- What the exact reading refuses is read once more with tolerance: numbers as strings, `NaN`, control characters, lone surrogates (kept as visible escapes), bytes that are no UTF-8 (as U+FFFD).
- A report without records (`[]`, `null`, `{"findings": []}`, nothing at all) is done with no findings. One that ends in the middle of an array or object is refused as a whole (`REPORT_MALFORMED`), with the byte where the damaged part begins.

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
        held = "" if found.incremental else " Held whole."
        if found.notes or held:
            notes.append(f"- **{found.title}.** {found.notes}{held}\n")
    return _INTRODUCTION + "".join(rows) + _MIDDLE + "".join(notes)


if __name__ == "__main__":
    print(document(), end="")
