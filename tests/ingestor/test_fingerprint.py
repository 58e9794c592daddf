"""Keyed fingerprints and their canonical forms."""

from __future__ import annotations

import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestor.fingerprint import Fingerprints, canonical_value, normal_path

KEY = bytes(range(32))
PRINTS = Fingerprints(KEY)


@given(st.text(max_size=200))
def test_they_are_hmac_sha256(value: str) -> None:
    message = b"winnow value v1\0" + value.encode("utf-8", "surrogatepass")
    assert PRINTS.value(value) == hmac.digest(KEY, message, "sha256")


@given(*[st.text(max_size=6)] * 4)
def test_where_one_field_ends_matters(a: str, b: str, c: str, d: str) -> None:
    if (a, b) != (c, d):
        assert PRINTS.place(a, b) != PRINTS.place(c, d)
        assert PRINTS.occurrence(a, b, 1, "", "") != PRINTS.occurrence(c, d, 1, "", "")
        assert PRINTS.occurrence("", "", 1, a, b) != PRINTS.occurrence("", "", 1, c, d)


def test_kinds_and_keys_do_not_meet() -> None:
    other = Fingerprints(KEY[::-1])
    made = {PRINTS.value("v"), PRINTS.place("v", ""), PRINTS.occurrence("", "", 0, "", "v")}
    made |= {other.value("v")}
    assert len(made) == 4


def test_a_key_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Fingerprints(b"short")


@pytest.mark.parametrize(
    ("value", "canonical"),
    [
        (" key \n", "key"),
        ('"key"', "key"),
        ("'key'", "key"),
        ("\"key'", "\"key'"),
        ('""', '""'),
        ("a\r\nb", "a\nb"),
    ],
)
def test_canonical_values(value: str, canonical: str) -> None:
    assert canonical_value(value) == canonical


@given(st.text(max_size=30))
def test_canonical_values_of_multi_line_keys_meet(value: str) -> None:
    assert canonical_value(value.replace("\n", "\r\n").replace("\r\r", "\r")) == canonical_value(
        value.replace("\r\n", "\n").replace("\n", "\r\n").replace("\r\r", "\r")
    )


@pytest.mark.parametrize(
    ("path", "normal"),
    [
        ("./a/b", "a/b"),
        ("a\\b\\c", "a/b/c"),
        ("a//b/./c", "a/b/c"),
        ("/a/b", "/a/b"),
        ("../a", "../a"),
        ("a/.b/..c", "a/.b/..c"),
        ("https://host/a", "https://host/a"),
        ("", ""),
    ],
)
def test_normal_paths(path: str, normal: str) -> None:
    assert normal_path(path) == normal
