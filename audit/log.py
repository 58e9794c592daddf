"""The Merkle log, pure: canonical leaves, tree hashes, tiles, proofs.

Tree hashes and proofs are RFC 6962 section 2.1; tiles are those of C2SP
tlog-tiles, 256 hashes wide. A leaf is the event and the time of its recording
as canonical JSON (RFC 8785 for the types that occur: strings, booleans, null,
integers, arrays, objects), so that anyone can recompute it without us.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from google.protobuf.struct_pb2 import Struct

from winnow.event.v1.envelope_pb2 import Envelope, EventSeverity

Members = dict[str, Any]
# Leaves from `start` on, before `end`.
Span = tuple[int, int]
# A complete subtree: it spans the leaves index·2^height … (index+1)·2^height.
Node = tuple[int, int]

HASH_BYTES = 32
TILE_WIDTH = 256
_TILE_HEIGHT = 8
_MOST = 2**53

_TEXTS = (
    "event_id",
    "event_type",
    "idempotency_key",
    "request_id",
    "schema",
    "service",
    "subject",
    "tenant_id",
)


def _plain(value: Any) -> Any:
    """A protobuf Struct's value as JSON's own types; whole numbers as integers."""
    if isinstance(value, Struct):
        return {key: _plain(item) for key, item in value.items()}
    if hasattr(value, "values"):  # ListValue
        return [_plain(item) for item in value]
    if isinstance(value, float):
        if not value.is_integer() or abs(value) >= _MOST:
            raise ValueError("event payloads hold whole numbers below 2^53 only")
        return int(value)
    return value


def moment(time: datetime) -> str:
    """RFC 3339, UTC, always six digits: what REST shows, so that anyone can rebuild a leaf."""
    return time.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def members_of(event: Envelope) -> Members:
    """What an event says, as the members of its leaf (that of the recording is missing).

    Raises:
        ValueError: a number is not a whole number below 2^53, or the time no date.
    """
    if event.ordinal >= _MOST:
        raise ValueError("an ordinal is below 2^53")
    return {
        **{name: getattr(event, name) for name in _TEXTS},
        "occurred_at": moment(event.occurred_at.ToDatetime(tzinfo=UTC)),
        "ordinal": event.ordinal,
        "payload": _plain(event.payload),
        "severity": EventSeverity.Name(event.severity).removeprefix("EVENT_SEVERITY_").lower(),
    }


def leaf_of(members: Mapping[str, Any], recorded_at: datetime) -> bytes:
    """The canonical bytes of an event that is recorded now, UTF-8."""
    return canonical({**members, "recorded_at": moment(recorded_at)})


def canonical(members: Mapping[str, Any]) -> bytes:
    """Members as the bytes that are hashed."""
    return json.dumps(
        members, ensure_ascii=False, separators=(",", ":"), sort_keys=True, allow_nan=False
    ).encode()


def without_recording(members: Mapping[str, Any]) -> Members:
    """A leaf's members as they were before 0.3: neither when it was recorded nor an ordinal."""
    return {name: members[name] for name in members if name not in ("recorded_at", "ordinal")}


def says(leaf: bytes, members: Members) -> bool:
    """Whether a leaf records the event with these members, whenever it was recorded."""
    held = json.loads(leaf)
    if held.pop("recorded_at", None) is None and not members["ordinal"]:
        members = without_recording(members)
    return bool(held == members)


def event_of(leaf: bytes) -> Envelope:
    """The event that a leaf records."""
    held = json.loads(leaf)
    event = Envelope(
        **{name: held[name] for name in _TEXTS},
        ordinal=held.get("ordinal", 0),
        severity=EventSeverity.Value(f"EVENT_SEVERITY_{held['severity'].upper()}"),
    )
    event.occurred_at.FromJsonString(held["occurred_at"])
    event.payload.update(held["payload"])
    return event


def leaf_hash(leaf: bytes) -> bytes:
    """SHA-256(0x00 || leaf): RFC 6962 section 2.1."""
    return hashlib.sha256(b"\x00" + leaf).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def _fold(hashes: Sequence[bytes]) -> bytes:
    """The hash over complete subtrees that stand side by side, the largest first."""
    if not hashes:
        return hashlib.sha256(b"").digest()
    value = hashes[-1]
    for left in reversed(hashes[:-1]):
        value = _node(left, value)
    return value


def root(leaves: Iterable[bytes]) -> bytes:
    """Merkle tree hash of leaf hashes; SHA-256 of nothing for an empty tree."""
    return Edge().grown(leaves)[0].root


@dataclass(frozen=True)
class Edge:
    """The right edge of a tree: as much of it as its root and its growth need.

    Attributes:
        size: number of leaves.
        hashes: of the complete subtrees that the tree consists of, from the left:
            one for each bit that is set in `size`.
    """

    size: int = 0
    hashes: tuple[bytes, ...] = ()

    @property
    def root(self) -> bytes:
        """The Merkle tree hash."""
        return _fold(self.hashes)

    def grown(self, leaves: Iterable[bytes]) -> tuple[Edge, list[tuple[int, int, bytes]]]:
        """The edge after more leaf hashes.

        Returns:
            It, and the hash of each tile that became full on the way: level and
            index at which it stands in the tiles above, and the hash.
        """
        size, hashes = self.size, list(self.hashes)
        full = []
        for value in leaves:
            height = 0
            while size >> height & 1:
                value = _node(hashes.pop(), value)
                height += 1
                if height % _TILE_HEIGHT == 0:
                    full.append((height // _TILE_HEIGHT, size >> height, value))
            hashes.append(value)
            size += 1
        return Edge(size, tuple(hashes)), full


def subtrees(span: Span) -> Iterator[Node]:
    """The complete subtrees that a span consists of, from the left, the largest first.

    The span starts where RFC 6962 splits: at a multiple of the power of two that
    is not below its length.
    """
    start, end = span
    while start < end:
        height = (end - start).bit_length() - 1
        yield height, start >> height
        start += 1 << height


def tile_of(node: Node) -> tuple[int, int]:
    """Level and index of the tile that a subtree's hash is computed from."""
    height, index = node
    return height // _TILE_HEIGHT, index << height % _TILE_HEIGHT >> _TILE_HEIGHT


def subtree_hash(node: Node, tile: bytes) -> bytes:
    """A subtree's hash, from its tile.

    Raises:
        ValueError: the tile does not reach so far.
    """
    height, index = node
    width = 1 << height % _TILE_HEIGHT
    start = index * width % TILE_WIDTH
    part = tile[start * HASH_BYTES : (start + width) * HASH_BYTES]
    if len(part) != width * HASH_BYTES:
        raise ValueError("the tile is not as wide as the tree asks")
    return root(hashes_in(part))


def hashes_in(row: bytes) -> list[bytes]:
    """Hashes that stand one behind the other."""
    return [row[at : at + HASH_BYTES] for at in range(0, len(row), HASH_BYTES)]


def span_hash(span: Span, tiles: Mapping[tuple[int, int], bytes]) -> bytes:
    """The Merkle tree hash of a span, from the tiles of its subtrees.

    Raises:
        ValueError: a tile does not reach so far.
    """
    return _fold([subtree_hash(node, tiles.get(tile_of(node), b"")) for node in subtrees(span)])


def inclusion_spans(index: int, size: int) -> list[Span]:
    """The spans whose hashes prove a leaf, from the leaf upwards: RFC 6962 section 2.1.1."""
    spans = []
    start, end = 0, size
    while end - start > 1:
        cut = start + _split(end - start)
        if index < cut:
            spans.append((cut, end))
            end = cut
        else:
            spans.append((start, cut))
            start = cut
    return spans[::-1]


def consistency_spans(first: int, second: int) -> list[Span]:
    """The spans whose hashes prove that a tree is a prefix of another: section 2.1.2."""
    if first in (0, second):
        return []
    spans = []
    start, end = 0, second
    while first != end:
        cut = start + _split(end - start)
        if first <= cut:
            spans.append((cut, end))
            end = cut
        else:
            spans.append((start, cut))
            start = cut
    if start:
        spans.append((start, end))
    return spans[::-1]


def _split(size: int) -> int:
    """The largest power of two below `size` (size > 1)."""
    return 1 << (size - 1).bit_length() - 1


def verify_inclusion(
    leaf: bytes, index: int, size: int, proof: Sequence[bytes], expected: bytes
) -> bool:
    """Whether a leaf hash stands at `index` of the tree with root `expected` (RFC 9162 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    node, last, value = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            return False
        if node & 1 or node == last:
            value = _node(sibling, value)
            while not node & 1 and node:
                node >>= 1
                last >>= 1
        else:
            value = _node(value, sibling)
        node >>= 1
        last >>= 1
    return last == 0 and value == expected


def verify_consistency(
    first: int, second: int, proof: Sequence[bytes], first_root: bytes, second_root: bytes
) -> bool:
    """Whether the second tree extends the first (RFC 9162 section 2.1.4.2)."""
    if first > second:
        return False
    if first == second:
        return not proof and first_root == second_root
    if first == 0:
        return not proof
    path = list(proof)
    if first & (first - 1) == 0:
        path.insert(0, first_root)
    if not path:
        return False
    node, last = first - 1, second - 1
    while node & 1:
        node >>= 1
        last >>= 1
    old = new = path[0]
    for sibling in path[1:]:
        if last == 0:
            return False
        if node & 1 or node == last:
            old, new = _node(sibling, old), _node(sibling, new)
            while not node & 1 and node:
                node >>= 1
                last >>= 1
        else:
            new = _node(new, sibling)
        node >>= 1
        last >>= 1
    return last == 0 and old == first_root and new == second_root
