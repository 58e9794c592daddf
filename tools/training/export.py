"""Writes what was learned as one ONNX file: the trees, and the table beside them.

The file holds what `moderator/model/onnx.py` reads, and any runtime for ONNX can run
it: input `seen`, outputs `margin` and, as it is, `table`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from moderator.features import SUMS
from moderator.model import Card
from moderator.model.trees import LEAVES

if TYPE_CHECKING:
    from tools.training.learn import Learned

_OPSET = 17
_ML_OPSET = 3
_IR = 8

# The operator's attributes: what each node has, and what a leaf has besides.
_NODES = (
    "nodes_treeids", "nodes_nodeids", "nodes_featureids", "nodes_modes", "nodes_values",
    "nodes_truenodeids", "nodes_falsenodeids",
)  # fmt: skip
_LEAVES = ("target_treeids", "target_nodeids", "target_ids", "target_weights")


def model_file(learned: Learned, card: Card) -> bytes:
    """The file's bytes; the same for the same arguments."""
    return packed(learned.trees.booster_.dump_model()["tree_info"], learned.table, card)


def packed(trees: Sequence[dict[str, Any]], table: NDArray[np.float32], card: Card) -> bytes:
    """The file of trees as LightGBM dumps them.

    Raises:
        ValueError: a tree has more leaves than a model may have.
    """
    width = len(card.columns) + len(SUMS) + 1
    nodes = [
        helper.make_node(
            "TreeEnsembleRegressor",
            ["seen"],
            ["margin"],
            domain="ai.onnx.ml",
            n_targets=1,
            **_attributes(trees),
        ),
        helper.make_node("Identity", ["weights"], ["table"]),
    ]
    graph = helper.make_graph(
        nodes,
        "winnow",
        [helper.make_tensor_value_info("seen", TensorProto.FLOAT, ["n", width])],
        [
            helper.make_tensor_value_info("margin", TensorProto.FLOAT, ["n", 1]),
            helper.make_tensor_value_info("table", TensorProto.FLOAT, table.shape),
        ],
        [numpy_helper.from_array(table, "weights")],
    )
    model = helper.make_model(
        graph,
        opset_imports=[
            helper.make_opsetid("", _OPSET),
            helper.make_opsetid("ai.onnx.ml", _ML_OPSET),
        ],
        ir_version=_IR,
        producer_name="winnow",
    )
    helper.set_model_props(model, {"winnow": msgspec.json.encode(card).decode()})
    onnx.checker.check_model(model)
    return model.SerializeToString(deterministic=True)


def _attributes(trees: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    nodes: list[tuple[Any, ...]] = []
    leaves: list[tuple[Any, ...]] = []
    for tree, dumped in enumerate(trees):
        before = len(leaves)
        for node, margin in _numbered(dumped["tree_structure"]):
            nodes.append((tree, *node))
            if margin is not None:
                leaves.append((tree, node[0], 0, margin))
        if (count := len(leaves) - before) > LEAVES:
            raise ValueError(f"tree {tree} has {count} leaves; the most are {LEAVES}")
    return {
        name: list(values)
        for names, rows in ((_NODES, nodes), (_LEAVES, leaves))
        for name, values in zip(names, zip(*rows, strict=True), strict=True)
    }


def _numbered(root: dict[str, Any]) -> Iterator[tuple[tuple[Any, ...], float | None]]:
    """A tree's nodes, parents before their children, and the margin of each leaf. A
    node's values are in the order of `_NODES`, without the tree's number."""
    free = 1
    waiting = [(0, root)]
    while waiting:
        number, part = waiting.pop()
        if "split_feature" not in part:
            yield (number, 0, "LEAF", 0.0, 0, 0), float(np.float32(part["leaf_value"]))
            continue
        below, above = free, free + 1
        free += 2
        threshold = _below(part["threshold"])
        yield (number, part["split_feature"], "BRANCH_LEQ", threshold, below, above), None
        waiting += [(below, part["left_child"]), (above, part["right_child"])]


def _below(threshold: float) -> float:
    """The largest single-precision number up to `threshold`: features have single
    precision, so that comparing with it decides the same."""
    single = np.float32(threshold)
    # As doubles: numpy would round the threshold to compare it.
    return float(
        single if float(single) <= threshold else np.nextafter(single, -np.float32(np.inf))
    )
