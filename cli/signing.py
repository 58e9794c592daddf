"""Requests signed with an API key, for programs that send them by themselves."""

from __future__ import annotations

import secrets
from enum import StrEnum
from typing import Annotated
from urllib.parse import urlsplit

import typer

from cli.usage import keyed, opened, reporting_errors


class Form(StrEnum):
    """How a request is signed."""

    HMAC = "hmac"
    RFC9421 = "rfc9421"


def sign(
    method: Annotated[str, typer.Argument(help="GET, POST, DELETE …")],
    url: Annotated[str, typer.Argument(help="The whole URL, as it will be sent.")],
    data: Annotated[
        str,
        typer.Option("-d", "--data", help="File with the body, as it will be sent; - is stdin."),
    ] = "",
    form: Annotated[
        Form, typer.Option(help="The header form of docs/signing.md, or HTTP Message Signatures.")
    ] = Form.HMAC,
) -> None:
    """Write the header fields that sign a request, for `curl -H @-`. Nothing is sent.

    Signs with WINNOW_API_KEY or the file of --key-file; the key itself is not among what
    is written. Each signature is good once.
    """
    import hashlib

    from cli.errors import ClientError
    from cli.usage import api_key
    from runtime import api_keys, signing
    from runtime.clock import now

    with reporting_errors():
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or not url.isascii():
            raise ClientError("URL must read http://host/path, percent-encoded")
        key = api_keys.parse(api_key(f"{parts.scheme}://{parts.netloc}"))
        if key is None:
            raise ClientError("no API key to sign with: set WINNOW_API_KEY, or give --key-file")
        body = b""
        if data:
            with opened(data) as file:
                body = file.read()
        if form is Form.RFC9421:
            from runtime.message_signatures import sign as sign_message

            nonce = secrets.token_urlsafe(24)
            fields = sign_message(key, method.upper(), url, body if data else None, nonce, now())
        else:
            digest = hashlib.sha256(body).digest()
            at = int(now().timestamp())
            fields = signing.sign(key, method.upper(), parts.path or "/", parts.query, digest, at)
    for name, value in fields:
        print(f"{name}: {value}")


def register(app: typer.Typer) -> None:
    """Adds this command to the `winnow` command."""
    app.command()(keyed(sign))
