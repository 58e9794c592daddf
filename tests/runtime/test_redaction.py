"""Redaction: tokens go, ordinary text stays."""

from __future__ import annotations

import base64
import html
import json
import re
import unicodedata
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.redaction import REDACTED, forms, holds, mask, redact, suspects
from tests.fixtures.values import values

A = "aB3dE6gH9"
TOKENS = [
    "AKIA" + "Q3E4R5T6" * 2,
    "ghp_" + A * 4,
    "github_pat_" + A * 5,
    "glpat-" + A * 3,
    "xoxb-" + "1234567890-" + A,
    "sk_live_" + A * 3,
    "AIza" + (A * 4)[:35],
    "eyJ" + "hbGciOiJI" + ".eyJ" + "zdWIiOiIx" + "." + A,
    "npm_" + A * 4,
    "pypi-" + A * 8,
    "SG." + (A * 3)[:22] + "." + (A * 5)[:43],
    "sk-proj-" + A * 4,
    "hvs." + A * 4,
    "-----BEGIN " + "PRIVATE KEY-----\nMIIC+/a=\nAAAA\n-----END " + "PRIVATE KEY-----",
]
ORDINARY = [
    "src/app/sk-learn-adapter/main.py",
    "0416560b1330d8ac42045813251d85c688717eaf",
    "generic-api-key",
    "https://github.com/org/repo/blob/0416560b1330d8ac42045813251d85c688717eaf/a.py#L3",
    "postgres://host:5432/db",
    "mailto:ada@example.test",
    "C:\\keys\\id_rsa.pub",
    "sha256:665fbbf998e4658c0a6f232f6b2e286eea9c794e8e92a529a92246fb7a7a1597",
    "npm_modules/pypi-mirror/SG.txt",
    "docs/password=reset.md",
    "-----BEGIN CERTIFICATE-----",
]


@pytest.mark.parametrize("token", TOKENS)
def test_tokens_go_and_their_surroundings_stay(token: str) -> None:
    assert redact(f"in ü/{token}; next") in (f"in ü/{REDACTED}; next", f"in ü/{REDACTED} next")
    assert redact(token) == REDACTED


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_text_stays(text: str) -> None:
    assert redact(text) == text
    assert suspects([text]) == []


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("postgres://app:hunter2!@db:5432/x", f"postgres://app:{REDACTED}@db:5432/x"),
        ("https://:pw@host", f"https://:{REDACTED}@host"),
        (f"https://{A * 3}@host/r.git", f"https://{REDACTED}@host/r.git"),
        ("https://h/a?token=abcdef&x=1", f"https://h/a?token={REDACTED}&x=1"),
        ("https://h/?a=1&Password=abcd", f"https://h/?a=1&Password={REDACTED}"),
        ("AccountKey=" + A * 6 + "==;x", f"AccountKey={REDACTED};x"),
        ("hooks.slack.com/" + "services/T0/B0/" + A * 3, f"hooks.slack.com/services/{REDACTED}"),
    ],
)
def test_only_the_secret_part_goes(text: str, clean: str) -> None:
    assert redact(text) == clean


def test_planted_provider_tokens_go() -> None:
    gone = [value for value in values().values() if REDACTED in redact(f"x {value.text} y")]
    assert len(gone) >= 8
    assert all(value.text not in redact(f"x {value.text} y") for value in gone)


def test_suspects_are_told_apart() -> None:
    assert suspects(["a", f"b {TOKENS[0]}", "", f"{TOKENS[1]} c", "d"]) == [1, 3]
    assert suspects([]) == []


@given(st.text())
def test_redacting_twice_changes_nothing(text: str) -> None:
    assert redact(redact(text)) == redact(text)


ENCODINGS: list[Any] = [
    str,
    lambda v: json.dumps(v)[1:-1],
    lambda v: json.dumps(v, ensure_ascii=False)[1:-1],
    lambda v: quote(v, safe=""),
    quote,
    quote_plus,
    lambda v: re.sub("%..", lambda m: m[0].lower(), quote(v, safe="")),
    lambda v: v.encode().hex(),
    lambda v: v.encode().hex().upper(),
    lambda v: base64.b64encode(v.encode()).decode(),
    lambda v: base64.b64encode(b"a" + v.encode() + b"bc").decode(),
    lambda v: base64.b64encode(b"ab" + v.encode() + b"c").decode(),
    lambda v: base64.urlsafe_b64encode(v.encode()).decode(),
]


@given(st.text(st.characters(codec="utf-8"), min_size=4, max_size=50), st.sampled_from(ENCODINGS))
def test_a_value_is_found_and_masked_in_every_form(value: str, encode: Any) -> None:
    text = f"before {encode(value)} after"
    assert holds(text, value)
    masked = mask(text, [value])
    assert REDACTED in masked
    assert value not in masked.replace(REDACTED, "\0")


PLAIN = st.text("abcdef0123456789 /_-=", min_size=4, max_size=60)


@given(PLAIN, PLAIN, st.booleans())
def test_holds_is_exactly_whether_a_form_stands_there(value: str, text: str, part: bool) -> None:
    value = text[1:5] if part and len(text) > 4 else value
    assert holds(text, value) == any(form in text for form in forms(value))


def test_short_values_are_masked_only_as_whole_fields() -> None:
    assert mask("abc", ["abc"]) == REDACTED
    assert mask("abcd", ["abc"]) == "abcd"
    assert mask("a", [""]) == "a"


ODD_ENCODINGS: list[Any] = [
    lambda v: quote(v, safe="!'()*"),  # encodeURIComponent
    lambda v: quote(v, safe="$&+:=@"),  # Go's url.PathEscape
    lambda v: json.dumps(v)[1:-1].replace("<", "\\u003c").replace("&", "\\u0026"),
    lambda v: json.dumps(v)[1:-1].replace("/", "\\/"),
    lambda v: json.dumps(json.dumps(v)[1:-1])[1:-1],
    html.escape,
    lambda v: "".join(f"&#{ord(c)};" for c in v),
    lambda v: v.replace("\n", "\r\n"),
    lambda v: unicodedata.normalize("NFD", v),
    lambda v: quote(quote(v, safe=""), safe=""),
    lambda v: quote(base64.b64encode(v.encode()).decode(), safe=""),
]
ODD_VALUES = [
    "a!b'c(d)*e/f$g&h+i:j=k@l",
    '<a href="x">&amp;\\n\\\\d/e',
    "line one\nline two\n",
    "pässwörd-Ünder 100%",
    "plain\U0001f511key?~~~///",
]


@pytest.mark.parametrize("value", ODD_VALUES)
@pytest.mark.parametrize("encode", ODD_ENCODINGS)
def test_values_are_found_in_whatever_alphabet(encode: Any, value: str) -> None:
    text = f"before {encode(value)} after"
    assert holds(text, value)
    assert REDACTED in mask(text, [value])
    assert encode(value) not in mask(text, [value])


@pytest.mark.parametrize("text", ["C:\\new\\table\\100%", "a&b=c+d", "é/%zz/\\u12"])
def test_encoded_texts_without_the_value_stay(text: str) -> None:
    assert mask(text, ["made-up value"]) == text


@pytest.mark.parametrize("values", [["abcd", "abcd:efgh"], ["abcd:efgh", "abcd"]])
def test_values_within_values_and_across_go_whole(values: list[str]) -> None:
    assert mask("x/abcd:efgh/abcd", values) == f"x/{REDACTED}/{REDACTED}"
    assert mask("xabcdefx", ["abcd", "cdef"]) == f"x{REDACTED}x"
