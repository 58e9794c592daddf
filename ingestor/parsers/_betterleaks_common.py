"""What both generations of Betterleaks reports have in common."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from runtime.redaction import SHORTEST_SEARCHED
from winnow.finding.v1 import finding_pb2 as pb

_VALIDITY = {
    "valid": pb.VALIDITY_LIVE,
    "confirmed": pb.VALIDITY_LIVE,
    "invalid": pb.VALIDITY_DEAD,
    "revoked": pb.VALIDITY_DEAD,
    "needs_validation": pb.VALIDITY_UNVERIFIED,
    "unknown": pb.VALIDITY_UNKNOWN,
    "error": pb.VALIDITY_UNKNOWN,
}
# Attributes that are fields of a record, or name people and stay in the raw report.
_READ = frozenset(
    (
        "path",
        "git.sha",
        "git.date",
        "git.message",
        "git.author_name",
        "git.author_email",
        "resource",
        "fs.symlink",
    )
)
MOST_PLACES = 64  # of a finding's parts; masking goes through each
_SHORTEST_PART = 8  # characters from which a captured part is taken for a credential's


def validity(status: str | None) -> pb.Validity.ValueType:
    """What a live check's status says; what is not known says nothing."""
    return _VALIDITY.get((status or "").casefold(), pb.VALIDITY_UNSPECIFIED)


def container(attributes: Mapping[str, str]) -> str:
    """The page or ticket of what was found in no file: its URL without what may
    carry a token.
    """
    return attributes.get("url", "").partition("?")[0].partition("#")[0]


def free_text(attributes: Mapping[str, str]) -> dict[str, str]:
    """The attributes that are no field of a record."""
    return {name: text for name, text in attributes.items() if name not in _READ and text}


def captured(groups: Mapping[str, str] | None, name: str) -> dict[str, str]:
    """The named groups of a rule's pattern, by the field that holds them."""
    return {f"{name}.{key}": text for key, text in (groups or {}).items() if text}


def secrets(value: str, components: Iterable[str | None], groups: Iterable[str]) -> tuple[str, ...]:
    """What must not stand in the clear beside the value.

    Args:
        value: the value; empty if it was redacted.
        components: the other values of a credential that has several.
        groups: texts of named groups. These also hold hosts and schemes, and
            masking those would take paths apart: only what may be a credential counts.
    """
    texts = [text for text in components if text and len(text) >= SHORTEST_SEARCHED]
    texts += [text for text in groups if len(text) >= _SHORTEST_PART and not text.isalpha()]
    return tuple(dict.fromkeys(text for text in texts if text != value))


def shown(found: Any) -> str:
    """A value of any type as text."""
    return found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)
