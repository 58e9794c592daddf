"""Trains both models: `python -m tools.training.train DATA [DATA …] [--out FOLDER]`.

DATA are folders of labelled files (`cli/evaluation/records.py`): `train*.jsonl[.gz]`,
`wild*.jsonl[.gz]` and `natural*.jsonl[.gz]` are learned from, the rest is left for `evaluate`. The same
data, seed and versions of the libraries give the same files.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import msgspec
import numpy as np

from cli.evaluation.figures import Figures, figures
from cli.evaluation.records import Record, load
from moderator import model
from moderator.features import columns
from moderator.rules import pack
from tools.training.export import model_file
from tools.training.learn import Learned, learn, trigrams
from tools.training.rows import Rows, rows

_OUT = Path(model.__file__).parent
_DIGESTS = "SHA256SUMS"
# From this weight on a clue is taken for knowledge.
_AGAINST = -3.0


class Recipe(msgspec.Struct, frozen=True):
    """How a model is learned.

    `real` is the share of real findings. By form it is that of the lines that
    scanners report in CredData. By use it is a third, though one in four is seen:
    planted findings are easier than found ones, and a model that was calibrated on
    them at one in four is too sure that the others are nothing. `fewest` is how many
    rows a leaf has at least.
    """

    form: bool
    real: float
    trees: int
    rate: float
    fewest: int


RECIPES = {
    model.BY_USE: Recipe(form=False, real=1 / 3, trees=200, rate=0.06, fewest=40),
    model.BY_FORM: Recipe(form=True, real=0.47, trees=380, rate=0.04, fewest=20),
}


def learned_from(folders: list[Path]) -> list[Record]:
    """The records to learn from, in a fixed order."""
    found = {
        path
        for folder in folders
        for kind in ("train*", "wild*", "natural*")
        for path in folder.glob(f"{kind}.jsonl*")
    }
    return [record for path in sorted(found, key=lambda path: path.name) for record in load(path)]


def train(records: list[Record], recipe: Recipe, seed: int) -> tuple[Learned, Figures]:
    """A model, and its figures on records of groups that were left out."""
    known = rows(records, form=recipe.form, real=recipe.real, seed=seed)
    words = trigrams(record.get("line") or "" for record in records if not record["label"])
    signs = known_signs(columns(pack()))
    learned, margins = learn(
        known, seed, words, signs, trees=recipe.trees, rate=recipe.rate, fewest=recipe.fewest
    )
    return learned, held_out(known, margins, learned)


def known_signs(names: list[str]) -> list[int]:
    """What knowledge says before statistics: how the heuristics' own sum and their
    strong clues against a credential may move a margin."""
    rules = pack()
    fields = (rules.value, rules.name, rules.place, rules.line, rules.scanner)
    clues = [*(clue for field in fields for clue in field.clues), *rules.signals.values()]
    signs = {clue.id: -1 for clue in clues if clue.weight <= _AGAINST} | {"heuristics": 1}
    return [signs.get(name, 0) for name in names]


def held_out(known: Rows, margins: np.ndarray, learned: Learned) -> Figures:
    """Figures of the records as they are, judged by models without their group."""
    odds = np.empty(len(margins))
    for family, curve in learned.curves.items():
        inside = known.families == family
        odds[inside] = curve.slope * margins[inside] + curve.offset
    scores = 1 / (1 + np.exp(-odds))
    return figures(known.labels[known.whole], scores[known.whole])


def listed(digests: dict[str, str]) -> str:
    """Digests by file as `sha256sum --check` reads them."""
    return "".join(
        f"{digest.removeprefix('sha256:')}  {name}\n" for name, digest in digests.items()
    )


def main() -> int:
    """Learns, writes the ONNX files and their digests, prints figures of held-out groups."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=_OUT)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    records = learned_from(arguments.data)
    if not records:
        print("no labelled files to learn from", file=sys.stderr)
        return 2
    digests = {}
    for name, recipe in RECIPES.items():
        learned, of = train(records, recipe, arguments.seed)
        content = model_file(learned, model.Card(columns(pack()), learned.curves))
        (arguments.out / name).write_bytes(content)
        digests[name] = model.digest(content)
        print(f"{name}: {len(content):,} bytes, {digests[name]}")
        print(f"  groups left out: F1 {of.f1:.3f}, AP {of.average_precision:.3f}, ECE {of.ece:.3f}")
    (arguments.out / _DIGESTS).write_text(listed(digests))
    return 0


if __name__ == "__main__":
    sys.exit(main())
