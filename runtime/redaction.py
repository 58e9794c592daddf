"""What must not stand in clear text, and taking it out.

Two nets: patterns of providers' tokens (for logs and every clear field), and a
finding's own value in the forms in which tools repeat it. Both are
conservative: paths, commit ids and rule names pass unchanged.
"""

from __future__ import annotations

import html
import json
import re
import threading
import unicodedata
from binascii import b2a_base64
from collections.abc import Iterable, Sequence
from urllib.parse import quote, unquote

from runtime.matching import Matcher

REDACTED = "[REDACTED]"
SHORTEST_SEARCHED = 4  # shorter values occur in almost every text

_B64URL = r"[A-Za-z0-9_\-]"
# Documented token formats. Where only a part is secret, `_KEPT` names the rest.
_PATTERNS: list[tuple[str, str]] = [
    ("aws-key-id", r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}\b"),
    ("github", r"\bgh[pousr]_[A-Za-z0-9]{36,}"),
    ("github-fine-grained", r"\bgithub_pat_[A-Za-z0-9_]{22,}"),
    ("gitlab", r"\bgl(?:pat|dt|rt|cbt|ptt|ft|imt|agent|soat|oas|ffct)-[A-Za-z0-9_\-.]{20,}"),
    ("slack", r"\bxox[abeoprs]-[A-Za-z0-9\-]{10,}"),
    ("slack-app", r"\bxapp-[0-9]-[A-Za-z0-9\-]{10,}"),
    ("slack-webhook", r"hooks\.slack\.com/(?:services|workflows)/[A-Za-z0-9+/]{20,}"),
    ("stripe", r"\b[sr]k_(?:live|test)_[A-Za-z0-9]{10,}"),
    ("stripe-webhook", r"\bwhsec_[A-Za-z0-9+/=]{24,}"),
    ("google-api-key", rf"\bAIza{_B64URL}{{35}}"),
    ("google-oauth", rf"\b(?:GOCSPX-{_B64URL}{{20,}}|ya29\.{_B64URL}{{20,}})"),
    ("jwt", rf"\beyJ{_B64URL}{{8,}}\.eyJ{_B64URL}{{8,}}\.{_B64URL}*"),
    (
        "private-key",
        r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----[A-Za-z0-9+/=\\:,\s\-]*",
    ),
    ("npm", r"\bnpm_[A-Za-z0-9]{36}"),
    ("pypi", rf"\bpypi-{_B64URL}{{50,}}"),
    ("sendgrid", rf"\bSG\.{_B64URL}{{16,32}}\.{_B64URL}{{16,64}}"),
    ("twilio", r"\bSK[0-9a-f]{32}\b"),
    ("openai", rf"\bsk-(?:proj|svcacct|admin|ant)-{_B64URL}{{20,}}"),
    ("openai-legacy", r"\bsk-[A-Za-z0-9]{20}T3BlbkFJ[A-Za-z0-9]{20}"),
    ("digitalocean", r"\bdo[opr]_v1_[a-f0-9]{64}"),
    ("huggingface", r"\bhf_[A-Za-z]{34}"),
    ("shopify", r"\bshp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}"),
    ("docker", rf"\bdckr_(?:pat|oat)_{_B64URL}{{27,}}"),
    ("databricks", r"\bdapi[a-f0-9]{32}"),
    ("age", r"\bAGE-SECRET-KEY-1[A-Z0-9]{58}"),
    ("vault", rf"\bhv[sbr]\.{_B64URL}{{24,}}"),
    ("telegram", rf"\b[0-9]{{8,10}}:AA{_B64URL}{{33}}"),
    ("azure-storage", r"\bAccountKey=[A-Za-z0-9+/=]{40,}"),
    ("mailgun", r"\bkey-[0-9a-f]{32}\b"),
    ("atlassian", rf"\bATATT3{_B64URL}{{20,}}"),
    ("linear", r"\blin_api_[A-Za-z0-9]{40}"),
    ("grafana", r"\bgl(?:sa|c)_[A-Za-z0-9_+/=]{32,}"),
    ("new-relic", r"\bNRAK-[A-Z0-9]{27}"),
    ("terraform", rf"\b[A-Za-z0-9]{{14}}\.atlasv1\.{_B64URL}{{60,}}"),
    # Our own (runtime.api_keys), also one that was cut.
    ("winnow", r"\bwnw_[a-z2-7]{12}_[0-9A-Za-z]{8,}"),
    ("rubygems", r"\brubygems_[a-f0-9]{48}"),
    ("url-password", r"\b[A-Za-z][A-Za-z0-9+.\-]*://[^\s/?#@:]*:[^\s/?#@]+@"),
    ("url-token", rf"\b[A-Za-z][A-Za-z0-9+.\-]*://{_B64URL}{{20,}}@"),
    (
        "query-parameter",
        r"(?i)[?&;](?:password|passwd|pwd|secret|token|access_token|api_?key|client_secret"
        r"|sig|signature|x-amz-signature|x-goog-signature)=[^&\s#\"']{4,}",
    ),
]
# What of a match stays: a leading part, and a number of trailing bytes.
_KEPT: dict[str, tuple[re.Pattern[bytes], int]] = {
    "slack-webhook": (re.compile(rb"hooks\.slack\.com/\w+/"), 0),
    "azure-storage": (re.compile(rb"AccountKey="), 0),
    "url-password": (re.compile(rb"[^/]*//[^:]*:"), 1),
    "url-token": (re.compile(rb"[^/]*//"), 1),
    "query-parameter": (re.compile(rb"[^=]*="), 0),
}


_URL_SAFE = bytes.maketrans(b"+/", b"-_")


class _Threads(threading.local):
    """A matcher for each thread: one serves a single thread at a time."""

    def __init__(self) -> None:
        self.matcher = Matcher(_PATTERNS)


_threads = _Threads()


def redact(text: str) -> str:
    """`text` with each provider's token, key or URL password as `[REDACTED]`."""
    data = text.encode("utf-8", "surrogatepass")
    matcher = _threads.matcher
    if not matcher.hits(data):
        return text
    cuts = []
    for index, start, end in matcher.scan(data):
        kept = _KEPT.get(matcher.ids[index])
        if kept is not None:
            lead = kept[0].match(data, start, end)
            start, end = lead.end() if lead else start, end - kept[1]
        cuts.append((start, end))
    parts, done = [], 0
    for start, end in sorted(cuts):
        if start >= done:
            parts += [data[done:start], REDACTED.encode()]
        done = max(done, end)
    parts.append(data[done:])
    return b"".join(parts).decode("utf-8", "replace")


def suspects(texts: Sequence[str]) -> list[int]:
    """Indices of the texts in which `redact` may find something.

    All texts are scanned in one pass; a text must not hold a newline.
    """
    data = "\n".join(texts).encode("utf-8", "surrogatepass")
    matcher = _threads.matcher
    if not matcher.hits(data):
        return []
    # A text's number is the number of newlines before it; a match may span texts.
    return sorted(
        {
            number
            for _, start, end in matcher.scan(data)
            for number in range(data.count(b"\n", 0, start), data.count(b"\n", 0, end) + 1)
        }
    )


def holds(text: str, value: str) -> bool:
    """Whether `text` repeats `value`: plain, in a form of `forms`, or such that
    both are the same once they are decoded.

    The cheap question asked for every finding; `mask` does the work.
    """
    if len(value) < SHORTEST_SEARCHED:
        return False
    if value in text or _holds_encoded(text, value):
        return True
    if (
        text.isascii()
        and "%" not in text
        and "\\" not in text
        and "&" not in text
        and "+" not in text
        and "\r" not in text
    ):
        return False
    plain, bare = _decoded(text), _decoded(value)
    return (
        any(form in text for form in _escaped(value))
        or (len(bare) >= SHORTEST_SEARCHED and bare in plain)
        or (len(bare) >= SHORTEST_SEARCHED and bare.replace("+", " ") in plain.replace("+", " "))
        or _holds_encoded(plain, value)
    )


def _holds_encoded(text: str, value: str) -> bool:
    """Whether `text` holds `value` in hex or base64."""
    size, room = len(value), len(text)
    if 4 * (size - 2) > 3 * room:
        return False  # the other forms are longer
    data = value.encode("utf-8", "surrogatepass")
    if 2 * size <= room:
        digits = data.hex()
        if digits in text or digits.upper() in text:
            return True
    hay = text.encode("utf-8", "surrogatepass")
    for form in _base64_forms(data):  # noqa: SIM110 - twice as fast as any()
        if form in hay:
            return True
    return False


_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|([\"\\/bfnrt]))")
_CONTROLS = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_DECODINGS = 3


def _decoded(text: str) -> str:
    """`text` without percent-encoding (RFC 3986), escapes of JSON and of string
    literals, and HTML's character references, whichever alphabet was kept, also
    one inside the other; characters composed (NFC), line ends as LF.
    """
    for _ in range(_DECODINGS):
        before = text
        if "%" in text:
            text = unquote(text)
        if "\\" in text:
            text = _ESCAPE.sub(_unescaped, text)
            # Escaped surrogates in pairs are one character.
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        if "&" in text:
            text = html.unescape(text)
        if text == before:
            break
    if "\r" in text:
        text = text.replace("\r\n", "\n")
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def _unescaped(match: re.Match[str]) -> str:
    digits = match[1] or match[2]
    return chr(int(digits, 16)) if digits else _CONTROLS.get(match[3], match[3])


def _base64_forms(data: bytes) -> list[bytes]:
    """What of `data` is certain in base64 (RFC 4648), for each of 3 alignments.

    The characters at either end also depend on the neighbouring bytes.
    """
    size = len(data)
    found = [
        b2a_base64(data, newline=False)[: size * 4 // 3],
        b2a_base64(b"\0" + data, newline=False)[2 : (size + 1) * 4 // 3],
        b2a_base64(b"\0\0" + data, newline=False)[3 : (size + 2) * 4 // 3],
    ]
    return found + [form.translate(_URL_SAFE) for form in found if b"+" in form or b"/" in form]


def _escaped(value: str) -> set[str]:
    """JSON-escaped and URL-quoted forms that differ from the value."""
    data = value.encode("utf-8", "surrogatepass")
    quoted = [quote(data, safe=safe) for safe in ("", "/")]
    percent = re.compile("%[0-9A-F]{2}")
    found = {
        json.dumps(value)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
        *quoted,
        *(text.replace("%20", "+") for text in quoted),
        *(percent.sub(lambda match: match[0].lower(), text) for text in quoted),
    }
    found.discard(value)
    return found


def forms(value: str) -> list[str]:
    """The forms in which tools repeat a value, longest first: plain,
    JSON-escaped, URL-quoted, hex, base64 in its three alignments.
    """
    data = value.encode("utf-8", "surrogatepass")
    encoded = [form.decode() for form in _base64_forms(data)]
    found = {value, data.hex(), data.hex().upper(), *encoded, *_escaped(value)}
    return sorted(found, key=len, reverse=True)


def mask(text: str, values: Iterable[str]) -> str:
    """`text` without the values in any of their forms.

    Values shorter than four characters are only masked where they are the
    whole text; a text that repeats a value in another encoding than those of
    `forms` goes as a whole.
    """
    covered = bytearray()
    for value in values:
        if len(value) < SHORTEST_SEARCHED:
            if value and text == value:
                return REDACTED
        elif holds(text, value):
            covered = covered or bytearray(len(text))
            # All are found before any is taken out: one may hold another.
            if not sum(_cover(covered, text, form) for form in forms(value)):
                return REDACTED
    parts, done = [], 0
    for run in _COVERED.finditer(covered):
        parts += [text[done : run.start()], REDACTED]
        done = run.end()
    return "".join([*parts, text[done:]])


_COVERED = re.compile(b"\1+")


def _cover(covered: bytearray, text: str, form: str) -> int:
    """Marks where `form` stands in `text`, and counts it."""
    size, count = len(form), 0
    at = text.find(form)
    while at >= 0:
        covered[at : at + size] = b"\1" * size
        count += 1
        at = text.find(form, at + size)
    return count
