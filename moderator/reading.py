"""What a finding says in the clear, cut to what stages look at.

Lives as long as a batch; never cached, because it holds text of the sealed part.
"""

from __future__ import annotations

import re
from base64 import b64decode

import msgspec

from winnow.finding.v1.finding_pb2 import VALUE_STATE_PRESENT, Finding
from winnow.finding.v1.plain_evidence_pb2 import PlainEvidence

_MAX_VALUE = 4096
_MAX_LINE = 600
_MAX_NAME = 128
_MAX_PATH = 512
_QUOTES = " \t\r\n\"'`"
# `define('NAME', 'value')`, of which some scanners show what follows the bracket.
_FIRST_ARGUMENT = re.compile(r"(?:^|\()\s*[\"']?([\w.-]{1,128})[\"']\s*,$")
# What a Kubernetes Secret holds is in base 64; some scanners report its key along with it.
_OF_SECRETS = "kubernetes-secret"
_ENTRY = re.compile(r"(?:([\w.-]{1,128}):[ \t]*)?[\"']?([0-9A-Za-z+/]{4,}={0,2})")


class Reading(msgspec.Struct, frozen=True, eq=False, gc=False):
    """The texts of one finding, empty where the report has none.

    `start` is where the value stands in `line`, -1 if it does not; then `line`
    is what the report shows of the place. `others` are those of the finding's aliases
    that name who else saw it, each as `scanner/rule`.
    """

    tool: str
    rule: str
    others: tuple[str, ...]
    path: str
    value: str
    name: str
    line: str
    start: int
    decoder: str


def read(finding: Finding, evidence: PlainEvidence | None) -> Reading:
    """The texts of a finding; `evidence` is None if the report held no text."""
    path = finding.code.location.path[-_MAX_PATH:]
    value = name = line = decoder = ""
    start = -1
    if evidence is not None:
        match, context, name = evidence.match, evidence.context, evidence.variable
        decoder = evidence.decoder
        if finding.value_state == VALUE_STATE_PRESENT:
            value = (evidence.value or match)[:_MAX_VALUE].strip(_QUOTES)
            line, start = _line_of(value, context, match)
            if _OF_SECRETS in finding.rule_id and (entry := _ENTRY.fullmatch(value)):
                name = name or entry[1] or ""
                value, line = _decoded(value, entry[2], line, start)
            if not name and start > 0:
                name = _name_before(line, start)
        else:
            line = (match or context)[:_MAX_LINE]
        name = name[-_MAX_NAME:]
    aliases = finding.aliases
    others = tuple([alias for alias in aliases if "/" in alias]) if aliases else ()
    return Reading(finding.tool, finding.rule_id, others, path, value, name, line, start, decoder)


def _line_of(value: str, context: str, match: str) -> tuple[str, int]:
    """The line that holds the value's beginning, and where in it; (text, -1) if none does."""
    head = value.partition("\n")[0]
    for text in (context, match):
        at = text.find(head) if head else -1
        if at >= 0:
            first = text.rfind("\n", 0, at) + 1
            last = text.find("\n", at)
            if at - first > _MAX_LINE // 2:
                first = at - _MAX_LINE // 2
            return text[first : last if last >= 0 else len(text)][:_MAX_LINE], at - first
    return (match or context)[:_MAX_LINE], -1


def _decoded(value: str, encoded: str, line: str, start: int) -> tuple[str, str]:
    """The value as it was before base 64, and the line with it in its place; as they are
    if it is no text."""
    try:
        text = b64decode(encoded, validate=True).decode().strip()
    except ValueError:
        return value, line
    return text, line[:start] + text + line[start + len(value) :] if start >= 0 else line


def _name_before(line: str, start: int) -> str:
    """The name that the value is given to, as far as the line tells."""
    before = line[: max(start, 0)].rstrip(" \t\"'`([{")
    if before.endswith(","):
        called = _FIRST_ARGUMENT.search(before)
        return called[1] if called else ""
    if not before or before[-1] not in "=:>":
        return ""
    return before.rstrip("=:> \t\"'`").rpartition(" ")[2][-_MAX_NAME:]
