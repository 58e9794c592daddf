"""Makes the set: `python -m tools.wild --out DIR [--archives DIR]`. See the package's docstring."""

from __future__ import annotations

import argparse
import gzip
import json
import re
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from tools.wild import fetch, label, plant, records, skeletons, values
from tools.wild.records import Record
from tools.wild.scanners import Hit, scan

_SEED = 20261122
_PROJECTS = 420
_RECORDS_A_SOURCE = 60
_ALIKE_A_SOURCE = 20
_WORDS = 4000


def words(tree: Path) -> list[str]:
    """Words of ordinary length that several documents use, most frequent first."""
    counts: Counter[str] = Counter()
    for path in sorted(tree.rglob("*")):
        if path.suffix in (".md", ".rst") or path.name.lower().startswith("readme"):
            text = path.read_text(encoding="utf-8", errors="replace")
            counts.update(set(re.findall(r"\b[a-z]{4,9}\b", text)))
    common = sorted(counts, key=lambda word: (-counts[word], word))[:_WORDS]
    return [word for word in common if counts[word] > 2]


def excerpts(tree: Path, out: Path) -> dict[str, list[int]]:
    """Writes what the scanners are given of every file to `out`; the lines' numbers by path."""
    numbers = {}
    for path in sorted(path for path in tree.rglob("*") if path.is_file()):
        inside = str(path.relative_to(tree))
        lines = records.lines_of(path)
        if kept := fetch.excerpt(lines, inside):
            target = out / inside
            target.parent.mkdir(parents=True, exist_ok=True)
            text = "\n".join(lines[number - 1] for number in kept) + "\n"
            target.write_text(text, encoding="utf-8")
            numbers[inside] = kept
    return numbers


def negatives(found: Iterable[Record]) -> Iterator[Record]:
    """The records that a rule is sure of, no source and no pair of reasons prevailing."""
    total: Counter[str] = Counter()
    alike: Counter[tuple[str, ...]] = Counter()
    seen: set[tuple[str, ...]] = set()
    for record in found:
        judged = label.judge(record)
        if judged is None:
            continue
        source = record["source"]
        rules = ",".join(rule for names in record["reported_by"].values() for rule in names)
        kin = (source, judged.kind, rules)
        same = (source, record["line"].strip(), record["value"])
        if same in seen or total[source] >= _RECORDS_A_SOURCE or alike[kin] >= _ALIKE_A_SOURCE:
            continue
        seen.add(same)
        total[source] += 1
        alike[kin] += 1
        yield record | judged._asdict() | {"origin": "negative"}


def planted(hits: Iterable[Hit], ledger: list[plant.Plant], tree: Path) -> Iterator[Record]:
    """The records that are planted values; what else stands in the planted files is left out.

    A planted credential that no scanner reports is not in the set.
    """
    places = plant.by_place(ledger)
    sides: dict[str, list[Hit]] = defaultdict(list)
    for hit in hits:
        side, _, path = hit.path.partition("/")
        sides[side].append(hit._replace(path=path))
    for side, found in sides.items():
        for record in records.join(found, tree / side, lambda path: None):
            at = places.get(f"{side}/{record['source']}/{record['path']}", {})
            there = at.get(record["line_no"])
            if there is None or not plant.same_value(record["value"], there.value):
                continue
            yield record | {
                "line_no": record["line_no"] + there.shift,
                "label": there.label,
                "kind": there.kind,
                "why": "planted" if there.label else f"planted: {there.why}",
                "test": there.test,
                "origin": there.origin,
            }


def write(out: Path, found: list[Record]) -> None:
    """Writes `wild.jsonl.gz` and `NOTES.md`."""
    with gzip.open(out / "wild.jsonl.gz", "wt", encoding="utf-8") as file:
        for number, record in enumerate(found):
            file.write(json.dumps({"id": f"wild-{number}"} | record, ensure_ascii=False) + "\n")
    (out / "NOTES.md").write_text(notes(found), encoding="utf-8")


def notes(found: list[Record]) -> str:
    """Counts by origin and label, kind, scanner, ending and source."""
    parts = [
        f"# wild.jsonl.gz\n\n{len(found)} records of {len({r['source'] for r in found})} sources."
    ]

    def table(title: str, counts: Counter[str], most: int = 40) -> None:
        rows = "\n".join(f"| {name} | {count} |" for name, count in counts.most_common(most))
        parts.append(f"## {title}\n\n| | records |\n|---|---|\n{rows}")

    table("Origin and label", Counter(f"{r['origin']}, {r['label']}" for r in found))
    table("Scanner", Counter(f"{tool}, {r['label']}" for r in found for tool in r["reported_by"]))
    table("Kinds of true records", Counter(r["kind"] for r in found if r["label"]), 200)
    table("Kinds of false records", Counter(r["kind"] for r in found if not r["label"]), 200)
    table("Endings", Counter(f"{r['ext']}, {r['label']}" for r in found), 60)
    table("Largest sources", Counter(r["source"] for r in found))
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Fetches, unpacks, scans, labels, plants, scans, writes."""
    parser = argparse.ArgumentParser(prog="python -m tools.wild", description=main.__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--archives", type=Path, help="default: OUT/archives")
    arguments = parser.parse_args()
    out: Path = arguments.out
    archives = (arguments.archives or out / "archives").resolve()
    build = out / "build"
    tree, seen, field = build / "tree", build / "scan", build / "planted"
    shutil.rmtree(build, ignore_errors=True)
    for folder in (archives, tree, seen, field):
        folder.mkdir(parents=True, exist_ok=True)

    for package in fetch.packages(fetch.PACKAGES.read_text(encoding="utf-8")):
        fetch.unpack(package, fetch.archive(package, archives), tree)
    numbers = excerpts(tree, seen)
    found = list(negatives(records.join(scan(seen), tree, numbers.get)))

    people = values.People(words(tree), _SEED)
    planter = plant.Planter(values.kinds(people), _SEED)
    ledger = plant.plant_tree(tree, field, planter, _SEED)
    ledger += skeletons.Projects(planter, people, _SEED).write(field, _PROJECTS)
    found += planted(scan(field), ledger, field)
    write(out, found)


if __name__ == "__main__":
    main()
