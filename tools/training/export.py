"""Writes what was learned as one ONNX file: the trees, and the table beside them."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from moderator.features import SUMS
from moderator.model import MARGIN, SEEN, TABLE, Card
from tools.training.learn import Learned

_OPSET = 17
_ML_OPSET = 3
_IR = 8


def model_file(learned: Learned, card: Card) -> bytes:
    """The file's bytes; the same for the same arguments."""
    width = len(card.columns) + len(SUMS) + 1
    nodes = [
        helper.make_node(
            "TreeEnsembleRegressor", [SEEN], [MARGIN], domain="ai.onnx.ml", n_targets=1, **_trees(learned)
        ),
        helper.make_node("Identity", ["weights"], [TABLE]),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "winnow",
        [helper.make_tensor_value_info(SEEN, TensorProto.FLOAT, ["n", width])],
        [
            helper.make_tensor_value_info(MARGIN, TensorProto.FLOAT, ["n", 1]),
            helper.make_tensor_value_info(TABLE, TensorProto.FLOAT, learned.table.shape),
        ],
        [numpy_helper.from_array(learned.table, "weights")],
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


def _trees(learned: Learned) -> dict[str, Any]:
    """LightGBM's trees as attributes of the ONNX operator."""
    columns: dict[str, list[Any]] = {
        name: []
        for name in (
            "nodes_treeids", "nodes_nodeids", "nodes_featureids", "nodes_modes", "nodes_values",
            "nodes_truenodeids", "nodes_falsenodeids",
            "target_treeids", "target_nodeids", "target_ids", "target_weights",
        )
    }  # fmt: skip

    def node(
        tree: int, number: int, feature: int, mode: str, value: float, yes: int, no: int
    ) -> None:
        for name, item in zip(columns, (tree, number, feature, mode, value, yes, no), strict=False):
            columns[name].append(item)

    for tree, dumped in enumerate(learned.trees.booster_.dump_model()["tree_info"]):
        free = iter(range(1, 1 << 20))
        waiting = [(0, dumped["tree_structure"])]
        while waiting:
            number, part = waiting.pop()
            if "split_feature" not in part:
                node(tree, number, 0, "LEAF", 0.0, 0, 0)
                for name, item in zip(
                    list(columns)[7:],
                    (tree, number, 0, float(np.float32(part["leaf_value"]))),
                    strict=True,
                ):
                    columns[name].append(item)
                continue
            yes, no = next(free), next(free)
            node(
                tree,
                number,
                part["split_feature"],
                "BRANCH_LEQ",
                _below(part["threshold"]),
                yes,
                no,
            )
            waiting += [(yes, part["left_child"]), (no, part["right_child"])]
    return columns


def _below(threshold: float) -> float:
    """The largest single-precision number up to `threshold`: features have single
    precision, so that comparing with it decides the same."""
    single = np.float32(threshold)
    return float(single if single <= threshold else np.nextafter(single, np.float32(-np.inf)))
