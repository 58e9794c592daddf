"""The rule pack is sound: every entry, under both engines."""

from __future__ import annotations

import pytest
import re2
from hypothesis import given, settings
from hypothesis import strategies as st

from moderator.rules import Field, pack
from moderator.structure import CHECKS
from runtime.matching import Matcher
from tests.moderator.subjects import drawn

FIELDS = ("value", "name", "place", "line", "scanner")


def patterns(field: Field) -> list[tuple[str, str]]:
    return [(clue.id, text) for clue, text in zip(field.clues, field.patterns, strict=True)]


@pytest.mark.parametrize("name", FIELDS)
def test_patterns_compile_in_both_engines(name: str) -> None:
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    for rule, pattern in patterns(getattr(pack(), name)):
        expression = pattern.encode("latin-1")
        compiled = re2.compile(expression, options)
        assert not compiled.search(b""), f"{rule} matches the empty string"
    getattr(pack(), name).matcher.hits(b"")  # compiles the whole field in Hyperscan


@pytest.fixture(scope="module")
def fallback() -> dict[str, Matcher]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WINNOW_MATCHER", "re2")
        return {name: Matcher(patterns(getattr(pack(), name))) for name in FIELDS}


WORDS = st.sampled_from(
    ["password", "test", "/", ".", "config", "Key", "_", "-", "12345678", "abcd", " ", "=", '"', "${",
     "http://", "u:p@", "example", "prod", drawn(20), "AKIA", "sha256", "(", "public", "\n"]
)  # fmt: skip


@settings(max_examples=150)
@given(text=st.lists(WORDS | st.text(max_size=6), max_size=12).map("".join))
def test_both_engines_see_the_same(fallback: dict[str, Matcher], text: str) -> None:
    # Two differences are known and of no account: `$` before a last newline is
    # Hyperscan's alone, and so is counting a vertical tab as white space.
    data = text.encode().replace(b"\x0b", b" ").rstrip(b"\n")
    for name in FIELDS:
        assert getattr(pack(), name).matcher.hits(data) == fallback[name].hits(data), name


def test_pack_is_large_and_complete() -> None:
    rules = pack()
    providers = [clue.provider for clue in rules.value.clues if clue.provider is not None]
    assert len(providers) >= 200
    assert len(rules.digest) == len("sha256:") + 64
    for provider in providers:
        assert provider.title, provider.id
        assert provider.check == "" or provider.check in CHECKS


def test_every_signal_of_the_checks_is_in_the_pack() -> None:
    texts = ["", "x", "eyJhIjoxfQ.eyJhIjoxfQ.x", "://a:b@c", "basic YTpi", "gh_" + "a" * 36]
    for check in CHECKS.values():
        for text in texts:
            assert set(check(text, 0.0)) <= set(pack().signals)


def test_combinations_speak_of_kinds_that_exist() -> None:
    rules = pack()
    kinds = {clue.kind for name in FIELDS for clue in getattr(rules, name).clues}
    kinds |= {clue.kind for clue in rules.signals.values()}
    for needs, without, clue in rules.combinations:
        assert needs | without <= kinds, clue.id
