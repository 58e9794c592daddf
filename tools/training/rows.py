"""Labelled records as rows to learn from."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from cli.evaluation.records import Record, by_form, reporters, subject
from moderator.features import SUMS, Extractor, Features, columns, gram_columns
from moderator.rules import pack
from moderator.stage import Subject
from moderator.stages import heuristics
from moderator.stages.ml import family
from moderator.weighing import SIDE_PLACES, Weighed

_BATCH = 256
_DUPLICATE = 0.3
_NOT_REPORTED = 0.2
_ALONE, _POORER = 0.7, 0.3
# Where labels follow use: what was found counts more than what was planted, and
# what is labelled by form joins in where that makes no difference.
_NATURAL, _FOUND, _PLANTED, _PLANTED_REAL = 16.0, 3.0, 0.25, 0.2
_FORM_REAL, _FORM_NOT = 2.0, 0.5
# Where they follow form, what else was found joins in if it is real, or has no such form.
_BY_USE = {"natural": 1.0, "negative": 0.5}
_FORMLESS = frozenset({"placeholder", "text", "reference", "code", "word_password"})

_COLUMNS_OF_FOLDER = np.flatnonzero(gram_columns() == SUMS.index("folder"))


class Rows(msgspec.Struct, frozen=True):
    """Features, and what belongs to each row: label, the group that stays together
    when data is split, weight, family, whether it is a record as it stands (and not
    a variation), and the index of its record."""

    features: Features
    labels: NDArray[np.bool_]
    groups: NDArray[np.str_]
    weights: NDArray[np.float64]
    families: NDArray[np.str_]
    whole: NDArray[np.bool_]
    records: NDArray[np.int64]

    def take(self, places: NDArray[np.int64] | NDArray[np.bool_]) -> Rows:
        """Some of the rows."""
        old = self.features
        features = Features(old.dense[places], old.grams[places], old.scale[places])
        return Rows(features, *(getattr(self, name)[places] for name in self.__struct_fields__[1:]))


class _Version(msgspec.Struct, frozen=True):
    record: int
    subject: Subject
    weight: float
    whole: bool


def extract(subjects: Sequence[Subject]) -> tuple[Features, list[str], list[Weighed]]:
    """Features, families and clues, by the code that runs in the service."""
    extractor = Extractor(columns(pack()))
    parts: list[Features] = []
    families: list[str] = []
    clues: list[Weighed] = []
    for start in range(0, len(subjects), _BATCH):
        batch = subjects[start : start + _BATCH]
        heuristics.STAGE.judge(batch)
        looks = [look for look in heuristics.STAGE.looks(batch) if look is not None]
        readings = [look.reading for look in looks]
        weighed = [look.judged.weighed for look in looks]
        parts.append(extractor(readings, weighed))
        families += map(family, readings, weighed)
        clues += weighed
    names = Features.__struct_fields__
    joined = Features(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))
    return joined, families, clues


def _versions(records: Sequence[Record], form: bool, seed: int) -> Iterator[_Version]:
    """Each record as it is, as it reads with a value made of words, as the report of
    a single scanner has it, and with fields missing."""
    draw = random.Random(seed)
    for number, record in enumerate(records):
        weight = _worth(record, form)
        weight *= _DUPLICATE if record.get("dup") else 1.0
        weight *= 1.0 if record.get("emitted", True) else _NOT_REPORTED
        seen_by = reporters(record)
        one = [draw.choice(seen_by)] if seen_by else []
        if by_form(record):
            words = bool(record.get("value_alt"))
            share = weight / 2 if words else weight
            yield _Version(number, subject(record, seen_by), share, whole=True)
            if words:
                yield _Version(number, subject(record, seen_by, words=True), share, whole=False)
        else:
            joined = subject(record, seen_by, correlated=True)
            yield _Version(number, joined, weight, whole=True)
            alone = subject(record, one, variable=draw.random() < 0.7)
            yield _Version(number, alone, weight * _ALONE, whole=False)
        if record.get("emitted", True):
            yield _Version(number, _poorer(record, one, draw), weight * _POORER, whole=False)


def _has_form(record: Record) -> bool:
    """Whether its label holds by form too."""
    return by_form(record) or (
        record["origin"] in _BY_USE and (record["label"] or record["kind"] in _FORMLESS)
    )


def _worth(record: Record, form: bool) -> float:
    """How much a record counts, by where it comes from."""
    if form:
        return 1.0 if by_form(record) else _BY_USE[record["origin"]]
    if by_form(record):
        return _FORM_REAL if record["label"] else _FORM_NOT
    if record["origin"] == "natural":
        return _NATURAL
    if record["origin"] == "negative":
        return _FOUND
    return _PLANTED_REAL if record["label"] else _PLANTED


def _poorer(record: Record, one: list[tuple[str, str]], draw: random.Random) -> Subject:
    kind = draw.random()
    if kind < 0.4:  # as TruffleHog reports
        return subject(record, one, line=False, variable=False)
    # As detect-secrets does, and redacted reports.
    return subject(record, one, value=False, line=kind < 0.6, variable=draw.random() < 0.5)


def rows(records: Sequence[Record], *, form: bool, real: float, seed: int) -> Rows:
    """All versions of the records.

    Args:
        records: labelled records, by form or by use; many serve both policies.
        form: whether labels follow form or use. For use, what is real by form
            joins in only outside of tests, documents and the like, and if it is
            no identifier. For form, what was found joins in if it is real, or has
            not the form of a credential.
        real: share of the weights that real findings get.
        seed: of the variations.
    """
    chosen = [record for record in records if not form or _has_form(record)]
    known = list(_versions(chosen, form, seed))
    features, families, clues = extract([version.subject for version in known])
    of = np.array([version.record for version in known])
    labels = np.array([bool(record["label"]) for record in chosen])[of]
    weights = np.array([version.weight for version in known])
    if not form:
        aside = np.array([bool(one.kinds & SIDE_PLACES) for one in clues])
        forms = np.array([by_form(record) for record in chosen])[of]
        public = np.array([bool(record.get("identifier_category")) for record in chosen])[of]
        weights[forms & labels & (aside | public)] = 0.0
    weights *= np.where(labels, real / weights[labels].sum(), (1 - real) / weights[~labels].sum())
    # In CredData the paths' parts are hashed, and would name the set.
    hashed = np.array([form or by_form(record) for record in chosen])[of]
    features.grams[np.ix_(hashed, _COLUMNS_OF_FOLDER)] = -1
    made = Rows(
        features,
        labels,
        np.array([record.get("source") or record.get("repo") or "" for record in chosen])[of],
        weights * len(weights) / 2,
        np.array(families),
        np.array([version.whole for version in known]),
        of,
    )
    return made.take(weights > 0)
