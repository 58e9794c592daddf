"""The Merkle log's mathematics, against itself and against an independent oracle."""

from __future__ import annotations

import hashlib
import random
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymerkle import InmemoryTree

from audit import log
from audit.log import TILE_WIDTH, Span
from winnow.event.v1.envelope_pb2 import Envelope, EventSeverity

AT = datetime(2026, 11, 22, 8, 0, 0, 5, UTC)


def _leaves(count: int) -> list[bytes]:
    return [log.leaf_hash(b"event %d" % index) for index in range(count)]


def _oracle(count: int) -> InmemoryTree:
    return InmemoryTree.init_from_entries(
        [b"event %d" % index for index in range(count)], algorithm="sha256"
    )


def _hashes(leaves: list[bytes], spans: list[Span]) -> list[bytes]:
    return [log.root(leaves[start:end]) for start, end in spans]


def _tiles(leaves: list[bytes]) -> dict[tuple[int, int], bytes]:
    """All tiles of a log, partial ones included, by level and index."""
    tiles: dict[tuple[int, int], bytes] = {}
    _, full = log.Edge().grown(leaves)
    for level, index, value in [(0, index, value) for index, value in enumerate(leaves)] + full:
        at = level, index // TILE_WIDTH
        tiles[at] = tiles.get(at, b"") + value
    return tiles


def test_root_of_nothing_is_the_hash_of_nothing() -> None:
    assert log.root([]) == hashlib.sha256(b"").digest()


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 8, 9, 31, 64, 100, 257])
def test_root_equals_the_oracles(count: int) -> None:
    assert log.root(_leaves(count)) == _oracle(count).get_root()


def test_inclusion_proofs_are_the_oracles() -> None:
    tree, leaves = _oracle(70), _leaves(70)
    for size in range(1, 71):
        for index in range(size):
            # The oracle counts from 1, and its path holds the leaf itself too.
            path = tree.prove_inclusion(index + 1, size).path
            siblings = [value for value in path if value != leaves[index]]
            assert _hashes(leaves, log.inclusion_spans(index, size)) == siblings


def test_every_inclusion_proof_holds_and_no_wrong_one_does() -> None:
    for size in range(1, 40):
        leaves = _leaves(size)
        root = log.root(leaves)
        for index in range(size):
            proof = _hashes(leaves, log.inclusion_spans(index, size))
            assert log.verify_inclusion(leaves[index], index, size, proof, root)
            assert not log.verify_inclusion(log.leaf_hash(b"other"), index, size, proof, root)
            assert not log.verify_inclusion(leaves[index], index + size, size, proof, root)
            assert not log.verify_inclusion(leaves[index], index, size, [*proof, root], root)
            if proof:
                assert not log.verify_inclusion(leaves[index], index, size, proof[:-1], root)


def test_every_consistency_proof_holds_and_a_rewritten_past_does_not() -> None:
    tree = _oracle(40)
    for second in range(1, 41):
        leaves = _leaves(second)
        new = tree.get_root(second)
        for first in range(1, second + 1):
            old = tree.get_root(first)
            proof = _hashes(leaves, log.consistency_spans(first, second))
            assert log.verify_consistency(first, second, proof, old, new)
            rewritten = log.root([log.leaf_hash(b"rewritten"), *leaves[1:first]])
            assert not log.verify_consistency(first, second, proof, rewritten, new)


@given(st.lists(st.integers(0, 700), max_size=6))
def test_an_edge_grows_in_any_steps_to_the_same_tree(steps: list[int]) -> None:
    leaves = _leaves(sum(steps))
    edge, full, at = log.Edge(), [], 0
    for step in steps:
        edge, more = edge.grown(leaves[at : at + step])
        full += more
        at += step
    assert (edge, full) == log.Edge().grown(leaves)
    assert edge.root == log.root(leaves)
    assert len(edge.hashes) == edge.size.bit_count()


@pytest.mark.parametrize("size", [1, 255, 256, 257, 511, 4096, 65_535, 65_536, 65_537, 70_000])
def test_what_is_computed_from_tiles_is_what_the_leaves_give(size: int) -> None:
    leaves = _leaves(size)
    tiles = _tiles(leaves)
    assert log.span_hash((0, size), tiles) == log.root(leaves)
    source = random.Random(size)
    root = log.root(leaves)
    for _ in range(20):
        index = source.randrange(size)
        proof = [log.span_hash(span, tiles) for span in log.inclusion_spans(index, size)]
        assert log.verify_inclusion(leaves[index], index, size, proof, root)
        first = source.randrange(1, size + 1)
        proof = [log.span_hash(span, tiles) for span in log.consistency_spans(first, size)]
        assert log.verify_consistency(first, size, proof, log.span_hash((0, first), tiles), root)


def test_tiles_are_as_wide_as_the_specification_says() -> None:
    widths = [
        (at, len(hashes) // log.HASH_BYTES)
        for at, hashes in _tiles(_leaves(70_000)).items()
        if len(hashes) != TILE_WIDTH * log.HASH_BYTES
    ]
    # The example of C2SP tlog-tiles, "Partial Tiles".
    assert sorted(widths) == [((0, 273), 112), ((1, 1), 17), ((2, 0), 1)]


def test_a_tile_that_is_too_short_gives_no_hash() -> None:
    tiles = _tiles(_leaves(300))
    tiles[0, 1] = tiles[0, 1][:-1]
    with pytest.raises(ValueError, match="not as wide"):
        log.span_hash((0, 300), tiles)


_texts = st.text(max_size=20)


@given(
    payload=st.dictionaries(
        _texts,
        st.recursive(
            st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | _texts,
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3),
            max_leaves=8,
        ),
        max_size=4,
    ),
    subject=_texts,
    severity=st.sampled_from(EventSeverity.values()),
)
def test_a_leaf_is_canonical_and_gives_the_event_back(
    payload: dict[str, object], subject: str, severity: EventSeverity
) -> None:
    event = Envelope(
        event_id="0198c5a0-0000-7000-8000-000000000000",
        event_type="REPORT_DONE",
        subject=subject,
        severity=severity,
        ordinal=7,
    )
    event.occurred_at.FromMicroseconds(1_700_000_000_123_456)
    event.payload.update(payload)
    leaf = log.leaf_of(log.members_of(event), AT)
    again = log.event_of(leaf)
    assert again == event
    assert log.leaf_of(log.members_of(again), AT) == leaf


def test_a_leaf_says_when_it_was_recorded_and_nothing_else_may_differ() -> None:
    event = Envelope(event_id="0198c5a0-0000-7000-8000-000000000000", ordinal=3)
    members = log.members_of(event)
    leaf = log.leaf_of(members, AT)
    assert b'"recorded_at":"2026-11-22T08:00:00.000005Z"' in leaf
    assert log.says(leaf, members)
    assert not log.says(leaf, {**members, "ordinal": 4})


def test_a_leaf_from_before_the_time_of_recording_is_read_and_known_again() -> None:
    event = Envelope(event_id="0198c5a0-0000-7000-8000-000000000000", event_type="REPORT_DONE")
    event.occurred_at.FromMicroseconds(1_700_000_000_123_456)
    members = log.members_of(event)
    older = log.canonical(log.without_recording({**members, "recorded_at": "any"}))
    assert b"ordinal" not in older
    assert b"recorded_at" not in older
    assert log.event_of(older) == event
    assert log.says(older, members)
    assert not log.says(older, {**members, "ordinal": 1})


def test_a_payload_with_a_fraction_is_refused() -> None:
    event = Envelope()
    event.payload.update({"ratio": 0.5})
    with pytest.raises(ValueError, match="whole numbers"):
        log.members_of(event)


def test_an_ordinal_that_json_cannot_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="ordinal"):
        log.members_of(Envelope(ordinal=2**53))
