"""From findings to numbers: what the model sees of a batch, by numpy at once.

Three kinds of input come out, one row for each finding:

- `dense`: the heuristics' clues, the value's shape, what the report carries;
- `grams`: hashed character n-grams of short texts (the value, its character
  classes, the line before and after it, name, rule, file ending), as places in
  the model's table of weights, and behind them the value's letter trigrams;
- `scale`: what each text's sum of weights is multiplied by, so that long and
  short texts compare.

A missing field is an empty text, as training has seen it. Nothing is random, and
nothing depends on a finding's neighbours in the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from moderator.reading import Reading
from moderator.rules import RulePack, log_odds
from moderator.weighing import Weighed

# The texts in the order of their columns, and how many bytes each has.
TEXTS = {
    "value": 64,
    "classes": 64,
    "before": 48,
    "after": 16,
    "name": 24,
    "rule": 32,
    "ending": 8,
    "folder": 32,
}
# N-grams of these lengths; the table has one place for each hash.
ORDERS = (3,)
TABLE_BITS = 17
TABLE = 1 << TABLE_BITS
# Behind the hashes the letter trigrams of the value: 26 letters and a gap.
LETTERS = 27
WORDS = LETTERS**3
# The columns of `scale`: a sum for each text, one for the trigrams.
SUMS = (*TEXTS, "words")

_WIDTH = sum(TEXTS.values())
_VALUE = TEXTS["value"]
_MULTIPLIER = np.uint32(0x01000193)
_MIX = np.uint32(0x9E3779B1)
_EDGE = "\x01"
TOOLS = ("gitleaks", "betterleaks", "kingfisher", "credsweeper", "detect-secrets", "trufflehog")
_WHERES = ("value", "name", "path", "line", "rule", "shape", "check", "combination", "code")
_KINDS = ("placeholder", "reference", "encrypted", "public", "digest", "code", "text", "weak")
_IMPACTS = ("account", "service", "limited", "public")
_RULES = 4096
_PATHS = 4096
_ROWS = 4096

_FACTS = (
    *(f"sum.{where}" for where in _WHERES),
    *(f"kind.{kind}" for kind in _KINDS),
    *(f"impact.{impact}" for impact in _IMPACTS),
    "heuristics",
    "provider",
)
_REPORT = (
    *(f"tool.{tool}" for tool in TOOLS),
    *("tools", "correlated", "has.rule"),
    *("has.value", "has.name", "has.line"),
    *("size", "start", "gap", "length", "quoted", "decoded", "depth"),
)

_SHAPE = (
    *("lower", "upper", "digits", "signs", "wide"),
    *("changes", "distinct", "entropy", "vowels", "hex", "near", "steps", "repeats"),
    "readable",
)

Floats = NDArray[np.float32]
Indices = NDArray[np.int32]
Bytes = NDArray[np.uint8]


class Features(msgspec.Struct, frozen=True):
    """The rows of a batch of n findings: dense (n, columns), grams (n, n-grams),
    scale (n, len(SUMS))."""

    dense: Floats
    grams: Indices
    scale: Floats


def _class_codes() -> Bytes:
    """Of each byte: 1 lower, 2 upper, 3 digit, 4 sign, 5 beyond ASCII, 0 nothing."""
    codes = np.full(256, 4, np.uint8)
    codes[128:] = 5
    codes[:2] = 0
    codes[ord("a") : ord("z") + 1] = 1
    codes[ord("A") : ord("Z") + 1] = 2
    codes[ord("0") : ord("9") + 1] = 3
    return codes


def _letters() -> Indices:
    table = np.zeros(256, np.int32)
    for place, letter in enumerate(b"abcdefghijklmnopqrstuvwxyz", 1):
        table[letter] = table[letter - 32] = place
    return table


def _neighbours() -> NDArray[np.bool_]:
    """Pairs of keys that stand side by side on a QWERTY keyboard, either way."""
    near = np.zeros((256, 256), bool)
    rows = (b"1234567890", b"qwertyuiop", b"asdfghjkl", b"zxcvbnm")
    for row, below in zip(rows, (*rows[1:], b""), strict=True):
        for one, other in (*pairwise(row), *zip(row, below, strict=False)):
            near[one, other] = near[other, one] = True
    return near.reshape(-1)


def _of(characters: bytes) -> NDArray[np.bool_]:
    table = np.zeros(256, bool)
    table[list(characters)] = True
    return table


_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_CLASS = _class_codes()
_LETTER = _letters()
_NEAR = _neighbours()
# Of each byte whether it is one of what `_shapes` counts: classes, vowels, hex digits.
_COUNTED = np.column_stack(
    (np.eye(6)[_CLASS][:, 1:], _of(b"aeiouyAEIOUY"), _of(b"0123456789abcdefABCDEF"))
).astype(np.float32)
# Of each byte the six bits that it stands for in base 64, 64 for none (RFC 4648, both alphabets).
_SIX_BITS = np.full(256, 64, np.uint32)
for _alphabet in (_BASE64, _BASE64.replace(b"+/", b"-_")):
    _SIX_BITS[list(_alphabet)] = np.arange(64)
_SIX_BITS[ord("=")] = 0
_PRINTABLE = _of(bytes((0, 9, 10, 13, *range(32, 127))))
_N_LOG_N = np.array([0.0, *(n * np.log2(n) for n in range(1, _VALUE + 1))], np.float32)
# Letters and digits become their class, signs stay.
_CLASS_TEXT = np.array(
    [b"-aA0"[code] if code in (1, 2, 3) else byte for byte, code in enumerate(_CLASS)], np.uint8
)


def columns(rules: RulePack) -> list[str]:
    """Names of the dense columns for this rule pack: a clue each, but for
    providers' shapes, then what does not depend on the pack."""
    fields = (rules.value, rules.name, rules.place, rules.line, rules.scanner)
    clues = [clue for field in fields for clue in field.clues if clue.provider is None]
    clues += [*rules.signals.values(), *(clue for _, _, clue in rules.combinations)]
    ids = sorted(clue.id for clue in clues if clue.kind != "base")
    return [*ids, *_FACTS, *_REPORT, *_SHAPE]


class Extractor:
    """Makes the rows of batches.

    Args:
        names: the model's dense columns, as `columns` gave them when it was
            trained. A clue that is newer than the model is not fed to it, one
            that is gone stays 0.

    Raises:
        ValueError: the names are not of this version's features.
    """

    def __init__(self, names: Sequence[str]) -> None:
        fixed = (*_REPORT, *_SHAPE)
        if tuple(names[-len(fixed) :]) != fixed:
            raise ValueError("the model was trained for other features")
        self._places = {name: place for place, name in enumerate(names[: -len(fixed)])}
        self._of_weighed = lru_cache(_ROWS)(self._row)

    def __call__(self, readings: Sequence[Reading], weighed: Sequence[Weighed]) -> Features:
        """The rows of a batch, in order."""
        rows = len(readings)
        known = [_known(one.tool, one.rule, one.others, _ending(one.path)) for one in readings]
        # One byte for each character, so that texts keep their widths.
        drawn = "".join([_texts(*pair) for pair in zip(readings, known, strict=True)])
        texts = np.frombuffer(drawn.encode("latin-1", "replace"), np.uint8).copy()
        texts = texts.reshape(rows, _WIDTH)
        texts[:, _VALUE : 2 * _VALUE] = _CLASS_TEXT[texts[:, :_VALUE]]
        values = texts[:, 1 : _VALUE - 1]
        values = np.where(values == 1, 0, values)
        dense = (
            np.concatenate([self._of_weighed(one) for one in weighed]).reshape(rows, -1),
            np.concatenate([one.row for one in known]).reshape(rows, -1),
            np.array([_report(reading) for reading in readings], np.float32),
            _shapes(values),
        )
        return Features(np.concatenate(dense, axis=1), *_grams(texts, values))

    def _row(self, weighed: Weighed) -> Floats:
        """The columns that depend on the clues alone."""
        row = np.zeros(len(self._places), np.float32)
        places = self._places

        def put(name: str, value: float) -> None:
            place = places.get(name)
            if place is not None:
                row[place] += value

        for clue in weighed.clues:
            if clue.provider is None:
                put(clue.id, 1.0)
            put(f"sum.{clue.where}", clue.weight)
            put(f"kind.{clue.kind}", clue.weight)
        put(f"impact.{weighed.impact}", 1.0)
        put("heuristics", log_odds(min(max(weighed.confidence, 1e-4), 1 - 1e-4)))
        if weighed.provider is not None:
            put("provider", weighed.provider.weight)
        return row


class _Known(msgspec.Struct, frozen=True, eq=False, gc=False):
    """What depends on reporters, rules and file ending alone."""

    text: str
    row: Floats


@lru_cache(_RULES)
def _known(tool: str, rule: str, others: tuple[str, ...], ending: str) -> _Known:
    """The rules' text and the file ending's, and which scanners saw the finding; without
    others, nothing is known of them."""
    tools = {tool, *(other.partition("/")[0] for other in others)}
    rules = {rule, *(other.partition("/")[2] for other in others)}
    text = _EDGE + _EDGE.join(sorted(filter(None, rules))).lower() + _EDGE
    row = [*(name in tools for name in TOOLS), len(tools), bool(others), bool(rule)]
    return _Known(
        _fit(text, "rule") + _fit(_EDGE + ending + _EDGE, "ending"), np.array(row, np.float32)
    )


def _fit(text: str, name: str) -> str:
    """Cut or filled up to the text's width."""
    width = TEXTS[name]
    return text[:width].ljust(width, "\0")


@lru_cache(_PATHS)
def _ending(path: str) -> str:
    name = path.rpartition("/")[2].lower()
    return name.rpartition(".")[2] if "." in name else ""


@lru_cache(_PATHS)
def _folder(path: str) -> str:
    """The end of the path, without the file's ending."""
    stem = path[: len(path) - len(_ending(path))].lower()
    return _fit((_EDGE + stem + _EDGE)[-TEXTS["folder"] :], "folder")


def _texts(reading: Reading, known: _Known) -> str:
    """The texts of one finding, but for the classes', which numpy fills in."""
    value, line, start = reading.value, reading.line, reading.start
    if start >= 0:
        before, after = line[max(start - 47, 0) : start].lower() + _EDGE, line[start + len(value) :]
    else:
        before, after = line[:48].lower(), ""
    shown = _EDGE + value[: _VALUE - 2] + _EDGE
    return (
        shown.ljust(2 * _VALUE, "\0")
        + before[-48:].ljust(48, "\0")
        + (_EDGE + after[:15].lower())[:16].ljust(16, "\0")
        + (reading.name.lower() + _EDGE)[-24:].ljust(24, "\0")
        + known.text
        + _folder(reading.path)
    )


def _report(reading: Reading) -> tuple[float, ...]:
    """The columns of `_REPORT` that differ from finding to finding."""
    line, start, value = reading.line, reading.start, reading.value
    return (
        value != "",
        reading.name != "",
        start >= 0,
        min(len(value), 512),
        min(start, 200),
        _gap(reading),
        min(len(line), 300),
        line[start - 1] in "\"'`" if start > 0 else -1.0,
        reading.decoder not in ("", "PLAIN"),
        reading.path.count("/"),
    )


def _gap(reading: Reading) -> float:
    """How many characters stand between the name and the value, -1 where it is not before it."""
    at = reading.line.rfind(reading.name, 0, max(reading.start, 0)) if reading.name else -1
    return min(reading.start - at - len(reading.name), 64) if at >= 0 else -1.0


def _shapes(values: Bytes) -> Floats:
    """The columns of `_SHAPE`: shares of the value's first bytes, but for entropy (bits)."""
    rows = len(values)
    there = values != 0
    classes = _CLASS[values]
    left, right = values[:, :-1], values[:, 1:]
    pair = there[:, 1:]
    offsets = np.arange(0, rows * 256, 256, dtype=np.int32)[:, None]
    counts = np.bincount((values + offsets).reshape(-1), minlength=rows * 256).reshape(rows, 256)
    counts[:, 0] = 0
    step = right.astype(np.int16) - left
    *sums, vowels, digits = (counts.astype(np.float32) @ _COUNTED).T
    sizes = np.maximum(_sum(there), 1.0)
    sums.append(_sum((classes[:, 1:] != classes[:, :-1]) & pair))
    sums.append(_sum(counts > 0))
    sums.append(np.log2(sizes) * sizes - _sum(_N_LOG_N[counts]))
    sums += [vowels, digits]
    sums.append(_sum(_NEAR[(left.astype(np.int32) << 8) + right]))
    sums.append(_sum((np.abs(step) == 1) & pair))
    sums.append(_sum((step == 0) & pair))
    shares = np.stack(sums, axis=1) / sizes[:, None]
    return np.column_stack((shares, _readable(values))).astype(np.float32)


def _readable(values: Bytes) -> Floats:
    """Of what values hold in base 64 the share that is printable ASCII."""
    rows = len(values)
    four = _SIX_BITS[values[:, : _VALUE // 4 * 4 - 4]].reshape(rows, -1, 4)
    whole: NDArray[np.bool_] = np.all(four < 64, axis=2)
    bits = (four << np.array([18, 12, 6, 0], np.uint32)).sum(axis=2, dtype=np.uint32)
    three = np.stack((bits >> 16, bits >> 8, bits), axis=2).astype(np.uint8)
    printable = (_PRINTABLE[three] & whole[:, :, None]).reshape(rows, -1)
    return (_sum(printable) / np.maximum(3 * _sum(whole), 1.0)).astype(np.float32)


def _sum(table: NDArray[Any]) -> Floats:
    """The sum of each row; a product is several times faster than `sum`."""
    return table.astype(np.float32) @ np.ones(table.shape[1], np.float32)


def _salts() -> NDArray[np.uint32]:
    """A number for each column, the same within a text: equal n-grams of different
    texts are different features."""
    numbers = np.repeat(np.arange(1, len(TEXTS) + 1, dtype=np.uint32), list(TEXTS.values()))
    return numbers * np.uint32(0x85EBCA6B)


_SALTS = _salts()
# The place of what is no n-gram.
_NONE = np.int32(-1)


def gram_columns() -> NDArray[np.int32]:
    """Of each column of `grams` the column of `scale` that it adds to."""
    texts = np.repeat(np.arange(len(TEXTS), dtype=np.int32), list(TEXTS.values()))
    words = np.full(_VALUE - 4, len(TEXTS), np.int32)
    return np.concatenate([*(texts[: _WIDTH - order + 1] for order in ORDERS), words])


def _grams(texts: Bytes, values: Bytes) -> tuple[Indices, Floats]:
    """Places in the model's table, -1 where there is no n-gram, and the scales.

    An n-gram never spans two texts: texts end in zeros or fill their width, and
    those that begin in one and end in the next are left out.
    """
    wide = texts.astype(np.uint32)
    hashes = wide
    there = texts != 0
    whole = there
    parts = []
    for order in range(2, max(ORDERS) + 1):
        hashes = hashes[:, :-1] * _MULTIPLIER
        hashes += wide[:, order - 1 :]
        whole = whole[:, :-1] & there[:, order - 1 :]
        if order in ORDERS:
            inside = whole & (_SALTS[: -(order - 1)] == _SALTS[order - 1 :])
            salted = hashes + _SALTS[: -(order - 1)] * np.uint32(order)
            salted *= _MIX
            salted >>= np.uint32(32 - TABLE_BITS)
            parts.append(np.where(inside, salted.view(np.int32), _NONE))
    letters = _LETTER[values]
    seen = letters != 0
    codes = (letters[:, :-2] * LETTERS + letters[:, 1:-1]) * LETTERS + letters[:, 2:]
    whole = seen[:, :-2] & seen[:, 1:-1] & seen[:, 2:]
    parts.append(np.where(whole, codes + np.int32(TABLE), _NONE))
    grams = np.concatenate(parts, axis=1)
    counts = (grams >= 0).astype(np.float32) @ TO_SUMS
    roots = np.sqrt(np.maximum(counts, 1.0))
    roots[:, -1] = np.maximum(counts[:, -1], 1.0)  # the trigrams' is a mean
    return grams, (1.0 / roots).astype(np.float32)


# Adds up columns of `grams` by the column of `scale` that they belong to.
TO_SUMS = np.eye(len(SUMS), dtype=np.float32)[gram_columns()]
