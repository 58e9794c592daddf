"""Boosted trees, laid out side by side and walked by numpy: docs/decisions/0014."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import zip_longest
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from moderator.model.onnx import Node

# A tree's leaves fit into the bits of a number of this width.
LEAVES = 16

Floats = NDArray[np.float32]


class _Split(NamedTuple):
    """A split, and how many leaves are below it, on its left side."""

    column: int
    threshold: float
    below: int


# Fills up a tree of fewer splits: nothing is above it.
_NONE = _Split(0, np.inf, 0)


class _Part(NamedTuple):
    """A part of a tree, from left to right: each split stands between two leaves."""

    splits: list[_Split]
    margins: list[float]


class Trees:
    """The trees over `width` columns. The same rows give the same margins, in any batch.

    Args:
        nodes: children before their parents.
        width: how many columns rows have.

    Raises:
        ValueError: the nodes are no trees, or ask for other columns.
    """

    def __init__(self, nodes: Iterable[Node], width: int) -> None:
        trees = _grown(nodes, width)[::-1]
        margins = [tree.margins + [0.0] * (LEAVES - len(tree.margins)) for tree in trees]
        self._leaves = np.array(margins, np.float32).reshape(-1)
        self._starts = np.arange(0, len(self._leaves), LEAVES)[:, None]
        sides = zip_longest(*(tree.splits for tree in trees), fillvalue=_NONE)
        self._splits = [_laid_out(place, side) for place, side in enumerate(sides)]
        over = [split.threshold for tree in trees for split in tree.splits]
        if not np.isfinite(self._leaves).all() or np.isnan(over).any():
            raise ValueError("a margin or a threshold that is no number")

    def margins(self, seen: Floats) -> Floats:
        """For rows (n, width) the sum (n,) of the leaves they come to, tree after tree:
        floating-point sums depend on the order."""
        columns = np.ascontiguousarray(seen.T)
        out_of_reach = np.zeros((len(self._starts), len(seen)), np.uint16)
        for of, over, passed in self._splits:
            out_of_reach |= (columns.take(of, 0) > over) * passed
        margins = self._leaves.take(_FIRST.take(out_of_reach) + self._starts)
        summed: Floats = np.add.accumulate(margins, axis=0)[-1]
        return summed


def _grown(nodes: Iterable[Node], width: int) -> list[_Part]:
    """The trees, the last one first. Each part is put together from what came before it,
    and used once: that leaves no room for circles."""
    parts: dict[tuple[int, int], _Part] = {}
    for node in nodes:
        tree = node.tree
        if node.margin is not None:
            part = _Part([], [node.margin])
        elif not 0 <= node.column < width:
            raise ValueError("a split by an unknown column")
        else:
            below = parts.pop((tree, node.below), None)
            above = parts.pop((tree, node.above), None)
            if below is None or above is None:
                raise ValueError("a split without its two sides")
            part = _joined(node, below, above)
        if parts.setdefault((tree, node.number), part) is not part:
            raise ValueError("two nodes of one number")
    if not parts or len({tree for tree, _ in parts}) < len(parts):
        raise ValueError("no trees, or nodes outside of them")
    return list(parts.values())


def _joined(node: Node, below: _Part, above: _Part) -> _Part:
    size = len(below.margins)
    if size + len(above.margins) > LEAVES:
        raise ValueError(f"a tree of more than {LEAVES} leaves")
    split = _Split(node.column, node.threshold, size)
    return _Part([*below.splits, split, *above.splits], below.margins + above.margins)


def _laid_out(
    place: int, splits: Iterable[_Split]
) -> tuple[NDArray[np.intp], Floats, NDArray[np.uint16]]:
    """Every tree's split at this place. Rows whose column is above the threshold go right:
    they cannot reach the leaves whose bits are set, those that end at the split."""
    columns, thresholds, below = zip(*splits, strict=True)
    sizes = np.array(below)
    return (
        np.array(columns, np.intp),
        np.array(thresholds, np.float32)[:, None],
        (((1 << sizes) - 1) << (place + 1 - sizes)).astype(np.uint16)[:, None],
    )


def _lowest() -> NDArray[np.intp]:
    """Of each set of leaves that cannot be reached the first that can."""
    sets = np.arange(1 << LEAVES)
    return np.log2(np.maximum(~sets & (sets + 1), 1)).astype(np.intp)


_FIRST = _lowest()
