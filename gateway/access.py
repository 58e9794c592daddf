"""Who is let in at the door: requests without a key where one is needed, and requests
that somebody else's page makes a browser send, are refused before their body is read.

Whose a key is and what it allows is the business of the services that own the data;
the gateway hands it on.
"""

from __future__ import annotations

import ipaddress
import re
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Scope

from gateway import problems
from runtime import api_keys, context, signing
from runtime.errors import WinnowError

# A browser cannot set a WebSocket's headers: it offers this, and the key behind the
# second as one more; the answer names the first, and never the key.
SUBPROTOCOL = "winnow"
_KEY_SUBPROTOCOL = "winnow.bearer."

OPEN = frozenset({"/healthz", "/readyz", "/openapi.json"})
_READING = frozenset({"GET", "HEAD", "OPTIONS"})
_OWN_PAGES = frozenset({"same-origin", "none"})
# What proxies add (RFC 7239, RFC 9110 section 7.6.3, and usage).
_OF_PROXIES = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host")
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^:\[\]/@\s]+)(?::\d*)?")


class Door:
    """Decides who is let in.

    Args:
        keys: whether each request must show an API key.
        hosts: names that the gateway is called by, comma-separated; without keys the
            loopback's are among them, and with keys none given means any.
    """

    def __init__(self, *, keys: bool, hosts: str | None) -> None:
        self._keys = keys
        named = (hosts or "").split(",")
        self._hosts = frozenset(name.strip().lower() for name in named if name.strip())

    def refusal(self, scope: Scope) -> Response | None:
        """The answer to a request that is not let in; of one that is, the key that it
        shows goes into the context.
        """
        context.authorization.set("")
        context.through_gateway.set(True)
        if scope["path"] in OPEN:
            return None
        headers = Headers(scope=scope)
        if not self._keys and any(name in headers for name in _OF_PROXIES):
            return problems.plain(
                HTTPStatus.FORBIDDEN,
                "a proxy has passed this on, and this server asks nobody for an API key: "
                "start it with WINNOW_AUTH=keys (`winnow up --auth keys`)",
            )
        if not self._is_ours(headers.get("host", "")):
            return problems.plain(
                HTTPStatus.MISDIRECTED_REQUEST,
                "the Host header names no address of this server; further names are set "
                "with WINNOW_GATEWAY_HOSTS",
            )
        if scope.get("method", "GET") not in _READING and not _from_own_page(headers):
            return problems.plain(
                HTTPStatus.FORBIDDEN, "a page of another origin may change nothing here"
            )
        try:
            shown = api_keys.shown(_authorizations(scope, headers))
            signed = signing.is_signed(headers.items())
            if shown is not None and signed:
                raise signing.invalid(
                    api_keys.HEADER, "a request is signed or shows a key, and not both"
                )
            if shown is None and not signed and self._keys:
                raise api_keys.needed()
        except WinnowError as error:
            return problems.response(error)
        if shown is not None:
            context.authorization.set(f"Bearer {shown.text}")
            # Its own; which that is, the services know.
            context.tenant.set("")
        return None

    def _is_ours(self, host: str) -> bool:
        if self._keys and not self._hosts:
            return True
        found = _HOST.fullmatch(host.lower())
        if found is None:
            return False
        return found[1] in self._hosts or (not self._keys and _is_loopback(found[1].strip("[]")))


def _is_loopback(name: str) -> bool:
    # A page cannot have its own name resolved to these (DNS rebinding).
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _from_own_page(headers: Headers) -> bool:
    """Whether no other origin's page has sent this, as far as the browser says (Fetch
    Metadata; the Origin header of older ones). Programs say neither.
    """
    if site := headers.get("sec-fetch-site"):
        return site in _OWN_PAGES
    return same_origin(headers)


def same_origin(headers: Headers) -> bool:
    """Whether the Origin header, if there is one, names the host that was called."""
    origin = headers.get("origin")
    # Compared as it stands: a URL that cannot be taken apart is nobody's.
    return origin is None or origin.partition("://")[2] == headers.get("host")


def _authorizations(scope: Scope, headers: Headers) -> list[str]:
    given = headers.getlist(api_keys.HEADER)
    if scope["type"] == "websocket":
        given += [
            f"Bearer {name.removeprefix(_KEY_SUBPROTOCOL)}"
            for name in scope["subprotocols"]
            if name.startswith(_KEY_SUBPROTOCOL)
        ]
    return given
