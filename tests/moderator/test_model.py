"""The model's file and its trees, against a plain walk from root to leaf."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from moderator.features import SUMS, TABLE, TEXTS, WORDS, Features, gram_columns
from moderator.model import LEAVES, Card, Model, inputs, sums
from tools.training.export import packed

COLUMNS = [f"column {number}" for number in range(6)]
CARD = Card(COLUMNS, {})
EMPTY = np.zeros(TABLE + WORDS + 1, np.float32)


def leaf(margin: float) -> dict[str, Any]:
    return {"leaf_value": margin}


def split(column: int, threshold: float, left: Any, right: Any) -> dict[str, Any]:
    return {
        "split_feature": column,
        "threshold": threshold,
        "left_child": left,
        "right_child": right,
    }


def grown(draw: random.Random, leaves: int) -> dict[str, Any]:
    """A tree of some shape, as LightGBM dumps its own."""
    if leaves == 1:
        return leaf(draw.uniform(-2, 2))
    left = draw.randint(1, leaves - 1)
    threshold = draw.choice([0.0, 1.0, draw.uniform(-1, 1)])
    return split(
        draw.randrange(len(COLUMNS)), threshold, grown(draw, left), grown(draw, leaves - left)
    )


def rows(dense: np.ndarray) -> Features:
    """Rows that hold these columns and no text."""
    count = len(dense)
    grams = np.full((count, len(gram_columns())), -1, np.int32)
    return Features(dense.astype(np.float32), grams, np.ones((count, len(SUMS)), np.float32))


def walked(part: dict[str, Any], row: np.ndarray) -> np.float32:
    while "split_feature" in part:
        below = row[part["split_feature"]] <= part["threshold"]
        part = part["left_child" if below else "right_child"]
    return np.float32(part["leaf_value"])


def test_trees_of_every_shape_come_to_the_leaf_of_a_plain_walk() -> None:
    draw = random.Random(5)
    trees = [grown(draw, draw.randint(1, LEAVES)) for _ in range(60)]
    content = packed([{"tree_structure": tree} for tree in trees], EMPTY, CARD)
    model = Model(content)
    dense = np.array(
        [[draw.choice([0, 1, draw.uniform(-1, 1)]) for _ in COLUMNS] for _ in range(99)]
    )
    dense = dense.astype(np.float32)
    margins, texts = model.run(rows(dense))
    for row, margin in zip(dense, margins, strict=True):
        expected = np.float32(0)
        for tree in trees:
            expected += walked(tree, row)
        assert margin == expected
    assert texts.shape == (99, len(TEXTS))
    assert not texts.any()


def test_a_margin_does_not_depend_on_the_batch() -> None:
    draw = random.Random(6)
    trees = [{"tree_structure": grown(draw, LEAVES)} for _ in range(200)]
    model = Model(packed(trees, EMPTY, CARD))
    dense = np.random.default_rng(6).normal(size=(256, len(COLUMNS)))
    together, _ = model.run(rows(dense))
    for start in range(0, 256, 51):
        alone, _ = model.run(rows(dense[start : start + 1]))
        assert alone[0] == together[start]


def test_a_threshold_between_two_single_precision_numbers_is_kept_to() -> None:
    between = (float(np.float32(0.1)) + float(np.nextafter(np.float32(0.1), np.float32(1)))) / 2
    model = Model(packed([{"tree_structure": split(0, between, leaf(1), leaf(2))}], EMPTY, CARD))
    at = np.zeros((2, len(COLUMNS)), np.float32)
    at[:, 0] = np.float32(0.1), np.nextafter(np.float32(0.1), np.float32(1))
    assert model.run(rows(at))[0].tolist() == [1, 2]


def test_texts_add_what_the_table_holds() -> None:
    table = EMPTY.copy()
    table[7] = 0.5
    one = rows(np.zeros((1, len(COLUMNS))))
    one.grams[0, 0] = 7
    added = sums(one, table)
    assert added[0].tolist() == [0.5] + [0.0] * (len(SUMS) - 1)
    assert inputs(one, added)[0, -1] == 0.5


def test_a_tree_with_too_many_leaves_is_refused() -> None:
    tree = grown(random.Random(7), LEAVES + 1)
    with pytest.raises(ValueError, match="17 leaves"):
        packed([{"tree_structure": tree}], EMPTY, CARD)
