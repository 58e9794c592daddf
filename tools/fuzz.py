"""Coverage-guided fuzzing of the parsers, over the fixtures (needs `atheris`).

Usage: fuzz.py FOLDER [SECONDS]

The corpus grows in FOLDER/corpus. A report that breaks something ends the run
and is kept in FOLDER; its base64 goes to `tests/fuzz/regressions/`, where the
tests read it ever after.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "gen")]

with atheris.instrument_imports(include=["ingestor"]):
    from ingestor.parsers import PARSERS
    from tests.fuzz.seeds import seeds
    from tests.fuzz.test_hostile import survives

_SCANNERS = ["", "", *PARSERS]
_LARGEST = 64 << 10  # bytes of an input
_SIZES = (1 << 18, 100)


def one(data: bytes) -> None:
    """The first byte chooses the declared scanner and the chunks' size, the rest is the report."""
    if data:
        how, report = data[0], data[1:]
        scanner, size = _SCANNERS[how // 2 % len(_SCANNERS)], _SIZES[how % 2]
        survives(report, scanner, size=size, clear=False)


def main(folder: Path, seconds: int) -> None:
    """Fuzzes for so many seconds, from the fixtures and what earlier runs found."""
    corpus = folder / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for name, report in seeds().items():
        (corpus / name).write_bytes(b"\0" + report)
    options = (
        *(f"-max_total_time={seconds}", f"-max_len={_LARGEST}", "-timeout=20"),
        *("-rss_limit_mb=2048", f"-artifact_prefix={folder}/"),
    )
    atheris.Setup([sys.argv[0], *options, str(corpus)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: fuzz.py FOLDER [SECONDS]")
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 300)
