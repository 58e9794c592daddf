"""Says which findings in released packages are certainly no live credentials.

Decided by path, line and value only, never by which scanner reported it. What
no rule is sure of gets no label and is left out.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

_TEST = re.compile(
    r"(?:^|/)(?:tests?|testing|testdata|test[_-]\w+|spec|specs|__tests__|__mocks__|mocks?|fixtures?|"
    r"conftest\.py|e2e|integration[-_]?tests?|molecule|test_utils|testutils)(?:/|$)"
    r"|(?:^|/)test_[^/]+\.py$|[_.-](?:test|tests|spec)\.[a-z]+$|(?:^|/)[^/]*Tests?\.(?:java|kt|cs|php)$"
    r"|jtreg|/unit/|/regress/",
    re.IGNORECASE,
)
_DOCUMENT = re.compile(
    r"(?:^|/)(?:docs?|documentation|examples?|samples?|demos?|tutorials?|changelogs?|man|licen[cs]es?)/"
    r"|\.(?:md|rst|adoc|txt|html?|ipynb)$|(?:^|/)(?:readme|changelog|changes|history|news|metadata)[^/]*$"
    r"|\.(?:example|sample|dist)$",
    re.IGNORECASE,
)


def is_test(path: str) -> bool:
    """Whether the path is of tests or their data."""
    return _TEST.search(path) is not None


def is_document(path: str) -> bool:
    """Whether the path is of documentation, an example or a sample."""
    return _DOCUMENT.search(path) is not None


class Label(NamedTuple):
    """A label with its reason in plain words; `test`: a real-looking credential of a test."""

    label: bool
    kind: str
    why: str
    test: bool = False


Record = dict[str, Any]

_PEM = "-----BEGIN"
_UUID = re.compile(r"[{(]?[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}[)}]?", re.IGNORECASE)
_HASH_NAME = re.compile(
    r"sha_?\d*|md5|checksum|chksum|digest|hash|integrity|fingerprint|commit|revision|git_?head|rev$|"
    r"etag|thumbprint|crc|signature|version|blake",
    re.IGNORECASE,
)
_HASHED_FILE = re.compile(
    r"(?:lock|hashes|checksums?|registry|_sri|files\.json|manifest\.json|cyclonedx\.json|sbom|\.sum)"
    r"[^/]*$|(?:^|/)_sri/",
    re.IGNORECASE,
)
_PLACEHOLDER = re.compile(
    r"^<.*>$|^\[.*\]$|^[*x.#?_-]{3,}$|your|change[-_ ]?me|changeit|example|placeholder|replace|dummy|redacted|"
    r"insert|^(?:todo|none|null|nil|undefined|true|false|string|str|text|secret|token|key|password|passwd|"
    r"value|default|unset|optional|required|foo|bar|baz|foobar|s3cr3t|mysecret|mypassword|my_?password|"
    r"\w*[ _-]?goes[ _-]?here)$|xxxx|1234567890|abcdef|\.\.\.|…|^my[_-]?\w+$|^some[_-]?\w+$|^fake|^test",
    re.IGNORECASE,
)
_REFERENCE = re.compile(
    r"\$\{|\$\(|\{\{|\}\}|\{%|<%|#\{|%\(|%s|%\w$|\{\w*\}|^\$|^@\w|^!|process\.env|os\.environ|getenv|"
    r"^arn:|^vault:|secrets?\.|^ENC\[|^/run/|^file:|\\u[0-9a-f]{4}"
)
_CODE = re.compile(
    r"[\w\])]\(|\w\.\w+(?:\.|\[|$)|\w\[|::|->|=>|===?|&&|\|\||;\s*$|^self\.|^this\.|lambda|[<>]"
)
_TEXT = re.compile(r"[^\W\d_]{2,}[ \u00a0][^\W\d_]{2,}|[^\x00-\x7f]{2,}")
_PATH = re.compile(
    r"^(?:https?:/|\.{0,2}/|[A-Za-z]:\\|~/)|^[\w.-]+/[\w./-]+$|\.(?:py|js|json|pem|key|crt|txt|yml)$"
)
_WORDS = re.compile(
    r"^[A-Za-z]+(?:[_. -][A-Za-z]+)+$|^[a-z]+(?:[A-Z][a-z]+)+$|^[a-z]{3,}$|^[A-Z_]{3,}$"
)
_ALPHABET = re.compile(r"abcdefgh|ABCDEFGH|23456789|0123456")
_PUBLIC_NAME = re.compile(
    r"(?:^|[_.-])(?:u?u?id|guid|kid|client_?id|app_?id|moid|nonce|iv|salt|public_?key|pub_?key|"
    r"site_?key|tracking|measurement|publishable|uuid\w*)$",
    re.IGNORECASE,
)
_LOCALE = re.compile(
    r"(?:^|/)(?:locales?|i18n|lang|langs|languages|translations?|nls|messages)/", re.I
)
_BUILT = re.compile(
    r"\.min\.|\.bundle\.|-bundle|\.map$|(?:^|/)(?:dist|static|assets|labextension|vendor)/"
)
_SHOWN = re.compile(
    r"(?:^|/)(?:playbooks?|rulebooks?|cookbooks?|templates?|schemas?|cassettes|scripts/inventory)/"
    r"|(?:^|/)plugins/[\w/]+\.(?:py|ya?ml)$|(?:^|/)examples?[-_.\w]*\.json$",
    re.IGNORECASE,
)
# An API key that a program shows to everyone is still one that works.
_GOOGLE_KEY = re.compile("AI" + "za[\\w-]{35}")
_YAML_LINE = re.compile(r"^\s*(?:#\s*)?(?:- )?[\w-]+: \S")
_COMMENT = re.compile(r"^\s*(?:#|//|/?\*|--|;|<!--|>>>|\.\.\. )")


def _hash_like(value: str) -> bool:
    return re.fullmatch(r"(?:sha\d+-)?[0-9a-f]{16,128}|sha\d+-[\w+/=]+", value, re.I) is not None


def _looks_real(value: str) -> bool:
    """Whether a person who sees the value alone would take it for a credential."""
    return _PEM in value or (len(set(value)) > 9 and not _WORDS.match(value) and " " not in value)


def _by_value(value: str, name: str, path: str, line: str) -> tuple[str, str] | None:
    """Kind and reason where the value, its name or its file make it certainly no credential."""
    bare = value.strip("\"'`,; ")
    checks = (
        (
            _PEM in value and ("..." in value or len(value) < 100),
            "code",
            "PEM header without a key",
        ),
        (_PEM in value, "", ""),
        (_HASH_NAME.search(name) and _hash_like(bare), "hash", "digest or revision"),
        (_HASHED_FILE.search(path) and len(bare) > 15, "hash", "digest in a list of files"),
        (_PUBLIC_NAME.search(name), "identifier", "public identifier"),
        (
            _UUID.fullmatch(bare) and not re.search(r"key|token|secret|pass", name, re.I),
            "uuid",
            "UUID",
        ),
        (_PLACEHOLDER.search(bare), "placeholder", "placeholder or dummy word"),
        (_REFERENCE.search(bare), "reference", "reference or template"),
        (_TEXT.search(bare), "text", "wording"),
        (_ALPHABET.search(bare), "alphabet", "alphabet or sequence"),
        (_PATH.search(bare), "path", "path or URL"),
        (_LOCALE.search(path), "text", "translation"),
        (re.fullmatch(r"[\d.,]{1,6}", bare), "text", "number"),
        (
            name and bare.lower() == name.lower().rsplit(".", 1)[-1],
            "code",
            "value repeats its name",
        ),
        (
            _CODE.search(bare) and f'"{bare}"' not in line and f"'{bare}'" not in line,
            "code",
            "code",
        ),
        (re.fullmatch(r"\$2[aby]\$.+|\$[156]\$.+|pbkdf2\S+", bare), "hash", "hash of a password"),
    )
    return next(((kind, why) for hit, kind, why in checks if hit), None)


def judge(record: Record) -> Label | None:
    """The label of a finding in a released package; None where no rule is sure of it."""
    value, path, line = record["value"] or "", record["path"], record["line"]
    name = record["variable"] or ""
    if is_test(path):
        return Label(False, "test", "value of a test", _looks_real(value))
    if (known := _by_value(value, name, path, line)) and known[0]:
        return Label(False, *known)
    if is_document(path):
        return Label(False, "documentation", "value in documentation or an example")
    if _SHOWN.search(path):
        return Label(False, "documentation", "value in a sample")
    if _PEM in value:
        return None
    if _GOOGLE_KEY.search(value):
        return Label(True, "google_api_key", "API key in the source of a program")
    if _BUILT.search(path) and not re.search(r"secret|passw", name, re.IGNORECASE):
        return Label(False, "code", "built or vendored file")
    if _COMMENT.match(line):
        return Label(False, "documentation", "value in a remark")
    if record["ext"] == ".py" and _YAML_LINE.match(line) and line.rstrip()[-1:] not in ",({[":
        return Label(False, "documentation", "value in a documentation string")
    if _hash_like(value) and not re.search(r"key|token|secret|pass|auth", name, re.IGNORECASE):
        return Label(False, "hash", "hexadecimal constant")
    if _WORDS.match(value) and not re.search(r"passw|pwd", name, re.IGNORECASE):
        return Label(False, "code", "identifier or word")
    return None
