"""Both engines, held against each other and against `re`."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.matching import CACHE, Matcher, _Hyperscan

PATTERNS = [
    ("word", r"[a-z]{3,}"),
    ("caseless", r"(?i)\babc\b"),
    ("fixed", r"[A-Z]{4}"),
    ("either", r"x|xy|yz"),
    ("anchored", r"^ab"),
    ("bytes", r"\xe2\x80."),
]
DATA = st.one_of(
    st.binary(max_size=60),
    st.text(alphabet="abcxyzABC \n\u2026", max_size=60).map(str.encode),
)


@pytest.fixture(scope="module")
def engines() -> tuple[Matcher, Matcher]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WINNOW_MATCHER", "re2")
        slow = Matcher(PATTERNS)
        patch.delenv("WINNOW_MATCHER")
        fast = Matcher(PATTERNS)
    assert (fast.engine, slow.engine) == ("hyperscan", "re2")
    return fast, slow


@given(data=DATA)
def test_engines_agree(engines: tuple[Matcher, Matcher], data: bytes) -> None:
    fast, slow = engines
    assert fast.hits(data) == slow.hits(data)
    assert fast.scan(data) == slow.scan(data)


@given(data=DATA)
def test_hits_are_what_re_finds(engines: tuple[Matcher, Matcher], data: bytes) -> None:
    expected = [
        index
        for index, (_, pattern) in enumerate(PATTERNS)
        if re.search(pattern.encode("latin-1"), data)
    ]
    assert engines[0].hits(data) == expected


@given(data=DATA)
def test_spans_match_and_do_not_overlap(engines: tuple[Matcher, Matcher], data: bytes) -> None:
    matcher = engines[0]
    spans = matcher.scan(data)
    assert sorted({index for index, _, _ in spans}) == matcher.hits(data)
    last = (-1, 0)
    for index, start, end in spans:
        assert 0 <= start < end <= len(data)
        assert index != last[0] or start >= last[1]
        last = (index, end)


def test_leftmost_longest(engines: tuple[Matcher, Matcher]) -> None:
    for matcher in engines:
        assert matcher.scan(b"ABCDEFGH") == [(2, 0, 4), (2, 4, 8)]
        assert matcher.scan(b"xyz") == [(0, 0, 3), (3, 0, 2)]


def test_falls_back_without_hyperscan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "hyperscan", None)
    assert Matcher(PATTERNS).engine == "re2"


def test_ids_are_unique() -> None:
    with pytest.raises(ValueError, match="unique"):
        Matcher([("a", "x"), ("a", "y")])


def test_what_is_compiled_is_kept_and_read_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engines: tuple[Matcher, Matcher]
) -> None:
    monkeypatch.setenv(CACHE, str(tmp_path / "cache"))
    data = b"xyz abcd ABCD abc"
    answers = engines[0].hits(data), engines[0].scan(data)
    kept: set[str] = set()
    for damage in (None, b"", b"x" * 4000, None):
        matcher = Matcher(PATTERNS)
        assert (matcher.hits(data), matcher.scan(data)) == answers
        files = sorted((tmp_path / "cache").iterdir())
        assert len(files) == 2
        assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700
        assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
        kept.add(hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest())
        for file in files if damage is not None else ():
            file.write_bytes(damage)
    assert len(kept) == 1

    def compiling(*_: object, **__: object) -> None:
        raise AssertionError("compiled again")

    monkeypatch.setattr("runtime.matching._Hyperscan._compile", compiling)
    assert Matcher(PATTERNS).scan(data) == answers[1]
    with pytest.raises(AssertionError, match="compiled again"):
        Matcher(PATTERNS[1:]).scan(data)


def test_a_cache_that_cannot_be_written_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv(CACHE, str(tmp_path / "file" / "cache"))
    assert Matcher(PATTERNS).hits(b"ABCD") == [2]


def linked(file: Path) -> None:
    real = file.with_name("real")
    file.rename(real)
    file.symlink_to(real)


def piped(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


UNTRUSTED: dict[str, Callable[[Path], object]] = {
    "link": linked,
    "fifo": piped,
    "file that others write": lambda file: file.chmod(0o620),
    "directory that others write": lambda file: file.parent.chmod(0o702),
}


@pytest.mark.parametrize("how", UNTRUSTED)
def test_what_others_could_have_written_is_not_read(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "cache"
    monkeypatch.setenv(CACHE, str(folder))
    assert Matcher([("mine", "mine")]).hits(b"mine") == [0]
    (mine,) = folder.iterdir()
    assert Matcher([("theirs", "theirs")]).hits(b"theirs") == [0]
    (theirs,) = set(folder.iterdir()) - {mine}
    # What is read is believed: so it is seen what was read.
    shutil.copyfile(theirs, mine)
    assert Matcher([("mine", "mine")]).hits(b"theirs") == [0]
    UNTRUSTED[how](mine)
    assert Matcher([("mine", "mine")]).hits(b"mine theirs mine") == [0]
    assert Matcher([("mine", "mine")]).hits(b"theirs") == []


def test_what_another_user_owns_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE, str(tmp_path))
    assert Matcher(PATTERNS).hits(b"ABCD") == [2]
    compiled: list[object] = []
    compile_ = _Hyperscan._compile

    def noting(*given: object) -> object:
        compiled.append(given)
        return compile_(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(_Hyperscan, "_compile", noting)
    assert Matcher(PATTERNS).hits(b"ABCD") == [2]
    assert not compiled
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    assert Matcher(PATTERNS).hits(b"ABCD") == [2]
    assert compiled


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE, str(tmp_path))

    def full(*_: object, **__: object) -> None:
        assert list(tmp_path.iterdir())
        raise OSError

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", full)
        assert Matcher(PATTERNS).hits(b"ABCD") == [2]
    assert list(tmp_path.iterdir()) == []
