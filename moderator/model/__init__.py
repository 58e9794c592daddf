"""The trained models, and what their files say about them.

One judges by use: a finding is real if a person who triages would act on it. The
other judges by form, for profiles that are strict: a password in a test is one.

Where they come from, and how good they are: docs/model-card.md. Training:
tools/training. Why trees are walked here: docs/decisions/0014.
"""

from __future__ import annotations

import hashlib
from importlib.resources import files

import msgspec
import numpy as np
from numpy.typing import NDArray

from moderator.features import TEXTS, TO_SUMS, Features

BY_USE, BY_FORM = "use.model", "form.model"
# A tree's leaves fit into the bits of a number of this width.
LEAVES = 16

Floats = NDArray[np.float32]


class Curve(msgspec.Struct, frozen=True):
    """Calibration of one family: log-odds = `slope` × margin + `offset`; `count` is
    how many findings it was fitted to."""

    slope: float
    offset: float
    count: int


class Card(msgspec.Struct, frozen=True):
    """What the model says about itself: the dense columns it was trained on, and
    by family of findings how its margins become probabilities."""

    columns: list[str]
    curves: dict[str, Curve]


class File(msgspec.Struct, frozen=True):
    """What a model's file holds, as MessagePack; arrays are little-endian, row by row.

    Trees are laid out side by side, split by split: `columns` (int32), `thresholds`
    (float32) and `passed` (uint16) have a row for each split and a number for each
    tree. A row of findings whose column is above the threshold goes right; it cannot
    reach the leaves, numbered from left to right, whose bits are in `passed`. A tree
    of fewer splits is filled up with such as nothing is above. `leaves` (float32) has
    a row of `LEAVES` margins for each tree.

    `table` (float32) has the weights that `Features.grams` points into.
    """

    card: Card
    trees: int
    columns: bytes
    thresholds: bytes
    passed: bytes
    leaves: bytes
    table: bytes


def _lowest() -> NDArray[np.intp]:
    """Of each set of leaves that cannot be reached the first that can."""
    sets = np.arange(1 << LEAVES)
    return np.log2(np.maximum(~sets & (sets + 1), 1)).astype(np.intp)


_FIRST = _lowest()


class Model:
    """The trees and the table. The same rows give the same margins, in any batch.

    Raises:
        ValueError: the file is no model of this version.
    """

    def __init__(self, content: bytes) -> None:
        try:
            file = msgspec.msgpack.decode(content, type=File)
            shape = (-1, file.trees)
            columns = np.frombuffer(file.columns, "<i4").reshape(shape)
            thresholds = np.frombuffer(file.thresholds, "<f4").reshape(shape)
            passed = np.frombuffer(file.passed, "<u2").reshape(shape)
            self._leaves = np.frombuffer(file.leaves, "<f4")
            self._table = np.frombuffer(file.table, "<f4")
        except (msgspec.DecodeError, ValueError) as error:
            raise ValueError(f"the model file is of another version: {error}") from None
        self.card = file.card
        self._splits = [
            (of.astype(np.intp), over[:, None], leaves[:, None])
            for of, over, leaves in zip(columns, thresholds, passed, strict=True)
        ]
        self._starts = np.arange(0, file.trees * LEAVES, LEAVES)[:, None]

    def run(self, rows: Features) -> tuple[Floats, Floats]:
        """Margins (n,) and what each text adds to them (n, texts), both in log-odds."""
        seen = inputs(rows, sums(rows, self._table))
        return self._margins(seen), seen[:, len(self.card.columns) :][:, : len(TEXTS)]

    def _margins(self, seen: Floats) -> Floats:
        """The sum of the leaves that rows come to, tree after tree: floating-point sums
        depend on the order."""
        columns = np.ascontiguousarray(seen.T)
        out_of_reach = np.zeros((len(self._starts), len(seen)), np.uint16)
        for of, over, passed in self._splits:
            out_of_reach |= (columns.take(of, 0) > over) * passed
        margins = self._leaves.take(_FIRST.take(out_of_reach) + self._starts)
        summed: Floats = np.add.accumulate(margins, axis=0)[-1]
        return summed


def sums(rows: Features, table: Floats) -> Floats:
    """What each text adds up to, (n, len(SUMS)). The table ends in a zero for what is
    missing, and holds multiples of one step, so that sums are exact in any order."""
    return (table.take(rows.grams, mode="wrap") @ TO_SUMS) * rows.scale


def inputs(rows: Features, added: Floats) -> Floats:
    """What the trees see: dense features, each text's sum, and the texts' total."""
    total = added[:, : len(TEXTS)].sum(axis=1, keepdims=True)
    return np.concatenate((rows.dense, added, total), axis=1)


def content(name: str) -> bytes:
    """A model's file that comes with this version, `BY_USE` or `BY_FORM`."""
    return files(__package__).joinpath(name).read_bytes()


def digest(file: bytes) -> str:
    """How verdicts name a model's file."""
    return "sha256:" + hashlib.sha256(file).hexdigest()
