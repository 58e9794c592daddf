"""What is an envelope, and that its report's bytes come out as they went in."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.envelope import HEAD_BYTES, TAIL_BYTES, Body
from runtime.errors import WinnowError


async def _stream(body: bytes, sizes: list[int]) -> AsyncIterator[bytes]:
    at = 0
    turn = 0
    while at < len(body):
        size = sizes[turn % len(sizes)] if sizes else len(body)
        yield body[at : at + size]
        at += size
        turn += 1


def read(body: bytes, sizes: list[int] | None = None, *, raw: bool = False) -> tuple[bytes, Any]:
    async def run() -> tuple[bytes, Any]:
        reader = Body(_stream(body, sizes or []), raw=raw)
        await reader.open()
        return b"".join([piece async for piece in reader]), reader.declaration

    return asyncio.run(run())


nasty = st.text(st.sampled_from('{}[]"\\/,: \nué😀x0'), max_size=12) | st.text(max_size=6)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | nasty,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(nasty, inner, max_size=4),
    max_leaves=25,
)
containers = st.lists(values, max_size=6) | st.dictionaries(nasty, values, max_size=6)
chunk_sizes = st.lists(st.integers(1, 400), min_size=1, max_size=4)


@st.composite
def envelopes(draw: st.DrawFn) -> tuple[bytes, bytes, dict[str, Any]]:
    """A body, its report's bytes in it, and its other members."""
    members: dict[str, Any] = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "scanner_type": st.none() | nasty,
                "report_format": nasty,
                "source": st.dictionaries(
                    st.sampled_from(["repository", "ref", "commit", "image"]), nasty
                ),
                "labels": st.dictionaries(nasty, nasty, max_size=3),
            },
        )
    )
    ascii_only = draw(st.booleans())
    indent = draw(st.sampled_from([None, 1]))

    def encode(value: Any) -> str:
        text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
        return text.encode("utf-8", "replace").decode()

    report = encode(draw(containers)).encode()
    parts = [(encode(k).encode(), encode(v).encode()) for k, v in members.items()]
    parts.append((b'"report"', report))
    parts = draw(st.permutations(parts))
    space = draw(st.sampled_from([b"", b" ", b"\r\n\t"]))
    body = space + b"{" + b",".join(space + k + space + b":" + space + v for k, v in parts)
    body += space + b"}" + space
    return body, report, members


@settings(max_examples=400, deadline=None)
@given(envelopes(), chunk_sizes)
def test_report_comes_out_as_it_stands_in_any_envelope(
    envelope: tuple[bytes, bytes, dict[str, Any]], sizes: list[int]
) -> None:
    body, report, members = envelope
    got, declaration = read(body, sizes)
    assert got == report
    assert declaration.scanner_type == (members.get("scanner_type") or "")
    assert declaration.report_format == members.get("report_format", "")
    assert dict(declaration.labels) == members.get("labels", {})
    for field, value in members.get("source", {}).items():
        assert getattr(declaration.source, field) == value


@settings(max_examples=60, deadline=None)
@given(containers, st.lists(st.integers(1, 3000), min_size=1, max_size=4), st.booleans())
def test_large_reports_stream_from_the_first_megabyte_on(
    record: Any, sizes: list[int], members_first: bool
) -> None:
    record_bytes = json.dumps(record).encode()
    report = b"[" + b",".join([record_bytes] * (2 + 8_000 // len(record_bytes))) + b"]"
    # A head as small as this keeps the example small; the rule is the same.
    other = b'"scanner_type":"gitleaks"'
    parts = [other, b'"report":' + report] if members_first else [b'"report":' + report, other]
    body = b"{" + b",".join(parts) + b"}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gateway.envelope.HEAD_BYTES", 64)
        got, declaration = read(body, sizes)
    assert got == report
    assert declaration.scanner_type == "gitleaks"


@settings(max_examples=200, deadline=None)
@given(nasty, st.integers(1, 7), st.booleans())
def test_report_as_text_is_decoded_whatever_the_chunks(
    text: str, size: int, ascii_only: bool
) -> None:
    text = text.encode("utf-8", "replace").decode() * 3
    body = json.dumps({"report": text, "report_format": "x"}, ensure_ascii=ascii_only).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gateway.envelope.HEAD_BYTES", 12)
        got, declaration = read(body, [size])
    assert got == text.encode()
    assert declaration.report_format == "x"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"[]",
        b"null",
        b'[{"report": 1}]',
        b'{"runs": [], "version": "2.1.0"}',
        b'{"a": {"report": 1}}',
        b'{"a": 1}\n{"report": {}}',
        b"{broken",
        b'{"findings": [',
        b'"report"',
        b"\xff\xfe{",
    ],
)
@pytest.mark.parametrize("size", [1, 1000])
def test_anything_without_a_top_level_report_is_the_report(body: bytes, size: int) -> None:
    assert read(body, [size])[0] == body


def test_named_scanner_makes_any_body_the_report() -> None:
    body = b'{"report": {"a": 1}}'
    assert read(body, raw=True)[0] == body


def test_null_report_is_what_gitleaks_writes() -> None:
    assert read(b'{"report": null}')[0] == b"null"


def test_large_object_with_other_members_first_is_a_report() -> None:
    body = b'{"version": 1, "report": [' + b"0," * HEAD_BYTES + b"0]}"
    assert read(body, [1 << 16])[0] == body


SECRET = "s3cr3t-" + "value"


@pytest.mark.parametrize(
    ("body", "field", "says"),
    [
        ('{"scanner_type": "gitleaks"}', "report", "no member report"),
        ('{"report": {}, "report": {}}', "report", "twice"),
        ('{"labels": {}, "labels": {}, "report": {}}', "labels", "twice"),
        ('{"report": {}, "SECRET": 1}', "", "member 2"),
        ('{"SECRET": 1, "report": {}}', "", "member 1"),
        ('{"scanner_type": ["SECRET"], "report": {}}', "scanner_type", "a string"),
        ('{"report": {}, "scanner_type": 5}', "scanner_type", "a string"),
        ('{"report": {}, "source": {"SECRET": "x"}}', "source", "repository"),
        ('{"report": {}, "source": {"ref": 1}}', "source", "strings"),
        ('{"report": {}, "labels": {"a": {"b": "SECRET"}}}', "labels", "strings"),
        ('{"report": {}} SECRET', "", "rest of a JSON object"),
        ('{"report": {} "SECRET": 1}', "", "rest of a JSON object"),
        ('{"report": {}', "", "rest of a JSON object"),
        ('{"report": {"SECRET": [1', "report", "ends within"),
        ('{"report": "SECRET', "report", "ends within"),
        ('{"report": "SECRET\\q"}', "report", "not a valid one"),
        ('{"report": 12}', "report", "must be an object"),
        ('{"report": true}', "report", "must be an object"),
    ],
)
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_wrong_envelopes_are_refused_without_an_echo(
    body: str, field: str, says: str, size: int
) -> None:
    with pytest.raises(WinnowError) as caught:
        read(body.replace("SECRET", SECRET).encode(), [size])
    assert caught.value.reason == "ENVELOPE_INVALID"
    assert caught.value.metadata.get("field", "") == field
    assert says in caught.value.message
    assert SECRET not in caught.value.message


def test_what_follows_the_report_is_bounded() -> None:
    body = b'{"report": {}, "labels": {"a": "' + b"x" * TAIL_BYTES + b'"}}'
    with pytest.raises(WinnowError, match="bytes follow the report"):
        read(body, [1 << 16])


def test_many_members_and_deep_nesting_take_no_quadratic_time() -> None:
    many = b"{" + b",".join(b'"%d":{}' % n for n in range(60_000)) + b"}"
    assert read(many, [1 << 16])[0] == many
    deep = b"[" * 400_000 + b"]" * 400_000
    assert read(b'{"report":' + deep + b"}", [1 << 16])[0] == deep
