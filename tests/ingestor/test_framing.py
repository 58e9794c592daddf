"""Framing: the same records however the bytes arrive, whatever stands in them."""

from __future__ import annotations

import codecs
import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestor.framing import Source
from ingestor.reading import MAX_RECORD, Malformed
from tests.ingestor.reading_reports import pieces
from winnow.ingest.v1.rejected_pb2 import Rejected, RejectReason

TRICKY = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        ["},{", '}\n,{"a":', "]}", "\\", '\\"', '"', "[{", "\u202e", "\n{", "é\U0001f511"]
    ),
)
VALUES = st.recursive(
    TRICKY | st.integers() | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TRICKY, inner, max_size=3),
    max_leaves=6,
)
RECORDS = st.lists(
    st.dictionaries(
        TRICKY.filter(lambda key: key not in ("findings", "level")), VALUES, max_size=4
    ),
    max_size=12,
)
SIZES = st.sampled_from([1, 2, 3, 7, 64, 1000, 1 << 18])


def read(data: bytes, size: int = 1 << 18) -> list[Any]:
    """Records as Python values, rejections as their reasons."""
    found: list[Any] = []
    for raw in Source(pieces(data, size)).records():
        if isinstance(raw, Rejected):
            found.append(RejectReason.Name(raw.reason).removeprefix("REJECT_REASON_"))
        else:
            try:
                found.append(json.loads(bytes(raw)))
            except ValueError:
                found.append("SYNTAX")  # as `records.read` rejects it
    return found


@given(RECORDS, SIZES, st.sampled_from([None, 0, 1, 4]), st.booleans())
def test_an_array_gives_its_elements(
    records: list[Any], size: int, indent: int | None, ascii_only: bool
) -> None:
    data = json.dumps(records, indent=indent, ensure_ascii=ascii_only).encode(
        "utf-8", "surrogatepass"
    )
    assert read(data, size) == records


@given(RECORDS, SIZES, st.sampled_from(["\n", "\r\n", "\n\n", "", " "]))
def test_objects_one_after_another_give_themselves(
    records: list[Any], size: int, between: str
) -> None:
    assert read(between.join(map(json.dumps, records)).encode(), size) == records


@given(RECORDS, SIZES, st.sampled_from([1, 2, 4]))
def test_pretty_objects_one_after_another_give_themselves(
    records: list[Any], size: int, indent: int
) -> None:
    text = "\n".join(json.dumps(record, indent=indent) for record in records)
    assert read(text.encode(), size) == records


@given(RECORDS, SIZES)
def test_log_lines_in_between_are_passed_over(records: list[Any], size: int) -> None:
    noise = [
        "10:03AM INF scan completed",
        "[INFO] starting",
        "🔑 banner",
        '{"level":"info", broken',
    ]
    lines = [line for n, r in enumerate(records) for line in (noise[n % 4], json.dumps(r))]
    assert read("\n".join([*lines, "null", "bye"]).encode(), size) == records


@given(RECORDS, SIZES)
def test_a_wrapped_list_gives_its_elements(records: list[Any], size: int) -> None:
    data = json.dumps({"version": "1", "findings": records, "stats": {"findings": [1]}})
    assert read(data.encode(), size) == records


@given(st.integers(1, 40), st.integers(0, 39), SIZES, st.booleans())
def test_a_broken_record_costs_itself_only(
    count: int, broken: int, size: int, in_lines: bool
) -> None:
    texts = [json.dumps({"id": n, "text": "},{", "deep": [{"id": n}]}) for n in range(count)]
    broken %= count
    texts[broken] = texts[broken].replace('"text": ', '"text": nope ')
    data = "\n".join(texts) if in_lines else f"[{', '.join(texts)}]"
    found = read(data.encode(), size)
    assert found[broken] == "SYNTAX"
    assert [r["id"] for r in found if r != "SYNTAX"] == [n for n in range(count) if n != broken]


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:-1],  # no closing brace
        lambda text: text.replace('"b"', '"b', 1),  # a quote too few
        lambda text: text.replace("{", "{{", 1),
    ],
)
@pytest.mark.parametrize("between", ["\n", ",\n", ","])
def test_a_record_without_an_end_does_not_swallow_the_next(damage: Any, between: str) -> None:
    one = '{"a": {"b": 1}}'
    text = between.join([one, damage(one), one, one])
    found = read((text if between == "\n" else f"[{text}]").encode())
    assert found[0] == found[-1] == {"a": {"b": 1}}
    assert "SYNTAX" in found
    assert found.count({"a": {"b": 1}}) == 3


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@given(records=RECORDS, size=SIZES)
def test_byte_order_marks_and_utf16(encoding: str, records: list[Any], size: int) -> None:
    text = json.dumps(records, ensure_ascii=False)
    text = text.encode("utf-8", "replace").decode()
    assert read(text.encode(encoding), size) == json.loads(text)


def test_big_endian_utf16() -> None:
    assert read(codecs.BOM_UTF16_BE + '[{"a":"ü"}]'.encode("utf-16-be"), 1) == [{"a": "ü"}]


@pytest.mark.parametrize("data", [b"", b"  \n", b"[]", b"null", b"null\n", b'{"findings":[]}'])
def test_nothing_gives_nothing(data: bytes) -> None:
    assert read(data, 1) == []


@pytest.mark.parametrize("size", [5, 1 << 18])
@pytest.mark.parametrize(
    "data", [b'[{"a":1},{"a":', b'[{"a":1},', b'[{"a":1}', b"[", b'{\n "a": [\n']
)
def test_what_does_not_end_is_malformed(data: bytes, size: int) -> None:
    with pytest.raises(Malformed) as raised:
        read(data, size)
    assert 0 <= raised.value.at_byte <= len(data)


def test_the_last_line_cut_short_is_one_rejected_record() -> None:
    assert read(b'{"a":1}\n{"a":2}\n{"a":') == [{"a": 1}, {"a": 2}, "SYNTAX"]


def test_lone_surrogates_and_nan_do_not_break_the_framing() -> None:
    data = b'[{"a":"\\ud800"},{"a":NaN},{"a":"\\udc00x"},{"a":1}]'
    for size in (1, 1 << 18):
        raws = [bytes(raw) for raw in Source(pieces(data, size)).records()]
        assert raws == [b'{"a":"\\ud800"}', b'{"a":NaN}', b'{"a":"\\udc00x"}', b'{"a":1}']


@pytest.mark.parametrize("in_lines", [True, False])
def test_a_record_over_the_limit_is_rejected_in_bounded_memory(in_lines: bool) -> None:
    small, seen = b'{"a":1}', []
    between = b"\n" if in_lines else b","

    def chunks() -> Any:
        yield (b"" if in_lines else b"[") + small + between + b'{"a":"'
        for _ in range(3 * MAX_RECORD >> 20):
            yield b"x" * (1 << 20)
            seen.append(len(source._buffer))
        yield b'"}' + between + small + (b"" if in_lines else b"]")

    source = Source(chunks())
    found = list(source.records())
    assert [type(item) is Rejected for item in found] == [False, True, False]
    assert RejectReason.Name(found[1].reason) == "REJECT_REASON_TOO_LARGE"
    assert found[1].at_byte == len(small) + (1 if in_lines else 2)
    assert max(seen) <= 2 * MAX_RECORD + (2 << 20)


def test_deep_nesting_is_stepped_over() -> None:
    deep = b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}"
    raws = list(Source([b"[" + deep + b',{"a":1}]']).records())
    assert [bytes(raw) for raw in raws] == [deep, b'{"a":1}']


@given(st.binary(max_size=300), SIZES)
def test_any_bytes_end_in_records_or_malformed(data: bytes, size: int) -> None:
    with contextlib.suppress(Malformed):
        assert len(list(Source(pieces(data, size)).records())) <= len(data)


@given(st.text(alphabet='{}[],:"\\ \na1', max_size=80), SIZES)
def test_any_structure_ends_in_records_or_malformed(text: str, size: int) -> None:
    whole: list[Any] = []
    for each in (size, 1 << 18):
        try:
            found: Any = [
                item if isinstance(item, Rejected) else bytes(item)
                for item in Source(pieces(text.encode(), each)).records()
            ]
        except Malformed as error:
            found = error.at_byte
        whole.append(found)
    assert whole[0] == whole[1]


@given(RECORDS, SIZES, st.booleans())
def test_offsets_are_where_records_begin(records: list[Any], size: int, in_lines: bool) -> None:
    texts = [json.dumps(record).encode() for record in records] * 40
    data = b"\n".join(texts) if in_lines else b"[ " + b" ,\n".join(texts) + b"]"
    source = Source(pieces(data, size * 100))
    for number, raw in enumerate(source.records()):
        at = source.at_byte()
        assert data[at : at + len(raw)] == bytes(raw) == texts[number]


@pytest.mark.parametrize("in_lines", [True, False])
def test_many_records_without_an_end_are_each_looked_at_once(in_lines: bool) -> None:
    """Each nests all that follow: read anew from each one, work would square."""
    good, bad = b'{"id": 1, "a": []}', b'{"id": 2, "a": ['
    between = b"\n" if in_lines else b","
    data = between.join([good, *[bad] * 3000, good])
    found = read(data if in_lines else b"[" + data + b"]")
    assert found.count("SYNTAX") == 3000
    assert found[0] == found[-1] == {"id": 1, "a": []}
