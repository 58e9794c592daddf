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
from numpy.typing import NDArray

from moderator.features import SUMS, TEXTS, Features, gram_columns

BY_USE, BY_FORM = "use.onnx", "form.onnx"
# The graph's input and outputs: trees, and the table that it only carries. numpy
# reads single numbers from a table several times faster than the graph would.
SEEN, MARGIN, TABLE = "seen", "margin", "table"
_TO_SUMS = np.eye(len(SUMS), dtype=np.float32)[gram_columns()]


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
    """The network in one thread, so that the same rows give the same margins.

    Raises:
        ValueError: the file is no model of this version.
    """

    def __init__(self, content: bytes) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Batches are small: an arena would only hold memory.
        options.enable_cpu_mem_arena = options.enable_mem_pattern = False
        self._session = onnxruntime.InferenceSession(
            content, options, providers=["CPUExecutionProvider"]
        )
        meta = self._session.get_modelmeta().custom_metadata_map
        try:
            self.card = msgspec.json.decode(meta["winnow"], type=Card)
        except (KeyError, msgspec.DecodeError, msgspec.ValidationError) as error:
            raise ValueError(f"the model file is of another version: {error}") from None
        nothing = np.zeros((1, len(self.card.columns) + len(SUMS) + 1), np.float32)
        (self._table,) = self._session.run((TABLE,), {SEEN: nothing})

    def run(self, rows: Features) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Margins (n,) and what each text adds to them (n, texts), both in log-odds."""
        seen = inputs(rows, sums(rows, self._table))
        (margin,) = self._session.run((MARGIN,), {SEEN: seen})
        return margin[:, 0], seen[:, len(self.card.columns) :][:, : len(TEXTS)]


def sums(rows: Features, table: NDArray[np.float32]) -> NDArray[np.float32]:
    """What each text adds up to, (n, len(SUMS)). The table ends in a zero for what is
    missing, and holds multiples of one step, so that sums are exact in any order."""
    return (table.take(rows.grams, mode="wrap") @ _TO_SUMS) * rows.scale


def inputs(rows: Features, added: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the trees see: dense features, each text's sum, and the texts' total."""
    total = added[:, : len(TEXTS)].sum(axis=1, keepdims=True)
    return np.concatenate((rows.dense, added, total), axis=1)


def content(name: str) -> bytes:
    """A model's file that comes with this version, `BY_USE` or `BY_FORM`."""
    return files(__package__).joinpath(name).read_bytes()


def digest(file: bytes) -> str:
    """How verdicts name a model's file."""
    return "sha256:" + hashlib.sha256(file).hexdigest()
