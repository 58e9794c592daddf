"""Reads a model's ONNX file: the nodes of its trees, its table, its card.

An ONNX file is a protocol buffer. Of onnx.proto only what the trainer writes is
declared here, so that neither onnx nor a runtime for it is needed; strings are
taken as bytes. What the operator means: https://onnx.ai/onnx/operators,
`TreeEnsembleRegressor` of ai.onnx.ml 3.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

# What is read of each message: field, number, type; lists end in a star.
_MESSAGES = {
    "Model": "graph 7 Graph, metadata_props 14 Entry*",
    "Entry": "key 1 bytes, value 2 bytes",
    "Graph": "node 1 Node*, initializer 5 Tensor*",
    "Node": "op_type 4 bytes, attribute 5 Attribute*",
    "Attribute": "name 1 bytes, i 3 int64, floats 7 float*, ints 8 int64*, strings 9 bytes*",
    "Tensor": "dims 1 int64*, data_type 2 int64, raw_data 9 bytes",
}
_OPERATORS = [b"TreeEnsembleRegressor", b"Identity"]
_FLOAT = 1
# The attributes of nodes and leaves, and which field of the message has their values.
_NODES = {
    b"nodes_treeids": "ints",
    b"nodes_nodeids": "ints",
    b"nodes_modes": "strings",
    b"nodes_featureids": "ints",
    b"nodes_values": "floats",
    b"nodes_truenodeids": "ints",
    b"nodes_falsenodeids": "ints",
}
_LEAVES = {
    b"target_treeids": "ints",
    b"target_nodeids": "ints",
    b"target_ids": "ints",
    b"target_weights": "floats",
}
_TARGETS = b"n_targets"


class Node(NamedTuple):
    """A node as the file numbers it. A leaf has a margin. A split has none: rows whose
    `column` is at most `threshold` go on at `below`, others at `above`."""

    tree: int
    number: int
    column: int
    threshold: float
    below: int
    above: int
    margin: float | None


class File(NamedTuple):
    """The nodes from the file's last to its first, the table of weights (float32), and
    the card as JSON. Nodes are read as they are asked for, and may raise `ValueError`."""

    nodes: Iterator[Node]
    table: NDArray[np.float32]
    card: bytes


def _reader() -> Any:
    """The message of a whole file. The pool is this module's own: onnx may be loaded in
    the same process, and declares the same messages."""
    field = descriptor_pb2.FieldDescriptorProto
    types = {"bytes": field.TYPE_BYTES, "float": field.TYPE_FLOAT, "int64": field.TYPE_INT64}
    file = descriptor_pb2.FileDescriptorProto(name="onnx", package="onnx", syntax="proto2")
    for message, fields in _MESSAGES.items():
        declared = file.message_type.add(name=message)
        for name, number, kind in map(str.split, fields.split(",")):
            one = declared.field.add(name=name, number=int(number))
            one.label = field.LABEL_REPEATED if kind.endswith("*") else field.LABEL_OPTIONAL
            kind = kind.rstrip("*")
            if kind in types:
                one.type = types[kind]
            else:
                one.type_name = f".onnx.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("onnx.Model"))


_Model = _reader()


def read(content: bytes) -> File:
    """What a file holds.

    Raises:
        ValueError: it is no ONNX file, or not of one ensemble of trees and one table.
    """
    try:
        model = _Model.FromString(content)
    except DecodeError:
        raise ValueError("no ONNX file") from None
    cards = [entry.value for entry in model.metadata_props if entry.key == b"winnow"]
    if len(cards) != 1:
        raise ValueError("without a card")
    if [node.op_type for node in model.graph.node] != _OPERATORS:
        raise ValueError("an unknown operator")
    return File(_nodes(model.graph.node[0]), _table(model.graph.initializer), cards[0])


def _table(tensors: Any) -> NDArray[np.float32]:
    if len(tensors) != 1 or tensors[0].data_type != _FLOAT:
        raise ValueError("without one table of single precision")
    table = np.frombuffer(tensors[0].raw_data, "<f4")
    if list(tensors[0].dims) != [len(table)]:
        raise ValueError("a table of another size than it says")
    return table


def _nodes(operator: Any) -> Iterator[Node]:
    given = {one.name: one for one in operator.attribute}
    if given.keys() != _NODES.keys() | _LEAVES.keys() | {_TARGETS} or given[_TARGETS].i != 1:
        raise ValueError("other attributes of trees")
    # Leaves are listed in the order of their nodes.
    leaves = _rows(given, _LEAVES)
    for tree, number, mode, column, threshold, below, above in _rows(given, _NODES):
        margin = None
        if mode == b"LEAF":
            *leaf, margin = next(leaves, (None, None))
            if leaf != [tree, number, 0]:
                raise ValueError("a leaf without a margin")
        elif mode != b"BRANCH_LEQ":
            raise ValueError("a node of unknown mode")
        yield Node(tree, number, column, threshold, below, above, margin)
    if next(leaves, None):
        raise ValueError("a margin without a leaf")


def _rows(given: dict[bytes, Any], fields: dict[bytes, str]) -> Iterator[Any]:
    """What lists of one length hold at each place, from the last to the first."""
    lists = [getattr(given[name], kind) for name, kind in fields.items()]
    if len({len(one) for one in lists}) != 1:
        raise ValueError("attributes of different lengths")
    return zip(*map(reversed, lists), strict=True)
