"""The model's file and its trees, against a plain walk from root to leaf and against a
runtime for ONNX."""

from __future__ import annotations

import random
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderator import model as models
from moderator.features import SUMS, TABLE, TEXTS, WORDS, Extractor, Features, gram_columns
from moderator.model import BY_FORM, BY_USE, Card, Model, inputs, sums
from moderator.model.trees import LEAVES
from moderator.stage import Subject
from moderator.stages import stages
from tests.moderator.subjects import HEADER, drawn, finding
from tools.training.export import packed
from winnow.finding.v1.plain_evidence_pb2 import PlainEvidence

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


def of_runtime(content: bytes, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Margins and table as onnxruntime gives them, in one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    margins, table = session.run(("margin", "table"), {"seen": seen})
    return margins[:, 0], table


def on_edges(content: bytes, width: int, count: int) -> np.ndarray:
    """Rows of the trees' own thresholds, and of numbers next to them."""
    draw = np.random.default_rng(8)
    (values,) = (
        attribute.floats
        for attribute in onnx.load_from_string(content).graph.node[0].attribute
        if attribute.name == "nodes_values"
    )
    on = draw.choice(np.array(values, np.float32), (count, width))
    beside = np.nextafter(on, draw.choice(np.array([-9, 9], np.float32), on.shape))
    return np.where(draw.random(on.shape) < 0.5, on, beside)


def test_random_trees_give_what_a_runtime_for_onnx_gives() -> None:
    draw = random.Random(9)
    trees = [{"tree_structure": grown(draw, draw.randint(1, LEAVES))} for _ in range(150)]
    table = np.random.default_rng(9).normal(size=EMPTY.shape).astype(np.float32)
    content = packed(trees, table, CARD)
    dense = on_edges(content, len(COLUMNS), 300)
    margins, carried = of_runtime(content, inputs(rows(dense), sums(rows(dense), EMPTY)))
    assert carried.tobytes() == table.tobytes()
    assert Model(packed(trees, EMPTY, CARD)).run(rows(dense))[0].tobytes() == margins.tobytes()


@pytest.mark.parametrize("name", [BY_USE, BY_FORM])
def test_the_models_give_what_a_runtime_for_onnx_gives(name: str) -> None:
    content = models.content(name)
    model = Model(content)
    features = found_in_reports(model.card.columns)
    width = len(model.card.columns)
    table = of_runtime(content, np.zeros((1, width + len(SUMS) + 1), np.float32))[1]
    edges = Features(on_edges(content, width, 300), *(np.tile(part, (5, 1)) for part in (
        features.grams[:60], features.scale[:60])))  # fmt: skip
    for one in (features, edges):
        expected, _ = of_runtime(content, inputs(one, sums(one, table)))
        assert len(set(expected.tolist())) > 10
        assert model.run(one)[0].tobytes() == expected.tobytes()


def found_in_reports(columns: list[str]) -> Features:
    """Rows as the stage makes them of findings."""
    first, _ = stages()
    first.prepare()
    subjects = [
        Subject(
            finding(path, rule),
            PlainEvidence(value=value, match=f'{name} = "{value}"', variable=name),
            HEADER,
        )
        for path in ("deploy/production/app.env", "tests/test_login.py", "docs/guide.md")
        for rule in ("generic-api-key", "Password")
        for name in ("DB_PASSWORD", "id", "")
        for value in (drawn(32), "changeme", "${TOKEN}", "correct horse battery")
    ]
    first.judge(subjects)
    looks = [look for look in first.looks(subjects) if look is not None]
    return Extractor(columns)(
        [look.reading for look in looks], [look.judged.weighed for look in looks]
    )


def test_the_files_are_those_that_training_wrote() -> None:
    folder = Path(models.__file__).parent
    listed = dict(
        reversed(line.split()) for line in (folder / "SHA256SUMS").read_text().splitlines()
    )
    assert listed == {
        name: sha256((folder / name).read_bytes()).hexdigest() for name in (BY_USE, BY_FORM)
    }


SMALL = packed(
    [{"tree_structure": grown(random.Random(seed), 4)} for seed in range(3)], EMPTY, CARD
)


def attribute(model: onnx.ModelProto, name: str) -> onnx.AttributeProto:
    (found,) = (one for one in model.graph.node[0].attribute if one.name == name)
    return found


def other_operator(model: onnx.ModelProto) -> None:
    model.graph.node[0].op_type = "TreeEnsembleClassifier"


def another_operator(model: onnx.ModelProto) -> None:
    model.graph.node.add(op_type="Neg")


def other_mode(model: onnx.ModelProto) -> None:
    attribute(model, "nodes_modes").strings[0] = b"BRANCH_LT"


def base_values(model: onnx.ModelProto) -> None:
    model.graph.node[0].attribute.add(name="base_values", floats=[1.0])


def no_leaves(model: onnx.ModelProto) -> None:
    attribute(model, "target_ids").ints.pop()


def other_targets(model: onnx.ModelProto) -> None:
    attribute(model, "target_ids").ints[0] = 1


def circle(model: onnx.ModelProto) -> None:
    attribute(model, "nodes_truenodeids").ints[0] = 0


def shared(model: onnx.ModelProto) -> None:
    attribute(model, "nodes_truenodeids").ints[0] = attribute(model, "nodes_falsenodeids").ints[0]


def twice(model: onnx.ModelProto) -> None:
    numbers = attribute(model, "nodes_nodeids").ints
    last = attribute(model, "target_nodeids").ints
    numbers[-1] = last[-1] = last[-2]


def other_column(model: onnx.ModelProto) -> None:
    attribute(model, "nodes_featureids").ints[0] = len(COLUMNS) + len(SUMS) + 1


def no_number(model: onnx.ModelProto) -> None:
    attribute(model, "target_weights").floats[0] = np.nan


def no_threshold(model: onnx.ModelProto) -> None:
    attribute(model, "nodes_values").floats[0] = np.nan


def no_card(model: onnx.ModelProto) -> None:
    del model.metadata_props[:]


def other_card(model: onnx.ModelProto) -> None:
    model.metadata_props[0].value = "[]"


def no_table(model: onnx.ModelProto) -> None:
    del model.graph.initializer[:]


def doubles(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].data_type = onnx.TensorProto.DOUBLE


def other_size(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims[0] -= 1


def smaller(model: onnx.ModelProto) -> None:
    table = model.graph.initializer[0]
    table.dims[0] -= 1
    table.raw_data = table.raw_data[:-4]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (other_operator, "unknown operator"),
        (another_operator, "unknown operator"),
        (other_mode, "unknown mode"),
        (base_values, "other attributes"),
        (no_leaves, "different lengths"),
        (other_targets, "a leaf without a margin"),
        (circle, "without its two sides"),
        (shared, "without its two sides"),
        (twice, "two nodes of one number"),
        (other_column, "unknown column"),
        (no_number, "no number"),
        (no_threshold, "no number"),
        (no_card, "without a card"),
        (other_card, "Expected `object`"),
        (no_table, "single precision"),
        (doubles, "single precision"),
        (other_size, "another size"),
        (smaller, "another size"),
    ],
)
def test_what_the_trainer_does_not_write_is_refused(
    change: Callable[[onnx.ModelProto], None], said: str
) -> None:
    model = onnx.load_from_string(SMALL)
    change(model)
    with pytest.raises(ValueError, match=f"of another version: .*{said}"):
        Model(model.SerializeToString())


def test_a_file_of_more_leaves_than_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.training.export.LEAVES", LEAVES + 1)
    tree = grown(random.Random(7), LEAVES + 1)
    with pytest.raises(ValueError, match="more than 16 leaves"):
        Model(packed([{"tree_structure": tree}], EMPTY, CARD))


def test_no_trees_are_no_model() -> None:
    model = onnx.load_from_string(SMALL)
    for one in model.graph.node[0].attribute:
        for field in ("ints", "floats", "strings"):
            one.ClearField(field)
    with pytest.raises(ValueError, match="no trees"):
        Model(model.SerializeToString())


# Where the table is not: before it and behind it. One bit more there is a model still.
HEAD = SMALL.index(b"weights")
TAIL = SMALL.index(bytes(EMPTY.nbytes)) + EMPTY.nbytes
PLACES = st.integers(0, HEAD) | st.integers(TAIL, len(SMALL) - 1)


@given(
    places=st.lists(st.tuples(PLACES, st.binary(max_size=4)), min_size=1, max_size=3),
    gone=st.integers(0, 12),
)
def test_damaged_bytes_are_refused_or_are_a_model(
    places: list[tuple[int, bytes]], gone: int
) -> None:
    content = bytearray(SMALL)
    for place, other in places:
        content[place : place + gone] = other
    try:
        model = Model(bytes(content))
    except ValueError:
        return
    dense = np.zeros((2, len(model.card.columns)))
    assert model.run(rows(dense))[0].shape == (2,)


@given(st.integers(0, len(SMALL) - 1))
def test_a_file_cut_short_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="of another version"):
        Model(SMALL[:size])
