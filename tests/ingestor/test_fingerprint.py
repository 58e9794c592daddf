"""Keyed fingerprints and their canonical forms."""

from __future__ import annotations

import base64
import hashlib
import hmac
import textwrap
import timeit

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from ingestor.fingerprint import Fingerprints, canonical_value, normal_path, value_digest
from tests.fixtures.values import text, values

KEY = bytes(range(32))
PRINTS = Fingerprints(KEY)
TOKEN = "made-up-" + "0f" * 10


def identity(value: str) -> str:
    """What makes two credentials one, of a value as a scanner reports it."""
    return value_digest(canonical_value(value))


@given(st.text(max_size=200))
def test_they_are_hmac_sha256_over_sha1(value: str) -> None:
    digest = value_digest(value)
    assume(PRINTS.value(digest))  # what all of a kind begin with is nobody's
    message = b"winnow value v2\0" + digest.encode()
    assert PRINTS.value(digest) == hmac.digest(KEY, message, "sha256")


def test_a_digest_is_sha1_of_the_value() -> None:
    assert value_digest(TOKEN) == hashlib.sha1(TOKEN.encode()).hexdigest()


@given(*[st.text(max_size=6)] * 4)
def test_where_one_field_ends_matters(a: str, b: str, c: str, d: str) -> None:
    if (a, b) != (c, d):
        assert PRINTS.occurrence(a, b, 1, "", "") != PRINTS.occurrence(c, d, 1, "", "")
        assert PRINTS.occurrence("", "", 1, a, b) != PRINTS.occurrence("", "", 1, c, d)
        # A digest has always 40 digits, so a path begins where it ends.
        assert PRINTS.place(_sha1(a), b) != PRINTS.place(_sha1(c), d)


def _sha1(value: str) -> str:
    return hashlib.sha1(value.encode()).hexdigest()


def test_kinds_and_keys_do_not_meet() -> None:
    other = Fingerprints(KEY[::-1])
    made = {PRINTS.value("v"), PRINTS.place("v", ""), PRINTS.occurrence("", "", 0, "", "v")}
    made |= {other.value("v")}
    assert len(made) == 4


def test_a_key_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Fingerprints(b"short")


@pytest.mark.parametrize(
    "written",
    [
        f" {TOKEN} \n",
        f'"{TOKEN}"',
        f"'{TOKEN}'",
        f"`{TOKEN}`",
        f'\\"{TOKEN}\\"',
        f'"""{TOKEN}"""',
        f'"{TOKEN}",',
        f"'{TOKEN}';",
        f'b"{TOKEN}"',
        f"API_KEY={TOKEN}",
        f"export API_KEY='{TOKEN}'",
        f'"client_secret": "{TOKEN}",',
        f"password: {TOKEN}",
        f"api-token := {TOKEN}",
        f":secret_key => '{TOKEN}'".lstrip(":"),
        f"-Dauth.password={TOKEN}",
        f"Bearer {TOKEN}",
        f"Authorization: Bearer {TOKEN}",
        f"Authorization: token {TOKEN}",
    ],
)
def test_what_surrounds_a_value_is_taken_off(written: str) -> None:
    assert canonical_value(written) == TOKEN


@pytest.mark.parametrize(
    "value",
    [
        *(
            '""',
            "\"key'",
            'key"',
            "'",
            "=key",
            "key=",
            "dGVzdA==",
            "made:up",
            "made=up",
            "a,",
            "a;",
        ),
        # The name is no credential's, or the colon parts a name from its password.
        *("user=made-up", "alice:made-up", "password:made-up", "bearer short", "token"),
        *("host=db password=made-up", "${API_KEY}", "{{ api_key }}", "process.env.API_KEY"),
    ],
)
def test_what_may_belong_to_a_value_stays(value: str) -> None:
    assert canonical_value(value) == value


def test_a_value_in_more_layers_than_people_write_is_left_alone() -> None:
    value = "\"'" * 20 + TOKEN + "'\"" * 20
    assert canonical_value(value) == value


def test_crlf_of_the_machine_it_was_found_on_is_no_difference() -> None:
    assert canonical_value("first line\r\nsecond line") == "first line\nsecond line"


KEYS = ("rsa_private_key", "openssh_private_key", "gcp_private_key")


@pytest.mark.parametrize("name", KEYS)
def test_one_private_key_however_it_is_written(name: str) -> None:
    key = text(name).replace("\\n", "\n")
    lines = key.splitlines()
    spellings = [
        *(key, key + "\n", key.replace("\n", "\r\n"), key.replace("\n", "\\n")),
        *(key.replace("\n", "\\r\\n"), key.replace("\n", "\\\\n"), key.replace("\n", "\n\n")),
        textwrap.indent(key, "      "),
        f'PRIVATE_KEY="{key}"',
        f"private_key: |\n{textwrap.indent(key, '  ')}\nnext: 1",
        " ".join([lines[0], "".join(lines[1:-1]), lines[-1]]),
        " +\n".join(f'"{line}\\n"' for line in lines),
    ]
    assert {canonical_value(written) for written in spellings} == {canonical_value(key)}
    body = "".join(lines[1:-1])
    # Some tools report what stands between the first and the last line.
    alone = ["\n".join(lines[1:-1]), "\n    ".join(lines[1:-1]), "\\n".join(lines[1:-1]) + "\\n"]
    assert {identity(written) for written in [*spellings, body, *alone]} == {_sha1(body)}


def test_a_canonical_key_is_still_a_key() -> None:
    lines = canonical_value(text("rsa_private_key").replace("\n", "\\n")).splitlines()
    assert lines[0].startswith("-----BEGIN RSA ")
    assert lines[-1].startswith("-----END RSA ")
    assert base64.b64decode("".join(lines[1:-1]), validate=True)[0] == 0x30  # DER: a sequence
    assert {len(line) for line in lines[1:-2]} == {64}


def test_keys_that_are_elided_encrypted_or_several_are_kept_line_by_line() -> None:
    begin, end = (f"-----{word} RSA PRIVATE{' KEY'}-----" for word in ("BEGIN", "END"))
    elided = f"{begin}\n  MIIEpAIBAAKCAQEA...\r\n{end}"
    assert canonical_value(elided) == f"{begin}\nMIIEpAIBAAKCAQEA...\n{end}"
    encrypted = f"{begin}\nProc-Type: 4,ENCRYPTED\nDEK-Info: A,0\n\nMIIE\n{end}"
    assert canonical_value(encrypted) == encrypted.replace("\n\n", "\n")
    two = f"{begin}\nMIIE\n{end}\n{begin}\nMIIF\n{end}"
    assert canonical_value(two) == two
    assert len({identity(one) for one in (elided, encrypted, two)}) == 3


@pytest.mark.parametrize("kind", ["RSA ", "OPENSSH ", ""])
def test_the_line_that_all_keys_begin_with_is_nobodys(kind: str) -> None:
    line = f"-----BEGIN {kind}PRIVATE{' KEY'}-----"
    assert identity(line) == identity(line.strip("-")) == ""
    # detect-secrets reports the digest of that line, without its dashes.
    assert PRINTS.value(_sha1(line.strip("-"))) == PRINTS.place(_sha1(line.strip("-")), "a") == b""


def test_the_credential_in_a_url_is_its_password() -> None:
    for url in ("postgres://ada:{}@db.example:5432/x?y=z", "jdbc:mysql://ada:{}@db", "a://:{}@b"):
        assert identity(url.format(TOKEN)) == identity(TOKEN)
    assert identity(f"https://{TOKEN}:x-oauth-basic@git.example/a") == identity(TOKEN)
    for whole in ("https://hooks.example/T0/B0/xyz", "https://ada@git.example/a"):
        assert identity(whole) == _sha1(whole)
    url = f"postgres://ada:{TOKEN}@db.example"
    assert canonical_value(url) == url


AROUND = st.sampled_from(
    ["{}", ' "{}" ', "'{}',", "\t{}\r\n", "API_KEY={}", 'password: "{}"', "`{}`"]
)
TOKENS = st.text("abcXYZ019_-+/.=!#%&$()", min_size=12, max_size=40)


@given(TOKENS, TOKENS, AROUND, AROUND)
def test_different_credentials_stay_different(a: str, b: str, one: str, other: str) -> None:
    first, second = identity(one.format(a)), identity(other.format(b))
    assert (first == second) == (canonical_value(a) == canonical_value(b))


_PARTS = (
    *(
        "-----BEGIN A KEY-----",
        "-----END A KEY-----",
        "MII",
        "\\n",
        "\\",
        "\n",
        "\r",
        '"',
        "'",
        "`",
    ),
    *("+", " ", "=", ":", ",", "key", "token", "Bearer ", "export ", "b", "a" * 16, "x://a:", "@"),
)
_ODD = st.lists(st.sampled_from(_PARTS), max_size=12).map("".join)


@given(st.text(max_size=60) | _ODD)
@example("key='key='")
@example("\"'a\"'")
def test_canonical_twice_is_canonical_once(value: str) -> None:
    once = canonical_value(value)
    assert canonical_value(once) == once


@given(_ODD)
def test_what_is_canonical_stood_in_the_value(value: str) -> None:
    breaks = str.maketrans("", "", " \t\r\n\\\"'`,;+nr")
    assert canonical_value(value).translate(breaks) in value.translate(breaks)


def test_planted_values_all_differ() -> None:
    # One URL is made of its own password.
    prints = [identity(value.text) for value in values().values()]
    assert len(set(prints)) == len(prints)
    assert "" not in prints


def test_a_plain_token_costs_little() -> None:
    token = text("github_pat")
    rounds = 20_000
    took = min(timeit.repeat(lambda: canonical_value(token), number=rounds, repeat=5)) / rounds
    assert took < 10e-6  # 0.3 µs on an idle machine


@pytest.mark.parametrize(
    "hostile",
    [
        *("\"'" * 200_000, "key=" * 100_000, "a" * 400_000 + " ", "-----BEGIN " * 40_000),
        *(
            "-----BEGIN A-----" + "-----END B-----" * 30_000,
            "\\" * 400_000 + "x",
            "key" * 100_000 + " ",
        ),
        *("x://" + "a" * 400_000 + ":", "'" * 400_000, '\\"' * 200_000, " +" * 200_000),
    ],
    ids=range(11),
)
def test_no_value_takes_long(hostile: str) -> None:
    assert min(timeit.repeat(lambda: identity(hostile), number=1, repeat=2)) < 1


@pytest.mark.parametrize(
    ("path", "normal"),
    [
        ("./a/b", "a/b"),
        ("a\\b\\c", "a/b/c"),
        (".\\a\\b", "a/b"),
        ("a//b/./c", "a/b/c"),
        ("/a/b", "/a/b"),
        ("../a", "../a"),
        ("a/../b", "a/../b"),
        ("a/.b/..c", "a/.b/..c"),
        ("c:\\a\\b", "C:/a/b"),
        ("C:/a/b", "C:/a/b"),
        ("https://host/a", "https://host/a"),
        ("", ""),
    ],
)
def test_normal_paths(path: str, normal: str) -> None:
    assert normal_path(path) == normal


@given(
    st.lists(st.sampled_from(["a", "..", ".", "/", "\\", "c:", "./", "//"]), max_size=9).map(
        "".join
    )
)
def test_a_normal_path_is_normal(path: str) -> None:
    assert normal_path(normal_path(path)) == normal_path(path)
