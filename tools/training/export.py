"""Writes what was learned as one file: the trees, and the table beside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from moderator.model import LEAVES, Card, File

if TYPE_CHECKING:
    from tools.training.learn import Learned

# A split: column, threshold, and the set of the leaves to its left.
_Split = tuple[int, float, int]


def model_file(learned: Learned, card: Card) -> bytes:
    """The file's bytes; the same for the same arguments."""
    return packed(learned.trees.booster_.dump_model()["tree_info"], learned.table, card)


def packed(trees: Sequence[dict[str, Any]], table: NDArray[np.float32], card: Card) -> bytes:
    """The file of trees as LightGBM dumps them.

    Raises:
        ValueError: a tree has more leaves than the file has room for.
    """
    columns = np.zeros((LEAVES - 1, len(trees)), "<i4")
    thresholds = np.full(columns.shape, np.inf, "<f4")
    passed = np.zeros(columns.shape, "<u2")
    leaves = np.zeros((len(trees), LEAVES), "<f4")
    for tree, dumped in enumerate(trees):
        splits: list[_Split] = []
        margins: list[float] = []
        _walk(dumped["tree_structure"], splits, margins)
        if len(margins) > LEAVES:
            raise ValueError(f"tree {tree} has {len(margins)} leaves; the most are {LEAVES}")
        leaves[tree, : len(margins)] = margins
        for place, (column, threshold, left) in enumerate(splits):
            columns[place, tree] = column
            thresholds[place, tree] = threshold
            passed[place, tree] = left
    used = thresholds.min(axis=1) < np.inf
    file = File(
        card=card,
        trees=len(trees),
        columns=columns[used].tobytes(),
        thresholds=thresholds[used].tobytes(),
        passed=passed[used].tobytes(),
        leaves=leaves.tobytes(),
        table=table.astype("<f4").tobytes(),
    )
    return msgspec.msgpack.encode(file)


def _walk(part: dict[str, Any], splits: list[_Split], margins: list[float]) -> int:
    """Adds a part of a tree, leaves from left to right; the set of its leaves."""
    if "split_feature" not in part:
        margins.append(part["leaf_value"])
        return 1 << (len(margins) - 1)
    left = _walk(part["left_child"], splits, margins)
    splits.append((part["split_feature"], _below(part["threshold"]), left))
    return left | _walk(part["right_child"], splits, margins)


def _below(threshold: float) -> float:
    """The largest single-precision number up to `threshold`: features have single
    precision, so that comparing with it decides the same."""
    single = np.float32(threshold)
    # As doubles: numpy would round the threshold to compare it.
    return float(
        single if float(single) <= threshold else np.nextafter(single, -np.float32(np.inf))
    )
