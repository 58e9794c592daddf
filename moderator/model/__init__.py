"""The trained model: one ONNX file and what its metadata say about it.

Where it comes from, and how good it is: docs/model-card.md. Training:
tools/training.
"""

from __future__ import annotations

import hashlib
from importlib.resources import files

import msgspec
import numpy as np
from numpy.typing import NDArray

from moderator.features import Features

FILE = "winnow.onnx"
# The graph's inputs and outputs.
INPUTS = ("dense", "grams", "scale")
OUTPUTS = ("margin", "texts")


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
        self._session = onnxruntime.InferenceSession(
            content, options, providers=["CPUExecutionProvider"]
        )
        meta = self._session.get_modelmeta().custom_metadata_map
        try:
            self.card = msgspec.json.decode(meta["winnow"], type=Card)
        except (KeyError, msgspec.DecodeError, msgspec.ValidationError) as error:
            raise ValueError(f"the model file is of another version: {error}") from None

    def run(self, rows: Features) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Margins (n,) and what each text adds to them (n, texts), both in log-odds."""
        margin, texts = self._session.run(
            OUTPUTS, {"dense": rows.dense, "grams": rows.grams, "scale": rows.scale}
        )
        return margin[:, 0], texts


def content() -> bytes:
    """The model's file that comes with this version."""
    return files(__package__).joinpath(FILE).read_bytes()


def digest(file: bytes) -> str:
    """How verdicts name a model's file."""
    return "sha256:" + hashlib.sha256(file).hexdigest()
