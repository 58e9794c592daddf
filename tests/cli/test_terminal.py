"""Nothing that could steer a terminal passes; everything else does, unchanged."""

from __future__ import annotations

import json
import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from cli.terminal import dump, escape

BIDI = {*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x061C}


@given(st.text(st.characters()))
def test_escaped_text_holds_no_control_and_no_bidi(text: str) -> None:
    shown = escape(text)
    assert not [c for c in shown if unicodedata.category(c) in ("Cc", "Cs") or ord(c) in BIDI]
    kept = [c for c in text if unicodedata.category(c)[0] in "LNPSM"]
    assert [c for c in kept if c not in shown] == []


def test_escapes_are_readable() -> None:
    assert escape("a\x1b[31m\u202eb\nc") == r"a\x1b[31m\u202eb\nc".replace(r"\n", r"\x0a")
    assert escape("naïve – 文件 🔑") == "naïve – 文件 🔑"


@given(st.text() | st.dictionaries(st.text(), st.text()))
def test_json_is_the_same_value_in_safe_ascii(value: object) -> None:
    shown = dump(value)
    assert all(c == "\n" or " " <= c <= "~" for c in shown)
    assert json.loads(shown) == value
