"""The Merkle log, pure: canonical leaves, tree hashes, proofs, signed notes.

Tree hashes and proofs are RFC 6962 section 2.1; checkpoints are signed notes
(C2SP signed-note and tlog-checkpoint) with Ed25519 (RFC 8032). A leaf is the
event as canonical JSON (RFC 8785 for the types that occur: strings, booleans,
null, integers, arrays, objects), so that anyone can recompute it without us.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from datetime import UTC
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from winnow.event.v1.envelope_pb2 import Envelope, EventSeverity

ORIGIN = "winnow/audit"


def _plain(value: Any) -> Any:
    """A protobuf Struct's value as JSON's own types; whole numbers as integers."""
    if isinstance(value, Struct):
        return {key: _plain(item) for key, item in value.items()}
    if hasattr(value, "values"):  # ListValue
        return [_plain(item) for item in value]
    if isinstance(value, float):
        if not value.is_integer() or abs(value) >= 2**53:
            raise ValueError("event payloads hold whole numbers below 2^53 only")
        return int(value)
    return value


def _moment(timestamp: Timestamp) -> str:
    """RFC 3339, UTC, always six digits: what REST shows, so that anyone can rebuild a leaf."""
    moment = timestamp.ToDatetime(tzinfo=UTC)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def leaf_of(event: Envelope) -> bytes:
    """The canonical bytes of an event, UTF-8.

    Raises:
        ValueError: a number in the payload is not a whole number below 2^53.
    """
    document = {
        "event_id": event.event_id,
        "event_type": event.event_type,
        "idempotency_key": event.idempotency_key,
        "occurred_at": _moment(event.occurred_at),
        "payload": _plain(event.payload),
        "request_id": event.request_id,
        "schema": event.schema,
        "service": event.service,
        "severity": EventSeverity.Name(event.severity).removeprefix("EVENT_SEVERITY_").lower(),
        "subject": event.subject,
        "tenant_id": event.tenant_id,
    }
    return json.dumps(
        document, ensure_ascii=False, separators=(",", ":"), sort_keys=True, allow_nan=False
    ).encode()


def event_of(leaf: bytes) -> Envelope:
    """The event that `leaf_of` wrote."""
    document = json.loads(leaf)
    event = Envelope(
        **{
            key: document[key]
            for key in (
                "event_id",
                "event_type",
                "idempotency_key",
                "request_id",
                "schema",
                "service",
                "subject",
                "tenant_id",
            )
        },
        severity=EventSeverity.Value(f"EVENT_SEVERITY_{document['severity'].upper()}"),
    )
    event.occurred_at.FromJsonString(document["occurred_at"])
    event.payload.update(document["payload"])
    return event


def leaf_hash(leaf: bytes) -> bytes:
    """SHA-256(0x00 || leaf): RFC 6962 section 2.1."""
    return hashlib.sha256(b"\x00" + leaf).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def _split(size: int) -> int:
    """The largest power of two below `size` (size > 1)."""
    return 1 << (size - 1).bit_length() - 1


def root(leaves: Sequence[bytes]) -> bytes:
    """Merkle tree hash of leaf hashes; SHA-256 of nothing for an empty tree."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    # Right edge of complete subtrees, by height: one pass, no recursion.
    edge: list[tuple[int, bytes]] = []
    for leaf in leaves:
        height, value = 0, leaf
        while edge and edge[-1][0] == height:
            value = _node(edge.pop()[1], value)
            height += 1
        edge.append((height, value))
    value = edge.pop()[1]
    while edge:
        value = _node(edge.pop()[1], value)
    return value


def inclusion_proof(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """Sibling hashes from leaf `index` upwards: RFC 6962 section 2.1.1."""
    if len(leaves) <= 1:
        return []
    cut = _split(len(leaves))
    if index < cut:
        return [*inclusion_proof(leaves[:cut], index), root(leaves[cut:])]
    return [*inclusion_proof(leaves[cut:], index - cut), root(leaves[:cut])]


def consistency_proof(leaves: Sequence[bytes], first: int) -> list[bytes]:
    """Proof that the tree of the first `first` leaves is a prefix: section 2.1.2."""
    if first in (0, len(leaves)):
        return []
    return _subproof(leaves, first, True)


def _subproof(leaves: Sequence[bytes], first: int, whole: bool) -> list[bytes]:
    if first == len(leaves):
        return [] if whole else [root(leaves)]
    cut = _split(len(leaves))
    if first <= cut:
        return [*_subproof(leaves[:cut], first, whole), root(leaves[cut:])]
    return [*_subproof(leaves[cut:], first - cut, False), root(leaves[:cut])]


def verify_inclusion(
    leaf: bytes, index: int, size: int, proof: Sequence[bytes], expected: bytes
) -> bool:
    """Whether a leaf hash stands at `index` of the tree with root `expected` (RFC 9162 2.1.3.2)."""
    if index >= size:
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


def public_key(key: Ed25519PrivateKey) -> bytes:
    """The 32 bytes that verify what `key` signs."""
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def sign_note(key: Ed25519PrivateKey, size: int, root_hash: bytes) -> str:
    """A checkpoint of the log as a signed note.

    The signature line's key id is the first 4 bytes of SHA-256(name, newline,
    0x01, public key), as C2SP signed-note asks for Ed25519.
    """
    text = f"{ORIGIN}\n{size}\n{base64.b64encode(root_hash).decode()}\n"
    key_id = hashlib.sha256(ORIGIN.encode() + b"\n\x01" + public_key(key)).digest()[:4]
    signature = base64.b64encode(key_id + key.sign(text.encode())).decode()
    return f"{text}\n\u2014 {ORIGIN} {signature}\n"
