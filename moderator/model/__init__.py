"""The trained models, ONNX files, and what their metadata say about them.

One judges by use: a finding is real if a person who triages would act on it. The
other judges by form, for profiles that are strict: a password in a test is one.

Where they come from, and how good they are: docs/model-card.md. Training:
tools/training.
"""

from __future__ import annotations

import hashlib
from importlib.resources import files

import msgspec
import numpy as np

from moderator.features import SUMS, TABLE, TEXTS, TO_SUMS, WORDS, Features
from moderator.model import onnx
from moderator.model.trees import Floats, Trees

BY_USE, BY_FORM = "use.onnx", "form.onnx"


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


class Model:
    """The trees and the table. The same rows give the same margins, in any batch.

    Raises:
        ValueError: the file is no model of this version.
    """

    def __init__(self, content: bytes) -> None:
        try:
            file = onnx.read(content)
            self.card = msgspec.json.decode(file.card, type=Card)
            self._trees = Trees(file.nodes, len(self.card.columns) + len(SUMS) + 1)
            self._table = _checked(file.table)
        except (msgspec.DecodeError, ValueError) as error:
            raise ValueError(f"the model file is of another version: {error}") from None

    def run(self, rows: Features) -> tuple[Floats, Floats]:
        """Margins (n,) and what each text adds to them (n, texts), both in log-odds."""
        seen = inputs(rows, sums(rows, self._table))
        return self._trees.margins(seen), seen[:, len(self.card.columns) :][:, : len(TEXTS)]


def _checked(table: Floats) -> Floats:
    if len(table) != TABLE + WORDS + 1 or not np.isfinite(table).all():
        raise ValueError("a table of another size, or of what is no number")
    return table


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
