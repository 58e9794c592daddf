"""Files that hold private keys: PEM files, keys inside configuration and code, JSON web keys."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable
from typing import NamedTuple

from tests.fixtures.tokens import HEX, URL_SAFE, Maker, pem


class Held(NamedTuple):
    """A value in a file: on which line (from 1), its kind, and whether it is secret at all."""

    line: int
    value: str
    kind: str
    secret: bool


def _ec(make: Maker) -> str:
    return pem("EC PRIVATE " + "KEY", bytes.fromhex("30770201010420") + make.octets(114))


def _encrypted(make: Maker) -> str:
    return pem("ENCRYPTED PRIVATE " + "KEY", bytes.fromhex("308204fe") + make.octets(1000))


_PRIVATE: tuple[Callable[[Maker], str], ...] = (
    Maker.rsa_private_key,
    Maker.rsa_private_key,
    Maker.pkcs8_private_key,
    Maker.pkcs8_private_key,
    Maker.openssh_private_key,
    _ec,
    _encrypted,
)


def _elided(make: Maker) -> str:
    """What documents and parsers show instead of a key."""
    label = ("RSA PRIVATE ", "PRIVATE ", "EC PRIVATE ", "OPENSSH PRIVATE ")[
        make.octets(1)[0] % 4
    ] + "KEY"
    body = (
        "...",
        "MIIEpAIBAAKCAQEA...",
        "<your key>",
        "base64 encoded key",
        "[...]",
        "xxxxxxxxxxxxxxxx",
    )[make.octets(1)[0] % 6]
    return f"-----BEGIN {label}-----\n{body}\n-----END {label}-----"


# Path, lines before, indentation, lines after; {} in a line holds the key on one line.
_PLACES = (
    ("certs/server.key", "", "", ""),
    ("deploy/certs/tls.key", "", "", ""),
    ("services/web/certs/server.key", "", "", ""),
    ("keys/id_rsa", "", "", ""),
    (".ssh/id_ed25519", "", "", ""),
    ("nginx/ssl/privkey.pem", "", "", ""),
    ("config/jwt/private.pem", "", "", ""),
    ("ansible/files/deploy_key", "", "", ""),
    ("src/main/resources/private_key.pem", "", "", ""),
    ("app/keys/apns.pem", "Bag Attributes\n    friendlyName: push", "", ""),
    ("config/app.yml", "service:\n  name: api\n  private_key: |", "    ", "  port: 8443"),
    ("k8s/secret.yaml", "kind: Secret\nstringData:\n  tls.key: |", "    ", "  note: web"),
    ("src/config/keys.py", 'ISSUER = "api"\nPRIVATE_KEY = """', "", '"""\nALGORITHM = "RS256"'),
    ("lib/keys.js", "const issuer = 'api';\nmodule.exports.privateKey = `", "", "`;"),
    ("main.go", "package main\n\nvar privateKey = []byte(`", "", "`)"),
    ("terraform/main.tf", 'resource "tls" "web" {\n  private_key = <<EOF', "", "EOF\n}"),
    ("config.php", "<?php\n$issuer = 'api';\n$key = <<<EOD", "", "EOD;"),
    (".env", "APP_ENV=production\nPRIVATE_KEY={}\nPORT=443", "", ""),
    ("config/settings.json", '{{\n  "env": "prod",\n  "privateKey": "{}"\n}}', "", ""),
    ("service-account.json", '{{\n  "type": "service_account",\n  "project_id": "shop",\n  "private_key": "{}",\n  "client_id": "1042"\n}}', "", ""),
    ("firebase-adminsdk.json", '{{\n  "type": "service_account",\n  "private_key": "{}"\n}}', "", ""),
    ("src/main/java/com/acme/Keys.java", 'public class Keys {{\n    static final String KEY = "{}";\n}}', "", ""),
    ("sql/seed.sql", "INSERT INTO keys (id, pem) VALUES (1, '{}');", "", ""),
)  # fmt: skip


def private_key_file(
    make: Maker, chance: random.Random, real: bool
) -> tuple[str, list[str], list[Held]]:
    """Path, lines and the key in them: a whole one, or an elided one where not `real`."""
    path, before, indent, after = chance.choice(_PLACES)
    key = chance.choice(_PRIVATE)(make) if real else _elided(make)
    kind = "private_key" if real else "placeholder"
    if "{}" in before:
        flat = key.replace("\n", "\\n")
        lines = before.format(flat).split("\n")
        at = next(number for number, line in enumerate(lines, 1) if flat in line)
        return path, lines, [Held(at, flat, kind, real)]
    head = before.split("\n") if before else []
    body = [indent + line for line in key.split("\n")]
    start = len(head)
    if head and head[-1][-1] in '`"':
        # A string's quotes stand on the key's first and last lines.
        body[0] = head.pop() + body[0]
        start -= 1
        opening, *rest = after.split("\n")
        body[-1] += opening
        after = "\n".join(rest)
    lines = [*head, *body, *(after.split("\n") if after else [])]
    return path, lines, [Held(start + 1, key, kind, real)]


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def jwks_file(make: Maker, chance: random.Random, real: bool) -> tuple[str, list[str], list[Held]]:
    """A JSON web key set (RFC 7517): private where `real`, else its public half."""
    kind = chance.choice(("RSA", "EC", "oct", "OKP"))
    sizes = {
        "RSA": (
            {"n": 256, "kid": 20},
            {"d": 256, "p": 128, "q": 128, "dp": 128, "dq": 128, "qi": 128},
        ),
        "EC": ({"x": 32, "y": 32, "kid": 16}, {"d": 32}),
        "oct": ({"kid": 16}, {"k": 48}),
        "OKP": ({"x": 32, "kid": 12}, {"d": 32}),
    }[kind]
    public = {name: _base64url(make.octets(size)) for name, size in sizes[0].items()}
    secret = (
        {name: _base64url(make.octets(size)) for name, size in sizes[1].items()} if real else {}
    )
    key = {"kty": kind, "use": "sig"} | public | secret
    if chance.random() < 0.5:
        key["kid"] = make.text(12, chance.choice((HEX, URL_SAFE)))
    names = list(key)
    chance.shuffle(names)
    content = {"keys": [{name: key[name] for name in names}]}
    lines = json.dumps(content, indent=chance.choice((2, 4))).split("\n")
    held = [
        Held(number, value, "jwk" if name in secret else "identifier", name in secret)
        for number, line in enumerate(lines, 1)
        for name, value in key.items()
        if f'"{value}"' in line and name not in ("kty", "use")
    ]
    paths = (
        "keys/jwks.json",
        "config/jwk.json",
        "deploy/keys/jwks.json",
        "src/main/resources/jwks.json",
    )
    return chance.choice(paths), lines, held
