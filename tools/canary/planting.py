"""The values that are planted: many kinds, drawn from a seed, opening nothing.

What is public in a value is not listed by hand: a piece that other values of its
kind hold too (a provider's prefix, a key's first line, the host of a URL) says
nothing about it.
"""

from __future__ import annotations

import base64
import json
import re
import string
from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import NamedTuple
from urllib.parse import quote

from tests.fixtures.tokens import ALNUM, URL_SAFE, Maker, pem
from tools.wild.values import People
from tools.wild.values import kinds as provider_kinds

# Characters; a shorter piece of a value says too little about it.
PIECE = 12
_DIFFERENT = 6
_ID = re.compile(r"[0-9a-f]{8}(-?[0-9a-f]{4}){3}-?[0-9a-f]{12}|[0-9a-f]{64}", re.IGNORECASE)
_WITNESSES = 12
# Drawn from words, so the same for many people; a plain word is not a secret's form.
_COMMON = frozenset({"word_password", "default_password"})
# Kinds whose form alone tells them, wherever they stand: the redactor's own list.
_TOLD_BY_FORM = """
aws_key_id github_pat github_oauth github_app github_fine_grained gitlab_pat gitlab_runner
gitlab_trigger slack_bot slack_user slack_webhook stripe_live stripe_restricted stripe_webhook
google_api_key google_client_secret sendgrid mailgun twilio_key shopify shopify_secret
digitalocean openai anthropic huggingface npm pypi rubygems docker_hub telegram databricks
newrelic grafana linear vault terraform_cloud jwt rsa_key openssh_key pkcs8_key ec_key
encrypted_key pgp_key age_key database_url git_url
"""
_WORDS = ["amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "heron", "indigo"]
_FOREIGN = (
    "абвгдежзиклмнопрстуфхцчшэюя",
    "äöüßéèêàâçñøåœ",
    "密码钥匙数据库安全登录系统管理员测试",
    "ひみつのことばかぎなまえ",
    "비밀번호열쇠보안접속",
    "αβγδεζηθικλμνξοπρστυφχψω",
)


class Value(NamedTuple):
    """One planted secret.

    Args:
        kind: its kind's name.
        number: among all values, from 0.
        text: as it would stand in a file.
        told: whether its form alone tells it, also where no finding carries it.
    """

    kind: str
    number: int
    text: str
    told: bool

    def __repr__(self) -> str:
        return f"{self.kind} #{self.number} ({sha256(self.text.encode()).hexdigest()[:8]})"


def _ascii(make: Maker, least: int, most: int, alphabet: str) -> str:
    return make.text(least + make.octets(1)[0] % (most - least + 1), alphabet)


def _url(scheme: str, host: str, escaped: bool = False) -> Callable[[Maker], str]:
    def build(make: Maker) -> str:
        password = make.text(20, ALNUM + "!*+;=^~" if escaped else ALNUM)
        return f"{scheme}://service:{quote(password, safe='')}@{host}"

    return build


def _several_lines(make: Maker) -> str:
    return "\n".join(
        f"{name} = {make.text(24)}" for name in ("access", "secret", "session", "renewal")
    )


def _service_account(make: Maker) -> str:
    key = {"type": "service", "id": make.text(20), "key": make.text(40), "token": make.text(30)}
    return json.dumps(key, indent=2)


def _foreign(make: Maker, least: int = 12) -> str:
    letters = _FOREIGN[make.octets(1)[0] % len(_FOREIGN)]
    return make.text(least, letters) + make.text(6, letters + string.digits + "!?-")


def _pgp(make: Maker) -> str:
    return pem("PGP " + "PRIVATE KEY BLOCK", make.octets(320))


_OWN: dict[str, Callable[[Maker], str]] = {
    "short_password": lambda m: m.text(1, "#!%_") + m.text(7) + m.text(2, string.digits),
    "password": lambda m: _ascii(m, 12, 20, ALNUM + "!#$%^*()-_=+,.?"),
    "quoted_password": lambda m: m.text(8) + "\"'\\" + m.text(8, ALNUM + '"\\'),
    "markup_password": lambda m: m.text(6) + "<&>" + m.text(8, ALNUM + "<>&'"),
    "url_reserved_password": lambda m: m.text(6) + "%/?" + m.text(10, ALNUM + "@:/%?&=+"),
    "spaced_password": lambda m: f"{m.text(7)} {m.text(6)} {m.text(8)}",
    "foreign_password": _foreign,
    "decomposed_password": lambda m: "".join(f"{c}\u0301" for c in m.text(9, "aeiounc")) + m.text(6),
    "emoji_password": lambda m: m.text(5) + m.text(4, "🔑🔒🦊🐙🌋🚀") + m.text(7),
    "control_password": lambda m: m.text(8) + "\t" + m.text(10),
    "escaped_password": lambda m: quote(m.text(6) + "/" + m.text(8, ALNUM + "#&+ "), safe=""),
    "hex_wrapped": lambda m: m.text(12).encode().hex(),
    "base64_wrapped": lambda m: base64.b64encode(m.text(26).encode()).decode(),
    "base64_twice": lambda m: base64.b64encode(base64.b64encode(m.octets(24))).decode(),
    "base64_key": lambda m: base64.b64encode(m.rsa_private_key(512).encode()).decode(),
    "several_lines": _several_lines,
    "service_account": _service_account,
    "netrc": lambda m: f"machine git.example.com\nlogin {m.text(14)}\npassword {m.text(20)}",
    "connection_string": lambda m: f"Server=db.example.com;User Id=app;Password={m.text(20)};",
    "database_url": _url("postgresql", "db.example.com:5432/shop"),
    "escaped_url": _url("amqp", "queue.example.com/vhost", escaped=True),
    "git_url": _url("https", "git.example.com/team/shop.git"),
    "redis_url": lambda m: f"redis://:{m.text(24)}@cache.example.com:6379/0",
    "rsa_key": lambda m: m.rsa_private_key(1024),
    "openssh_key": lambda m: m.openssh_private_key(),
    "pkcs8_key": lambda m: m.pkcs8_private_key(512),
    "ec_key": lambda m: pem("EC " + "PRIVATE KEY", m.octets(121)),
    "encrypted_key": lambda m: pem("ENCRYPTED " + "PRIVATE KEY", m.octets(300)),
    "pgp_key": _pgp,
    "key_in_one_line": lambda m: m.rsa_private_key(512).replace("\n", "\\n"),
    "key_without_frame": lambda m: base64.b64encode(m.octets(240)).decode(),
    "age_key": lambda m: "AGE-" + "SECRET-KEY-1" + m.text(58, string.ascii_uppercase + "0234"),
    "cookie": lambda m: f"session={m.text(48, URL_SAFE)}; Path=/",
    "hash_salt": lambda m: m.text(64, string.hexdigits[:16]),
    "passphrase": lambda m: "-".join(
        m.text(1, "bdfgklmnprst") + m.text(1, "aeiou") + m.text(4, string.ascii_lowercase)
        for _ in range(5)
    ),
}  # fmt: skip


def makers() -> dict[str, Callable[[Maker], str]]:
    """Every kind with what draws a value of it."""
    known = {
        kind.name: kind.make
        for kind in provider_kinds(People(_WORDS, 0))
        if kind.name not in _COMMON
    }
    return {**_OWN, **known}


def plant(seed: int, count: int) -> list[Value]:
    """`count` distinct values, all kinds in turn."""
    make, kinds, told = Maker(seed), list(makers().items()), set(_TOLD_BY_FORM.split())
    found: list[Value] = []
    texts: set[str] = set()
    while len(found) < count:
        name, build = kinds[len(found) % len(kinds)]
        text = build(make)
        if text not in texts:
            texts.add(text)
            found.append(Value(name, len(found), text, name in told))
    return found


def pieces(text: str) -> Iterator[str]:
    """Every run of `PIECE` characters, but those of hardly any different ones."""
    every = (text[at : at + PIECE] for at in range(len(text) - PIECE + 1))
    return (piece for piece in every if len(set(piece.lower())) >= _DIFFERENT)


def is_id(text: str) -> bool:
    """Whether a value cannot be told from an id of a report or a credential."""
    return _ID.fullmatch(text) is not None


def public_pieces(seed: int) -> dict[str, frozenset[str]]:
    """For each kind, the pieces that others of it hold, in any case of letters."""
    make = Maker(seed)
    return {
        name: frozenset(piece for _ in range(_WITNESSES) for piece in pieces(build(make).lower()))
        for name, build in makers().items()
    }
