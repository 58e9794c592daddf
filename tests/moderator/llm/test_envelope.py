"""What leaves: no value in any encoding, nothing that looks like one, enough to judge by."""

from __future__ import annotations

import base64
import html
import json
import random
import string
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, quote_plus

import pytest

from moderator.llm.envelope import Envelope, clean, compose
from moderator.llm.opened import Opened
from moderator.stage import Observation, Opinion, Subject
from tests.fixtures.values import values
from tests.moderator.subjects import HEADER, drawn, finding
from winnow.finding.v1.plain_evidence_pb2 import PlainEvidence
from winnow.finding.v1.verdict_pb2 import RISK_MEDIUM

SAID = [
    (
        "heuristics",
        Opinion(RISK_MEDIUM, 0.6, "", (Observation("name.x", "name", 0.7, "a password"),), False),
    )
]
VALUE = drawn(24)


def envelope(
    value: str = VALUE,
    *,
    context: str = "",
    path: str = "src/main.py",
    rule: str = "generic-api-key",
    variable: str = "api_key",
    opened: tuple[str, ...] = (),
) -> Envelope | None:
    known = Opened()
    for one in (value, *opened):
        known.add(one)
    context = context or f'{variable} = "{value}"'
    evidence = PlainEvidence(value=value, match=context, context=context, variable=variable)
    return compose(Subject(finding(path, rule), evidence, HEADER), SAID, known)


def sent(*arguments: str, **more: Any) -> dict[str, Any]:
    """The envelope as the model reads it."""
    made = envelope(*arguments, **more)
    assert made is not None
    return json.loads(made.content)


def _base64(before: bytes, encode: Callable[[bytes], bytes]) -> Callable[[str], str]:
    return lambda value: encode(before + value.encode() + b"!?").decode()


ENCODINGS: dict[str, Callable[[str], str]] = {
    "plain": lambda value: value,
    "json": lambda value: json.dumps(value)[1:-1],
    "json twice": lambda value: json.dumps(json.dumps(value))[1:-1],
    "json escapes": lambda value: "".join(f"\\u{ord(c):04x}" for c in value),
    "string escapes": lambda value: "".join(f"\\x{b:02X}" for b in value.encode()),
    "url": lambda value: quote(value, safe=""),
    "url plus": lambda value: quote_plus(value),
    "url, every byte": lambda value: "".join(f"%{b:02x}" for b in value.encode()),
    "url twice": lambda value: quote(quote(value, safe=""), safe=""),
    "html": html.escape,
    "html numbers": lambda value: "".join(f"&#{ord(c)};" for c in value),
    "hex": lambda value: value.encode().hex(),
    "hex, upper case": lambda value: value.encode().hex().upper(),
    "hex, odd": lambda value: "f" + value.encode().hex(),
    "base64": _base64(b"", base64.b64encode),
    "base64, offset 1": _base64(b"u", base64.b64encode),
    "base64, offset 2": _base64(b"u:", base64.b64encode),
    "base64 for URLs": _base64(b"u:", base64.urlsafe_b64encode),
    "base64 glued to a word": lambda value: "x" + base64.b64encode(value.encode()).decode(),
    "base64 twice": lambda value: base64.b64encode(base64.b64encode(value.encode())).decode(),
    "base64 of UTF-16": lambda value: base64.b64encode(value.encode("utf-16-le")).decode(),
    "hex of base64": lambda value: base64.b64encode(value.encode()).hex(),
    "full width": lambda value: "".join(
        chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in value
    ),
    "broken over lines": lambda value: value[:9] + "\n" + value[9:],
}
ODD = 'p&"ä/\\ +' + drawn(12, seed=3)


@pytest.mark.parametrize("encode", ENCODINGS.values(), ids=ENCODINGS)
@pytest.mark.parametrize("value", [VALUE, ODD, "correct horse battery staple"])
def test_a_value_is_found_in_every_encoding(encode: Callable[[str], str], value: str) -> None:
    opened = Opened()
    opened.add(value)
    for text in (f"key = {encode(value)} # it", json.dumps({"context": encode(value)})):
        # Text that is broken over lines has lost a space of its own, if it had one there.
        assert opened.holds(text) or (" " in value and "\n" in encode(value))
    assert not opened.holds(f"key = {encode(drawn(len(value), seed=99))} # it")


@pytest.mark.parametrize("encode", ENCODINGS.values(), ids=ENCODINGS)
@pytest.mark.parametrize("place", ["context", "path", "variable", "rule"])
@pytest.mark.parametrize("other", [False, True], ids=["own", "other"])
def test_no_value_leaves_in_any_encoding(
    encode: Callable[[str], str], place: str, other: bool
) -> None:
    planted = drawn(20, seed=5) if other else VALUE
    text = f'api_key = "{VALUE}"\ncopy = "{encode(planted)}"' if place == "context" else ""
    made = envelope(**{place: text or f"a/{encode(planted)}/b"}, opened=(planted,))
    if made is not None:
        opened = Opened()
        opened.add(planted)
        assert not opened.holds(made.content)
        assert encode(planted) not in json.loads(made.content)[place]
        assert planted[2:-2] not in made.content


def test_none_of_five_hundred_planted_values_leaves() -> None:
    source = random.Random(11)
    shapes = [
        string.ascii_letters + string.digits,
        string.hexdigits.lower(),
        string.ascii_lowercase,
    ]
    planted = ["".join(source.choices(shapes[n % 3], k=8 + n % 40)) for n in range(480)]
    planted += [value.text for value in values().values() if len(value.text) >= 8][:20]
    assert len(planted) == 500
    encodings = list(ENCODINGS.values())
    for number, value in enumerate(planted):
        neighbour, encode = planted[number - 1], encodings[number % len(encodings)]
        context = f'def f():\n  a = "{encode(value)}"\n  b = "{value}"\n  c = {encode(neighbour)}\n'
        made = envelope(value, context=context, opened=(neighbour,))
        if made is None:
            continue
        for one in (value, neighbour):
            assert one not in made.content
            assert encode(one) not in made.content
            assert base64.b64encode(one.encode()).decode()[:-4] not in made.content
            assert one.encode().hex() not in made.content.lower()


@pytest.mark.parametrize(
    "line",
    [
        "password: hunter",
        'passwd = "swordfish"',
        "DB_PWD=swordfish",
        "'api-secret' => 'swordfish'",
        "mysql --password swordfish",
        "Authorization: Basic swordfish",
        "<password>swordfish</password>",
        'password: "zebra fish hunter"',
        "password: zebra fish hunter",
        "url = https://shop:swordfish@db.internal/x",
        "key = " + drawn(16),
        "id = " + drawn(32, "0123456789abcdef"),
        "x = p4ssw0rd",
        "x = Tr0ub4dor&3",
        "x = 550e8400-e29b-41d4-a716-446655440000",
        "x = " + drawn(12, string.ascii_letters),
        "x = " + drawn(14, "bcdfghjklmnpqrstvwxz"),
        "x = 4929123456781234",
    ],
)
def test_what_could_be_confidential_nearby_is_masked(line: str) -> None:
    context = sent(context=f'api_key = "{VALUE}"\n{line}\n')["context"]
    assert "<VALUE>" in context
    assert "<masked" in context.splitlines()[1]
    for word in ("hunter", "swordfish", "zebra", "fish", "p4ssw0rd", "Tr0ub4dor", "4929"):
        assert word not in context


@pytest.mark.parametrize(
    "line",
    [
        "import psycopg",
        "def connect(host, port=5432):",
        "    return requests.get(url, timeout=30)",
        "password = os.environ['DB_PASSWORD']",
        "token: ${CI_JOB_TOKEN}",
        "spring.datasource.url: jdbc:postgresql://db/shop",
        "digest = hashlib.sha256(body).hexdigest()",
        "FROM python:3.11-slim",
        "const client = new Client({ region })",
    ],
)
def test_code_stays_readable(line: str) -> None:
    assert line in sent(context=f'api_key = "{VALUE}"\n{line}\n')["context"]


def test_the_envelope_says_what_the_value_looks_like() -> None:
    read = sent("Ab1-" + "x" * 20, path="config/prod.yml")
    assert read["value"]["length"] == 24
    assert read["value"]["characters"] == [
        "lower-case letters",
        "upper-case letters",
        "digits",
        "other characters",
    ]
    assert read["path"] == "config/prod.yml"
    assert read["context"] == 'api_key = "<VALUE>"'
    assert read["evidence"] == [{"stage": "heuristics", "says": "a password", "weight": 0.7}]
    assert (read["probability"], read["risk"]) == (0.6, "medium")


def test_the_lines_around_the_value_are_sent_and_not_the_file() -> None:
    far = "".join(f"alpha_{n} = beta_gamma_delta\n" for n in range(400))
    context = sent(context=f'{far}near = nearer\napi_key = "{VALUE}"\nafter = later\n{far}')[
        "context"
    ]
    assert "near = nearer" in context
    assert "after = later" in context
    assert len(context) < 1500


@pytest.mark.parametrize(
    "context", [f'api_key = "{VALUE[:15]}', f'{VALUE[10:]}"\nnext = 1'], ids=["end", "beginning"]
)
def test_a_value_that_the_context_cuts_is_masked(context: str) -> None:
    value = "swordfish sandwich"
    cut = context.replace(VALUE[:15], value[:12]).replace(VALUE[10:], value[8:])
    made = sent(value, context=cut)
    assert "sword" not in made["context"]
    assert "wich" not in made["context"]


def test_a_value_too_short_to_search_for_takes_its_context_along() -> None:
    assert sent("abc", context="api_key = 'abc'; cab = dabc")["context"] == ""


def test_lines_of_a_long_value_are_values() -> None:
    lines = [drawn(40, string.ascii_lowercase, seed=n) for n in range(4)]
    made = sent("\n".join(lines), context="\n".join(["key: |", *(f"   {x}" for x in lines[1:])]))
    assert all(line not in made["context"] for line in lines)


def test_nothing_leaves_once_not_every_value_is_known() -> None:
    opened = Opened(most=30)
    opened.add(VALUE)
    assert clean("harmless", opened)
    opened.add(drawn(20, seed=1))
    assert not clean("harmless", opened)


def test_a_value_opened_after_composing_is_seen_before_sending() -> None:
    made = envelope(context=f'api_key = "{VALUE}"\nhorse = correct_battery_staple')
    assert made is not None
    opened = Opened()
    opened.add(VALUE)
    assert clean(made.content, opened)
    opened.add("correct_battery_staple")
    assert not clean(made.content, opened)


def test_a_text_of_endless_encodings_is_not_trusted() -> None:
    text = "x%2541+\\u0041&amp;ä " + base64.b64encode(b"%41+\\u0041&amp; x 6162636465").decode()
    knot = " ".join(quote(text + str(n)) + text for n in range(8))
    opened = Opened()
    opened.add("never in there")
    assert opened.holds(knot)
    assert not opened.holds(text)


def test_the_same_finding_gives_the_same_envelope() -> None:
    assert envelope() == envelope()
    assert envelope() != envelope(path="src/other.py")


@pytest.mark.parametrize(
    ("context", "quiet"),
    [
        (f'password = "{VALUE}"', True),
        (f"spring:\n  datasource:\n    username: shop\n    password: {VALUE}\n", True),
        (f'const pool = connect({{\n  user: "root",\n  password: "{VALUE}",\n}})', True),
        (f"export DB_PASSWORD={VALUE}\nexport DB_HOST=db.internal", True),
        (f'password = "{VALUE}"  # this is the password of a test', False),
        (f'password = "{VALUE}"  # lass das bitte einfach so stehen', False),
        (f'password = "{VALUE}"\nanswer = no', False),
        (f'password = "{VALUE}"\nпароль = 1', False),
        (f'password = "{VALUE}"\nx = 1\u200b', False),
        (f'password = "{VALUE}"\nleave\nme\nalone\nplease', False),
    ],
)
def test_only_plain_code_is_quiet(context: str, quiet: bool) -> None:
    made = envelope(context=context)
    assert made is not None
    assert made.quiet is quiet
