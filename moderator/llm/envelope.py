"""What may leave for the model: everything that could be confidential is masked.

Masking is by construction: the finding's value in every form, every value opened
so far, every provider's token, what is given to a name that sounds
confidential, and every word that is not made of plain words and small numbers.
What is left is checked once more: what is quoted when it is composed, and all of
it, as it leaves, right before it does (`clean`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from moderator import shape
from moderator.llm.opened import Opened
from moderator.llm.prompt import SYSTEM, digest
from moderator.stage import Opinion, Subject
from runtime.redaction import REDACTED, SHORTEST_SEARCHED, mask, redact
from winnow.finding.v1.plain_evidence_pb2 import PlainEvidence
from winnow.finding.v1.verdict_pb2 import Risk

_AROUND = 600
_MAX_PATH = 300
_MAX_NAME = 100
_QUOTES = " \t\r\n\"'`"
_RISKS = {Risk.RISK_HIGH: "high", Risk.RISK_MEDIUM: "medium", Risk.RISK_LOW: "low"}

# Stand for masked text while the rest is looked at; no printable text holds them.
_OWN, _OTHER = "\ue000", "\ue001"

_MARK = re.compile(r"<VALUE>|<masked(?: \d+)?>")

# Where a text may be cut without leaving part of a word.
_EDGE = re.compile(r"[\s\"'`,;(){}\[\]<>]")

_CONFIDENTIAL = (
    r"[\w.\-]{0,40}(?:pass|pwd|secret|token|key|cred|auth|pin|salt|private|signature|session"
    r"|cookie|bearer|dsn)[\w.\-]{0,40}"
)
_GIVEN = re.compile(
    rf"(?i)({_CONFIDENTIAL}[\"'\]]*\s*(?:=>|:=|=|:|>|\s(?=[\"']))\s*|--{_CONFIDENTIAL}\s+)"
    r"(?:([\"'`])([^\n]*?)\2|([^\s\"'`,;)}<][^\n,;)}<]*))"
)
_REFERS = re.compile(
    r"[A-Za-z_][\w.]*\s*[(\[]|[$%]?\{|\$\w|process\.env|(?:os|self|this|config|settings)\."
    r"|(?:str|string|bytes|int|bool|none|null|nil|true|false|undefined)\b",
    re.IGNORECASE,
)

# With what pads base64, if that ends it.
_WORD = re.compile(r"[\w\-./+%~@$!^*?#&]+(={1,2}(?![^\s\"'`,;)\\<]))?")
_ENDS = "-./+%~@$!^*?#&_"
_INNER = re.compile(r"[^\w\-./]")
_CHUNK = re.compile(r"[^\W_]+")
_PIECE = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|[^\W\d_a-zA-Z]+")
_HARSH = re.compile(r"[bcdfghjklmnpqrstvwxz]{6}", re.IGNORECASE)
# A letter and those that hardly ever follow it: pairs in at most 8 of 11,794
# words of Python's own library and this repository.
_HARDLY = (
    "ajoq bghkqvwxz cgjqvwxz dhkqz ejz fhjkqvwxz gbdfjkqvxz hcfghjkqvwxz ihuwy "
    "jbcdfghjklmnpqrtvwxyz kbcfghjkmqvxyz lhjqwxz mghjqwxz nqwxz oq pgjnqvwxz "
    "qabcdefghijkmnopqrtvwxyz rjqxz sjxz tjkq uhjkquvwxyz vbcdfghjklmnqrtuvwxyz "
    "wbcfgjkmpqtuvwxyz xghjklnqruvwxz yhjkquwxy zbcdfghjklmnpqrstuvwxyz"
)
_RARE = re.compile("|".join(f"{pairs[0]}[{pairs[1:]}]" for pairs in _HARDLY.split()))
_SEVERAL = 8
# Letters with digits that every programme has.
_COMMON = re.compile(
    r"v\d{1,2}|py\d{1,3}|sha\d{1,3}|md\d|aes\d{0,3}|rsa\d{0,4}|[hrep]s\d{3}|ed25519|x509|base\d\d"
    r"|utf\d{1,2}|ipv[46]|oauth\d|http\d|h\d|s3|ec2|k8s|i18n|l10n|e2e|p12|pkcs\d{1,2}|db\d|web\d"
    r"|us\d|eu\d|x86|amd64|arm64|int\d\d|uint\d{1,2}|float\d\d|\d{1,4}(?:ms|s|m|h|d|px|em|kb|mb|gb)",
    re.IGNORECASE,
)
_LONGEST_WORD = 24
_LONGEST_NUMBER = 5

# Text that may speak to its reader: prose in any language, letters one by one,
# the words of one who gives orders or passes judgement, and small words of
# languages that no program has. What is meant here is not to recognise an
# attack but to know plain code: anything else may not lower a verdict.
_PROSE = re.compile(r"(?:[^\W\d_]{2,}'?[ \t,]+){4}[^\W\d_]{2,}")
_LONG_NAME = re.compile(r"[^\W\d_]+(?:[_\-.][^\W\d_]+){6}|(?:[A-Z][a-z]+){7}")
_ORDERS = re.compile(
    r"ignor|disregard|overrid|bypass|forget|instru[ck]|anweis|istruz|prompt|assistan|languag"
    r"|llm|gpt|claude|anthropic|openai|jailbreak|pretend|respon[ds]|answer|reply|antwort|r[eé]pon"
    r"|output|classif|verdict|likel|confiden[ct]|severity|(?<![a-z])risk|false.?positiv|no[tn]?.{0,3}secret"
    r"|harmless|benign|(?<![a-z])safe|trust|audit|review|reason|judge|decision|unsure"
    r"|<\||\|>|\[/?inst|(?<![a-z])(?:human|system|developer)\s*:",
    re.IGNORECASE,
)
_LETTERS = re.compile(r"(?:\b[^\W_][\W_]+){6}")
_SMALL_WORDS = re.compile(
    r"(?:the|that|these|those|are|was|were|has|have|had|will|would|must|should|shall|please|you"
    r"|your|its?|been|be|because|only|never|always|than|their|they|we|our|just|above|below|der|die"
    r"|das|ist|nicht|und|eine?|est|les|que|pas|cette|una|los|las|esto|esta|questo|sono|nao|uma)",
    re.IGNORECASE,
)
_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")


class Envelope(NamedTuple):
    """A message to the model.

    `prompt` is the digest of all that is sent with it; `quiet` says that nothing
    quoted in it speaks to a reader.
    """

    content: str
    prompt: str
    quiet: bool


def compose(
    subject: Subject, asked: Sequence[tuple[str, Opinion]], opened: Opened
) -> Envelope | None:
    """The envelope of a finding; None if a value would still be in it.

    Args:
        subject: with evidence that holds the value.
        asked: stages' names and opinions so far, in the order of asking.
        opened: the values opened so far in the report, this one included.
    """
    finding, evidence = subject.finding, subject.evidence
    assert evidence is not None  # only findings whose value is known are asked about
    value = value_of(evidence)
    veil = _Veil(value, opened)
    quoted = {
        "rule": veil(finding.rule_id[:_MAX_NAME]),
        "tool": veil(finding.tool[:_MAX_NAME]),
        "path": veil(finding.code.location.path[-_MAX_PATH:]),
        "variable": veil(evidence.variable[:_MAX_NAME]),
        # What is too short to be searched for would be left standing.
        "context": veil(_around(value, evidence)) if len(value) >= SHORTEST_SEARCHED else "",
    }
    last = asked[-1][1]
    ours = {
        "value": _shape(value),
        "evidence": [
            {"stage": stage, "says": seen.detail, "weight": round(seen.weight, 1)}
            for stage, opinion in asked
            for seen in opinion.observations
            if seen.weight
        ],
        "probability": "unknown" if last.confidence is None else round(last.confidence, 2),
        "risk": _RISKS.get(last.risk, "unknown"),
    }
    content = json.dumps({**quoted, **ours}, ensure_ascii=False)
    if opened.holds(_MARK.sub("\n", "\n".join(quoted.values()))):
        return None
    return Envelope(content, digest(SYSTEM + "\n" + content), veil.quiet)


def clean(content: str, opened: Opened) -> bool:
    """Whether a content may leave: it holds no value opened so far, in any encoding.

    Values that are short or plain words are left out of account here: our own
    words about evidence may have them.
    """
    return not opened.full and not opened.holds(content, words=False)


def value_of(evidence: PlainEvidence) -> str:
    """The finding's value without the quotes around it."""
    return (evidence.value or evidence.match).strip(_QUOTES)


def _shape(value: str) -> dict[str, object]:
    kinds = {
        "lower-case letters": str.islower,
        "upper-case letters": str.isupper,
        "digits": str.isdigit,
        "white space": str.isspace,
    }
    found = [name for name, is_one in kinds.items() if any(map(is_one, value))]
    if any(not (c.isalnum() or c.isspace()) for c in value):
        found.append("other characters")
    signs = [sign.partition(".")[2].replace("_", " ") for sign in shape.signals(value.encode())]
    return {"length": len(value), "characters": found, "signs": signs}


def _around(value: str, evidence: PlainEvidence) -> str:
    """The lines around the value, cut between words."""
    text = evidence.context or evidence.match
    for own in _cut_off(value, text):
        text = text.replace(own, value)
    at = max(text.find(value), 0)
    start, end = max(at - _AROUND, 0), at + len(value) + _AROUND
    if start and (edge := _EDGE.search(text, start, at)):
        start = edge.end()
    elif start:
        start = at
    if end < len(text):
        edges = [edge.start() for edge in _EDGE.finditer(text, at + len(value), end)]
        end = edges[-1] if edges else at + len(value)
    return text[start:end]


def _cut_off(value: str, text: str) -> Iterator[str]:
    """A long beginning of the value at the text's end, or end of it at the
    text's beginning: where a scanner cut its context."""
    if value in text:
        return
    for size in range(min(len(value), len(text), 256), SHORTEST_SEARCHED, -1):
        if text.endswith(value[:size]):
            yield value[:size]
        if text.startswith(value[-size:]):
            yield value[-size:]


class _Veil:
    """Masks texts of one finding.

    Args:
        value: the finding's own.
        opened: all values opened so far.
    """

    def __init__(self, value: str, opened: Opened) -> None:
        lines = [line.strip() for line in value.splitlines()]
        self._own = {value, *(line for line in lines if len(line) >= SHORTEST_SEARCHED)}
        self._opened = opened
        # Whether no text spoke to its reader, as it was before words were masked.
        self.quiet = True

    def __call__(self, text: str) -> str:
        if not text.isprintable():
            # But for white space: characters that nobody sees.
            self.quiet = self.quiet and "".join(text.split()).isprintable()
            text = "".join(c if c.isprintable() or c == "\n" else " " for c in text)
        text = mask(text, self._own).replace(REDACTED, _OWN)
        text = self._without_opened(text)
        text = redact(text).replace(REDACTED, _OTHER)
        self.quiet = self.quiet and _is_quiet(text.replace(_OWN, "").replace(_OTHER, ""))
        text = _GIVEN.sub(_without_given, text)
        text = _WORD.sub(_without_odd, text)
        text = re.sub(f"{_OWN}+", "<VALUE>", text)
        return re.sub(f"{_OTHER}+", "<masked>", text)

    def _without_opened(self, text: str) -> str:
        spans = sorted(self._opened.spans(text))
        parts, done = [], 0
        for start, end in spans:
            if start >= done:
                parts += [text[done:start], _OTHER]
            done = max(done, end)
        return "".join([*parts, text[done:]])


def _without_given(match: re.Match[str]) -> str:
    given, quote, quoted, bare = match.groups()
    text: str = quoted if quote else bare
    if not text or _OWN in text or _OTHER in text or _REFERS.match(text):
        return match[0]
    return f"{given}{quote or ''}{_OTHER}{quote or ''}"


def _without_odd(match: re.Match[str]) -> str:
    word = match[0]
    inner = word.strip(_ENDS)
    if match[1] and len(inner) >= SHORTEST_SEARCHED:
        return f"<masked {len(inner)}>"
    if not inner or (not _INNER.search(inner) and _is_plain(inner)):
        return word
    return f"<masked {len(inner)}>"


def _is_plain(word: str) -> bool:
    """Whether a word is made of plain words and small numbers."""
    return all(map(_is_plain_chunk, _CHUNK.findall(word)))


def _is_plain_chunk(chunk: str) -> bool:
    if chunk.isdigit():
        return len(chunk) <= _LONGEST_NUMBER
    if not chunk.isalpha():
        return _COMMON.fullmatch(chunk) is not None
    pieces = _PIECE.findall(chunk)
    return (
        max(map(len, pieces), default=0) <= _LONGEST_WORD
        # userId, xAxis and pointY, but not GMlUQ: case that changes at every turn.
        and (len(pieces) <= 2 or len(chunk) >= 3 * len(pieces))
        and not any(len(piece) == 1 for piece in pieces[1:-1])
        and (len(pieces) < 2 or len(pieces[-1]) > 1 or pieces[-1].isupper())
        and not _HARSH.search(chunk)
        and (len(chunk) < _SEVERAL or not any(_RARE.search(piece.lower()) for piece in pieces))
    )


def _is_quiet(text: str) -> bool:
    return (
        text.isascii()
        and "\\u" not in text
        and not _PROSE.search(text)
        and not _LONG_NAME.search(text)
        and not _ORDERS.search(text)
        and not _LETTERS.search(text)
        and not any(map(_SMALL_WORDS.fullmatch, _WORDS.findall(text)))
    )
