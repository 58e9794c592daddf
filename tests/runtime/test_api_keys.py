"""API keys as text: told from everything else, and never shown by accident."""

from __future__ import annotations

import hashlib
import re

import pytest

from runtime import api_keys
from runtime.errors import WinnowError
from runtime.redaction import REDACTED, redact
from tests.runtime.conftest import Logged


def test_what_is_made_is_read() -> None:
    made = api_keys.make()
    assert re.fullmatch(api_keys.PATTERN, made.text)
    assert api_keys.KEY_ID.fullmatch(made.key_id)
    assert api_keys.parse(made.text) == made
    assert made.digest == hashlib.sha256(made.secret.encode()).digest()


def test_keys_differ_and_are_drawn_from_all_of_256_bits() -> None:
    made = [api_keys.make() for _ in range(200)]
    assert len({one.key_id for one in made}) == len({one.secret for one in made}) == 200
    # 62**43 is twenty times 2**256: the first digit is small, each other is any.
    assert len({one.secret[1:] for one in made}) == 200
    columns = list(zip(*(one.secret for one in made), strict=True))
    assert all(len(set(column)) > 50 for column in columns[1:])


def test_no_slip_of_one_character_is_a_key() -> None:
    text = api_keys.make().text
    for at in range(len(text)):
        other = "b" if text[at] != "b" else "c"
        assert api_keys.parse(text[:at] + other + text[at + 1 :]) is None
        assert api_keys.parse(text[:at] + text[at + 1 :]) is None
    assert api_keys.parse(f"{text}\n") is None
    assert api_keys.parse("") is None


def test_a_header_shows_one_key_or_none() -> None:
    made = api_keys.make()
    assert api_keys.shown([f"Bearer {made.text}"]) == made
    assert api_keys.shown([f"bearer   {made.text} "]) == made
    assert api_keys.shown([]) is None
    # A proxy in front may have a scheme of its own.
    assert api_keys.shown(["Basic dTpw"]) is None
    assert api_keys.shown(["Basic dTpw", f"Bearer {made.text}"]) == made


@pytest.mark.parametrize("given", ["Bearer", "Bearer ", "Bearer canary", "bearer wnw_canary"])
def test_a_bearer_token_that_is_no_key_is_refused_and_not_repeated(given: str) -> None:
    with pytest.raises(WinnowError) as caught:
        api_keys.shown([given])
    assert caught.value.reason == "UNAUTHENTICATED"
    assert caught.value.metadata == {"header": "authorization"}
    assert "canary" not in caught.value.message


def test_two_keys_are_none() -> None:
    with pytest.raises(WinnowError, match="once"):
        api_keys.shown([f"Bearer {api_keys.make().text}", f"Bearer {api_keys.make().text}"])


def test_no_key_stands_in_a_log(logged: Logged) -> None:
    from runtime.log import get_logger

    made = api_keys.make()
    get_logger().info("said", key=made.text, cut=made.text[:-20], shown=made, nested=[made.text])
    assert made.secret not in repr(made)
    (line,) = logged()
    assert line["key"] == line["nested"][0] == REDACTED
    assert made.secret[:20] not in repr(line)
    assert redact(f"Authorization: Bearer {made.text}") == f"Authorization: Bearer {REDACTED}"
